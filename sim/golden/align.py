"""The aligner: activations as they are in memory to integers of one unit a token."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig

from .arith import Flags, Ints, blocks, parts, raw, round_shift, signed

__all__ = ["Aligned", "Scale", "align", "align_to", "scale", "unit_exponent"]

Patterns = NDArray[np.unsignedinteger[Any]]


class Scale(NamedTuple):
    """What is kept of a token beside its activations: arrays (tokens,)."""

    exponent: Ints
    """The greatest exponent field, 1 for subnormals; 0 for integers."""
    special: Flags
    """An activation is NaN or infinite."""


class Aligned(NamedTuple):
    """Activations ``values * 2^exponent``."""

    values: Ints
    """(tokens, columns), of ``act_width`` bits; 0 for a special token, where they mean nothing."""
    exponent: Ints
    """(tokens,), ``e`` of docs/accelerator.md."""
    special: Flags
    """(tokens,)."""


def align(config: ArrayConfig, bits: Patterns, act_exponent: int = 0) -> Aligned:
    """Return the aligned activations of (tokens, columns) bit patterns in ``act_format``.

    ``act_exponent`` is the job's, for integer activations.
    """
    token = scale(config, bits)
    values = np.empty(bits.shape, np.int64)
    for block in blocks(*bits.shape):
        values[block] = align_to(config, bits[block], token.exponent[block, None])
    values[token.special] = 0
    return Aligned(values, unit_exponent(config, token.exponent, act_exponent), token.special)


def scale(config: ArrayConfig, bits: Patterns) -> Scale:
    """Return the scales of the tokens in (tokens, columns) bit patterns."""
    if config.act.integer:
        none = np.zeros(len(bits), np.int64)
        return Scale(none, none.astype(bool))
    act = config.act
    magnitude = raw("an activation", act.width, bits) & ((1 << (act.width - 1)) - 1)
    field = magnitude.max(axis=1) >> (act.width - 1 - act.exponent_width)
    return Scale(np.maximum(field, 1), field == (1 << act.exponent_width) - 1)


def align_to(config: ArrayConfig, bits: Patterns, exponent: Ints) -> Ints:
    """Return the integers of bit patterns (any shape) whose tokens have these exponents.

    ``exponent`` broadcasts, and is at least that of the activation; what is not finite gives an
    integer without meaning.
    """
    width, act = config.act_width, config.act
    if act.integer:
        pattern = raw("an activation", act.width, bits)
        return pattern - ((pattern >> (act.width - 1)) << act.width)
    number = parts(act.width, act.exponent_width, raw("an activation", act.width, bits))
    if config.align == "absolute":
        return signed(number.negative, number.significand << (number.exponent - 1))
    spare = width - 1 - (act.width - act.exponent_width)  # bits above the significand's
    limit = (1 << (width - 1)) - 1
    rounded = round_shift(number.significand, number.exponent - exponent + spare)
    return signed(number.negative, np.minimum(rounded, limit))


def unit_exponent(config: ArrayConfig, exponent: Ints, act_exponent: int = 0) -> Ints:
    """Return ``e``, the exponents of the units of tokens that have these scales."""
    act = config.act
    if act.integer:
        return np.full_like(exponent, act_exponent)
    if config.align == "absolute":
        return np.full_like(exponent, -24)
    significand_width = act.width - act.exponent_width
    bias = (1 << (act.exponent_width - 1)) - 1 + significand_width - 1
    return exponent - bias - (config.act_width - 1 - significand_width)
