"""Floating-point units: IEEE 754 by numpy's own types, with one NaN."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import VALUE_FORMATS, ValueFormat

from .values import quiet_nan

__all__ = ["Halves", "Singles", "add", "canonical", "multiply"]

Halves = NDArray[np.uint16]
"""Bit patterns of FP16."""

Singles = NDArray[np.uint32]
"""Bit patterns of FP32."""


def multiply(a: Halves, b: Halves) -> Singles:
    """Return the products of FP16 ``a`` and ``b``, shapes that broadcast, in FP32: exact.

    Significands of 11 bits make a product of 22, and its exponent is in -48..31.
    """
    with np.errstate(invalid="ignore"):
        product = _floats("fp16", a).astype(np.float32) * _floats("fp16", b).astype(np.float32)
    return _bits("fp32", product)


def add(value: ValueFormat, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of ``a`` and ``b``, bit patterns in shapes that broadcast, rounded to nearest
    even.

    ``value`` is ``fp32`` or ``fp16``; so is the sum.  numpy adds FP16 in FP32 and rounds again,
    which is the same: 24 bits are twice 11 and two more.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return _bits(value.name, _floats(value.name, a) + _floats(value.name, b))


def canonical(value: ValueFormat, bits: NDArray[Any]) -> NDArray[Any]:
    """Return ``bits`` with the quiet NaN without sign for every NaN."""
    nan = _WORDS[value.name](quiet_nan(value))
    return np.where(np.isnan(_floats(value.name, bits)), nan, bits)


_FLOATS: dict[str, type[np.floating[Any]]] = {"fp16": np.float16, "fp32": np.float32}
_WORDS: dict[str, type[np.unsignedinteger[Any]]] = {"fp16": np.uint16, "fp32": np.uint32}


def _floats(name: str, bits: NDArray[Any]) -> NDArray[Any]:
    if bits.dtype != _WORDS[name]:
        raise TypeError(f"bits of {name} must be {_WORDS[name].__name__}, not {bits.dtype}")
    return bits.view(_FLOATS[name])


def _bits(name: str, floats: NDArray[Any]) -> NDArray[Any]:
    return canonical(VALUE_FORMATS[name], np.asarray(floats).view(_WORDS[name]))
