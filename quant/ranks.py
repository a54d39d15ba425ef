"""Ranks and exact sums of the Gaussian group, as if it were sorted.

The fit asks only for how many weights lie below a point and what they sum to.  So the group is
not sorted: it is counted into narrow **buckets** of equal width, with the sum of each.  A point
inside a bucket needs that bucket's weights; such a bucket is **opened**: its weights are fetched
and sorted.  A fit touches a few hundred of 2^14 to 2^16 buckets.  Interpolated counts
(:class:`Sketch`) foretell which, so that one pass fetches them all.

Sums are exact.  A float32 weight is an integer in a small enough unit; numbers are split into
**limbs** of 24 bits, and fewer than 2^29 of those add up in float64 without rounding.
``docs/decisions/quantiser-ranks.md`` has the reasons and the alternatives.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK", "BUCKETS", "MAX_WEIGHTS", "Blocks", "Floats", "Integers", "Points", "Ranks",
    "buckets_for", "limbs",    "not_above",
]  # fmt: skip

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Points = NDArray[np.float32]
Blocks = Callable[[], Iterator[Points]]

BLOCK = 1 << 16  # weights worked on at a time, which keeps them in the cache
BUCKETS = 1 << 16  # at most: counts and sums stay in the second-level cache
MAX_WEIGHTS = 1 << 28  # half of what limbs can take
_SLACK = 0.5  # squared share of a bucket of one weight: how far off a first round is


def buckets_for(count: int) -> int:
    """Return how many buckets serve ``count`` weights: some 64 to 128 in each, 2^14 at least."""
    return min(BUCKETS, max(1 << 14, 1 << (count // 128).bit_length()))


def limbs(numbers: Floats) -> Iterator[Floats]:
    """Yield limbs (n,), at least one, that add up to ``numbers`` (n,) exactly.

    A limb is a power of two times integers of at most 2^24 in magnitude.
    """
    rest = numbers.copy()
    magnitude = max(numbers.max(initial=0.0), -numbers.min(initial=0.0))
    unit = math.ldexp(1.0, math.frexp(float(magnitude))[1])
    while True:
        unit *= 2.0**-24
        limb = rest + 1.5 * 2.0**52 * unit  # whose last place is the unit: the rest is rounded
        limb -= 1.5 * 2.0**52 * unit
        rest -= limb
        yield limb
        if not rest.any():
            return


def _prefix(numbers: Floats) -> list[Floats]:
    """Return limbs (n + 1,) of the sums of the first 0, 1, ... n ``numbers``."""
    rows = []
    for limb in limbs(numbers):
        row = np.empty(numbers.size + 1)
        row[0] = 0
        np.cumsum(limb, out=row[1:])
        rows.append(row)
    return rows


def not_above(points: Floats) -> Points:
    """Return the largest float32 that is not above each of ``points``."""
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

    Keys of numbers near the ends of float32 overflow on the way: the caller has numpy ignore that.
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
        scaled = points * self._scale
        scaled -= self._base
        np.minimum(np.maximum(scaled, 0, out=scaled), self._buckets - 1, out=scaled)
        return scaled.astype(np.int64)

    def _pass(self) -> Iterator[tuple[Points, Integers]]:
        """Yield each block with its keys, which hold until the next block."""
        for block in self._blocks():
            size = block.size
            scaled, narrow, keys = self._scaled[:size], self._narrow[:size], self._keys[:size]
            np.multiply(block, self._scale, out=scaled)
            scaled -= self._base
            scaled.clip(0, self._buckets - 1, out=scaled)
            np.copyto(narrow, scaled, casting="unsafe")  # in two steps: vector code for each
            np.copyto(keys, narrow)
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
        if fetch.any():
            found = [block.compress(fetch.take(keys, mode="clip")) for block, keys in self._pass()]
            fresh = np.concatenate(found)
            fresh = fresh[(fresh > self._low) & (fresh < self._high)]
            self._opened = np.concatenate([self._opened, fresh])
        self._opened.sort()
        self._below = np.zeros(self._buckets + 1, np.int64)  # weights in shut buckets below each
        np.cumsum(np.where(self._shut, self._counts, 0), out=self._below[1:])
        self._shut_sums = _prefix(np.where(self._shut, self._sums, 0.0))
        self._opened_sums = _prefix(self._opened.astype(np.float64))

    def open_near(self, rounds: list[Floats]) -> None:
        """Open the outermost buckets, and those that the points of ``rounds`` are in or near to.

        The more rounds and the fewer weights in a bucket, the farther off is a point of a sketch.
        """
        points = np.concatenate(rounds)
        number = np.repeat(np.arange(1, len(rounds) + 1), [part.size for part in rounds])
        share = np.sqrt(_SLACK * number * self._buckets / max(int(self._counts.sum()), 1))
        slack = np.minimum(share, 1) / float(self._scale)
        near = np.concatenate([points - slack, points, points + slack])
        shut = np.flatnonzero(self._shut)
        self.open(np.concatenate([shut[:1], shut[-1:], self.keys(near.astype(np.float32))]))

    @property
    def count(self) -> int:
        """Weights in the group."""
        return int(self._below[-1]) + self._opened.size

    def _sums_to(self, keys: Integers, opened: Integers) -> Floats:
        """Return parts of the sums of the shut buckets below ``keys`` and the least ``opened``."""
        parts = [row.take(keys) for row in self._shut_sums]
        parts += [row.take(opened) for row in self._opened_sums]
        return np.concatenate(parts).reshape(len(parts), -1)

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
        both = np.zeros(edges.size, np.complex128)  # a rank and a sum, looked up at once
        np.cumsum(counts, out=both.real[1:])
        np.cumsum(sums, out=both.imag[1:])
        self._both = both
        self.count, self.total = float(both.real[-1]), float(both.imag[-1])
        self.width = float(edges[1] - edges[0])  # of a bucket

    def below(self, points: Floats) -> tuple[Floats, Floats]:
        """Return the number of weights below each point (n,), and their sum."""
        both = np.interp(points, self._edges, self._both)
        return both.real, both.imag

    def at(self, ranks: Floats) -> Floats:
        """Return the points below which there are ``ranks`` (n,) weights."""
        return np.interp(ranks, self._both.real, self._edges)
