"""Measures designs and reports them: a table for people, JSON and CSV for programs."""

import csv
import io
import json
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from os import cpu_count
from pathlib import Path
from typing import Any

from rich.table import Table

from synth import SynthError, flow, reference, sta
from synth.files import write
from synth.library import Library

__all__ = ["COLUMNS", "Design", "area", "find_designs", "measure", "measure_all", "save", "table"]

COLUMNS = (
    "config", "top", "lanes", "area_um2", "area_per_lane_um2", "cells", "flip_flops",
    "sequential_area_um2", "mux_area_um2", "area_to_mux", "recipe", "delay_ns",
    "delay_tool", "path",
)  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True)
class Design:
    """Emitted Verilog of a named configuration, and the sizes that its JSON gives."""

    config: str
    verilog: Path
    lanes: int
    index_width: int
    value_width: int

    @property
    def top(self) -> str:
        """Name of the top module: that of the file."""
        return self.verilog.stem


def find_designs(folder: Path, names: Sequence[str]) -> list[Design]:
    """Return the designs of ``folder`` called ``names``, or all when there are no names."""
    found = {path.stem.removeprefix("decode_"): path for path in folder.glob("decode_*.v")}
    if not found:
        raise SynthError(f"no decode_*.v in {folder}; `make verilog` writes them")
    for name in names:
        if name not in found:
            raise SynthError(
                f"no configuration is called {name!r}; there is {', '.join(sorted(found))}"
            )
    return [_design(name, found[name]) for name in names or sorted(found)]


def _design(config: str, verilog: Path) -> Design:
    """Read the sizes of a design from the JSON beside its Verilog."""
    path = verilog.with_suffix(".json")
    try:
        sizes = json.loads(path.read_text(encoding="utf-8"))["configuration"]
        widths = {"fp16": 16, "bf16": 16, "fp32": 32}
        return Design(
            config, verilog, sizes["lanes"], max(sizes["index_widths"]),
            widths[sizes["value_format"]],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SynthError(
            f"cannot read the sizes of {verilog.name} from {path}: {error!r}; "
            "`make verilog` writes both"
        ) from error


def area(design: Design, library: Library, clock_ns: float, folder: Path) -> Row:
    """Return the configuration and the area of a design."""
    work = folder / library.name / design.config
    mapped = flow.synthesise(design.verilog, design.top, library, clock_ns, work)
    return {"config": design.config, "area_um2": round(mapped.area, 1)}


def measure(design: Design, library: Library, clock_ns: float, folder: Path) -> Row:
    """Return the figures of a design, a value for each of COLUMNS.

    Recipes are tried from the smallest on until one meets the clock; when none does, the quickest
    result counts.
    """
    work = folder / library.name / design.config
    tried = []
    for recipe in flow.RECIPES if library.has_timing else ["small"]:
        mapped = flow.synthesise(
            design.verilog, design.top, library, clock_ns, work / recipe, recipe
        )
        delay, tool, path = _delay(mapped, library, clock_ns, work / recipe)
        tried.append((delay, recipe, mapped, tool, path))
        if delay is None or delay <= clock_ns:
            break
    delay, recipe, mapped, tool, path = min(tried, key=lambda entry: entry[0] or 0.0)
    bare = work / "mux"
    write(
        bare / "mux.v",
        reference.mux_verilog(design.lanes, design.index_width, design.value_width),
    )
    mux = flow.synthesise(bare / "mux.v", "mux", library, clock_ns, bare)
    return {
        "config": design.config,
        "top": design.top,
        "lanes": design.lanes,
        "area_um2": round(mapped.area, 1),
        "area_per_lane_um2": round(mapped.area / design.lanes, 1),
        "cells": mapped.cells,
        "flip_flops": mapped.flip_flops,
        "sequential_area_um2": round(mapped.sequential_area, 1),
        "mux_area_um2": round(mux.area, 1),
        "area_to_mux": round(mapped.area / mux.area, 2),
        "recipe": recipe,
        "delay_ns": delay,
        "delay_tool": tool,
        "path": path,
    }


def _delay(
    mapped: flow.Mapped, library: Library, clock_ns: float, folder: Path
) -> tuple[float | None, str | None, str | None]:
    """Return critical path in ns, who says so, and where it starts and ends."""
    if not library.has_timing:
        return None, None, None
    if not sta.is_installed():
        return mapped.abc_ns, "ABC", None
    critical = sta.critical_path(mapped.top, library, clock_ns, folder)
    return critical.delay_ns, "OpenSTA", f"{critical.start} -> {critical.end}"


def measure_all(
    method: Callable[[Design, Library, float, Path], Row],
    designs: Sequence[Design],
    library: Library,
    clock_ns: float,
    folder: Path,
    done: Callable[[], object],
) -> list[Row]:
    """Apply ``method`` to designs, as many at a time as there are cores; ``done`` after each."""

    def one(design: Design) -> Row:
        row = method(design, library, clock_ns, folder)
        done()
        return row

    with ThreadPoolExecutor(cpu_count() or 1) as pool:
        jobs = [pool.submit(one, design) for design in designs]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def save(rows: Sequence[Row], library: Library, clock_ns: float, folder: Path) -> list[Path]:
    """Write the rows as JSON, with how they were made, and as CSV; return the two paths."""
    document = {
        "library": {"name": library.name, "sha256": library.sha256, "timing": library.has_timing},
        "clock_ns": clock_ns,
        "commit": _commit(),
        "tools": {"pyosys": version("pyosys"), "opensta": sta.is_installed()},
        "designs": rows,
    }
    lines = io.StringIO()
    writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    paths = [folder / f"{library.name}.json", folder / f"{library.name}.csv"]
    for path, text in zip(
        paths, (json.dumps(document, indent=1) + "\n", lines.getvalue()), strict=True
    ):
        write(path, text)
    return paths


def _commit() -> str | None:
    """Return the commit that is checked out, None outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:
        return None
    return done.stdout.strip() or None


def table(rows: Sequence[Row], library: Library, clock_ns: float) -> Table:
    """Return the table that a person reads."""
    result = Table(
        title=f"{library.name}, mapped for {clock_ns:g} ns", title_justify="left",
        caption_justify="left",
        caption="muxes: the bare look-ups of all lanes, combinational, by the same flow",
    )  # fmt: skip
    for name in (
        "config", "area um2", "um2/lane", "cells", "flip-flops", "muxes um2", "x muxes",
        "path ns", "by", "recipe",
    ):  # fmt: skip
        is_text = name in ("config", "by", "recipe")
        result.add_column(name, justify="left" if is_text else "right")
    for row in rows:
        result.add_row(
            row["config"], f"{row['area_um2']:,.0f}", f"{row['area_per_lane_um2']:,.0f}",
            f"{row['cells']:,}", f"{row['flip_flops']:,}", f"{row['mux_area_um2']:,.0f}",
            f"{row['area_to_mux']:.2f}",
            "-" if row["delay_ns"] is None else f"{row['delay_ns']:.2f}", row["delay_tool"] or "-",
            row["recipe"],
        )  # fmt: skip
    return result
