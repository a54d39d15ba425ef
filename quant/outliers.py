"""Which weights of a layer are outliers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gobo_rtl.formats import OUTLIER_RULES

from .ranks import BLOCK, Points

__all__ = ["Moments", "OutlierRule", "blocks_of", "bounds", "moments_of"]


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


def blocks_of(flat: Points) -> Iterator[Points]:
    """Yield ``flat`` (n,) in blocks that stay in the cache."""
    for at in range(0, flat.size, BLOCK):
        yield flat[at : at + BLOCK]


@dataclass(frozen=True)
class Moments:
    """Mean m of all weights of a layer, and the sum of squares about it."""

    count: int
    mean: float
    squares: float

    @property
    def deviation(self) -> float:
        """s, of the population."""
        return math.sqrt(self.squares / self.count)


def moments_of(flat: Points) -> Moments:
    """Return the moments of the weights (n,).

    A layer of one block is summed exactly, a larger one block by block in float64: good to about
    1e-15, so another order of summation could only move a weight that lies as close as that to
    the threshold.  ``ValueError`` with the position of a NaN or infinity.
    """
    total = math.fsum if flat.size <= BLOCK else np.add.reduce
    sums = []
    space = np.empty(min(flat.size, BLOCK))
    for number, block in enumerate(blocks_of(flat)):
        wide = space[: block.size]
        np.copyto(wide, block)
        with np.errstate(invalid="ignore"):
            sums.append(float(wide.sum()))
        if not math.isfinite(sums[-1]):
            place = int(np.flatnonzero(~np.isfinite(block))[0])
            raise ValueError(
                f"weight at flat position {number * BLOCK + place} is {block[place]}; "
                f"weights must be finite"
            )
    mean = math.fsum(flat if flat.size <= BLOCK else sums) / flat.size
    squares = []
    for block in blocks_of(flat):
        deviations = space[: block.size]
        np.copyto(deviations, block)
        deviations -= mean
        deviations *= deviations
        squares.append(float(total(deviations)))
    return Moments(flat.size, mean, math.fsum(squares))


def bounds(rule: OutlierRule, flat: Points, moments: Moments) -> tuple[np.float32, np.float32]:
    """Return (low, high): a weight is no outlier when it lies strictly between them.

    They are no farther out than the float32 numbers next to the extremes.  ``ValueError`` if all
    weights are outliers.
    """
    mean, deviation = moments.mean, moments.deviation
    radius = _radius(rule, flat, mean, deviation)
    low, high = (_edge(mean, radius, side) for side in (-math.inf, math.inf))
    least = most = flat[0]
    inside = False
    for block in blocks_of(flat):  # mostly the first tells all
        least, most = min(least, block.min()), max(most, block.max())
        inside = inside or bool(((block > low) & (block < high)).any())
        if inside and least <= low and most >= high:
            break
    if not inside:
        raise ValueError(
            f"{rule} makes every weight an outlier (standard deviation {deviation:.3g}); "
            f"use a rule that does not depend on the scale, such as zscore:3.5"
        )
    low = max(low, np.nextafter(least, np.float32(-np.inf)))
    high = min(high, np.nextafter(most, np.float32(np.inf)))
    return low, high


def _radius(rule: OutlierRule, flat: Points, mean: float, deviation: float) -> float:
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
