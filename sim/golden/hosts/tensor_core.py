"""The dot-product units: four products as a tree, added to the sum."""

import numpy as np

from gobo_rtl.formats import VALUE_FORMATS
from gobo_rtl.host_config import TensorCoreConfig

from ..floating import Halves, Singles, add, multiply

__all__ = ["dot", "sums"]


def sums(config: TensorCoreConfig, weights: Halves, acts: Halves) -> Singles:
    """Return the (tokens, rows) sums of weights (rows, k) times acts (tokens, k)."""
    size = config.word_inputs
    short = -weights.shape[1] % size
    weights, acts = (np.pad(bits, ((0, 0), (0, short))) for bits in (weights, acts))
    total = np.zeros((len(acts), len(weights)), np.uint32)
    for at in range(0, weights.shape[1], size):
        part = slice(at, at + size)
        total = add(VALUE_FORMATS["fp32"], total, dot(weights[:, part], acts[:, part]))
    return total


def dot(weights: Halves, acts: Halves) -> Singles:
    """Return the (tokens, rows) dot products of weights (rows, 4) and acts (tokens, 4)."""
    fp32 = VALUE_FORMATS["fp32"]
    a, b, c, d = (multiply(w, x[:, None]) for w, x in zip(weights.T, acts.T, strict=True))
    return add(fp32, add(fp32, a, b), add(fp32, c, d))
