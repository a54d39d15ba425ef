"""The PE with FP16 bins, and the end of its sums in a shared multiply-accumulate PE."""

import numpy as np

from gobo_rtl.formats import VALUE_FORMATS

from .arith import Flags
from .floating import Halves, Singles, add
from .mac import accumulate
from .tile import Bytes

__all__ = ["bins", "sums"]

_FP16 = VALUE_FORMATS["fp16"]
_SIGN = np.uint16(1 << 15)


def bins(count: int, symmetric: bool, index: Bytes, outlier: Flags, acts: Halves) -> Halves:
    """Return the (tokens, rows, bins) sums by index of acts (tokens, k), from k = 0 up.

    ``index`` and ``outlier`` are (rows, k), of ``count`` centroids; an outlier's activation is in
    no bin.  With ``symmetric`` there are half as many bins, and an index of the upper half takes
    the activation from the bin of its mirror image.
    """
    shared = count // 2 if symmetric else count
    found = np.zeros((len(acts), len(index), shared), np.uint16)
    mirrored = index >= shared
    place = np.where(mirrored, count - 1 - index, index).astype(np.intp)
    sign = mirrored * _SIGN
    for k, act in enumerate(acts.T):
        rows = np.flatnonzero(~outlier[:, k])
        at = place[rows, k]
        found[:, rows, at] = add(_FP16, found[:, rows, at], act[:, None] ^ sign[rows, k])
    return found


def sums(
    codebook: Halves, symmetric: bool, index: Bytes, outlier: Flags, weights: Halves, acts: Halves
) -> Singles:
    """Return the (tokens, rows) sums: outliers times activations from k = 0 up, then centroids
    times bins from index 0 up, all by one multiply-accumulate PE.

    ``weights`` (rows, k) counts where ``outlier`` is set.
    """
    found = bins(len(codebook), symmetric, index, outlier, acts)
    totals = np.zeros(found.shape[:2], np.uint32)
    for k, act in enumerate(acts.T):
        rows = np.flatnonzero(outlier[:, k])
        totals[:, rows] = accumulate(totals[:, rows], weights[rows, k], act[:, None])
    for place, centroid in enumerate(codebook[: found.shape[2]]):
        totals = accumulate(totals, np.full(1, centroid), found[:, :, place])
    return totals
