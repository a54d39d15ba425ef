"""Whole domains of the number units, through Verilator: ``python -m tests.exhaustive``."""
