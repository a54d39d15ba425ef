"""The row-stationary array: sums of PEs, added up along a column of them, then tile after tile."""

import numpy as np

from gobo_rtl.formats import VALUE_FORMATS
from gobo_rtl.host_config import EyerissConfig

from ..floating import Halves, Singles, add
from ..mac import mac

__all__ = ["sums"]


def sums(config: EyerissConfig, weights: Halves, acts: Halves) -> Singles:
    """Return the (tokens, rows) sums of weights (rows, k) times acts (tokens, k)."""
    fp32, inputs = VALUE_FORMATS["fp32"], weights.shape[1]
    total = np.zeros((len(acts), len(weights)), np.uint32)
    for at in range(0, inputs, config.tile_inputs):
        column = np.zeros_like(total)
        for first in range(at, min(at + config.tile_inputs, inputs), config.channels):
            part = slice(first, first + config.channels)
            # The first row's sum is passed on as it is: +0 leaves it so, since it is not -0.
            column = add(fp32, column, mac(weights[:, part], acts[:, part]))
        total = add(fp32, total, column)
    return total
