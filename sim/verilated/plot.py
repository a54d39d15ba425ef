"""Lines in a frame, as SVG: something over a logarithmic axis, and its bounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, log2

__all__ = ["Line", "draw"]

WIDTH, HEIGHT = 640, 420
LEFT, RIGHT, TOP, BOTTOM = 60, 190, 40, 56
_HUES = ("#0060a8", "#b84600", "#00734f", "#9a3a86")
_STYLE = """text { font: 12px "DejaVu Sans", Verdana, sans-serif; fill: #1b1e23; }
.ticks text { font-size: 11px; }
.heading { font-weight: bold; font-size: 13px; }
.grid path { stroke: #d5d9df; }
.bound { fill: none; stroke: #6b7280; stroke-width: 1.5; stroke-dasharray: 5 3; }
.line { fill: none; stroke-width: 2; }"""


@dataclass(frozen=True)
class Line:
    """Points (x, y), x ascending and above 0; lines of the same ``hue`` have the same colour, and
    those that are ``open`` have hollow marks."""

    name: str
    hue: int
    points: Sequence[tuple[float, float]]
    open: bool = False


def draw(
    title: str, x_title: str, y_title: str, lines: Sequence[Line],
    bounds: Sequence[tuple[str, float]] = (),
) -> str:  # fmt: skip
    """Return the picture. The x axis is of powers of two, the y axis begins at 0; ``bounds`` are
    names and heights of dashed lines."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points] + [y for _, y in bounds]
    low, high = log2(min(xs)), log2(max(xs))
    step = next(size for size in (1, 2, 5, 10, 20, 50, 100) if max(ys) / size <= 12)
    top = ceil(max(ys) / step) * step

    def x_at(x: float) -> float:
        return round(LEFT + (log2(x) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT), 1)

    def y_at(y: float) -> float:
        return round(HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM), 1)

    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x_ticks = [(x_at(x), f"{x:g}") for x in sorted(set(xs))]
    y_ticks = [(y_at(y), f"{y}") for y in range(0, top + 1, step)]
    middle = (TOP + bottom) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(title)}</title>', f"<style>\n{_STYLE}\n</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="heading" x="{LEFT}" y="{TOP - 16}">{escape(title)}</text>',
        '<g class="grid">',
        *(f'<path d="M{x} {TOP}V{bottom}"/>' for x, _ in x_ticks),
        *(f'<path d="M{LEFT} {y}H{right}"/>' for y, _ in y_ticks), '</g>', '<g class="ticks">',
        *(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{t}</text>' for x, t in x_ticks),
        *(f'<text x="{LEFT - 7}" y="{y + 4}" text-anchor="end">{t}</text>' for y, t in y_ticks),
        "</g>",
        f'<text x="{(LEFT + right) / 2}" y="{bottom + 44}" text-anchor="middle">'
        f"{escape(x_title)}</text>",
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_title)}</text>",
    ]  # fmt: skip
    for name, y in bounds:
        parts += [
            f'<path class="bound" d="M{LEFT} {y_at(y)}H{right}"/>',
            f'<text x="{right + 12}" y="{y_at(y) + 4}">{escape(name)}</text>',
        ]
    # The legend stands between the bounds' names: from the middle downwards.
    for n, line in enumerate(lines):
        hue = _HUES[line.hue % len(_HUES)]
        fill = "#fff" if line.open else hue
        path = "L".join(f"{x_at(x)} {y_at(y)}" for x, y in line.points)
        mark = f'r="4" stroke="{hue}" stroke-width="2" fill="{fill}"'
        parts += [
            f'<path class="line" stroke="{hue}" d="M{path}"/>',
            *(f'<circle cx="{x_at(x)}" cy="{y_at(y)}" {mark}/>' for x, y in line.points),
            f'<circle cx="{right + 18}" cy="{bottom - 18 * (len(lines) - 1 - n) - 4}" {mark}/>',
            f'<text x="{right + 30}" y="{bottom - 18 * (len(lines) - 1 - n)}">'
            f"{escape(line.name)}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])
