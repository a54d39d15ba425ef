"""The array: exact sums of aligned activations times weights, whatever the order; and the sums of
PEs that compute in floating point, in theirs.

Two ways to the exact sums that must agree: :func:`sums` for whole layers, and :func:`array_pass`,
which does what the PEs of one pass do, step by step.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig

from . import bins_fp16
from .arith import Flags, Ints
from .bins import column_bins
from .floating import Halves, Singles
from .mac import mac
from .products import column_products
from .tile import Bytes

__all__ = [
    "INT64_SUM_WIDTH", "Sums", "array_pass", "drain", "floating_sums", "row_sums", "sums",
]  # fmt: skip

Sums = NDArray[np.int64] | NDArray[np.object_]
"""Exact integers: int64, or Python's own where they may be 2^59 or more."""

INT64_SUM_WIDTH = 59
"""Bits of a sum's magnitude, up to which sums are int64."""

_EXACT = 53  # integers up to 2^53 are exact in float64, and so is any sum that stays below


def sums(acts: Ints, weights: Ints) -> Sums:
    """Return the exact (tokens, rows) sums over k of acts (tokens, k) times weights (rows, k).

    The product of matrices is float64's, and exact in any order: no partial sum can pass the
    greatest activation times the greatest row sum of magnitudes, which is kept below 2^53.
    Activations too wide for that are cut into limbs whose sums are joined as integers.
    """
    row_sum = int(row_sums(weights).max(initial=0))
    act_bits = int(np.abs(acts).max(initial=0)).bit_length()
    limb = _EXACT - row_sum.bit_length()
    if limb < 1:
        raise OverflowError(f"a row's magnitudes add up to {row_sum}, 2^{_EXACT - 1} or more")
    table = weights.T.astype(np.float64)
    wide = row_sum.bit_length() + act_bits > INT64_SUM_WIDTH
    total = np.zeros((len(acts), len(weights)), object if wide else np.int64)
    for low in range(0, max(act_bits, 1), limb):
        part = acts >> low
        if low + limb < act_bits:
            part = part & ((1 << limb) - 1)  # the highest limb keeps the sign
        product = (part.astype(np.float64) @ table).astype(np.int64)
        total += product.astype(total.dtype) * (1 << low)
    return total


def row_sums(weights: Ints) -> Ints:
    """Return the (rows,) sums of the magnitudes of weights (rows, k)."""
    most = int(np.abs(weights).max(initial=0))
    if most.bit_length() + weights.shape[1].bit_length() > 62:
        raise OverflowError(f"{weights.shape[1]} weights of up to {most} are too many to add up")
    return np.asarray(np.abs(weights).sum(axis=1), np.int64)


def array_pass(
    config: ArrayConfig, codebook: Ints, index: Bytes, outlier: Flags, weights: Ints, acts: Ints
) -> Sums:
    """Return the (columns, rows) sums of a pass, by the PEs of the configuration: integers.

    ``index``, ``outlier`` and ``weights`` are (rows, K) of a strip, ``acts`` the aligned
    activations (columns, K) of a token tile; slow, for small shapes.  ``OverflowError`` when a
    register of the hardware would overflow.
    """
    column = column_products if config.pe == "products" else column_bins
    found = [column(config, codebook, index, outlier, weights, act) for act in acts]
    return np.array(found, np.int64 if config.acc_width <= 63 else object)


def floating_sums(
    config: ArrayConfig, codebook: Halves, index: Bytes, outlier: Flags, weights: Halves,
    acts: Halves,
) -> Singles:  # fmt: skip
    """Return the (tokens, rows) sums of PEs that compute in floating point, of any layer: no sum
    depends on another, so tiles make no difference.

    Arguments are as for :func:`array_pass`, in bits; (N, K) of all rows, (tokens, K).
    """
    if config.pe == "mac":
        return mac(weights, acts)
    return bins_fp16.sums(codebook, config.symmetric, index, outlier, weights, acts)


def drain(config: ArrayConfig, sums: NDArray[Any]) -> NDArray[Any]:
    """Return the (columns, rows) sums of a pass as they leave: (cycles, drain_lanes)."""
    return sums.reshape(-1, config.drain_lanes)
