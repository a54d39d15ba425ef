"""One layer: outliers, Gaussian group, centroids, indexes.

The method is the paper's, with the open points settled: mean and deviation (population) are of all
weights of the layer, in float64; :mod:`quant.outliers` has the rules, :mod:`quant.centroids` the
loop, and ``docs/decisions/quantiser-ranks.md`` how it is made fast.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import POLICIES, VALUE_FORMATS

from . import ranks as _ranks
from .centroids import Bins, cuts, find, foresee, measure, uniform
from .outliers import Moments, OutlierRule, blocks_of, bounds, moments_of
from .packing import Packer, unpack
from .ranks import BLOCK, MAX_WEIGHTS, Blocks, Floats, Points, Ranks
from .values import DEFAULT_CENTROID_WIDTH, on_grid, round_values

__all__ = ["Layer", "Options", "OutlierRule", "decode", "quantise"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a layer is quantised.

    Parameters
    ----------
    index_width : int
        Bits of an index: 2, 3 or 4.
    policy : str
        ``gobo``: the paper's loop.  ``kmeans``: the same to a fixed point, at most
        ``MAX_ITERATIONS``.  ``equal``: the first centroids as they are.  ``linear``: uniform
        levels from the least to the greatest weight of the Gaussian group, both included.
        ``minmax``: the same over all weights, without outliers, whatever ``outliers`` says.
    outliers : OutlierRule
    symmetric : bool
        Fit ``|w|`` with half the centroids; the codebook is those and their negatives.
    value_format : str
        ``fp16``, ``bf16`` or ``fp32``, of centroids and outliers.
    centroid_width : int, optional
        Bits of a centroid on the shipping grid, sign included: at least 4, at most one more than
        the format's significand; 12 by default, 9 for bf16.
    paper : bool
        Centroids rounded to FP32 instead of the grid; needs ``fp32``.
    """

    index_width: int = 3
    policy: str = "gobo"
    outliers: OutlierRule = field(default_factory=lambda: OutlierRule("logpdf", -4.0))
    symmetric: bool = False
    value_format: str = "fp16"
    centroid_width: int | None = None
    paper: bool = False

    def __post_init__(self) -> None:
        if self.index_width not in (2, 3, 4):
            raise ValueError(f"index_width must be 2, 3 or 4 bits, not {self.index_width}")
        if self.policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {self.policy!r}")
        if self.value_format not in VALUE_FORMATS:
            raise ValueError(
                f"value_format must be one of {', '.join(VALUE_FORMATS)}, not {self.value_format!r}"
            )
        most = VALUE_FORMATS[self.value_format].fraction_width + 2
        if self.centroid_width is not None and not 4 <= self.centroid_width <= most:
            raise ValueError(
                f"centroid_width must be in 4..{most} bits for {self.value_format}, "
                f"not {self.centroid_width}"
            )
        if self.paper and self.value_format != "fp32":
            raise ValueError(f"paper keeps FP32 values: value_format is {self.value_format}")

    @property
    def rule(self) -> OutlierRule:
        """The outlier rule that holds: ``minmax`` has none."""
        return OutlierRule("none") if self.policy == "minmax" else self.outliers


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A quantised layer; ``n`` weights, ``k`` of them outliers, flat in row-major order."""

    options: Options
    shape: tuple[int, ...]
    mean: float  # of all weights, as is the deviation
    deviation: float
    centroids: Floats  # (2**b,) float64, ascending, before the grid
    codebook: NDArray[np.float32]  # (2**b,) ascending, exact in the value format
    unit: int | None  # exponent of the grid's unit; None off the grid
    iterations: int  # rounds of the loop, the last included that no longer lowered L1
    indexes: NDArray[np.uint8]  # packed, of the n - k weights of the Gaussian group
    positions: NDArray[np.int64]  # (k,) ascending
    outliers: NDArray[np.float32]  # (k,) exact in the value format
    l1: float  # sum of |w - decoded| over all weights
    max_error: float  # the greatest of them
    squared_error: float  # the sum of their squares; of many weights rounded, see `_squares`
    outlier_error: float  # the greatest rounding error of an outlier, relative to it


def decode(layer: Layer) -> NDArray[np.float32]:
    """Return the weights that ``layer`` stands for, float32 in its shape."""
    count = math.prod(layer.shape)
    weights = np.empty(count, np.float32)
    indexes = unpack(layer.indexes, layer.options.index_width, count - layer.positions.size)
    group = np.ones(count, np.bool_)
    group[layer.positions] = False
    weights[group] = layer.codebook[indexes]
    weights[layer.positions] = layer.outliers
    return weights.reshape(layer.shape)


@np.errstate(over="ignore", under="ignore")  # rounding to float32 may do either
def quantise(weights: NDArray[np.float32], options: Options | None = None) -> Layer:
    """Return ``weights``, float32 of any shape, quantised.

    ``TypeError`` if they are not float32.  ``ValueError`` if there is none, or more than 2^28,
    or one is NaN or infinite; if the rule makes all of them outliers; or if a centroid or an
    outlier does not fit the value format.
    """
    options = options or Options()
    if weights.dtype != np.float32:
        raise TypeError(f"weights must be float32, not {weights.dtype}; convert them first")
    if not 0 < weights.size <= MAX_WEIGHTS:
        raise ValueError(f"a layer has 1 to {MAX_WEIGHTS} weights, not {weights.size}")
    flat = np.ascontiguousarray(weights).reshape(-1)
    moments = moments_of(flat)
    low, high = bounds(options.rule, flat, moments)
    group = _group(flat, low, high, options)
    half, iterations = _fit(group, options)
    centroids = _mirrored(half, options)
    codebook, unit = _codebook(centroids, options)
    found, terms, max_error = measure(group, _half(codebook, options))
    del group  # its work space, before the indexes take theirs
    packer = Packer(int(found.ends[-1]), options.index_width)
    positions = _assign(flat, low, high, cuts(codebook.astype(np.float64)), packer)
    indexes = packer.packed()
    outliers = round_values(flat[positions], VALUE_FORMATS[options.value_format], positions)
    sources = flat[positions].astype(np.float64)
    rounding = np.abs(sources - outliers)
    relative = rounding / np.where(sources == 0, 1.0, np.abs(sources))
    l1 = math.fsum([*terms, *rounding.tolist()])
    if flat.size <= BLOCK:
        levels = codebook[unpack(indexes, options.index_width, int(found.ends[-1]))]
        errors = np.delete(flat, positions) - levels.astype(np.float64)
        squares = math.fsum(np.square(errors).tolist())
    else:
        shift = 0.0 if options.symmetric else moments.mean
        squares = _squares(moments, sources, found, _half(codebook, options), shift)
    return Layer(
        options=options,
        shape=weights.shape,
        mean=moments.mean,
        deviation=moments.deviation,
        centroids=centroids,
        codebook=codebook,
        unit=unit,
        iterations=iterations,
        indexes=indexes,
        positions=positions,
        outliers=outliers,
        l1=l1,
        max_error=max(max_error, float(rounding.max(initial=0.0))),
        squared_error=math.fsum([squares, *np.square(rounding).tolist()]) if l1 else 0.0,
        outlier_error=float(relative.max(initial=0.0)),
    )


# -- centroids --------------------------------------------------------------------------------


def _group(flat: Points, low: np.float32, high: np.float32, options: Options) -> Ranks:
    """Return the weights strictly between low and high, or their magnitudes, counted."""

    def magnitudes() -> Iterator[Points]:
        for block in blocks_of(flat):
            yield np.abs(block[(block > low) & (block < high)])

    blocks: Blocks = lambda: blocks_of(flat)  # noqa: E731
    ends = float(low), float(high)
    if options.symmetric:
        blocks = magnitudes
        ends = float(np.nextafter(np.float32(0), np.float32(-1))), max(map(abs, ends))
    return Ranks(blocks, *ends, _ranks.buckets_for(flat.size))


def _fit(group: Ranks, options: Options) -> tuple[Floats, int]:
    """Return the centroids, only the upper half if symmetric, and the iterations."""
    fixed = options.policy in ("linear", "minmax")
    bins = 1 << (options.index_width - (options.symmetric and not fixed))
    points = [np.zeros(0)]
    if not (group.small or fixed):
        asked, rounds = foresee(group.sketch(), bins, options.policy)
        points += asked
        for centroids in rounds:
            with contextlib.suppress(ValueError):  # only a guess: the true one is told
                codebook = _half(_codebook(_mirrored(centroids, options), options)[0], options)
                points.append(np.concatenate([cuts(codebook)[1:-1], codebook]))
    group.open_near(points)
    if not fixed:
        return find(group, bins, options.policy)
    below, above = group.around(np.array([-np.inf, np.inf], np.float32))
    low, high = float(above[0]), float(below[1])
    return _half(uniform(-high if options.symmetric else low, high, bins), options), 0


def _mirrored(half: Floats, options: Options) -> Floats:
    return np.concatenate([-half[::-1], half]) if options.symmetric else half


def _half(levels: NDArray[Any], options: Options) -> Floats:
    return levels[options.symmetric * levels.size // 2 :].astype(np.float64)


def _codebook(centroids: Floats, options: Options) -> tuple[NDArray[np.float32], int | None]:
    """Return ``centroids`` (2**b,) as they ship, and the unit of the grid if they lie on one."""
    if options.paper:
        return centroids.astype(np.float32) + np.float32(0), None  # no negative zero
    value = VALUE_FORMATS[options.value_format]
    width = options.centroid_width or DEFAULT_CENTROID_WIDTH[value.name]
    return on_grid(centroids, value, width)


# -- indexes ----------------------------------------------------------------------------------


def _assign(
    flat: Points, low: np.float32, high: np.float32, ends: Points, packer: Packer
) -> NDArray[np.int64]:
    """Pack the indexes of the Gaussian group; return the positions (k,) of the outliers.

    An index is the number of cuts below the weight.
    """
    places = [np.arange(0)]
    size = min(flat.size, BLOCK)  # work space: fresh arrays would cost more than the arithmetic
    index_space, mask_space = np.empty(size, np.uint8), np.empty((2, size), np.bool_)
    for number, block in enumerate(blocks_of(flat)):
        index, mask, more = index_space[: block.size], *mask_space[:, : block.size]
        np.greater(block, ends[1], out=index.view(np.bool_))
        for cut in ends[2:-1]:
            index += np.greater(block, cut, out=mask).view(np.uint8)
        np.greater(block, low, out=mask)
        mask &= np.less(block, high, out=more)
        packer.add(index[mask])
        places.append(np.flatnonzero(np.logical_not(mask, out=mask)) + number * BLOCK)
    return np.concatenate(places)


def _squares(
    moments: Moments, outliers: Floats, bins: Bins, centroids: Floats, shift: float
) -> float:
    """Return the sum of (w - centroid)^2 over the group.

    That of all weights about ``shift``, less the outliers', less what each centroid explains:
    good to some 1e-15 of the first.
    """
    offset = moments.mean - shift
    weights = moments.squares + moments.count * offset * offset
    levels, counts = centroids - shift, np.diff(bins.ends)
    sums = np.diff(bins.sums).sum(axis=0) - counts * shift
    explained = (levels * (2 * sums - counts * levels)).sum()
    return max(weights - float(np.square(outliers - shift).sum()) - float(explained), 0.0)
