"""Integer arithmetic of the array: widths, shifts and the parts of a number."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Flags", "Floating", "Ints", "blocks", "check_width", "floor_shift", "lengths", "parts",
    "raw", "round_shift", "signed", "wrapped",
]  # fmt: skip

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_SHIFT = 62  # the farthest that an int64 is shifted: all that is left is then below a half
_BLOCK = 1 << 14  # numbers


def check_width(what: str, number: int, width: int) -> int:
    """Return ``number``; ``OverflowError`` unless it is a two's complement of ``width`` bits."""
    if not -(1 << (width - 1)) <= number < 1 << (width - 1):
        raise OverflowError(f"{what} must fit {width} bits, sign included, not be {number}")
    return number


def raw(what: str, width: int, bits: NDArray[np.integer[Any]]) -> Ints:
    """Return bit patterns (any shape) as int64; ``TypeError`` or ``OverflowError`` for others."""
    if bits.dtype.kind != "u":
        raise TypeError(f"{what} must be unsigned bit patterns, not {bits.dtype}")
    if bits.size and int(bits.max()) >> width:
        raise OverflowError(f"{what} must fit {width} bits, not be {int(bits.max()):#x}")
    return bits.astype(np.int64)


class Floating(NamedTuple):
    """Numbers ``(-1)^negative * significand * 2^(exponent - bias)`` where ``finite``."""

    negative: Flags
    significand: Ints
    """At least 0, with the hidden bit."""
    exponent: Ints
    """The exponent field, 1 for subnormals."""
    finite: Flags
    bias: int


def parts(width: int, exponent_width: int, bits: Ints) -> Floating:
    """Take IEEE 754 style numbers of ``width`` bits apart; ``bits`` are patterns of any shape."""
    fraction_width = width - 1 - exponent_width
    ones = (1 << exponent_width) - 1
    field = bits >> fraction_width & ones
    hidden = (field > 0).astype(np.int64) << fraction_width
    significand = hidden | bits & ((1 << fraction_width) - 1)
    negative = (bits >> (width - 1)).astype(bool)
    bias = (ones >> 1) + fraction_width
    return Floating(negative, significand, np.maximum(field, 1), field != ones, bias)


def signed(negative: Flags, magnitude: Ints) -> Ints:
    """Return ``(-1)^negative * magnitude``."""
    return np.where(negative, -magnitude, magnitude)


def lengths(numbers: Ints) -> Ints:
    """Return the bits of each magnitude, 0 for 0; above 2^53 one too many just below 2^n.

    It is the exponent of the number as a float64, which may have rounded up to a power of two.
    """
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)


def floor_shift(numbers: Ints, shift: Ints) -> tuple[Ints, Flags]:
    """Return ``numbers * 2^shift`` rounded down, and where that was no integer.

    Magnitudes before and after are below 2^62.
    """
    left = numbers << np.clip(shift, 0, _SHIFT)
    right = np.clip(-shift, 0, _SHIFT)
    kept = left >> right
    return kept, kept << right != left


def round_shift(numbers: Ints, shift: Ints) -> Ints:
    """Return ``numbers * 2^shift`` to the nearest integer, ties to even.

    Numbers are at least 0, before and after below 2^61.
    """
    left = numbers << np.clip(shift, 0, _SHIFT)
    right = np.clip(-shift, 0, _SHIFT)
    kept = left >> right
    rest = (left - (kept << right)) << 1
    whole = np.int64(1) << right
    up: Flags = (rest > whole) | ((rest == whole) & (kept & 1 == 1))
    return kept + up.astype(np.int64)


def blocks(tokens: int, width: int) -> Iterator[slice]:
    """Yield slices of the tokens whose (tokens, width) numbers stay in a cache meanwhile."""
    step = max(1, _BLOCK // max(1, width))
    for at in range(0, tokens, step):
        yield slice(at, at + step)


def wrapped(numbers: Ints, width: int) -> Ints:
    """Return the two's complement that the lowest ``width`` bits of ``numbers`` are."""
    half = 1 << (width - 1)
    return ((numbers + half) & (2 * half - 1)) - half
