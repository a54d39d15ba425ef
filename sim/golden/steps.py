"""Steps of a strip: the outlier words that it takes and the cycles that they cost."""

import numpy as np

from gobo_rtl.array_config import ArrayConfig

from .arith import Flags, Ints

__all__ = ["extra_cycles", "outlier_counts", "outlier_words"]


def outlier_counts(config: ArrayConfig, outlier: Flags) -> Ints:
    """Return the (strips, K) outliers of each step for the mask (N, K) of a layer."""
    missing = -len(outlier) % config.rows
    padded = np.pad(outlier, ((0, missing), (0, 0)))
    strips = padded.reshape(-1, config.rows, outlier.shape[1])
    return np.asarray(strips.sum(axis=1), np.int64)


def outlier_words(config: ArrayConfig, outlier: Flags) -> Ints:
    """Return the (strips,) words of outliers that are kept on chip for each strip.

    A step takes as many words as its outliers fill, and the last step of a strip at least one.
    """
    words = -(-outlier_counts(config, outlier) // config.outliers_per_step)
    words[:, -1] = np.maximum(words[:, -1], 1)
    return np.asarray(words.sum(axis=1), np.int64)


def extra_cycles(config: ArrayConfig, outlier: Flags) -> Ints:
    """Return the (strips,) cycles that a pass takes beyond its K steps.

    A step takes a cycle for each ``outliers_per_step`` outliers begun, and one without any.
    """
    words = -(-outlier_counts(config, outlier) // config.outliers_per_step)
    return np.asarray(np.maximum(words - 1, 0).sum(axis=1), np.int64)
