"""The weight-stationary systolic array: sums of weight tiles, added up one tile after the other."""

import numpy as np

from gobo_rtl.formats import VALUE_FORMATS
from gobo_rtl.host_config import TpuConfig

from ..floating import Halves, Singles, add
from ..mac import mac

__all__ = ["sums"]


def sums(config: TpuConfig, weights: Halves, acts: Halves) -> Singles:
    """Return the (tokens, rows) sums of weights (rows, k) times acts (tokens, k)."""
    total = np.zeros((len(acts), len(weights)), np.uint32)
    for at in range(0, weights.shape[1], config.tile_inputs):
        tile = slice(at, at + config.tile_inputs)
        total = add(VALUE_FORMATS["fp32"], total, mac(weights[:, tile], acts[:, tile]))
    return total
