"""Numbers as exact fractions, for the tests of the array's golden models."""

from fractions import Fraction

import numpy as np

from gobo_rtl.formats import ValueFormat


def number(value: ValueFormat, bits: int) -> Fraction:
    """Return what a finite pattern means; the infinite one means the next power of two."""
    magnitude = bits & ((1 << (value.width - 1)) - 1)
    field, fraction = divmod(magnitude, 1 << value.fraction_width)
    if field:
        fraction += 1 << value.fraction_width
    bias = (1 << (value.exponent_width - 1)) - 1
    exponent = max(field, 1) - bias - value.fraction_width
    return (-1) ** (bits >> (value.width - 1)) * fraction * Fraction(2) ** exponent


def nearest(value: ValueFormat, wanted: Fraction) -> int:
    """Return the pattern nearest to a number, ties to the even one: by bisection over patterns.

    The patterns of magnitudes, infinity included, count up with their numbers.
    """
    low, high = 0, ((1 << value.exponent_width) - 1) << value.fraction_width
    magnitude = abs(wanted)
    if magnitude >= number(value, high):
        low = high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if number(value, middle) <= magnitude else (low, middle)
    if low < high:
        below, above = magnitude - number(value, low), number(value, high) - magnitude
        low = low if below < above or (below == above and low % 2 == 0) else high
    return low | (wanted < 0) << (value.width - 1)


def words(value: ValueFormat, patterns: object) -> np.ndarray:
    """Return patterns as an array of the format's words."""
    return np.array(patterns, np.uint32 if value.width == 32 else np.uint16)
