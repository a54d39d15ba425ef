"""Ranks and exact sums of the Gaussian group, as if it were sorted.

The fit asks only for how many weights lie below a point and what they sum to.  So the group is
not sorted: it is counted into narrow **buckets** of equal width, with the sum of each.  A point
inside a bucket needs that bucket's weights; such a bucket is **opened**: its weights are fetched
and sorted.  A fit touches a few hundred of 16384 buckets.  Interpolated counts
(:meth:`Ranks.about`) foretell which, so that one pass fetches them all.

Sums are exact.  A float32 weight is an integer in a small enough unit; numbers are split into
**limbs** of 24 bits, and fewer than 2^29 of those add up in float64 without rounding.
``docs/decisions/quantiser-ranks.md`` has the reasons and the alternatives.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK", "BUCKETS", "MAX_WEIGHTS", "Blocks", "Floats", "Integers", "Points", "Ranks", "limbs",
    "not_above",
]  # fmt: skip

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Points = NDArray[np.float32]
Blocks = Callable[[], Iterator[Points]]

BLOCK = 1 << 16  # weights worked on at a time, which keeps them in the cache
BUCKETS = 1 << 14  # counts and sums stay in the second-level cache
MAX_WEIGHTS = 1 << 28  # half of what limbs can take
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


def _prefix(numbers: Floats) -> Floats:
    """Return limbs (m, n + 1) of the sums of the first 0, 1, ... n ``numbers``."""
    parts = limbs(numbers)
    prefix = np.zeros((len(parts), numbers.size + 1))
    np.cumsum(parts, axis=1, out=prefix[:, 1:])
    return prefix


def not_above(points: Floats) -> Points:
    """Return the largest float32 that is not above each of ``points``."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = points.astype(np.float32)
    above = rounded > points
    if above.any():
        rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded


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

    def __init__(self, blocks: Blocks, low: float, high: float, buckets: int = BUCKETS) -> None:
        self._blocks, self._low, self._high = blocks, np.float32(low), np.float32(high)
        scale = min((buckets - 2) / max(high - low, 1e-45), float(np.finfo(np.float32).max))
        self._scale = np.float32(scale)
        self._base = np.float32(low * scale - 1.0)  # bucket 0 is for what is not above `low`
        self._buckets = buckets
        # Work space of a pass: fresh arrays of this size would cost more than the arithmetic.
        self._scaled = np.empty(BLOCK, np.float32)
        self._narrow = np.empty(BLOCK, np.int32)
        self._keys = np.empty(BLOCK, np.int64)
        self._counts, self._sums, sound = self._count()
        # What is not above `low` has at most its key, what is not below `high` at least that.
        first, last = self.keys(np.array([low, high], np.float32))
        sound[: first + 1] = sound[last:] = False
        self.small = int(self._counts.sum()) <= 4 * buckets  # so it is opened whole
        self._pending = ~sound | self.small
        self._shut = ~self._pending & (self._counts > 0)
        self._opened = np.zeros(0, np.float32)

    def _count(self) -> tuple[Integers, Floats, NDArray[np.bool_]]:
        """Return number and sum of the weights in each bucket, and whether they are exact.

        One sum gives both.  To each weight an ``offset`` is added, a power of two beside which
        those of a bucket are all but equal: so their sum tells how many they are.
        """
        magnitude = max(abs(float(self._low)), abs(float(self._high)))
        offset = math.ldexp(1.0, math.frexp(magnitude)[1] + 6)
        totals, wide = np.zeros(self._buckets), np.empty(BLOCK)
        for block, keys in self._pass():
            weights = wide[: block.size]
            np.copyto(weights, block)
            weights += offset
            totals += np.bincount(keys, weights=weights, minlength=self._buckets)
        places = np.arange(self._buckets) + float(self._base)  # of the buckets, from zero
        width = 1 / float(self._scale)
        counts = np.rint(totals / (offset + (places + 0.5) * width))
        counts[[0, -1]] = totals[[0, -1]] = 0  # all but none of it in bounds
        # Keys are rounded, so a weight is up to `width + magnitude * 2^-23` off the middle.
        sound = counts * (width + magnitude * 2.0**-23) < offset / 4
        # Totals are exact while they have at most 2^53 units, and the unit of a float32 is more
        # than 2^-24 times its magnitude.
        sound &= counts * offset <= 2.0**28 * (np.abs(places) - 2) * width
        return counts.astype(np.int64), totals - counts * offset, sound

    def keys(self, points: Points) -> Integers:
        """Return the bucket of each point (n,); a greater point never has a lesser bucket."""
        keys = np.empty(points.size, np.int64)
        self._put_keys(points, np.empty_like(points), np.empty(points.size, np.int32), keys)
        return keys

    def _put_keys(
        self, points: Points, scaled: Points, narrow: NDArray[np.int32], keys: Integers
    ) -> None:
        with np.errstate(over="ignore", under="ignore"):
            np.multiply(points, self._scale, out=scaled)
        np.subtract(scaled, self._base, out=scaled)
        scaled.clip(0, self._buckets - 1, out=scaled)
        np.copyto(narrow, scaled, casting="unsafe")  # in two steps: numpy has vector code for each
        np.copyto(keys, narrow)

    def _pass(self) -> Iterator[tuple[Points, Integers]]:
        """Yield each block with its keys, which hold until the next block."""
        for block in self._blocks():
            size = block.size
            keys = self._keys[:size]
            self._put_keys(block, self._scaled[:size], self._narrow[:size], keys)
            yield block, keys

    def sketch(self) -> "Sketch":
        """Return counts and sums to interpolate in, which need no pass."""
        edges: Floats = np.arange(self._buckets + 1, dtype=np.float64) + float(self._base)
        edges /= float(self._scale)
        return Sketch(edges, self._counts, self._sums)

    def open(self, keys: Integers) -> None:
        """Fetch and sort the weights of the buckets ``keys`` that are shut; one pass.

        Questions open by themselves what is missing.
        """
        fetch = self._pending.copy()
        fetch[keys] |= self._shut[keys]
        self._shut &= ~fetch
        self._pending[:] = False
        found = [self._opened]
        if fetch.any():
            for block, places in self._pass():
                chosen = block[fetch.take(places, mode="clip")]
                found.append(chosen[(chosen > self._low) & (chosen < self._high)])
        self._opened = np.concatenate(found)
        self._opened.sort()
        self._below = np.zeros(self._buckets + 1, np.int64)  # weights in shut buckets below each
        np.cumsum(np.where(self._shut, self._counts, 0), out=self._below[1:])
        self._shut_sums = _prefix(np.where(self._shut, self._sums, 0.0))
        self._opened_sums = _prefix(self._opened.astype(np.float64))

    def open_near(self, points: Floats) -> None:
        """Open the outermost buckets, those of ``points``, and any a point is near to."""
        share = min(max(_SLACK, 100_000 / max(int(self._counts.sum()), 1)), 1.0)
        slack = share / float(self._scale)
        near = np.concatenate([points - slack, points, points + slack])
        shut = np.flatnonzero(self._shut)
        self.open(np.concatenate([shut[:1], shut[-1:], self.keys(near.astype(np.float32))]))

    @property
    def count(self) -> int:
        """Weights in the group."""
        return int(self._below[-1]) + self._opened.size

    def _sums_to(self, keys: Integers, opened: Integers) -> Floats:
        """Return parts of the sums of the shut buckets below ``keys`` and the least ``opened``."""
        return np.concatenate([self._shut_sums[:, keys], self._opened_sums[:, opened]])

    def below(self, points: Points) -> tuple[Integers, Floats]:
        """Return the number of weights not above each point (n,), and parts (m, n) of their sum.

        The parts add up to the sum exactly; ``m`` may differ from call to call.
        """
        keys = self.keys(points)
        if self._shut[keys].any():
            self.open(keys)
        opened = np.searchsorted(self._opened, points, side="right")
        return self._below[keys] + opened, self._sums_to(keys, opened)

    def first(self, ranks: Integers) -> Floats:
        """Return parts (m, n) of the sum of the least ``ranks`` (n,) weights."""
        ends = self._below.copy()  # weights below each bucket
        ends[1:] += np.cumsum(np.bincount(self.keys(self._opened), minlength=self._buckets))
        keys = np.searchsorted(ends, ranks, side="right") - 1
        inside = keys[ends[keys] < ranks]
        if self._shut[inside].any():
            self.open(inside)
            return self.first(ranks)
        return self._sums_to(keys, ranks - self._below[keys])

    def around(self, points: Points) -> tuple[Points, Points]:
        """Return the greatest weight not above each point (n,), and the least above it.

        They are infinite where there is none.
        """
        edge = np.array([np.inf], np.float32)
        padded = np.concatenate([-edge, self._opened, edge])
        at = np.searchsorted(self._opened, points, side="right")
        below, above = padded[at], padded[at + 1]
        # There may be nearer ones in the nearest shut buckets.
        shut = np.concatenate([[-1], np.flatnonzero(self._shut), [self._buckets]])
        at = np.searchsorted(shut, self.keys(points))
        lower, upper = shut[at - 1], shut[at]
        nearer = [lower[lower > self.keys(below)], upper[upper < self.keys(above)]]
        if nearer[0].size or nearer[1].size:
            self.open(np.concatenate(nearer))
            return self.around(points)
        return below, above


class Sketch:
    """About what :class:`Ranks` would answer, by interpolation in its buckets."""

    def __init__(self, edges: Floats, counts: Integers, sums: Floats) -> None:
        self._edges = edges
        self._ends = np.concatenate([[0], np.cumsum(counts)])
        self._sums = np.concatenate([[0.0], np.cumsum(sums)])
        self.count, self.total = float(self._ends[-1]), float(self._sums[-1])
        self.width = float(edges[1] - edges[0])  # of a bucket

    def below(self, points: Floats) -> tuple[Floats, Floats]:
        """Return the number of weights below each point (n,), and their sum."""
        ranks = np.interp(points, self._edges, self._ends)
        return ranks, np.interp(points, self._edges, self._sums)

    def at(self, ranks: Floats) -> Floats:
        """Return the points below which there are ``ranks`` (n,) weights."""
        return np.interp(ranks, self._ends, self._edges)
