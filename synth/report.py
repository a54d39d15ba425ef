"""Measures designs and reports them: a table for people, JSON and CSV for programs."""

import csv
import io
import json
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from math import prod
from os import cpu_count
from pathlib import Path
from shutil import which
from typing import Any

from rich import box
from rich.table import Table

from synth import SynthError, flow, gates, power, reference, sta
from synth.files import write
from synth.library import Library

__all__ = [
    "COLUMNS", "Design", "area", "at_work", "find_designs", "made_by", "measure", "measure_all",
    "save", "save_power", "table",
]  # fmt: skip

COLUMNS = (
    "unit", "config", "top", "lanes", "area_um2", "area_per_lane_um2", "cells", "flip_flops",
    "sequential_area_um2", "mux_area_um2", "area_to_mux", "options", "recipe",
    "delay_ns", "delay_tool", "path",
)  # fmt: skip
Row = dict[str, Any]

# The sizes whose product is what works beside each other.
_LANES = {
    "decode": ("lanes",), "column": ("rows",), "array": ("rows", "columns"),
    "accelerator": ("rows", "columns"),
}  # fmt: skip


@dataclass(frozen=True)
class Design:
    """Emitted Verilog of a named configuration, and the sizes that its JSON gives."""

    unit: str
    config: str
    verilog: Path
    sizes: dict[str, Any]

    @property
    def top(self) -> str:
        """Name of the top module: that of the file."""
        return self.verilog.stem

    @property
    def lanes(self) -> int:
        """What works beside each other in it: lanes of a decoder, PEs of an array, else 1."""
        return prod(self.sizes[name] for name in _LANES.get(self.unit, ()))

    def mux(self) -> str | None:
        """Return Verilog of the bare look-ups that a decoder cannot do without; None if it is
        none."""
        if self.unit != "decode":
            return None
        width = {"fp16": 16, "bf16": 16, "fp32": 32}[self.sizes["value_format"]]
        return reference.mux_verilog(self.lanes, max(self.sizes["index_widths"]), width)


def find_designs(folder: Path, names: Sequence[str], unit: str = "decode") -> list[Design]:
    """Return the designs of a unit in ``folder`` called ``names``, or all when there are none;
    ``unit`` "blocks" stands for all units but an array, which is made of them."""
    if unit == "blocks":
        every = [_design(None, None, path) for path in sorted(folder.glob("*.v"))]
        blocks = [each for each in every if each.unit != "array"]
        kept = [each for each in blocks if not names or each.config in names]
        if not kept:
            of = f" of {', '.join(names)}" if names else ""
            raise SynthError(f"no blocks{of} in {folder}; `python -m gobo_rtl verilog --unit "
                             "blocks` writes them")  # fmt: skip
        return kept
    found = {path.stem.removeprefix(f"{unit}_"): path for path in folder.glob(f"{unit}_*.v")}
    if not found:
        raise SynthError(
            f"no {unit}_*.v in {folder}; `make verilog` writes those of whole units, `python -m "
            "gobo_rtl verilog --unit` those of blocks"
        )
    for name in names:
        if name not in found:
            raise SynthError(
                f"no configuration is called {name!r}; there is {', '.join(sorted(found))}"
            )
    return [_design(unit, name, found[name]) for name in names or sorted(found)]


def _design(unit: str | None, config: str | None, verilog: Path) -> Design:
    """Read the sizes of a design from the JSON beside its Verilog; what it is, too, if None."""
    path = verilog.with_suffix(".json")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        sizes = about["configuration"]
        design = Design(unit or about["unit"], config or about["name"], verilog, sizes)
        design.mux(), design.lanes
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SynthError(
            f"cannot read the sizes of {verilog.name} from {path}: {error!r}; what wrote the "
            "Verilog writes both"
        ) from error
    return design


def area(
    design: Design, library: Library, clock_ns: float, folder: Path,
    options: flow.Options = flow.DEFAULT,
) -> Row:  # fmt: skip
    """Return the configuration and the area of a design."""
    work = folder / library.name / design.top
    mapped = flow.synthesise(design.verilog, design.top, library, clock_ns, work, options=options)
    return {"config": design.config, "area_um2": round(mapped.area, 1)}


def measure(
    design: Design, library: Library, clock_ns: float, folder: Path,
    options: flow.Options = flow.DEFAULT,
) -> Row:  # fmt: skip
    """Return the figures of a design, a value for each of COLUMNS; None where there is none."""
    return _measure(design, library, clock_ns, folder, options)[0]


def at_work(
    design: Design, library: Library, clock_ns: float, folder: Path, trace: gates.Trace,
    options: flow.Options = flow.DEFAULT,
) -> Row:  # fmt: skip
    """Return the figures of a design, and what it takes to do what ``trace`` has at this clock.

    The netlist runs first, and every output in every cycle has to be the trace's.
    """
    for tool, package in (("iverilog", "iverilog"), ("sta", "opensta")):
        if which(tool) is None:
            raise SynthError(f"power needs {tool}: sudo apt-get install {package}")
    row, netlist = _measure(design, library, clock_ns, folder, options)
    vcd = gates.replay(netlist, design.top, library, trace, netlist.parent)
    nets = power.activity(vcd, trace.cycles)
    used = power.power(design.top, library, clock_ns, netlist.parent, nets)
    seconds = trace.cycles * clock_ns * 1e-9
    return row | {
        "clock_ns": clock_ns,
        "cycles": trace.cycles,
        "macs": trace.macs,
        "internal_mw": round(1e3 * used.internal, 4),
        "switching_mw": round(1e3 * used.switching, 4),
        "leakage_mw": round(1e3 * used.leakage, 6),
        "pj_per_mac": round(1e12 * used.total * seconds / trace.macs, 4),
    }


def _measure(
    design: Design, library: Library, clock_ns: float, folder: Path, options: flow.Options
) -> tuple[Row, Path]:
    """Return the figures of a design, and the netlist that they are of.

    Recipes are tried from the smallest on until one meets the clock; when none does, the quickest
    result counts.
    """
    work = folder / library.name / design.top
    tried = []
    for recipe in flow.RECIPES if library.has_timing else ["small"]:
        mapped = flow.synthesise(
            design.verilog, design.top, library, clock_ns, work / recipe, recipe, options
        )
        delay, tool, path = _delay(mapped, library, clock_ns, work / recipe)
        tried.append((delay, recipe, mapped, tool, path))
        if delay is None or delay <= clock_ns:
            break
    delay, recipe, mapped, tool, path = min(tried, key=lambda entry: entry[0] or 0.0)
    mux = None
    if text := design.mux():
        bare = work / "mux"
        write(bare / "mux.v", text)
        mux = flow.synthesise(bare / "mux.v", "mux", library, clock_ns, bare, options=options).area
    row = {
        "unit": design.unit,
        "config": design.config,
        "top": design.top,
        "lanes": design.lanes,
        "area_um2": round(mapped.area, 1),
        "area_per_lane_um2": round(mapped.area / design.lanes, 1),
        "cells": mapped.cells,
        "flip_flops": mapped.flip_flops,
        "sequential_area_um2": round(mapped.sequential_area, 1),
        "mux_area_um2": mux and round(mux, 1),
        "area_to_mux": mux and round(mapped.area / mux, 2),
        "options": options.name,
        "recipe": recipe,
        "delay_ns": delay,
        "delay_tool": tool,
        "path": path,
    }
    return row, mapped.netlist


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
    method: Callable[[Design, Library, float, Path, flow.Options], Row],
    designs: Sequence[Design],
    library: Library,
    clock_ns: float,
    folder: Path,
    options: flow.Options,
    done: Callable[[], object],
) -> list[Row]:
    """Apply ``method`` to designs, as many at a time as there are cores; ``done`` after each."""

    def one(design: Design) -> Row:
        row = method(design, library, clock_ns, folder, options)
        done()
        return row

    with ThreadPoolExecutor(cpu_count() or 1) as pool:
        jobs = [pool.submit(one, design) for design in designs]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def save(
    rows: Sequence[Row], library: Library, clock_ns: float, folder: Path, unit: str
) -> list[Path]:
    """Write the rows of a unit as JSON, with how they were made, and as CSV; return the paths."""
    document = made_by(library) | {"clock_ns": clock_ns, "designs": rows}
    lines = io.StringIO()
    writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    stem = f"{unit}-{library.name}"
    paths = [folder / f"{stem}.json", folder / f"{stem}.csv"]
    for path, text in zip(
        paths, (json.dumps(document, indent=1) + "\n", lines.getvalue()), strict=True
    ):
        write(path, text)
    return paths


def save_power(row: Row, library: Library, trace: Path, folder: Path) -> Path:
    """Write the row of a design at work as JSON, with how it was made; return the path."""
    path = folder / f"power-{row['top']}-{library.name}.json"
    digest = sha256(trace.read_bytes()).hexdigest()
    write(path, json.dumps(made_by(library) | {"trace_sha256": digest} | row, indent=1) + "\n")
    return path


def made_by(library: Library) -> Row:
    """Return what figures come from: library, commit, versions of the tools."""
    return {
        "library": {"name": library.name, "sha256": library.sha256, "timing": library.has_timing},
        "commit": _commit(),
        "tools": {"pyosys": version("pyosys"), "opensta": sta.is_installed()},
    }


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
        title=f"{library.name}, mapped for {clock_ns:g} ns, {rows[0]['options']}",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        caption="each: lane of a decoder, PE of an array; muxes: a decoder's bare look-ups, "
        "combinational, by the same flow",
    )  # fmt: skip
    result.add_column("module", overflow="fold", min_width=6)  # gives way alone
    for name in ("area\num2", "um2\neach", "cells", "flip-\nflops", "muxes\num2", "x\nmuxes",
                 "path\nns", "by", "recipe"):  # fmt: skip
        is_text = name in ("by", "recipe")
        result.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        result.add_row(
            row["top"], f"{row['area_um2']:,.0f}", f"{row['area_per_lane_um2']:,.0f}",
            f"{row['cells']:,}", f"{row['flip_flops']:,}", _number(row["mux_area_um2"], 0),
            _number(row["area_to_mux"]), _number(row["delay_ns"]), row["delay_tool"] or "-",
            row["recipe"],
        )  # fmt: skip
    return result


def _number(value: float | None, places: int = 2) -> str:
    return "-" if value is None else f"{value:,.{places}f}"
