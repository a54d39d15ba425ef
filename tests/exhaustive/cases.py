"""Terms for adders and factors for multipliers, where rounding and special values are decided."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import ValueFormat

__all__ = ["pairs", "special", "terms"]

Bits = NDArray[Any]


def _join(value: ValueFormat, sign: Any, exponent: Any, fraction: Any) -> Bits:
    """Return bit patterns; exponents outside the field become its least and greatest values."""
    field = np.clip(exponent, 0, (1 << value.exponent_width) - 1).astype(np.int64)
    bits = (sign << (value.width - 1)) | (field << value.fraction_width) | fraction
    return np.asarray(bits).astype(np.uint16 if value.width == 16 else np.uint32)


def special(value: ValueFormat) -> Bits:
    """Return patterns (n,): every exponent where something changes, with both signs and the
    fractions at its ends, in its middle and with a single bit; so zeros, infinities and NaN too."""
    width = value.fraction_width
    ones, top = (1 << value.exponent_width) - 1, 1 << width
    middle = ones // 2
    exponents = [0, 1, 2, 3, middle - 1, middle, middle + 1, ones - 2, ones - 1, ones]
    fractions = {0, 1, 2, 3, top // 2 - 1, top // 2, top // 2 + 1, top - 2, top - 1}
    fractions |= {1 << n for n in range(0, width, 3)}
    sign, exponent, fraction = np.meshgrid([0, 1], exponents, sorted(fractions))
    return np.unique(_join(value, sign, exponent, fraction))


def pairs(patterns: Bits) -> tuple[Bits, Bits]:
    """Return all pairs of ``patterns``: two arrays (n * n,)."""
    return np.repeat(patterns, len(patterns)), np.tile(patterns, len(patterns))


def terms(value: ValueFormat, rng: np.random.Generator, count: int) -> tuple[Bits, Bits]:
    """Return ``count`` pairs of terms: two arrays.

    A third of each: any bits; exponents as near as rounding notices, with fractions of long runs;
    and b made from a for cancellation, ties and what lies beside them. In a part of all, exponents
    are at the ends of their range: subnormals and overflow.
    """
    width, top = value.fraction_width, 1 << value.fraction_width
    ones = (1 << value.exponent_width) - 1

    def fractions(count: int) -> NDArray[np.int64]:
        plain = rng.integers(0, top, count)
        low, high = (rng.integers(0, width + 1, count) for _ in range(2))
        runs = ((1 << low) - 1) ^ ((1 << high) - 1)
        return np.where(rng.random(count) < 0.5, plain, runs)

    sign_a, sign_b = rng.integers(0, 2, (2, count))
    exponent_a = rng.integers(0, ones + 1, count)
    low, high = rng.integers(0, 3, count), ones - rng.integers(0, 4, count)
    chosen = rng.random(count)
    exponent_a = np.where(chosen < 0.15, low, np.where(chosen > 0.85, high, exponent_a))
    fraction_a, fraction_b = fractions(count), fractions(count)
    exponent_b = exponent_a - rng.integers(-width - 5, width + 6, count)

    kind = rng.integers(0, 6, count)  # 0, 1: any; 2, 3: near; 4: cancellation; 5: ties
    exponent_b = np.where(kind < 2, rng.integers(0, ones + 1, count), exponent_b)
    fraction_a = np.where(kind == 0, rng.integers(0, top, count), fraction_a)
    few = rng.integers(-3, 4, count)
    exponent_b = np.where(kind == 4, exponent_a + rng.integers(-1, 2, count), exponent_b)
    mirrored = rng.random(count) < 0.5
    fraction_b = np.where((kind == 4) & mirrored, (fraction_a + few) % top, fraction_b)
    sign_b = np.where(kind == 4, 1 - sign_a, sign_b)
    half = exponent_a - width - 1 + rng.integers(-1, 3, count)
    exponent_b = np.where(kind == 5, half, exponent_b)
    fraction_b = np.where(kind == 5, few % top, fraction_b)
    a = _join(value, sign_a, exponent_a, fraction_a)
    b = _join(value, sign_b, exponent_b, fraction_b)
    swap = rng.random(count) < 0.5
    return np.where(swap, b, a), np.where(swap, a, b)
