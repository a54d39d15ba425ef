"""The column of ``bins`` PEs: activations are added up by index and multiplied at the end."""

from gobo_rtl.array_config import ArrayConfig

from .arith import Flags, Ints, check_width
from .outlier import product
from .tile import Bytes

__all__ = ["bins", "column_bins", "multiply"]


def bins(
    config: ArrayConfig, count: int, index: Bytes, outlier: Flags, weights: Ints, acts: Ints
) -> tuple[list[int], int]:
    """Return the bins of one PE after its row, and the sum of its outliers' products.

    ``index``, ``outlier``, ``weights`` and ``acts`` are (K,), ``count`` the centroids.  There are
    ``count`` bins, or half where codebooks are symmetric: the upper half is added with the other
    sign to the bin of its mirror image.  ``OverflowError`` when one would overflow on the way.
    """
    shared = count // 2 if config.symmetric else count
    sums, outliers = [0] * shared, 0
    for chosen, other, weight, act in zip(
        index.tolist(), outlier.tolist(), weights.tolist(), acts.tolist(), strict=True
    ):
        if other:
            outliers += product(config, act, weight)
            check_width("a sum of outliers", outliers, config.acc_width)
            continue
        mirrored = chosen >= shared
        place = count - 1 - chosen if mirrored else chosen
        term = -act if mirrored else act
        sums[place] = check_width("a bin", sums[place] + term, config.bin_width)
    return sums, outliers


def multiply(config: ArrayConfig, codebook: Ints, sums: list[int], outliers: int) -> int:
    """Return what the shared multipliers make of a PE's bins: their sum with the centroids."""
    total = outliers
    for centroid, activations in zip(codebook.tolist(), sums, strict=False):
        total += centroid * activations
    return check_width("a sum", total, config.acc_width)


def column_bins(
    config: ArrayConfig, codebook: Ints, index: Bytes, outlier: Flags, weights: Ints, acts: Ints
) -> list[int]:
    """Return the (rows,) sums of a column of PEs; arguments as for ``column_products``."""
    return [
        multiply(config, codebook, *bins(config, len(codebook), *row, acts))
        for row in zip(index, outlier, weights, strict=True)
    ]
