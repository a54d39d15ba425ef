"""Bus front ends: the blocks with ports of standard names."""
