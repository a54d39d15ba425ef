"""Processing elements: from an activation and an index to a sum."""
