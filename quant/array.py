"""What an array of the accelerator demands of a layer: docs/accelerator.md, sections 2 and 3."""

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import MAX_OUTPUTS, ArrayConfig

from .errors import QuantError
from .fit import Layer

__all__ = ["check_array", "row_sums", "strip_words", "symmetric"]


def symmetric(layer: Layer) -> bool:
    """Whether the codebook is sign-symmetric as it stands, however it was made."""
    return bool(np.array_equal(layer.codebook, -layer.codebook[::-1]))


def row_sums(layer: Layer, indexes: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Return the (rows,) sums of the weights' magnitudes in the layer's unit.

    Parameters
    ----------
    indexes : (rows, columns); 0 where the weight is an outlier.

    Whole numbers: exact below 2^53, and never rounded to below that.  None when the layer is not
    on the grid, or an outlier is not an integer in its unit.
    """
    outliers = _in_units(layer, layer.outliers)
    if outliers is None or (outliers != np.rint(outliers)).any():
        return None
    centroids = _in_units(layer, layer.codebook)
    assert centroids is not None, "the layer has a unit"
    rows, columns = layer.shape
    sums = np.zeros(rows, np.float64)
    for index, centroid in enumerate(centroids.tolist()):
        sums += centroid * np.count_nonzero(indexes == index, axis=1)
    return sums + np.bincount(layer.positions // columns, outliers - centroids[0], rows)


def strip_words(array: ArrayConfig, layer: Layer) -> NDArray[np.int64]:
    """Return the (strips,) words of outliers that each strip takes on chip.

    A step takes as many words as its outliers fill; the last step of a strip at least one.
    """
    rows, columns = layer.shape
    row, step = np.divmod(layer.positions, columns)
    steps, counts = np.unique(row // array.rows * columns + step, return_counts=True)
    strips = -(-rows // array.rows)
    words = np.bincount(steps // columns, -(-counts // array.outliers_per_step), strips)
    ends = columns * np.arange(1, strips + 1) - 1
    return words.astype(np.int64) + ~np.isin(ends, steps)


def check_array(
    array: ArrayConfig, layer: Layer, sums: NDArray[np.float64] | None, where: str
) -> None:
    """Refuse a layer that the array cannot run; ``sums`` are its :func:`row_sums`.

    ``QuantError`` begins with ``where`` and says what is too much, in which row or strip.  (An
    array keeps at least ``max_inputs`` steps of indexes, so every strip of these fits.)
    """
    rows, columns = layer.shape
    other = "choose another array, or leave the layer out: --exclude"
    if rows > MAX_OUTPUTS:
        raise QuantError(f"{where} has {rows} rows, an array takes {MAX_OUTPUTS}; leave the layer "
                         "out: --exclude")  # fmt: skip
    if columns > array.max_inputs:
        raise QuantError(f"{where} has {columns} columns, the array takes {array.max_inputs}; "
                         f"{other}")  # fmt: skip
    if layer.unit is None:
        raise QuantError(f"{where} has centroids off the shipping grid, the array takes none; "
                         "quantise it again with this program")  # fmt: skip
    if array.symmetric and not symmetric(layer):
        raise QuantError(f"{where} has a codebook that is not sign-symmetric, the array demands "
                         f"it; quantise with --symmetric, or {other}")  # fmt: skip
    if sums is None:
        numbers = _in_units(layer, layer.outliers)
        assert numbers is not None, "the layer has a unit"
        worst = int(np.argmax(numbers != np.rint(numbers)))
        row, column = divmod(int(layer.positions[worst]), columns)
        raise QuantError(
            f"{where} has the outlier {layer.outliers[worst]:g} in row {row}, column {column}, "
            f"which is not an integer in the layer's unit 2^{layer.unit}; quantise with another "
            "outlier rule, or leave the layer out: --exclude"
        )
    row = int(sums.argmax())
    if (width := int(sums[row]).bit_length()) > array.weight_sum_width:
        raise QuantError(
            f"{where} has weights in row {row} whose magnitudes add up to {sums[row]:.0f} units: "
            f"that needs a weight_sum_width of {width} bits, the array has "
            f"{array.weight_sum_width}; {other}"
        )
    words = strip_words(array, layer)
    strip = int(words.argmax())
    if words[strip] > array.outlier_depth:
        raise QuantError(
            f"{where} has outliers in strip {strip} (from row {strip * array.rows}) that take "
            f"{words[strip]} words, the array keeps {array.outlier_depth}; {other}"
        )


def _in_units(layer: Layer, values: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Return the magnitudes of ``values`` in the layer's unit, exact; None off the grid."""
    if layer.unit is None:
        return None
    return np.abs(np.ldexp(values.astype(np.float64), -layer.unit))
