"""A model whose linear layers run on the accelerator: quantised weights, aligned activations.

The golden model computes each layer, bit for bit what the hardware gives; what lies between the
layers is the encoder's numpy in FP32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig
from sim.golden.container import Container, read_container
from sim.golden.layer import ArrayLayer, compute, layer_of_container
from sim.golden.values import Bits
from sim.model import ModelError
from sim.model.bert import Array, matmul
from sim.model.score import read_pairs, similarity_score
from sim.model.sentence import SentenceModel

ABSOLUTE_WIDTH = 41  # bits that hold every FP16 activation in one unit


def array_of_width(config: ArrayConfig, act_format: str, act_width: int) -> ArrayConfig:
    """Return the array with other activations; 41 bits are aligned to an absolute unit."""
    numbers = config.as_dict() | {
        "index_widths": config.index_widths,
        "act_format": act_format,
        "act_width": act_width,
        "align": "absolute" if act_width == ABSOLUTE_WIDTH else "token",
    }
    try:
        return ArrayConfig(**numbers)
    except ValueError as error:
        raise ModelError(f"there is no such array: {error}") from error


def open_container(path: Path) -> Container:
    """Return the container at ``path``; ModelError when there is none or it is not whole."""
    try:
        return read_container(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(str(error)) from error


def decoded_weights(container: Container) -> dict[str, Array]:
    """Return the model that the container holds: every tensor of numbers as FP32, by name."""
    stored = {
        name: tensor.astype(np.float32)
        for name, tensor in container.tensors.items()
        if tensor.dtype.kind == "f"
    }
    return stored | {name: layer.floats for name, layer in container.layers.items()}


@dataclass(frozen=True)
class Accelerator:
    """A ``linear`` for :class:`sim.model.bert.Bert`: the layers of a container on an array."""

    config: ArrayConfig
    layers: Mapping[str, ArrayLayer]

    @classmethod
    def of(cls, config: ArrayConfig, container: Container) -> Accelerator:
        """Take all matrices that are no embeddings; ModelError for one that cannot run."""
        layers = {}
        for name in container.layers:
            if "embeddings." in name or container.layers[name].matrix.ndim != 2:
                continue
            try:
                layers[name] = layer_of_container(container, name)
            except ValueError as error:
                raise ModelError(f"{error}, so it cannot run on an array") from error
            try:
                layers[name].check(config)
            except ValueError as error:
                raise ModelError(f"{name} cannot run on the array: {error}") from error
        return cls(config, layers)

    @property
    def array(self) -> ArrayConfig:
        """What activations and results are like."""
        return self.config

    def results(self, name: str, acts: NDArray[np.unsignedinteger[Any]]) -> Bits:
        """Return the (tokens, out) results of layer ``name``, as bits."""
        return compute(self.config, self.layers[name], acts)

    def __call__(self, name: str, x: Array, weight: Array, bias: Array) -> Array:
        """Return the (tokens, out) results of layer ``name``, whose weights are the container's."""
        if name not in self.layers:
            raise ModelError(f"the container has no quantised matrix {name}")
        acts = activation_bits(self.config, name, x)
        return result_numbers(self.config, self.results(name, acts))


def activation_bits(config: ArrayConfig, name: str, x: Array) -> NDArray[np.unsignedinteger[Any]]:
    """Return x as bits in the array's format, rounded to nearest, ties to even.

    ModelError, with the layer's ``name``, when one is too large for the format.
    """
    if config.act.integer:
        raise ModelError(f"activations of a model cannot be {config.act_format}; take fp16 or fp32")
    if config.act_format == "fp32":
        return x.astype(np.float32, copy=False).view(np.uint32)
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
    if (lost := np.isinf(half) & np.isfinite(x)).any():
        worst = float(np.abs(x[lost]).max())
        raise ModelError(f"{name} gets the activation {worst:g}: fp16 overflows, take fp32")
    return half.view(np.uint16)


def result_numbers(config: ArrayConfig, bits: NDArray[np.unsignedinteger[Any]]) -> Array:
    """Return results in ``result_format`` as FP32 numbers."""
    return bits.view(f"f{config.result.width // 8}").astype(np.float32, copy=False)


@dataclass(frozen=True)
class Trial:
    """A model to score on files of sentence pairs; a process of its own can do it.

    The model in ``folder`` as it is, or with the weights of ``container`` in FP32, or these on an
    ``array``.
    """

    folder: Path
    container: Path | None
    array: ArrayConfig | None
    files: Sequence[Path]

    def scores(self) -> list[float]:
        """Return Spearman's correlation for each file."""
        if self.container is None:
            model = SentenceModel.load(self.folder)
        else:
            container = open_container(self.container)
            linear = Accelerator.of(self.array, container) if self.array else matmul
            model = SentenceModel.load(self.folder, decoded_weights(container), linear)
        return [similarity_score(model, read_pairs(path)) for path in self.files]
