"""What an array has besides PEs: its blocks and their buffers, decode units, whole arrays."""

import json
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import cpu_count
from pathlib import Path
from typing import Any

from synth import SynthError, buffers, flow, points, report, sta
from synth.files import write
from synth.library import Library
from synth.points import CHOICES, CLOCK_NS, TRIED, Point

__all__ = ["ARRAYS", "BLOCKS", "COLUMNS", "DECODERS", "count", "run"]

Row = dict[str, Any]
COLUMNS = (
    "what", "sizes", "area_um2", "buffer_um2", "buffer_bits", "flip_flops", "delay_ns", "lanes",
    "lane_um2", "per_area", "command",
)  # fmt: skip
BLOCKS = (
    "fetch", "weight_loader", "strip_buffer", "act_loader", "act_buffer", "bias_loader", "schedule",
    "steps", "outlier_decode", "outlier_product", "select", "aligner", "combine", "finish", "round",
    "result_writer",
)  # fmt: skip
"""Of an accelerator, in the order of the data; columns and PEs are measured beside each other."""
DECODERS = ("tiny", "default", "rows", "block", "fp32")
ARRAYS = (
    Point("mac", unit="array"),
    *(Point("products", rows=rows, symmetric=symmetric, unit="array")
      for rows in (16, 64) for symmetric in (False, True)),
    Point("bins", symmetric=True, unit="array"),
)  # fmt: skip
"""16 columns each, mapped column by column: the first is what the others are measured against."""
PARTS = ("column", "align")  # modules of an array that are mapped once


def count() -> int:
    """Return how many things there are to measure."""
    return len(BLOCKS) + len(DECODERS) + len(ARRAYS)


def run(
    library: Library, folder: Path, done: Callable[[str], object]
) -> tuple[list[Row], list[str]]:
    """Return the rows of the table, a value for each of COLUMNS or None, and a sentence for each
    thing that failed; ``done`` after each. What lies in ``folder`` is not measured again."""
    failed: list[str] = []

    def one(method: Callable[..., Row], what: Any, name: str) -> Row | None:
        try:
            return method(what, library, folder)
        except SynthError as error:
            failed.append(f"{name}: {error}")
            return None
        finally:
            done(name)

    work: list[tuple[Callable[..., Row], Any, str]]
    work = [(_array, point, point.name) for point in ARRAYS]
    work += [(_decoder, name, f"decode {name}") for name in DECODERS]
    work += [(_block, unit, unit) for unit in BLOCKS]
    with ThreadPoolExecutor(cpu_count() or 1) as pool:
        jobs = [pool.submit(one, *each) for each in work]
        try:
            rows = [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    arrays, others = rows[: len(ARRAYS)], rows[len(ARRAYS) :]
    if reference := arrays[0]:
        base = reference["area_um2"] / reference["lanes"] * reference["delay_ns"]
        for row in filter(None, arrays):
            row["per_area"] = round(base / (row["lane_um2"] * row["delay_ns"]), 2)
    return [row for row in (*others, *arrays) if row], failed


def _row(what: str, sizes: str, lanes: int | None, figures: Row, command: str) -> Row:
    row: Row = dict.fromkeys(COLUMNS)
    row |= {name: figures[name] for name in ("area_um2", "flip_flops", "delay_ns")}
    each = round(figures["area_um2"] / lanes) if lanes else None
    row |= {"what": what, "sizes": sizes, "lanes": lanes, "lane_um2": each, "command": command}
    return row


def _block(unit: str, library: Library, folder: Path) -> Row:
    point = Point("products", unit=unit)
    row = _row(unit, "16 rows, 16 columns", None, points.measure(point, library, folder),
               point.command)  # fmt: skip
    (design,) = report.find_designs(folder / point.name, [], unit)
    large = buffers.buffers(design.verilog.read_text(encoding="utf-8"))
    if large:
        row["buffer_bits"] = sum(buffer.bits * times for buffer, times in large.items())
        row["buffer_um2"] = round(sum(
            buffers.area(buffer, library.name, library.smallest_gate) * times
            for buffer, times in large.items()
        ))  # fmt: skip
    return row


def _decoder(name: str, library: Library, folder: Path) -> Row:
    work = folder / f"decode_{name}"
    given = ["--config", name, "--unit", "decode"]
    points.run("gobo_rtl", "verilog", *given, "-o", str(work))
    (design,) = report.find_designs(work, [], "decode")
    found = _composed(design, None, library, work)
    command = f"python -m gobo_rtl verilog {' '.join(given)} -o build/verilog"
    return _row("decode", f"{name}, {design.lanes} lanes", design.lanes, found, command)


def _array(point: Point, library: Library, folder: Path) -> Row:
    column = points.measure(replace(point, unit="column"), library, folder)
    work = folder / point.name
    points.run("gobo_rtl", "verilog", *point.settings, "--unit", "array", "-o", str(work))
    (design,) = report.find_designs(work, [], "array")
    found = _composed(design, column["recipe"], library, work)
    kind = f"{point.pe}{', symmetric' if point.symmetric else ''}"
    return _row("array", f"{point.rows} x 16 {kind}", design.lanes, found, point.command)


def _composed(
    design: report.Design, for_parts: str | None, library: Library, folder: Path
) -> Row:
    """Return the figures of a design that is mapped part by part, its PARTS as often as they are in
    it, by the recipe ``for_parts``, and timed as a whole; of the recipes of TRIED for the rest the
    best by area times path counts."""
    text = design.verilog.read_text(encoding="utf-8")
    found = re.findall(rf"^  \\{re.escape(design.top)}\.(\w+) +\w+ \($", text, re.MULTILINE)
    parts = Counter(name for name in found if name in PARTS)
    key = points.key(design, library, CLOCK_NS, TRIED)
    known = folder.parent / "known" / f"{key}-{for_parts or 'no'}-parts.json"
    try:
        row: Row = json.loads(known.read_text(encoding="utf-8"))
        return row
    except (OSError, ValueError):
        pass
    made = {
        part: flow.synthesise(design.verilog, f"{design.top}.{part}", library, CLOCK_NS,
                              folder / part, for_parts, CHOICES)
        for part in parts if for_parts
    }  # fmt: skip
    rests = flow.synthesise_all(
        design.verilog, design.top, library, CLOCK_NS,
        {recipe: folder / recipe for recipe in TRIED}, CHOICES,
        [f"{design.top}.{part}" for part in parts],
    )  # fmt: skip
    tried = []
    for recipe, rest in rests.items():
        work = folder / recipe
        for part, mapped in made.items():
            link = work / part / "netlist.v"
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(mapped.netlist.resolve())
        path = sta.critical_path(design.top, library, CLOCK_NS, work, list(parts))
        every = [(rest, 1), *((made[part], times) for part, times in parts.items())]
        tried.append({
            "area_um2": round(sum(each.area * times for each, times in every), 1),
            "flip_flops": sum(each.flip_flops * times for each, times in every),
            "delay_ns": path.delay_ns, "path": f"{path.start} -> {path.end}", "recipe": recipe,
        })  # fmt: skip
    row = min(tried, key=lambda each: each["area_um2"] * each["delay_ns"])
    write(known, json.dumps(row, indent=1) + "\n")
    return row
