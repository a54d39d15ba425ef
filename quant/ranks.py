"""Ranks and exact sums of the Gaussian group, as if it were sorted.

The fit asks only for how many weights lie below a point and what they sum to.  So the group is
not sorted: it is counted into narrow **buckets**, of linear width, with the sum of each.  A point
inside a bucket needs that bucket's weights; such a bucket is **opened**: its weights are fetched
and sorted.  A fit touches a few hundred of 16384 buckets.  :class:`Sketch` runs the same
questions on interpolated counts first, to learn which, so that one pass fetches them all.

Sums are exact.  A float32 weight is an integer in a small enough unit; numbers are split into
**limbs** of 24 bits, and fewer than 2^29 of those add up in float64 without rounding.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK", "BUCKETS", "MAX_WEIGHTS", "Blocks", "Floats", "Ranks", "Sketch", "limbs", "not_above",
]  # fmt: skip

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Blocks = Callable[[], Iterator[NDArray[np.float32]]]

BLOCK = 1 << 16  # weights worked on at a time, which keeps them in the cache
BUCKETS = 1 << 14  # counts and sums stay in the second-level cache
MAX_WEIGHTS = 1 << 28  # half of what limbs and bucket sums can take
_SLACK = 0.2  # of a bucket: how far the sketch of a large layer may be off; a small one's more


def limbs(numbers: Floats) -> Floats:
    """Split ``numbers`` (n,) into limbs (m, n) that sum to them exactly, ``m`` at least 1.

    Each limb is an integer below 2^24 in magnitude times a power of two, one per row.
    """
    rows = []
    unit = math.ldexp(1.0, math.frexp(float(np.abs(numbers).max(initial=0.0)))[1])
    while True:
        unit *= 2.0**-24
        row = numbers * (1 / unit)  # a power of two: exact
        np.trunc(row, out=row)
        row *= unit
        rows.append(row)
        numbers = numbers - row
        if not numbers.any():
            return np.stack(rows)


def not_above(points: Floats) -> NDArray[np.float32]:
    """Return the largest float32 that is not above each of ``points``."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = points.astype(np.float32)
    return np.where(rounded > points, np.nextafter(rounded, np.float32(-np.inf)), rounded)


class Ranks:
    """Ranks and prefix sums of the weights strictly between two bounds.

    Parameters
    ----------
    blocks : callable
        Returns an iterator over all weights, in blocks of float32, each of at most ``BLOCK``;
        called once per pass.
    low, high : float
        Float32 numbers; a weight ``w`` belongs to the group when ``low < w < high``.
    buckets : int
        Buckets, at least 8; tests take few.
    """

    spare_rounds = 0

    def __init__(self, blocks: Blocks, low: float, high: float, buckets: int = BUCKETS) -> None:
        self._blocks, self._low, self._high = blocks, np.float32(low), np.float32(high)
        scale = min((buckets - 2) / max(high - low, 1e-45), float(np.finfo(np.float32).max))
        self._scale = np.float32(scale)
        self._base = np.float32(low * scale - 1.0)  # bucket 0 is for what is not above `low`
        self._last = buckets - 1
        counts = np.zeros(buckets, np.int64)
        sums = np.zeros(buckets)
        # Work space of a pass: fresh arrays of this size would cost more than the arithmetic.
        self._scaled = np.empty(BLOCK, np.float32)
        self._keys = np.empty(BLOCK, np.int64)
        self._wide = np.empty(BLOCK)
        for block, keys in self._pass():
            counts += np.bincount(keys, minlength=buckets)
            wide = self._wide[: block.size]
            np.copyto(wide, block)
            sums += np.bincount(keys, weights=wide, minlength=buckets)
        self._counts, self._sums = counts, sums
        # Float64 sums of a bucket are exact while its weights have one sign and like magnitude:
        # `distance` buckets from zero, the largest is at most (distance + 2) / (distance - 2)
        # times the smallest.  What is out of bounds is in the two first and the two last buckets.
        distance = np.abs(np.arange(buckets) + float(self._base))
        exact = counts * (distance + 2) < MAX_WEIGHTS * (distance - 2)
        exact[[0, 1, -2, -1]] = False
        self._shut = exact & (counts > 0)
        self._elements = np.zeros(0, np.float32)
        self._pending = ~exact & (counts > 0)

    def keys(self, points: NDArray[np.float32]) -> Integers:
        """Return the bucket of each point (n,); a greater point never has a lesser bucket."""
        keys = np.empty(points.shape, np.int64)
        self._put_keys(points, np.empty_like(points), keys)
        return keys

    def _put_keys(
        self, points: NDArray[np.float32], scaled: NDArray[np.float32], keys: Integers
    ) -> None:
        with np.errstate(over="ignore", under="ignore"):
            np.multiply(points, self._scale, out=scaled)
        np.subtract(scaled, self._base, out=scaled)
        np.clip(scaled, 0, self._last, out=scaled)
        np.copyto(keys, scaled, casting="unsafe")

    def _pass(self) -> Iterator[tuple[NDArray[np.float32], Integers]]:
        """Yield each block with its keys, which hold until the next block."""
        for block in self._blocks():
            keys = self._keys[: block.size]
            self._put_keys(block, self._scaled[: block.size], keys)
            yield block, keys

    def sketch(self) -> "Sketch":
        """Return the interpolated stand-in; its ``visited`` buckets are what to open."""
        edges: Floats = (np.arange(self._last + 2, dtype=np.float64) + float(self._base)) / float(self._scale)
        counts, sums = self._counts.copy(), self._sums.copy()
        counts[[0, -1]], sums[[0, -1]] = 0, 0.0  # all but none out of bounds
        return Sketch(edges, counts, sums)

    def open(self, wanted: NDArray[np.bool_]) -> None:
        """Fetch and sort the weights of the ``wanted`` (buckets,) that are shut; one pass.

        To be called once before any question; questions open by themselves what is missing.
        """
        fetch = (wanted & self._shut) | self._pending
        self._shut &= ~fetch
        self._pending = np.zeros_like(fetch)
        found = [self._elements]
        if fetch.any():
            mask = np.empty(BLOCK, np.bool_)
            for block, keys in self._pass():
                taken = fetch.take(keys, out=mask[: block.size], mode="clip")
                chosen = block.compress(taken)
                found.append(chosen[(chosen > self._low) & (chosen < self._high)])
        self._elements = np.concatenate(found)
        self._elements.sort()
        # The group as a row of atoms: opened weights, and shut buckets under their mean.
        shut = np.flatnonzero(self._shut)
        means = self._sums[shut] / self._counts[shut]
        at = np.searchsorted(self._elements, means)
        elements = self._elements.astype(np.float64)
        self._values = np.insert(elements, at, means)
        counts = np.insert(np.ones(elements.size, np.int64), at, self._counts[shut])
        self._ends = np.concatenate([[0], np.cumsum(counts)])
        parts = limbs(np.insert(elements, at, self._sums[shut]))
        self._prefix = np.zeros((len(parts), parts.shape[1] + 1))
        np.cumsum(parts, axis=1, out=self._prefix[:, 1:])

    @property
    def count(self) -> int:
        """Weights in the group."""
        return int(self._ends[-1])

    def ends(self) -> tuple[float, float]:
        """Return the least and the greatest weight of the group."""
        while self._shut[edge := self.keys(self._values[[0, -1]].astype(np.float32))].any():
            self.open(np.isin(np.arange(self._last + 1), edge))
        return float(self._values[0]), float(self._values[-1])

    def below(self, points: NDArray[np.float32]) -> tuple[Integers, Floats]:
        """Return the number of weights not above each point (n,), and limbs (m, n) of their sum."""
        keys = self.keys(points)
        if self._shut[keys].any():
            self.open(np.isin(np.arange(self._last + 1), keys))
        atom = np.searchsorted(self._values, points, side="right")
        return self._ends[atom], self._prefix[:, atom]

    def first(self, ranks: Integers) -> Floats:
        """Return limbs (m, n) of the sum of the least ``ranks`` (n,) weights."""
        atom = np.searchsorted(self._ends, ranks)
        inside = self._values[atom[self._ends[atom] != ranks] - 1]
        if inside.size:
            keys = self.keys(inside.astype(np.float32))
            self.open(np.isin(np.arange(self._last + 1), keys))
            return self.first(ranks)
        return self._prefix[:, atom]


class Sketch:
    """The questions of :class:`Ranks`, answered by interpolation; ``visited`` notes the buckets."""

    spare_rounds = 1  # L1 may seem to turn a round too early

    def __init__(self, edges: Floats, counts: Integers, sums: Floats) -> None:
        self._edges = edges
        self._ends = np.concatenate([[0], np.cumsum(counts)])
        self._sums = np.concatenate([[0.0], np.cumsum(sums)])
        self.visited = np.zeros(counts.size, np.bool_)
        self.count = int(self._ends[-1])
        self._slack = min(max(_SLACK, 100_000 / max(self.count, 1)), 1.0)

    def ends(self) -> tuple[float, float]:
        """Return the bounds of the group."""
        return float(self._edges[0]), float(self._edges[-1])

    def below(self, points: NDArray[Any]) -> tuple[Integers, Floats]:
        """Return about what :meth:`Ranks.below` does."""
        place = (points - self._edges[0]) / (self._edges[1] - self._edges[0])
        for near in (place - self._slack, place, place + self._slack):
            self.visited[np.clip(near, 0, self.visited.size - 1).astype(np.int64)] = True
        ranks = np.interp(points, self._edges, self._ends)
        return np.rint(ranks).astype(np.int64), np.interp(points, self._edges, self._sums)[None]

    def first(self, ranks: Integers) -> Floats:
        """Return about what :meth:`Ranks.first` does."""
        return self.below(np.interp(ranks, self._ends, self._edges))[1]
