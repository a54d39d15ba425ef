"""A model whose linear layers run on a host array: FP16 weights and activations, FP32 sums.

The golden model computes each layer in the host's order of additions, docs/hosts.md section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.host_config import HostConfig
from sim.golden.container import Container
from sim.golden.floating import Halves, Singles
from sim.golden.hosts.engine import compute
from sim.golden.layer import ArrayLayer
from sim.model import ModelError
from sim.model.accelerator import Accelerator, activation_bits, result_numbers
from sim.model.bert import Array


@dataclass(frozen=True, eq=False)
class HostLayer:
    """A layer: weights (rows, columns) as bits of FP16, biases (rows,) as bits of FP32 or None."""

    weights: Halves
    bias: NDArray[np.uint32] | None

    @classmethod
    def of(cls, layer: ArrayLayer) -> HostLayer:
        """Take a quantised layer; ``ValueError`` for a weight that FP16 does not have."""
        return cls(layer.halves(layer.weights), layer.bias)

    @property
    def rows(self) -> int:
        """Outputs."""
        return len(self.weights)

    @property
    def columns(self) -> int:
        """Inputs."""
        return int(self.weights.shape[1])

    @property
    def plain(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Weights and biases as numbers, for :func:`sim.plain.plain_image`."""
        bias = None if self.bias is None else self.bias.view(np.float32)
        return self.weights.view(np.float16).astype(np.float32), bias


@dataclass(frozen=True)
class Host:
    """A ``linear`` for :class:`sim.model.bert.Bert`: the layers of a container on a host."""

    config: HostConfig
    layers: Mapping[str, HostLayer]

    @classmethod
    def of(cls, config: HostConfig, container: Container) -> Host:
        """Take all matrices that are no embeddings; ModelError for one that cannot run."""
        layers = {}
        for name, layer in Accelerator.of(config.array, container).layers.items():
            try:
                layers[name] = HostLayer.of(layer)
            except ValueError as error:
                raise ModelError(f"{name} cannot run on the host: {error}") from error
        return cls(config, layers)

    @property
    def array(self) -> ArrayConfig:
        """What activations and results are like."""
        return self.config.array

    def results(self, name: str, acts: NDArray[np.unsignedinteger]) -> Singles:
        """Return the (tokens, out) results of layer ``name``, as bits."""
        layer = self.layers[name]
        return compute(self.config, layer.weights, np.asarray(acts, np.uint16), layer.bias)

    def __call__(self, name: str, x: Array, weight: Array, bias: Array) -> Array:
        """Return the (tokens, out) results of layer ``name``, whose weights are the container's."""
        if name not in self.layers:
            raise ModelError(f"the container has no quantised matrix {name}")
        acts = activation_bits(self.array, name, x)
        return result_numbers(self.array, self.results(name, acts))
