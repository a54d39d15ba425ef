"""GOBO in hardware: 3-bit weights decoded and computed with, as Verilog from Amaranth."""

__version__ = "0.1.0"
