"""The hardware on FPGAs: a design that tests itself on a board, and what units take of a device.

``python -m fpga`` is the command line; docs/fpga.md says what is on the board.
"""

__all__ = ["FpgaError"]


class FpgaError(Exception):
    """What cannot be done, in a sentence for the user."""
