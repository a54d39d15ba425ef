"""The end of a sum in floating point: its bias is added."""

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import VALUE_FORMATS

from .floating import Singles, add

__all__ = ["add_bias"]


def add_bias(sums: Singles, bias: NDArray[np.uint32] | None = None) -> Singles:
    """Return the (tokens, rows) results of sums (tokens, rows) and biases (rows,), bits of FP32.

    Without biases they are +0, which leaves a sum as it is: none is -0.
    """
    return add(VALUE_FORMATS["fp32"], sums, np.zeros(1, np.uint32) if bias is None else bias)
