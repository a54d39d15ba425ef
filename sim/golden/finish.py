"""The end of a sum: bias and sum are added exactly and rounded once."""

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.formats import VALUE_FORMATS, ValueFormat

from .arith import (
    Flags,
    Floating,
    Ints,
    blocks,
    floor_shift,
    lengths,
    parts,
    raw,
    round_shift,
    signed,
)
from .array import INT64_SUM_WIDTH, Sums
from .values import Bits, infinity, quiet_nan

__all__ = ["finish", "round_number"]

_BIAS = VALUE_FORMATS["fp32"]
_WINDOW = 60  # bits in which bias and sum meet
_NOWHERE = -(1 << 20)  # where the highest bit of a zero is


def finish(
    config: ArrayConfig,
    sums: Sums,
    exponent: Ints,
    special: Flags,
    bias: NDArray[np.uint32] | None = None,
) -> Bits:
    """Return the bits of ``round(bias + sums * 2^exponent)`` in ``result_format``.

    ``sums`` is (tokens, rows); ``exponent``, of the unit of the sums, and ``special`` are
    (tokens,); ``bias`` is (rows,), bits of FP32.
    """
    tokens, rows = sums.shape
    word = np.uint32 if config.result.width == 32 else np.uint16
    bits = np.zeros(rows, np.int64) if bias is None else raw("a bias", _BIAS.width, bias)
    addend = parts(_BIAS.width, _BIAS.exponent_width, bits)
    results = np.empty((tokens, rows), word)
    for block in blocks(tokens, rows):
        results[block] = _rounded(config.result, sums[block], exponent[block, None], addend)
    nan = quiet_nan(config.result)
    infinite = ~addend.finite & (bits & ((1 << _BIAS.fraction_width) - 1) == 0)
    sign = addend.negative[infinite].astype(word) << (config.result.width - 1)
    results[:, infinite] = infinity(config.result) | sign
    results[:, ~addend.finite & ~infinite] = nan
    results[special] = nan
    return results


def round_number(value: ValueFormat, number: int, exponent: int) -> int:
    """Return the bits of the value nearest to ``number * 2^exponent``, ties to even.

    Zero is +0; what is too large is infinite; what rounds to zero keeps its sign.
    """
    # A value is q units in its last place; q has one bit more than the fraction, or less when the
    # value is subnormal.  The bits are q and, above the fraction, how far the unit is from the
    # least one: a q that rounds up to a power of two carries into the exponent by itself.
    magnitude = abs(number)
    unit = max(exponent + magnitude.bit_length() - 1 - value.fraction_width, _least(value))
    up = max(exponent - unit, 0)
    down = max(unit - exponent, 0)
    kept, rest = divmod(magnitude << up, 1 << down)
    q = kept + (2 * rest + (kept & 1) > 1 << down)
    bits = q + (unit - _least(value) << value.fraction_width) if q else 0
    return min(bits, infinity(value)) | (number < 0) << (value.width - 1)


def _least(value: ValueFormat) -> int:
    """Return the exponent of the least subnormal."""
    return 2 - (1 << (value.exponent_width - 1)) - value.fraction_width


def _rounded(value: ValueFormat, sums: Sums, exponent: Ints, bias: Floating) -> Ints:
    """Return the bits of finite biases (rows,) and sums (tokens, rows); others mean nothing."""
    addend, place = signed(bias.negative, bias.significand), bias.exponent - bias.bias
    if sums.dtype == object or int(np.abs(sums).max(initial=0)) >> INT64_SUM_WIDTH:
        return _rounded_wide(value, sums, exponent, addend, place)
    return _rounded_narrow(value, sums.astype(np.int64), exponent, addend, place)


def _rounded_narrow(
    value: ValueFormat, sums: Ints, exponent: Ints, addend: Ints, place: Ints
) -> Ints:
    """Return the bits of ``sums * 2^exponent + addend * 2^place``; they broadcast."""
    # Both are brought to one unit, so that the higher one fills the window; it fits.  Where that
    # cuts bits off the lower one, the two cannot cancel: the sum keeps far more bits than a result
    # has, and an odd last bit is all that the rounding needs to know of what was cut off.
    common = np.maximum(_top(sums, exponent), _top(addend, place)) - _WINDOW
    total, lost = floor_shift(sums, exponent - common)
    other, cut = floor_shift(addend, place - common)
    total = total + other | lost | cut
    # What follows is round_number's way.
    magnitude = np.abs(total)
    last = np.maximum(common + lengths(magnitude) - 1 - value.fraction_width, _least(value))
    q = round_shift(magnitude, common - last)
    bits = np.where(q > 0, q + (last - _least(value) << value.fraction_width), 0)
    sign = (total < 0).astype(np.int64) << (value.width - 1)
    return np.asarray(np.minimum(bits, infinity(value)) | sign, np.int64)


def _rounded_wide(
    value: ValueFormat, sums: Sums, exponent: Ints, addend: Ints, place: Ints
) -> Ints:
    """Do the same with Python's integers, one by one."""
    found = np.empty(sums.shape, np.int64)
    for token, row in np.ndindex(sums.shape):
        unit, low = int(exponent[token, 0]), int(place[row])
        common = min(unit, low)
        total = (int(sums[token, row]) << unit - common) + (int(addend[row]) << low - common)
        found[token, row] = round_number(value, total, common)
    return found


def _top(numbers: Ints, exponent: Ints) -> Ints:
    """Return the exponents of the bits above the highest of ``numbers * 2^exponent``."""
    return np.where(numbers == 0, _NOWHERE, lengths(numbers) + exponent)
