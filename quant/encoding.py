"""Numbers as bytes: the float dtypes of tensors, and the value formats of layers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["from_float32", "to_float32", "value_bits", "value_numbers"]


def to_float32(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    """Return the flat values of little-endian bytes of one of ``SOURCE_TYPES``.

    Exact, but for ``F64``, which is rounded to nearest.
    """
    if dtype == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore", under="ignore"):  # the quantiser tells where one is infinite
        return raw.view({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype]).astype(
            np.float32, copy=False
        )


def from_float32(values: NDArray[np.float32], dtype: str) -> NDArray[np.uint8]:
    """Return the bytes of ``values`` in a float dtype, to nearest, ties to even.

    ``OverflowError`` for a value beyond the largest of the dtype.
    """
    flat = np.ascontiguousarray(values, "<f4").reshape(-1)
    if dtype == "BF16":
        bits = flat.view("<u4").astype(np.int64)
        encoded: NDArray[Any] = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
        overflow = bool(((encoded & 0x7FFF) >= 0x7F80).any())
    else:
        with np.errstate(over="ignore", under="ignore"):
            encoded = flat.astype({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype])
        overflow = not bool(np.isfinite(encoded).all())
    if overflow:
        raise OverflowError(f"a decoded weight is too large for {dtype}")
    return encoded.view(np.uint8)


def value_bits(values: NDArray[np.float32], value_format: str) -> NDArray[Any]:
    """Return the encodings of float32 numbers that are exact in the format, as unsigned."""
    if value_format == "fp16":
        return values.astype("<f2").view("<u2")
    bits = values.astype("<f4").view("<u4")
    return (bits >> 16).astype("<u2") if value_format == "bf16" else bits


def value_numbers(data: NDArray[np.uint8], value_format: str) -> NDArray[np.float32]:
    """Return the numbers that encodings mean."""
    return to_float32(data, {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}[value_format])
