"""The multiply-accumulate PE: FP16 products added up in FP32, one after the other."""

import numpy as np

from gobo_rtl.formats import VALUE_FORMATS

from .floating import Halves, Singles, add, multiply

__all__ = ["accumulate", "mac"]


def mac(weights: Halves, acts: Halves) -> Singles:
    """Return the (tokens, rows) sums of weights (rows, k) times acts (tokens, k), from k = 0 up."""
    sums = np.zeros((len(acts), len(weights)), np.uint32)
    for weight, act in zip(weights.T, acts.T, strict=True):
        sums = accumulate(sums, weight, act[:, None])
    return sums


def accumulate(sums: Singles, weight: Halves, act: Halves) -> Singles:
    """Return ``sums`` after one step: weight times act, in shapes that broadcast to theirs."""
    return add(VALUE_FORMATS["fp32"], sums, multiply(weight, act))
