"""Centroids of a Gaussian group: the paper's loop, on ranks and exact sums.

- *First centroids*: the sorted group in ``bins`` runs; with ``n = q * bins + r`` weights the first
  ``r`` runs have ``q + 1`` and the others ``q``.
- *Nearest* is by real numbers, a tie goes to the lower centroid; of equal centroids the first.
- *A centroid* is the exact sum of its weights, rounded to float64, over their number, rounded.
  An empty bin keeps its centroid; centroids are kept ascending.
- *L1* is the exact sum, rounded to float64, of ``|w - centroid|`` with the new centroids and the
  assignment they were made from.  The loop ends when L1 is not below the best so far, when no
  assignment changes, or after ``MAX_ITERATIONS``; the best centroids count, the first included.
"""

import math
from dataclasses import dataclass

import numpy as np

from .ranks import Floats, Integers, Points, Ranks, Sketch, not_above

__all__ = ["MAX_ITERATIONS", "Bins", "cuts", "find", "foresee", "measure", "uniform"]

MAX_ITERATIONS = 1000
_FORESEEN = 200  # iterations at most; to a fixed point it takes 60 to 160
_INFINITE = np.array([np.inf], np.float32)


@dataclass(frozen=True)
class Bins:
    """Neighbouring bins of the sorted group, and what is asked of them for L1."""

    ends: Integers  # (bins + 1,) ranks
    sums: Floats  # (m, bins + 1) parts of the sums of the weights up to there

    def means(self, kept: Floats) -> Floats:
        """Return the mean of each bin (bins,); an empty one has its ``kept``."""
        parts = self.sums[:, 1:] - self.sums[:, :-1]
        counts = (self.ends[1:] - self.ends[:-1]).tolist()
        bins = zip(parts.T.tolist(), counts, kept.tolist(), strict=True)
        return np.array([math.fsum(part) / count if count else old for part, count, old in bins])

    def l1(self, centroids: Floats, ranks: Integers, sums: Floats) -> list[float]:
        """Return terms that add up exactly to the sum of |w - centroid|.

        ``ranks`` (bins,) and ``sums`` (m, bins) are those of the weights up to each centroid,
        which lies in its bin unless that is empty.
        """
        counts = self.ends[1:] - self.ends[:-1]
        times = 2 * (ranks - self.ends[:-1]) - counts
        parts = (self.sums[:, 1:] - sums) - (sums - self.sums[:, :-1])
        terms = np.concatenate([parts, _thirds(centroids) * times])
        return (terms if counts.all() else terms[:, counts > 0]).ravel().tolist()


def _thirds(numbers: Floats) -> Floats:
    """Split ``numbers`` (n,) into parts (3, n) of at most 24 bits that sum to them exactly."""
    parts = np.empty((3, numbers.size))
    for part in parts[:2]:
        np.bitwise_and(numbers.view(np.int64), -1 << 29, out=part.view(np.int64))
        numbers = numbers - part
    parts[2] = numbers
    return parts


def cuts(centroids: Floats) -> Points:
    """Return where bins end (bins + 1,), from -inf to inf: cut ``i`` closes bin ``i - 1``.

    It is the greatest float32 not above the exact midpoint of that bin's centroid and the next
    one that differs; infinite when there is none.
    """
    low, high = centroids[:-1], centroids[1:]
    if not (low < high).all():
        high = np.append(high, np.inf)[np.searchsorted(centroids, low, side="right") - 1]
    total = low + high
    half = total / 2
    cut = not_above(half)
    below = cut == half
    if below.any():
        with np.errstate(invalid="ignore"):
            part = total - low
            below &= (low - (total - part)) + (high - part) < 0  # what the total was rounded by
        cut[below] = np.nextafter(cut[below], np.float32(-np.inf))
    return np.concatenate([-_INFINITE, cut, _INFINITE])


def find(group: Ranks, bins: int, policy: str) -> tuple[Floats, int]:
    """Return the centroids (bins,), ascending, and the number of iterations.

    ``policy`` is ``gobo``, ``kmeans`` or ``equal``.
    """
    size, more = divmod(group.count, bins)
    ends = np.arange(bins + 1) * size + np.minimum(np.arange(bins + 1), more)
    now = Bins(ends, group.first(ends))
    kept = np.zeros(bins)
    if not size:  # fewer weights than bins: the last bins repeat the greatest
        kept = np.full(bins, group.around(_INFINITE)[0], np.float64)
    best = kept = fresh = now.means(kept)
    least, iteration = math.inf, 0
    while policy != "equal":
        # One question for both: L1 of these bins, and the bins of the next round.
        points = cuts(kept)
        if policy == "gobo":
            points = np.concatenate([points, not_above(fresh)])
        ranks, sums = group.below(points)
        if policy == "gobo":
            l1 = math.fsum(now.l1(fresh, ranks[bins + 1 :], sums[:, bins + 1 :]))
            if l1 >= least:
                break
            least = l1
        best, before = kept, now
        now = Bins(ranks[: bins + 1], sums[:, : bins + 1])
        if iteration == MAX_ITERATIONS or (now.ends == before.ends).all():
            break
        fresh = now.means(kept)
        kept = np.sort(fresh)
        iteration += 1
    return best, iteration


def uniform(low: float, high: float, bins: int) -> Floats:
    """Return ``bins`` levels from ``low`` to ``high``, both included, each rounded once or so."""
    step = np.arange(bins) / (bins - 1)
    return low * (1 - step) + high * step


def foresee(sketch: Sketch, bins: int, policy: str) -> tuple[list[Floats], list[Floats]]:
    """Return about the points that :func:`find` will ask for, by rounds, and its last centroids.

    Three times (bins,) of these, since interpolated L1 may seem to turn a round off.
    """
    edges = sketch.at(np.arange(1, bins) / bins * sketch.count)
    points, rounds = [edges], []
    ranks, sums = np.zeros(bins + 1), np.zeros(bins + 1)
    ranks[-1], sums[-1] = sketch.count, sketch.total
    ranks[1:-1], sums[1:-1] = sketch.below(edges)
    least, turns = math.inf, 0
    for _ in range(_FORESEEN):
        counts, parts = ranks[1:] - ranks[:-1], sums[1:] - sums[:-1]
        fresh = parts / np.maximum(counts, 1)
        rounds.append(fresh)
        if policy == "equal":
            break
        before, edges = edges, (fresh[1:] + fresh[:-1]) / 2
        asked = np.concatenate([fresh, edges])
        points.append(asked if policy == "gobo" else edges)
        middle, part = sketch.below(asked)
        if policy == "gobo":
            times = 2 * (middle[:bins] - ranks[:-1]) - counts
            l1 = float((fresh * times + parts - 2 * (part[:bins] - sums[:-1])).sum())
            turns += l1 >= least
            least = l1
        ranks[1:-1], sums[1:-1] = middle[bins:], part[bins:]
        if turns > 1 or np.abs(edges - before).max() <= 0.001 * sketch.width:
            break
    return points, rounds[-3:]


def measure(group: Ranks, codebook: Floats) -> tuple[Bins, list[float], float]:
    """Return the bins of ``codebook`` (bins,), terms of their L1, and the greatest error."""
    points = cuts(codebook)
    ranks, sums = group.below(np.concatenate([points, not_above(codebook)]))
    found = Bins(ranks[: points.size], sums[:, : points.size])
    terms = found.l1(codebook, ranks[points.size :], sums[:, points.size :])
    below, above = group.around(points)
    used = np.diff(found.ends) > 0
    errors = np.maximum(codebook - above[:-1], below[1:] - codebook)[used]
    return found, terms, float(errors.max(initial=0.0))
