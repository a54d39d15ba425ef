"""Centroids and outliers as integers in the layer's unit."""

from typing import NamedTuple

import numpy as np

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.formats import ValueFormat

from .arith import Flags, Ints, check_width, parts, raw, signed
from .values import Bits

__all__ = ["Decoded", "decode", "integers", "product"]

_MOST = 61  # an integer of more bits is in no row that an array takes


class Decoded(NamedTuple):
    """Weights ``(-1)^negative * significand * 2^shift``; arrays of the shape of the bits."""

    negative: Flags
    significand: Ints
    """With the hidden bit; at least 0."""
    shift: Ints
    """Below 0 only where the significand ends in as many zero bits."""


def decode(value: ValueFormat, bits: Bits, unit: int) -> Decoded:
    """Return finite values (any shape) in units of ``2^unit``.

    ``ValueError`` when one is not finite or not an integer in the unit.
    """
    number = parts(value.width, value.exponent_width, raw("a weight", value.width, bits))
    shift = number.exponent - number.bias - unit
    lost = np.minimum(np.maximum(-shift, 0), _MOST)
    whole = number.significand >> lost << lost == number.significand
    for place in np.argwhere(~(number.finite & whole))[:1]:
        at = tuple(int(n) for n in place)
        fault = "an integer" if number.finite[at] else "finite"
        raise ValueError(f"weight {int(bits[at]):#x} at {at} is not {fault} in units of 2^{unit}")
    return Decoded(number.negative, number.significand, shift)


def integers(value: ValueFormat, bits: Bits, unit: int) -> Ints:
    """Return finite values (any shape) as integers in units of ``2^unit``, of up to 62 bits.

    ``ValueError`` as for :func:`decode`; ``OverflowError`` for a larger one.
    """
    weight = decode(value, bits, unit)
    for place in np.argwhere((weight.significand >> _clip(_MOST - weight.shift)) > 0)[:1]:
        at = tuple(int(n) for n in place)
        raise OverflowError(f"weight {int(bits[at]):#x} at {at} is too large for 2^{unit}")
    magnitude = weight.significand << _clip(weight.shift) >> _clip(-weight.shift)
    return signed(weight.negative, magnitude)


def _clip(shift: Ints) -> Ints:
    """Return shifts in the range that int64 has."""
    return np.clip(shift, 0, _MOST)


def product(config: ArrayConfig, act: int, weight: int) -> int:
    """Return an outlier's product with an aligned activation; ``OverflowError`` for others."""
    check_width("an activation", act, config.act_width)
    check_width("an outlier", weight, config.weight_sum_width + 1)
    return check_width("an outlier's product", act * weight, config.acc_width)
