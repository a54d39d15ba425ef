"""Setting up a checkout, with the standard library alone."""
