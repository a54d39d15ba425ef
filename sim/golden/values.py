"""Value formats as bit patterns: unsigned integers, never floats."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import ValueFormat

__all__ = ["Bits", "finite", "on_grid", "order", "words"]

Bits = NDArray[np.unsignedinteger[Any]]
"""Bit patterns of values: uint16, or uint32 for ``fp32``."""


def words(value: ValueFormat, data: bytes) -> Bits:
    """Return the (n,) bit patterns of ``n`` little-endian values in ``data``."""
    packed = np.frombuffer(data, np.dtype(f"<u{value.width // 8}"))
    return packed.astype(np.uint32 if value.width == 32 else np.uint16)


def finite(value: ValueFormat, bits: Bits) -> NDArray[np.bool_]:
    """Return where ``bits`` (any shape) is a finite value: its exponent is not all ones."""
    ones = (1 << value.exponent_width) - 1
    exponent = bits.astype(np.int64) >> value.fraction_width & ones
    return np.asarray(exponent != ones, bool)


def order(value: ValueFormat, bits: Bits) -> NDArray[np.int64]:
    """Return integers (shape of ``bits``) that compare as the finite values do; -0 equals 0."""
    wide = bits.astype(np.int64)
    magnitude = wide & ((1 << (value.width - 1)) - 1)
    return np.where(wide >> (value.width - 1), -magnitude, magnitude)


def on_grid(value: ValueFormat, bits: int, unit_exponent: int) -> bool:
    """Return whether the finite value ``bits`` is n x 2^unit_exponent with n on the shipping grid.

    ``|n|`` is at most 255 for ``bf16`` and 2047 for the other formats.
    """
    fraction = bits & ((1 << value.fraction_width) - 1)
    exponent = bits >> value.fraction_width & ((1 << value.exponent_width) - 1)
    significand = fraction | (1 << value.fraction_width if exponent else 0)
    bias = (1 << (value.exponent_width - 1)) - 1
    shift = max(exponent, 1) - bias - value.fraction_width - unit_exponent
    if shift < 0 and significand & ((1 << -shift) - 1):
        return False
    n = significand << shift if shift >= 0 else significand >> -shift
    return n <= (255 if value.name == "bf16" else 2047)
