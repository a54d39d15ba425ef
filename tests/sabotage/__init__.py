"""Faults planted on purpose, to see that the benches and proofs catch them."""
