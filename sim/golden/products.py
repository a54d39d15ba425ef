"""The column of ``products`` PEs: an activation times every centroid, one product a PE."""


from gobo_rtl.array_config import ArrayConfig

from .arith import Flags, Ints, check_width
from .outlier import product
from .tile import Bytes

__all__ = ["column_products", "products"]


def products(config: ArrayConfig, codebook: Ints, act: int) -> list[int]:
    """Return what an activation's column broadcasts: its products with the first centroids.

    All ``2^b`` of the codebook, or its lower half where codebooks are symmetric.
    """
    shared = len(codebook) // 2 if config.symmetric else len(codebook)
    width = config.act_width + config.grid_width - 1
    check_width("an activation", act, config.act_width)
    return [check_width("a product", act * int(w), width) for w in codebook[:shared]]


def column_products(
    config: ArrayConfig, codebook: Ints, index: Bytes, outlier: Flags, weights: Ints, acts: Ints
) -> list[int]:
    """Return the (rows,) sums of a column of PEs, step by step.

    ``index``, ``outlier`` and ``weights`` are (rows, K), ``acts`` (K,); a weight counts where it
    is an outlier.  ``OverflowError`` when an accumulator would overflow on the way.
    """
    rows, steps = index.shape
    last = len(codebook) - 1
    accumulators = [0] * rows
    for k in range(steps):
        shared = products(config, codebook, int(acts[k]))
        for row in range(rows):
            chosen = int(index[row, k])
            if outlier[row, k]:
                term = product(config, int(acts[k]), int(weights[row, k]))
            elif chosen < len(shared):
                term = shared[chosen]
            else:
                term = -shared[last - chosen]
            accumulators[row] = check_width("a sum", accumulators[row] + term, config.acc_width)
    return accumulators


