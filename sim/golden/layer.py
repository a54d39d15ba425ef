"""A layer on the array: activations and weights as bits, to results as bits."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import MAX_OUTPUTS, ArrayConfig
from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import TILE_HEADER, ValueFormat

from . import image
from .add_bias import add_bias
from .align import align
from .arith import Flags, Ints
from .array import array_pass, floating_sums, row_sums, sums
from .container import Container
from .finish import finish
from .floating import Halves
from .outlier import integers
from .tile import Bytes, Records, index_groups
from .values import Bits

__all__ = ["ArrayLayer", "compute", "compute_by_passes", "layer_of_container", "layer_of_image"]


@dataclass(frozen=True, eq=False)
class ArrayLayer:
    """A layer as integers in its unit.

    Parameters
    ----------
    value : ValueFormat
        What centroids and outliers were stored in.
    unit : int
        Exponent of the unit.
    codebook : (2**index_width,) array of int64
    index : (rows, columns) array of uint8
        Indexes, 0 for an outlier.
    outlier : (rows, columns) array of bool
    weights : (rows, columns) array of int64
    bias : (rows,) array of uint32, or None
        Bits of FP32.
    """

    value: ValueFormat
    unit: int
    codebook: Ints
    index: Bytes
    outlier: Flags
    weights: Ints
    bias: NDArray[np.uint32] | None = None

    @classmethod
    def from_bits(
        cls,
        value: ValueFormat,
        unit: int,
        codebook: Bits,
        index: Bytes,
        outlier: Flags,
        matrix: Bits,
        bias: NDArray[np.uint32] | None = None,
    ) -> "ArrayLayer":
        """Take bit patterns; ``ValueError`` for a weight that is not an integer in the unit."""
        table = integers(value, codebook, unit)
        return cls(value, unit, table, index, outlier, integers(value, matrix, unit), bias)

    @property
    def index_width(self) -> int:
        """Bits of an index."""
        return len(self.codebook).bit_length() - 1

    @property
    def rows(self) -> int:
        """Outputs."""
        return len(self.weights)

    @property
    def columns(self) -> int:
        """Inputs."""
        return int(self.weights.shape[1])

    def halves(self, numbers: Ints) -> Halves:
        """Return integers in the unit, weights or centroids of FP16, as its bits; zeros are +0.

        ``ValueError`` for one that FP16 does not have.
        """
        exact = np.ldexp(numbers.astype(np.float64), self.unit)
        with np.errstate(over="ignore"):
            halves = exact.astype(np.float16)
        for place in np.argwhere(halves != exact)[:1]:
            at = tuple(int(n) for n in place)
            raise ValueError(f"{int(numbers[at])} at {at} is not FP16 in units of 2^{self.unit}")
        return halves.view(np.uint16)

    @property
    def symmetric(self) -> bool:
        """Whether the codebook is its own negative, read backwards."""
        return np.array_equal(self.codebook, -self.codebook[::-1])

    @property
    def weight_sum(self) -> int:
        """The greatest of the rows' sums of magnitudes, in units."""
        return int(row_sums(self.weights).max())

    def check(self, config: ArrayConfig) -> None:
        """Refuse, with ``ValueError``, a layer that the array does not take."""
        grid = (1 << (config.grid_width - 1)) - 1
        greatest = int(np.abs(self.codebook).max())
        for wrong, text in (
            (self.value != config.value,
             f"values are {self.value.name}, the array takes {config.value.name}"),
            (self.index_width not in config.index_widths,
             f"indexes have {self.index_width} bits, the array takes {config.index_widths}"),
            (self.columns > config.max_inputs,
             f"{self.columns} columns, the array takes {config.max_inputs}"),
            (self.rows > MAX_OUTPUTS, f"{self.rows} rows, an array takes {MAX_OUTPUTS}"),
            (greatest > grid, f"a centroid is {greatest} units, the grid ends at {grid}"),
            (config.symmetric and not self.symmetric,
             "the codebook is not sign-symmetric, the array takes no other"),
            (self.weight_sum == 0, "all weights are 0"),
            (self.weight_sum >> config.weight_sum_width,
             f"a row's magnitudes add up to {self.weight_sum} units, the array takes less than "
             f"2^{config.weight_sum_width}"),
        ):  # fmt: skip
            if wrong:
                raise ValueError(text)

    def strips(self, config: ArrayConfig) -> "Iterator[ArrayLayer]":
        """Yield the strips of the array as layers; the last has the rows that are left."""
        for at in range(0, self.rows, config.rows):
            part = slice(at, at + config.rows)
            yield replace(
                self, index=self.index[part], outlier=self.outlier[part],
                weights=self.weights[part], bias=None if self.bias is None else self.bias[part],
            )  # fmt: skip


def compute(
    config: ArrayConfig,
    layer: ArrayLayer,
    acts: NDArray[np.unsignedinteger[Any]],
    act_exponent: int = 0,
) -> Bits:
    """Return the results (tokens, rows), bits in ``result_format``.

    ``acts`` (tokens, columns) are bits in ``act_format``; ``act_exponent`` is the job's.
    ``ValueError`` for a layer that the array does not take.
    """
    layer.check(config)
    if acts.ndim != 2 or acts.shape[1] != layer.columns:
        raise ValueError(f"acts must be of shape (tokens, {layer.columns}), not {acts.shape}")
    if config.floating:
        return _floating(config, layer, acts)
    aligned = align(config, acts, act_exponent)
    total = sums(aligned.values, layer.weights)
    return finish(config, total, aligned.exponent + layer.unit, aligned.special, layer.bias)


def compute_by_passes(
    config: ArrayConfig,
    layer: ArrayLayer,
    acts: NDArray[np.unsignedinteger[Any]],
    act_exponent: int = 0,
) -> Bits:
    """Return the same by what every PE does in every step of every pass; for small shapes.

    ``OverflowError`` when a register would overflow on the way.
    """
    layer.check(config)
    aligned = align(config, acts, act_exponent)

    def one(tile: slice, strip: ArrayLayer) -> Bits:
        if config.floating:
            return _floating(config, strip, acts[tile])
        weights = (strip.codebook, strip.index, strip.outlier, strip.weights)
        total = array_pass(config, *weights, aligned.values[tile])
        exponent, special = aligned.exponent[tile] + layer.unit, aligned.special[tile]
        return finish(config, total, exponent, special, strip.bias)

    tiles = [slice(at, at + config.columns) for at in range(0, len(acts), config.columns)]
    return np.block([[one(tile, strip) for strip in layer.strips(config)] for tile in tiles])


def _floating(
    config: ArrayConfig, layer: ArrayLayer, acts: NDArray[np.unsignedinteger[Any]]
) -> Bits:
    """Return the results (tokens, rows) of PEs that compute in floating point."""
    codebook, weights = layer.halves(layer.codebook), layer.halves(layer.weights)
    halves = np.asarray(acts, np.uint16)
    total = floating_sums(config, codebook, layer.index, layer.outlier, weights, halves)
    return add_bias(total, layer.bias)


def layer_of_container(container: Container, name: str) -> ArrayLayer:
    """Return the matrix ``name`` with its biases, FP32 or rounded to it, where there are any.

    ``ValueError`` when it is no matrix or a weight is not an integer in its unit.
    """
    stored = container.layers[name]
    if stored.unit is None or stored.matrix.ndim != 2:
        what = "a matrix" if stored.unit is not None else "on the shipping grid"
        raise ValueError(f"{name} is not {what}")
    bias = None
    bias_name = name.removesuffix(".weight") + ".bias"
    if name.endswith(".weight") and bias_name in container.tensors:
        bias = container.tensors[bias_name].astype(np.float32).view(np.uint32)
    try:
        return ArrayLayer.from_bits(
            stored.value, stored.unit, stored.codebook, stored.index, stored.outlier,
            stored.matrix, bias,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def layer_of_image(packed: GoboConfig, layer: image.Layer) -> ArrayLayer:
    """Return a layer of an image that is packed for an array: a group is a column of a tile."""
    if not packed.lanes == packed.lane_rows == packed.tile_rows:
        raise ValueError(
            "the image is not packed for an array: lanes, lane_rows and tile_rows are "
            f"{packed.lanes}, {packed.lane_rows} and {packed.tile_rows}, not one number"
        )
    outlier = np.zeros((len(layer.tiles) * packed.tile_rows, layer.columns), bool)
    index = np.zeros(outlier.shape, np.uint8)
    for number, tile in enumerate(layer.tiles):
        rows = slice(number * packed.tile_rows, (number + 1) * packed.tile_rows)
        groups = layer.indexes.tobytes()[tile.index_offset :]
        index[rows] = index_groups(packed, layer.index_width, groups, tile.group_count).T
        start = tile.outlier_offset + TILE_HEADER.size
        stop = start + tile.record_count * packed.record_width // 8
        records = Records.read(packed, layer.outliers.tobytes()[start:stop])
        real = ~records.escape
        outlier[rows.start + records.lane[real], records.group[real]] = True
    bias = None if layer.biases is None else layer.biases.astype(np.uint32)
    return ArrayLayer.from_bits(
        packed.value, layer.unit_exponent, layer.codebook, index[: layer.rows],
        outlier[: layer.rows], layer.matrix, bias,
    )  # fmt: skip
