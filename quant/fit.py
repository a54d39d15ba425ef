"""One layer: outliers, Gaussian group, centroids, indexes.

The method is the paper's, with the open points settled (``docs/decisions/``):

- m and s (population) are of all weights of the layer, in float64.
- *First centroids*: the sorted group in ``2**b`` runs; with ``n = q * 2**b + r`` weights the
  first ``r`` runs have ``q + 1`` and the others ``q``.
- *Nearest* is by real numbers, a tie goes to the lower centroid; of equal centroids the first.
- *A centroid* is the exact sum of its weights, rounded to float64, over their number, rounded.
  An empty bin keeps its centroid; centroids are kept ascending.
- *L1* is the exact sum, rounded to float64, of ``|w - centroid|`` with the new centroids and the
  assignment they were made from.  The loop ends when L1 is not below the best so far, when no
  assignment changes, or after ``MAX_ITERATIONS``; the best centroids count, the first included.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import OUTLIER_RULES, POLICIES, VALUE_FORMATS

from . import ranks as _ranks
from .packing import pack, unpack
from .ranks import BLOCK, MAX_WEIGHTS, Blocks, Floats, Ranks, Sketch, limbs, not_above
from .values import DEFAULT_CENTROID_WIDTH, on_grid, round_values

__all__ = ["Layer", "Options", "OutlierRule", "decode", "quantise"]

MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class OutlierRule:
    """Which weights of a layer are outliers.

    ``none``
        None is.
    ``logpdf``
        ``w`` is, when ``ln pdf(w; m, s) <= parameter``, in raw weight units: the paper's rule,
        with -4.  It depends on the scale of the layer.
    ``zscore``
        ``w`` is, when ``|w - m| >= parameter * s``; positive.
    ``share``
        The ``round(parameter * n)`` weights farthest from m are; 0 to below 1.  Weights as far
        as the nearest of them that had to stay out all stay out, so never more than asked.
    """

    kind: str
    parameter: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in OUTLIER_RULES:
            raise ValueError(
                f"outlier rule must be one of {', '.join(OUTLIER_RULES)}, not {self.kind!r}"
            )
        if not math.isfinite(self.parameter):
            raise ValueError(f"parameter of {self.kind} must be finite, not {self.parameter}")
        if self.kind == "zscore" and self.parameter <= 0:
            raise ValueError(f"zscore must be above 0, not {self.parameter:g}")
        if self.kind == "share" and not 0 <= self.parameter < 1:
            raise ValueError(f"share must be in 0 % to below 100 %, not {self}")

    @classmethod
    def parse(cls, text: str) -> "OutlierRule":
        """Return the rule written as ``logpdf:-4``, ``zscore:3.5``, ``share:0.1%`` or ``none``."""
        kind, colon, number = text.partition(":")
        percent = kind == "share" and number.endswith("%")
        try:
            parameter = float(number.removesuffix("%") if percent else number) if colon else 0.0
        except ValueError:
            parameter = math.nan
        if math.isnan(parameter) or bool(colon) == (kind == "none") or percent != (kind == "share"):
            raise ValueError(
                f"an outlier rule is written logpdf:-4, zscore:3.5, share:0.1% or none, "
                f"not {text!r}"
            )
        return cls(kind, parameter / 100 if percent else parameter)

    def __str__(self) -> str:
        if self.kind == "none":
            return "none"
        if self.kind == "share":
            return f"share:{100 * self.parameter:.15g}%"
        return f"{self.kind}:{self.parameter:.15g}"


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
    squared_error: float  # the sum of their squares
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


# -- outliers ---------------------------------------------------------------------------------


def _blocks(flat: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for at in range(0, flat.size, BLOCK):
        yield flat[at : at + BLOCK]


def _moments(flat: NDArray[np.float32]) -> tuple[float, float, np.float32, np.float32]:
    """Return m, s, least and greatest of all weights.

    A layer of one block is summed exactly, a larger one block by block in float64: good to about
    1e-15, so another order of summation could only move a weight that lies as close as that to
    the threshold.  ``ValueError`` with the position of a NaN or infinity.
    """
    total = math.fsum if flat.size <= BLOCK else np.add.reduce
    sums = []
    least = most = flat[0]
    space = np.empty(min(flat.size, BLOCK))
    for number, block in enumerate(_blocks(flat)):
        wide = space[: block.size]
        np.copyto(wide, block)
        with np.errstate(invalid="ignore"):
            sums.append(float(wide.sum()))
        least, most = min(least, block.min()), max(most, block.max())
        if not math.isfinite(sums[-1]):
            place = int(np.flatnonzero(~np.isfinite(block))[0])
            raise ValueError(
                f"weight at flat position {number * BLOCK + place} is {block[place]}; "
                f"weights must be finite"
            )
    mean = math.fsum(flat if flat.size <= BLOCK else sums) / flat.size
    squares = []
    for block in _blocks(flat):
        deviations = space[: block.size]
        np.subtract(block, mean, out=deviations, dtype=np.float64)
        np.multiply(deviations, deviations, out=deviations)
        squares.append(float(total(deviations)))
    return mean, math.sqrt(math.fsum(squares) / flat.size), least, most


def _radius(rule: OutlierRule, flat: NDArray[np.float32], mean: float, deviation: float) -> float:
    """Return r: a weight is an outlier when ``|w - mean| >= r`` in float64."""
    if rule.kind == "none" or deviation == 0.0:
        return math.inf
    if rule.kind == "zscore":
        return rule.parameter * deviation
    if rule.kind == "logpdf":
        # ln pdf = -z^2 / 2 - ln s - ln(2 pi) / 2
        half = -rule.parameter - math.log(deviation) - math.log(2 * math.pi) / 2
        return deviation * math.sqrt(2 * half) if half > 0 else 0.0
    wanted = round(rule.parameter * flat.size)
    if wanted == 0:
        return math.inf
    if wanted == flat.size:
        return 0.0
    # The farthest `wanted` and the next are among as many at either end.
    ends = min(wanted + 1, flat.size)
    ordered = np.partition(flat, [ends - 1, flat.size - ends])
    tails = np.concatenate([ordered[:ends], ordered[flat.size - ends :]])
    far = np.abs(tails.astype(np.float64) - mean)
    if 2 * ends > flat.size:
        far = np.abs(flat.astype(np.float64) - mean)
    return math.nextafter(float(np.partition(far, -ends)[-ends]), math.inf)


def _edge(mean: float, radius: float, side: float) -> np.float32:
    """Return the float32 nearest to ``mean`` on ``side`` (-inf, inf) that is an outlier."""
    inward, sign = np.float32(-side), math.copysign(1.0, side)
    with np.errstate(over="ignore"):
        edge = np.float32(mean + sign * radius)
        while sign * (float(edge) - mean) < radius:
            edge = np.nextafter(edge, np.float32(side))
        while sign * (float(nearer := np.nextafter(edge, inward)) - mean) >= radius:
            edge = nearer
    return edge


# -- centroids --------------------------------------------------------------------------------


def _cuts(centroids: Floats) -> NDArray[np.float32]:
    """Return the ``bins - 1`` cuts: a weight's index is the number of cuts below it.

    Cut ``i`` is the greatest float32 not above the exact midpoint of centroid ``i`` and the next
    one that differs; infinite when there is none.
    """
    following = np.searchsorted(centroids, centroids[:-1], side="right")
    low, high = centroids[:-1], np.append(centroids, np.inf)[following]
    total = low + high
    with np.errstate(invalid="ignore"):
        part = total - low
        error = (low - (total - part)) + (high - part)  # total + error is exact
    cut = not_above(total / 2)
    below = (cut == total / 2) & (error < 0)
    return np.where(below, np.nextafter(cut, np.float32(-np.inf)), cut)


def _l1(group: Ranks | Sketch, ends: NDArray[np.int64], prefix: Floats, centroids: Floats) -> float:
    """Return the sum of |w - centroid| of bins that end at ``ends`` (bins + 1,), exact."""
    low, high = prefix[:, :-1], prefix[:, 1:]
    rank, middle = group.below(not_above(centroids))
    empty = ends[1:] == ends[:-1]
    rank = np.where(empty, ends[1:], rank)
    middle = np.where(empty, low, middle)
    times = 2 * rank - ends[:-1] - ends[1:]
    terms = [high - middle, low - middle, limbs(centroids) * times]
    return math.fsum(np.concatenate(terms).ravel().tolist())


def _loop(group: Ranks | Sketch, bins: int, policy: str) -> tuple[Floats, int]:
    """Return the centroids (bins,), ascending, and the number of iterations."""
    size, more = divmod(group.count, bins)
    ends = np.arange(bins + 1) * size + np.minimum(np.arange(bins + 1), more)
    prefix = group.first(ends)
    kept = np.zeros(bins)
    spare = group.spare_rounds

    def means() -> Floats:
        counts = np.diff(ends)
        sums = [math.fsum(terms) for terms in np.diff(prefix).T.tolist()]
        return np.where(counts > 0, np.array(sums) / np.maximum(counts, 1), kept)

    if not size:  # fewer weights than bins: the last bins repeat the greatest
        kept = np.full(bins, group.ends()[1])
    kept = means()
    best, least = kept, math.inf
    if policy == "equal":
        return best, 0
    if policy == "gobo":
        least = _l1(group, ends, prefix, kept)
    for iteration in range(1, MAX_ITERATIONS + 1):
        ranks, sums = group.below(_cuts(kept))
        before = ends
        ends = np.concatenate([[0], np.maximum.accumulate(ranks), [group.count]])
        if np.array_equal(ends, before):
            return best, iteration - 1
        prefix = np.column_stack([prefix[:, 0], sums, prefix[:, -1]])
        fresh = means()
        if policy == "gobo":
            l1 = _l1(group, ends, prefix, fresh)
            if l1 >= least:
                if not spare:
                    return best, iteration
                spare -= 1
            least = l1
        best = kept = np.sort(fresh)
    return best, MAX_ITERATIONS


def _uniform(low: float, high: float, bins: int) -> Floats:
    """Return ``bins`` levels from ``low`` to ``high``, both included, each rounded once or so."""
    step = np.arange(bins) / (bins - 1)
    return low * (1 - step) + high * step


def _centroids(group: Ranks | Sketch, options: Options) -> tuple[Floats, int]:
    bins = 1 << (options.index_width - options.symmetric)
    if options.policy not in ("linear", "minmax"):
        half, iterations = _loop(group, bins, options.policy)
        return (np.concatenate([-half[::-1], half]) if options.symmetric else half), iterations
    low, high = group.ends()
    if options.symmetric:
        low, bins = -high, 2 * bins
    return _uniform(low, high, bins), 0


def _fit(
    flat: NDArray[np.float32], low: np.float32, high: np.float32, options: Options
) -> tuple[Floats, int]:
    """Return centroids (2**b,) and iterations of the weights strictly between low and high."""

    def magnitudes() -> Iterator[NDArray[np.float32]]:
        for block in _blocks(flat):
            yield np.abs(block[(block > low) & (block < high)])

    blocks: Blocks = lambda: _blocks(flat)  # noqa: E731
    bounds = float(low), float(high)
    if options.symmetric:
        blocks = magnitudes
        bounds = float(np.nextafter(np.float32(0), np.float32(-1))), max(map(abs, bounds))
    group = Ranks(blocks, *bounds, _ranks.BUCKETS)
    if flat.size <= 4 * _ranks.BUCKETS:
        group.open(np.ones(_ranks.BUCKETS, np.bool_))
    else:
        sketch = group.sketch()
        _centroids(sketch, options)
        group.open(sketch.visited)
    return _centroids(group, options)


# -- a layer ----------------------------------------------------------------------------------


def quantise(weights: NDArray[np.float32], options: Options | None = None) -> Layer:
    """Return ``weights``, float32 of any shape, quantised.

    ``TypeError`` if they are not float32.  ``ValueError`` if there is none, or more than 2^28,
    or one is NaN or infinite; if the rule makes all of them outliers; or if a centroid or an
    outlier does not fit the value format.
    """
    options = options or Options()
    value = VALUE_FORMATS[options.value_format]
    if weights.dtype != np.float32:
        raise TypeError(f"weights must be float32, not {weights.dtype}; convert them first")
    if not 0 < weights.size <= MAX_WEIGHTS:
        raise ValueError(f"a layer has 1 to {MAX_WEIGHTS} weights, not {weights.size}")
    flat = np.ascontiguousarray(weights).reshape(-1)
    mean, deviation, least, most = _moments(flat)
    radius = _radius(options.rule, flat, mean, deviation)
    low, high = (_edge(mean, radius, side) for side in (-math.inf, math.inf))
    if radius < math.inf and not any(((b > low) & (b < high)).any() for b in _blocks(flat)):
        raise ValueError(
            f"{options.rule} makes every weight an outlier (standard deviation {deviation:.3g}); "
            f"use a rule that does not depend on the scale, such as zscore:3.5"
        )
    low = max(low, np.nextafter(least, np.float32(-np.inf)))
    high = min(high, np.nextafter(most, np.float32(np.inf)))
    centroids, iterations = _fit(flat, low, high, options)
    unit = None
    if options.paper:
        codebook = centroids.astype(np.float32) + np.float32(0)  # no negative zero
    else:
        width = options.centroid_width or DEFAULT_CENTROID_WIDTH[value.name]
        codebook, unit = on_grid(centroids, value, width)

    cuts, levels = _cuts(codebook.astype(np.float64)), codebook.astype(np.float64)
    indexes, filled = np.empty(flat.size, np.uint8), 0
    places: list[NDArray[np.int64]] = []
    l1, squares, max_error = [], [], 0.0
    # Work space of the pass: fresh arrays of this size would cost more than the arithmetic.
    size = min(flat.size, BLOCK)
    index_space, mask_space = np.empty(size, np.uint8), np.empty(size, np.bool_)
    wide_space, error_space = np.empty(size, np.int64), np.empty(size)
    for at in range(0, flat.size, BLOCK):
        block = flat[at : at + BLOCK]
        index, mask = index_space[: block.size], mask_space[: block.size]
        wide, errors = wide_space[: block.size], error_space[: block.size]
        np.greater(block, cuts[0], out=index.view(np.bool_))
        for cut in cuts[1:]:
            index += np.greater(block, cut, out=mask).view(np.uint8)
        np.copyto(wide, index)
        levels.take(wide, out=errors, mode="clip")
        np.greater(block, low, out=mask)
        mask &= block < high
        kept = index.compress(mask)
        indexes[filled : filled + kept.size] = kept
        filled += kept.size
        out = np.flatnonzero(np.logical_not(mask, out=mask))
        places.append(out + at)
        errors[out] = block[out]  # outliers are looked at below
        np.subtract(block, errors, out=errors)
        np.abs(errors, out=errors)
        l1.append(float(errors.sum()))
        max_error = max(max_error, float(errors.max()))
        np.multiply(errors, errors, out=errors)
        squares.append(float(errors.sum()))
    positions = np.concatenate(places)
    sources = flat[positions].astype(np.float64)
    outliers = round_values(flat[positions], value, positions)
    rounding = np.abs(sources - outliers)
    relative = rounding / np.where(sources == 0, 1.0, np.abs(sources))
    return Layer(
        options=options,
        shape=weights.shape,
        mean=mean,
        deviation=deviation,
        centroids=centroids,
        codebook=codebook,
        unit=unit,
        iterations=iterations,
        indexes=pack(indexes[:filled], options.index_width),
        positions=positions,
        outliers=outliers,
        l1=math.fsum([*l1, float(rounding.sum())]),
        max_error=max(max_error, float(rounding.max(initial=0.0))),
        squared_error=math.fsum([*squares, float(np.square(rounding).sum())]),
        outlier_error=float(relative.max(initial=0.0)),
    )
