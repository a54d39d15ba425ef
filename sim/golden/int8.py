"""The multiply-accumulate PE in 8-bit integers: sums of 32 bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arith import Ints, wrapped

__all__ = ["Bytes", "mac"]

Bytes = NDArray[np.int8]

_WIDTH = 32


def mac(weights: Bytes, acts: Bytes) -> Ints:
    """Return the (tokens, rows) sums of weights (rows, k) times acts (tokens, k), as the 32 bits of
    a sum have them: modulo 2^32, from -2^31."""
    return wrapped(_integers("acts", acts) @ _integers("weights", weights).T, _WIDTH)


def _integers(what: str, values: NDArray[Any]) -> Ints:
    if values.dtype != np.int8:
        raise TypeError(f"{what} must be int8, not {values.dtype}")
    return values.astype(np.int64)
