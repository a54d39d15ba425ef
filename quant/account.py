"""Bits a weight: what a layer takes, and the least that any coding of its kind could take."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gobo_rtl.formats import LAYER_RECORD, VALUE_FORMATS

from .fit import Layer

__all__ = [
    "LayerSummary",
    "bits_per_weight",
    "bound",
    "predicted_bytes",
    "summarise",
    "total_bound",
]


@dataclass(frozen=True)
class LayerSummary:
    """Figures of a layer; ``nbytes`` are those of its record."""

    name: str
    shape: tuple[int, ...]
    index_width: int
    value_format: str
    embedding: bool
    outlier_count: int
    iterations: int
    nbytes: int
    l1: float
    max_error: float
    squared_error: float
    deviation: float

    @property
    def size(self) -> int:
        """Weights."""
        return math.prod(self.shape)

    @property
    def outlier_share(self) -> float:
        return self.outlier_count / self.size

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.nbytes / self.size

    @property
    def bound(self) -> float:
        """Least bits a weight at this outlier share."""
        value = VALUE_FORMATS[self.value_format].width
        return bound(self.index_width, self.outlier_share, value)

    @property
    def relative_error(self) -> float:
        """Root mean square error over the deviation of the weights; 0 for a constant layer."""
        error = math.sqrt(self.squared_error / self.size)
        return error / self.deviation if self.deviation else 0.0


def summarise(name: str, layer: Layer, nbytes: int, *, embedding: bool) -> LayerSummary:
    """Return the figures of a layer whose record has ``nbytes``."""
    return LayerSummary(
        name, layer.shape, layer.options.index_width, layer.options.value_format, embedding,
        int(layer.positions.size), layer.iterations, nbytes, layer.l1, layer.max_error,
        layer.squared_error, layer.deviation,
    )  # fmt: skip


def bound(index_width: int, share: float, value_width: int) -> float:
    """Return ``b (1 - p) + H2(p) + value p`` bits a weight for an outlier share p.

    An index for each weight of the group, a value for each outlier, and the entropy of which is
    which.  (The indexes are not entropy coded: they are near uniform, and the decoder is simple.)
    """
    entropy = -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)
    return index_width * (1 - share) + entropy + value_width * share


def predicted_bytes(size: int, index_width: int, share: float, value_width: int) -> float:
    """Return about what the record of ``size`` weights takes with this share of outliers."""
    fixed = LAYER_RECORD.size + (value_width << index_width) // 8
    return fixed + size * bound(index_width, share, value_width) / 8


def total_bound(layers: Iterable[LayerSummary]) -> float:
    """Return the bound over several layers, each at its own share."""
    layers = list(layers)
    return sum(layer.bound * layer.size for layer in layers) / sum(layer.size for layer in layers)


def bits_per_weight(file_bytes: int, other_bytes: int, layers: Iterable[LayerSummary]) -> float:
    """Return the bits of a file a quantised weight.

    All bytes count, headers, tables and padding too, but for ``other_bytes``: the data of tensors
    that are not quantised.
    """
    return 8 * (file_bytes - other_bytes) / sum(layer.size for layer in layers)
