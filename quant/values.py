"""Value formats (FP16, BF16, FP32) and the shipping grid that centroids lie on.

The functions here return float32 numbers that are exact in the format, so a caller keeps
computing with plain numpy and the container only has to take the bits.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import VALUE_FORMATS, ValueFormat

__all__ = ["DEFAULT_CENTROID_WIDTH", "largest", "on_grid", "round_values", "unit_floor"]

# Bits of a grid number, sign included: what the significand of the format holds, 12 at most.
DEFAULT_CENTROID_WIDTH = {"fp16": 12, "bf16": 9, "fp32": 12}


def unit_floor(value: ValueFormat) -> int:
    """Return the exponent of the least subnormal: -24 for fp16, -133 for bf16, -149 for fp32."""
    return 2 - (1 << (value.exponent_width - 1)) - value.fraction_width


def largest(value: ValueFormat) -> float:
    """Return the largest finite number of the format."""
    exponent = (1 << (value.exponent_width - 1)) - 1
    return math.ldexp(2.0 - math.ldexp(1.0, -value.fraction_width), exponent)


def _nearest(values: NDArray[np.float32], value: ValueFormat) -> NDArray[np.float32]:
    """Round to nearest, ties to even; what is too large becomes infinite."""
    if value.name == "fp32":
        return values
    if value.name == "fp16":
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(np.float16).astype(np.float32)
    # BF16 is the upper half of FP32: add just under half a unit, one more if the half is odd.
    bits = values.view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def _lost(values: NDArray[np.float32], value: ValueFormat) -> NDArray[np.bool_]:
    """Tell which values overflow, or vanish though they are not zero."""
    rounded = _nearest(values, value)
    lost: NDArray[np.bool_] = ~np.isfinite(rounded) | ((rounded == 0) & (values != 0))
    return lost


def round_values(
    values: NDArray[np.float32], value: ValueFormat, positions: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return ``values`` (n,) rounded to the format, to nearest with ties to even.

    ``positions`` (n,) only names a value in the error: ``ValueError`` if one overflows, or
    vanishes though it is not zero.
    """
    lost = np.flatnonzero(_lost(values, value))
    if lost.size:
        first = values[lost[0] : lost[0] + 1]
        fits = next(name for name, other in VALUE_FORMATS.items() if not _lost(first, other)[0])
        what = "vanishes in" if abs(first[0]) < 1 else "is too large for"
        raise ValueError(
            f"outlier {first[0]!s} at flat position {positions[lost[0]]} {what} {value.name}; "
            f"{fits} holds it"
        )
    return _nearest(values, value)


def _grid_numbers(centroids: NDArray[np.float64], unit: int) -> NDArray[np.int64]:
    return np.rint(np.ldexp(centroids, -unit)).astype(np.int64)


def on_grid(
    centroids: NDArray[np.float64], value: ValueFormat, centroid_width: int
) -> tuple[NDArray[np.float32], int]:
    """Put ``centroids`` (bins,) on the shipping grid; return the codebook (bins,) and its unit.

    The codebook is ``n * 2**unit`` with ``n`` of ``centroid_width`` signed bits, ``|n| <=
    2**(centroid_width - 1) - 1``, rounded to nearest with ties to even.  ``unit`` is the least
    that holds the centroid of largest magnitude, but not below :func:`unit_floor`; 0 when all
    are zero.  ``ValueError`` if the format's floor makes the grid too coarse (a centroid
    vanishes, or two meet, that a free unit would keep apart) or a centroid overflows.
    """
    top = float(np.abs(centroids).max())
    if top == 0.0:
        return np.zeros(centroids.shape, np.float32), 0
    limit = (1 << (centroid_width - 1)) - 1
    free = math.frexp(top)[1] - (centroid_width - 1)
    if _grid_numbers(np.array([top]), free)[0] > limit:
        free += 1
    unit = max(free, unit_floor(value))
    numbers = _grid_numbers(centroids, unit)
    if math.ldexp(float(np.abs(numbers).max()), unit) > largest(value):
        name = "bf16 or fp32" if value.name == "fp16" else "no format"
        raise ValueError(f"centroid {top:g} is too large for {value.name}; {name} holds it")
    wanted = _grid_numbers(centroids, free)
    vanished = (numbers == 0) & (wanted != 0)
    met = (numbers[1:] == numbers[:-1]) & (wanted[1:] != wanted[:-1])
    for lost in np.flatnonzero(vanished | np.append(met, False))[:1]:
        name = "no format" if value.name == "fp32" else "fp32"
        raise ValueError(
            f"centroid {centroids[lost]:g} is lost on the grid of {value.name}, whose least unit "
            f"is 2^{unit_floor(value)}; {name} holds it"
        )
    return np.ldexp(numbers.astype(np.float64), unit).astype(np.float32), unit
