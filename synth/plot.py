"""Scatter plots of measured points: where each lands, which are on the Pareto front, and ticks.

Only numbers here: ``synth/templates`` draws them, for the page and for the picture alike.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10
from typing import Any

__all__ = ["AXES", "HEIGHT", "PLOTS", "WIDTH", "Axis", "Mark", "Plot", "front", "plot", "ticks"]

WIDTH, HEIGHT = 480, 360
"""Units of a plot, and of them what its labels take:"""
LEFT, RIGHT, TOP, BOTTOM = 74, 14, 14, 56
EDGE = 14  # between the outermost points and the frame

Row = dict[str, Any]
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axis:
    """A figure of a row: its name, a word and words for it, and whether more of it is better."""

    name: str
    short: str
    label: str
    unit: str
    more: bool = False
    percent: bool = False

    @property
    def title(self) -> str:
        """What stands beside the axis."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


AXES = {axis.name: axis for axis in (
    Axis("area_um2", "area", "area of a PE", "µm²"),
    Axis("delay_ns", "path", "critical path", "ns"),
    Axis("density", "rate", "rate by area", "G steps/s/mm²", more=True),
    Axis("pj_per_mac", "energy", "energy of a multiply-accumulate", "pJ"),
    Axis("error", "error", "error of the arithmetic", ""),
    Axis("layer_error", "layer's error", "error of the layer", "%", percent=True),
)}  # fmt: skip

PLOTS = (
    ("area_um2", "error"), ("area_um2", "layer_error"), ("pj_per_mac", "error"),
    ("pj_per_mac", "layer_error"), ("pj_per_mac", "density"), ("area_um2", "delay_ns"),
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A point, drawn at ``x``, ``y``, which grows downwards."""

    row: Row
    x: float
    y: float


@dataclass(frozen=True)
class Plot:
    """Marks, the front's path, and ticks: each a place and its text."""

    x: Axis
    y: Axis
    marks: list[Mark]
    front: list[Mark]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]

    @property
    def name(self) -> str:
        """An identifier."""
        return f"{self.x.name}-{self.y.name}"

    @property
    def title(self) -> str:
        """What it shows."""
        return f"{self.y.short} by {self.x.short}".capitalize()

    @property
    def better(self) -> str:
        """The corner where one wants to be."""
        return f"{'upper' if self.y.more else 'lower'} {'right' if self.x.more else 'left'}"

    @property
    def worst(self) -> tuple[int, int]:
        """The corner opposite to it."""
        return LEFT if self.x.more else WIDTH - RIGHT, HEIGHT - BOTTOM if self.y.more else TOP

    @property
    def path(self) -> str:
        """The front as steps from edge to edge: nothing that was measured lies beyond it."""
        worst_x, worst_y = self.worst
        steps = "".join(f"H{mark.x}V{mark.y}" for mark in self.front)
        return f"M{self.front[0].x} {worst_y}{steps}H{worst_x}"


def front(points: Iterable[tuple[float, float]]) -> list[int]:
    """Return which of the points no other beats, where less is better, by their first number.

    A point is beaten by one that is better in one number and not worse in the other; of equal
    points all stay.
    """
    numbered = sorted((x, y, n) for n, (x, y) in enumerate(points))
    found: list[int] = []
    best = last_x = float("inf")
    for x, y, n in numbered:
        if y < best or (y == best and x == last_x):
            found.append(n)
            best, last_x = y, x
    return found


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers in low..high for a logarithmic axis: powers of ten over many decades,
    1, 2 and 5 times these over few, equal steps over less than one."""
    decades = log10(high / low)
    if decades > 3:
        step = ceil(decades / 6)
        powers = range(ceil(log10(low) - 1e-9), floor(log10(high) + 1e-9) + 1)
        return [10.0**n for n in powers if n % step == 0]
    if decades > 0.9:
        exponents = range(floor(log10(low)), ceil(log10(high)) + 1)
        found = [m * 10.0**n for n in exponents for m in (1, 2, 5)]
    else:
        rough = (high - low) / 5
        size = 10.0 ** floor(log10(rough))
        step_size = next(m * size for m in (1, 2, 5, 10) if m * size >= rough * 0.999)
        first = ceil(low / step_size - 1e-9)
        found = [n * step_size for n in range(first, floor(high / step_size + 1e-9) + 1)]
    return [tick for tick in found if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def plot(rows: Sequence[Row], x: str, y: str) -> Plot | None:
    """Place the rows that have both figures, above 0; None when there are none."""
    axes = AXES[x], AXES[y]
    rows = [row for row in rows if (row.get(x) or 0) > 0 and (row.get(y) or 0) > 0]
    if not rows:
        return None
    places = []
    marked = []
    for axis, start, stop in ((axes[0], LEFT + EDGE, WIDTH - RIGHT - EDGE),
                              (axes[1], HEIGHT - BOTTOM - EDGE, TOP + EDGE)):  # fmt: skip
        values = [float(row[axis.name]) for row in rows]
        low, high = min(values), max(values)
        if high < 1.02 * low:  # one value or nearly: it gets some room
            low, high = low / 1.1, high * 1.1
        scale = (stop - start) / log10(high / low)

        places.append([round(start + scale * log10(value / low), 1) for value in values])
        round_ones = ticks(low, high)
        marked.append([
            (round(start + scale * log10(value / low), 1), _text(value, axis, round_ones))
            for value in round_ones
        ])
    marks = [Mark(row, *at) for row, *at in zip(rows, *places, strict=True)]
    chosen = front(
        (mark.row[x] * (-1 if axes[0].more else 1), mark.row[y] * (-1 if axes[1].more else 1))
        for mark in marks
    )
    return Plot(*axes, marks, [marks[n] for n in chosen], *marked)


def _text(value: float, axis: Axis, all_ticks: Sequence[float]) -> str:
    """Return a tick's text: a percentage, a power of ten, or as many places as they differ in."""
    if not axis.percent and (min(all_ticks) < 1e-3 or max(all_ticks) >= 1e6):
        digit, power = f"{value:.0e}".split("e")
        return f"{'' if digit == '1' else digit + '·'}10{str(int(power)).translate(_RAISED)}"
    factor = 100 if axis.percent else 1
    step = min((b - a for a, b in pairwise(all_ticks)), default=value)
    places = ceil(-log10(factor * min(step, value)) - 1e-9)
    return f"{factor * value:,.{max(0, places)}f}"
