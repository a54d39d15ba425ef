"""Value formats as bit patterns: unsigned integers, never floats."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import ValueFormat

__all__ = ["Bits", "finite", "infinity", "on_grid", "order", "quiet_nan", "row_sums", "words"]

Bits = NDArray[np.unsignedinteger[Any]]
"""Bit patterns of values: uint16, or uint32 for ``fp32``."""


def words(value: ValueFormat, data: bytes) -> Bits:
    """Return the (n,) bit patterns of ``n`` little-endian values in ``data``."""
    packed = np.frombuffer(data, np.dtype(f"<u{value.width // 8}"))
    return packed.astype(np.uint32 if value.width == 32 else np.uint16)


def infinity(value: ValueFormat) -> int:
    """Return the bits of +infinity."""
    return ((1 << value.exponent_width) - 1) << value.fraction_width


def quiet_nan(value: ValueFormat) -> int:
    """Return the bits of the NaN that results have: 0x7FC00000, 0x7E00."""
    return infinity(value) | 1 << (value.fraction_width - 1)


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


def row_sums(value: ValueFormat, bits: Bits, unit_exponent: int) -> NDArray[np.int64] | None:
    """Return the (rows,) sums of the magnitudes of finite values (rows, columns) in a unit.

    None when a value is not an integer in the unit ``2^unit_exponent``.  A magnitude above 2^32
    counts as 2^32, so that no sum can overflow.
    """
    wide = bits.astype(np.int64)
    fraction = wide & ((1 << value.fraction_width) - 1)
    exponent = wide >> value.fraction_width & ((1 << value.exponent_width) - 1)
    significand = fraction | np.where(exponent, 1 << value.fraction_width, 0)
    bias = (1 << (value.exponent_width - 1)) - 1
    shift = np.maximum(exponent, 1) - bias - value.fraction_width - unit_exponent
    # A significand has at most 24 bits: none is left after 24 down, and 33 up is above 2^32.
    down = np.clip(-shift, 0, 24)
    if (significand & ((1 << down) - 1)).any():
        return None
    magnitude = significand >> down << np.clip(shift, 0, 33)
    return np.asarray(np.minimum(magnitude, 1 << 32).sum(axis=1), np.int64)
