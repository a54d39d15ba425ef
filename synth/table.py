"""PEs beside each other, and what else there is of hardware: one run, library, flow and clock.

`python -m synth table`.
"""

import csv
import io
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from shutil import which
from typing import Any

from rich.table import Table

from synth import SynthError, buffers, report, whole
from synth.files import write
from synth.library import Library
from synth.points import CHOICES, CLOCK_NS, SINGLE, TRIED, Point, measure

__all__ = [
    "COLUMNS", "REFERENCE", "Entry", "count", "entries", "figures", "page", "run", "save", "table",
    "whole_table",
]  # fmt: skip

Row = dict[str, Any]
COLUMNS = (
    "pe", "rows", "how", "area_um2", "alone_um2", "shared_um2", "control_um2", "flip_flops",
    "delay_ns", "per_area", "pj_per_mac", "energy", "outlier_share", "command",
)  # fmt: skip
REFERENCE = Point("mac_pe")
SMALL, LARGE = 4, 16  # rows of the two columns that tell a row's cost from what rows share
ROWS = (16, 64, 128)
ARRAY_COLUMNS = 16  # columns that share an array's control
CONTROL = ("select", "aligner", "outlier_decode", "combine", "steps", "schedule")


class Entry:
    """A kind of PE, and the points that its rows of the table are made of."""

    def __init__(
        self, pe: str, act_width: int = 16, symmetric: bool = False, value_format: str = "fp16"
    ):
        self.pe, self.act_width, self.symmetric = pe, act_width, symmetric
        self.value_format = value_format
        flat = pe == "products" and act_width == 16
        self.columns = [self.point(rows) for rows in (SMALL, LARGE)]
        self.flat = [self.point(64)] if flat else []
        more = [self.point(rows, outliers=2) for rows in (SMALL, LARGE)]
        counted = act_width == 16 and value_format == "fp16" and pe in ("products", "bins")
        self.more = more if counted else []
        floating = pe in ("mac", "bins_fp16")
        units = [u for u in CONTROL if not (floating and u in ("aligner", "outlier_decode"))]
        units = [u for u in units if not (pe == "mac" and u == "combine")]
        self.control = {unit: self.point(LARGE, unit=unit) for unit in units}

    def point(self, rows: int, **more: Any) -> Point:
        """Return a point of this kind."""
        return Point(
            self.pe, self.act_width, rows, self.symmetric, value_format=self.value_format, **more
        )

    @property
    def title(self) -> str:
        """What it is called in the table."""
        width = f", {self.act_width} bits" if self.pe in ("products", "bins") else ""
        narrow = ", BF16" if self.value_format == "bf16" else ""
        return f"{self.pe}{width}{narrow}{', symmetric' if self.symmetric else ''}"

    @property
    def points(self) -> list[Point]:
        """Return all that has to be measured."""
        return [*self.columns, *self.flat, *self.more, *self.control.values()]


def entries() -> list[Entry]:
    """Return what the table has, those of 16 and of 8 bits first."""
    kinds = [
        Entry(pe, width, symmetric, value_format)
        for width in (16, 8, 12, 41) for pe in ("products", "bins")
        for value_format in ("fp16", "bf16") for symmetric in (False, True)
        if value_format == "fp16" or width == 16 or (width == 8 and pe == "products")
    ]  # fmt: skip
    return [*kinds, Entry("bins_fp16"), Entry("bins_fp16", symmetric=True), Entry("mac")]


def with_energy(point: Point) -> bool:
    """Whether a point runs a trained model's layer: the largest that are mapped flat, where there
    is a simulator for netlists."""
    if which("iverilog") is None:
        return False
    if point.single:
        return point.pe != "bins_fp16_pe"
    here = point.unit == "column" and point.outliers == 1 and point.rows >= LARGE
    return here and point.act_width in (8, 16)


def _points(chosen: Sequence[Entry]) -> list[Point]:
    """Return all points of kinds of PEs and the single ones, each once, the largest first."""
    points = [Point(pe) for pe in SINGLE]
    points += [point for entry in chosen for point in entry.points]
    return sorted({point.name: point for point in points}.values(), key=lambda p: -p.count)


def count(chosen: Sequence[Entry]) -> int:
    """Return how many points there are to measure."""
    return len(_points(chosen))


def run(
    chosen: Sequence[Entry], library: Library, folder: Path, done: Callable[[str], object]
) -> tuple[dict[str, Row], list[str]]:
    """Return the figures of all points by name, and a sentence for each that failed; ``done`` after
    each. As many at a time as there are cores; what lies in ``folder`` is not measured again."""
    points = _points(chosen)
    rows: dict[str, Row] = {}
    failed: list[str] = []

    def one(point: Point) -> None:
        try:
            rows[point.name] = measure(point, library, folder, energy=with_energy(point))
        except SynthError as error:
            failed.append(f"{point.name}: {error}")
        done(point.name)

    with ThreadPoolExecutor(cpu_count() or 1) as pool:
        jobs = [pool.submit(one, point) for point in points]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return rows, failed


def figures(chosen: Sequence[Entry], rows: dict[str, Row]) -> list[Row]:
    """Return the rows of the table, a value for each of COLUMNS or None."""
    reference = rows[REFERENCE.name]
    found = [_single(rows[name], reference, name) for name in SINGLE if name in rows]
    for entry in chosen:
        if all(point.name in rows for point in entry.points):
            found += _kind(entry, rows, reference)
    return found


def _single(row: Row, reference: Row, name: str) -> Row:
    return _row(name, None, "by itself", row["area_um2"], None, None, None, row["flip_flops"],
                row["delay_ns"], row["pj_per_mac"], None, row["command"], reference)  # fmt: skip


def _kind(entry: Entry, rows: dict[str, Row], reference: Row) -> list[Row]:
    """Return the rows of a kind of PE: composed for each number of rows, and those mapped flat."""
    small, large = _by_one_recipe(rows, entry.columns, rows[entry.columns[-1].name]["recipe"])

    def line(what: str, small: Row = small, large: Row = large) -> tuple[float, float]:
        slope = (large[what] - small[what]) / (LARGE - SMALL)
        return slope, small[what] - SMALL * slope

    slope, shared = line("area_um2")
    flip_flops, shared_flip_flops = line("flip_flops")
    found = []
    for count in ROWS:
        control = _control(entry, rows, count)
        area = slope + shared / count + control
        energy = large["pj_per_mac"] if count == LARGE else None
        found.append(_row(
            entry.title, count, "composed", area, slope, shared / count, control,
            flip_flops + shared_flip_flops / count, large["delay_ns"], energy,
            _outliers(entry, rows, count, area), entry.point(count).command, reference,
        ))  # fmt: skip
    for point in entry.flat:
        row, control = rows[point.name], _control(entry, rows, point.rows)
        area = row["area_um2"] / point.rows + control
        found.append(_row(
            entry.title, point.rows, "flat", area, slope, row["area_um2"] / point.rows - slope,
            control, row["flip_flops"] / point.rows, row["delay_ns"], row["pj_per_mac"],
            _outliers(entry, rows, point.rows, area), point.command, reference,
        ))  # fmt: skip
    return found


def _by_one_recipe(rows: dict[str, Row], points: Sequence[Point], recipe: str) -> list[Row]:
    """Return the figures of points by one recipe, so that their differences are of hardware."""
    found = (rows[point.name] for point in points)
    return [row | row["by_recipe"][recipe] for row in found]


def _control(entry: Entry, rows: dict[str, Row], count: int) -> float:
    """Return a PE's share of what an array has besides columns: `select` and `steps` grow with the
    rows, an aligner is a column's, the rest is there once."""
    area = {unit: rows[point.name]["area_um2"] for unit, point in entry.control.items()}
    by_rows = (area["select"] + area["steps"]) / (LARGE * ARRAY_COLUMNS)
    once = sum(area.get(unit, 0) for unit in ("outlier_decode", "combine", "schedule"))
    return float(by_rows + area.get("aligner", 0) / count + once / (count * ARRAY_COLUMNS))


def _outliers(entry: Entry, rows: dict[str, Row], count: int, area: float) -> float | None:
    """Return the share of outlier handling: what one more place for outliers costs a column, with
    what takes an outlier apart, over the area."""
    if not entry.more:
        return None
    recipe = rows[entry.columns[-1].name]["recipe"]
    one, two = (_by_one_recipe(rows, points, recipe) for points in (entry.columns, entry.more))
    small, large = (b["area_um2"] - a["area_um2"] for a, b in zip(one, two, strict=True))
    slope = (large - small) / (LARGE - SMALL)
    decode = rows[entry.control["outlier_decode"].name]["area_um2"] / (count * ARRAY_COLUMNS)
    return float((slope + (small - SMALL * slope) / count + decode) / area)


def _row(
    title: str, count: int | None, how: str, area: float, alone: float | None,
    shared: float | None, control: float | None, flip_flops: float, delay: float,
    energy: float | None, outliers: float | None, command: str, reference: Row,
) -> Row:  # fmt: skip
    rate = reference["area_um2"] * reference["delay_ns"] / (area * delay)
    base = reference["pj_per_mac"]
    return {
        "pe": title, "rows": count, "how": how, "area_um2": round(area), "alone_um2": _whole(alone),
        "shared_um2": _whole(shared), "control_um2": _whole(control),
        "flip_flops": round(flip_flops, 1), "delay_ns": round(delay, 2),
        "per_area": round(rate, 2), "pj_per_mac": energy and round(energy, 2),
        "energy": round(base / energy, 2) if base and energy else None,
        "outlier_share": outliers and round(outliers, 4), "command": command,
    }  # fmt: skip


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


HEADS = (
    "PE", "rows", "how", "um2", "alone", "shared", "control", "flip-flops", "path ns",
    "per area", "pJ", "energy", "outliers",
)  # fmt: skip


WHOLE_HEADS = (
    "what", "sizes", "um2", "buffers um2", "buffers bits", "flip-flops", "path ns", "um2 each",
    "per area",
)  # fmt: skip


def _whole_cells(row: Row) -> list[str]:
    numbers = (("area_um2", ",.0f"), ("buffer_um2", ",d"), ("buffer_bits", ",d"),
               ("flip_flops", ",d"), ("delay_ns", ".2f"), ("lane_um2", ",d"),
               ("per_area", ".2f"))  # fmt: skip
    return [row["what"], row["sizes"],
            *("-" if row[name] is None else format(row[name], form) for name, form in numbers)]


def _cells(row: Row) -> list[str]:
    def number(name: str, form: str) -> str:
        return "-" if row[name] is None else format(row[name], form)

    share = "-" if row["outlier_share"] is None else f"{100 * row['outlier_share']:.1f} %"
    return [
        row["pe"], number("rows", "d"), row["how"], number("area_um2", ",d"),
        number("alone_um2", ",d"), number("shared_um2", ",d"), number("control_um2", ",d"),
        number("flip_flops", ".1f"), number("delay_ns", ".2f"), number("per_area", ".2f"),
        number("pj_per_mac", ".2f"), number("energy", ".2f"), share,
    ]  # fmt: skip


def table(rows: Sequence[Row], library: Library) -> Table:
    """Return the table that a person reads."""
    result = Table(title=f"{library.name}, mapped for {CLOCK_NS:g} ns", title_justify="left")
    for n, head in enumerate(HEADS):
        result.add_column(head, justify="left" if n in (0, 2) else "right")
    for row in rows:
        result.add_row(*_cells(row))
    return result


def whole_table(rows: Sequence[Row], library: Library) -> Table:
    """Return the table of blocks, decode units and arrays that a person reads."""
    result = Table(title=f"{library.name}, mapped for {CLOCK_NS:g} ns", title_justify="left")
    for n, head in enumerate(WHOLE_HEADS):
        result.add_column(head, justify="left" if n < 2 else "right")
    for row in rows:
        result.add_row(*_whole_cells(row))
    return result


def save(
    rows: Sequence[Row], others: Sequence[Row], library: Library, folder: Path, name: str
) -> list[Path]:
    """Write the tables, of PEs and of all else, as JSON, with how they were made, and as CSV, their
    files called ``name``; return the paths."""
    document = report.made_by(library) | {
        "clock_ns": CLOCK_NS, "recipes": list(TRIED), "options": CHOICES.name,
        "pes": list(rows), "whole": list(others),
    }
    texts = {folder / f"{name}-{library.name}.json": json.dumps(document, indent=1) + "\n"}
    for what, columns, lines in (("pes", COLUMNS, rows), ("whole", whole.COLUMNS, others)):
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        if lines:
            texts[folder / f"{name}-{what}-{library.name}.csv"] = text.getvalue()
    for path, content in texts.items():
        write(path, content)
    return list(texts)


LAYER = "encoder.layer.0.intermediate.dense.weight"


TEMPLATES = Path(__file__).parent / "templates"


def _rest(others: Sequence[Row], library: Library) -> str:
    """Return what the page has of all but PEs, nothing when that was not measured."""
    if not others:
        return ""
    return (TEMPLATES / "whole.md").read_text(encoding="utf-8").format(
        whole=_markdown(WHOLE_HEADS, map(_whole_cells, others)),
        buffers=buffers.source(library.name), columns=ARRAY_COLUMNS,
    )  # fmt: skip


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def page(
    rows: Sequence[Row], others: Sequence[Row], library: Library, command: str, made: Row
) -> str:
    """Return the page of the tables, with all it takes to repeat them; ``made`` is what they come
    from, by `report.made_by`."""
    recipes = f"{', '.join(f'`{recipe}`' for recipe in TRIED)} ({CHOICES.name})"
    return (TEMPLATES / "pes.md").read_text(encoding="utf-8").format(
        library=library.name, clock=CLOCK_NS, recipes=recipes,
        table=_markdown(HEADS, map(_cells, rows)),
        rest=_rest(others, library), small=SMALL, large=LARGE, columns=ARRAY_COLUMNS,
        layer=LAYER,
        command=command, commit=made["commit"], date=datetime.now(UTC).date().isoformat(),
        tools=f"pyosys {made['tools']['pyosys']}, OpenSTA, Icarus",
        machine=f"{platform.machine()} {platform.system()}, {cpu_count()} cores",
        sha256=library.sha256,
    )  # fmt: skip
