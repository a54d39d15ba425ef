"""A layer on a host: weights and activations as bits, to results as bits."""

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import VALUE_FORMATS
from gobo_rtl.host_config import EyerissConfig, HostConfig, TensorCoreConfig, TpuConfig

from ..add_bias import add_bias
from ..floating import Halves, Singles, canonical
from . import eyeriss, tensor_core, tpu

__all__ = ["compute", "narrow", "words"]


def narrow(weights: Singles) -> Halves:
    """Return FP32 weights rounded to FP16, to nearest even: what they stand for in memory."""
    with np.errstate(over="ignore", invalid="ignore"):
        halves = weights.view(np.float32).astype(np.float16).view(np.uint16)
    return np.asarray(canonical(VALUE_FORMATS["fp16"], halves), np.uint16)


def words(config: HostConfig, weights: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Return the (words, lanes) weight words of weights (rows, k) in the array's native order."""
    rows, inputs = weights.shape
    edge = ((0, -rows % config.rows), (0, -inputs % config.word_inputs))
    whole = np.pad(weights, edge)
    blocks = whole.reshape(
        len(whole) // config.rows, config.rows, whole.shape[1] // config.word_inputs,
        config.word_inputs,
    )  # fmt: skip
    return blocks.swapaxes(1, 2).reshape(-1, config.lanes)


def compute(
    config: HostConfig, weights: Halves, acts: Halves, bias: NDArray[np.uint32] | None = None
) -> Singles:
    """Return the (tokens, rows) results of weights (rows, k), acts (tokens, k) and bias (rows,).

    ``ValueError`` for activations of other inputs than the weights'.
    """
    if acts.ndim != 2 or acts.shape[1] != weights.shape[1]:
        raise ValueError(f"acts must be of shape (tokens, {weights.shape[1]}), not {acts.shape}")
    if isinstance(config, TpuConfig):
        total = tpu.sums(config, weights, acts)
    elif isinstance(config, EyerissConfig):
        total = eyeriss.sums(config, weights, acts)
    elif isinstance(config, TensorCoreConfig):
        total = tensor_core.sums(config, weights, acts)
    else:
        raise TypeError(f"config must be of a host, not {config!r}")
    return add_bias(total, bias)
