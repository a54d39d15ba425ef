"""Measures many PEs beside each other: every kind by width, rows and codebook, with its error."""

import argparse
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from synth import SynthError, explore_page, flow, report, sta
from synth.cluster import SCHEDULER, WORKER, clients, each, refuse_unfit
from synth.files import write
from synth.library import Library, load
from synth.points import CHOICES, TRIED, Point, measure

__all__ = ["Setting", "add_arguments", "errors_of", "points", "run", "scores_of", "sweep"]

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
ACCURACY = ROOT / "docs" / "results" / "layer-error.json"
SCORES = ROOT / "docs" / "results" / "accuracy.md"
ALIGNED = (8, 12, 16, 24, 41)
ROWS = (4, 16, 64)
ENERGY_ROWS = 16  # of the largest columns whose switching is simulated
WIDTHS = {
    "products": ALIGNED, "bins": ALIGNED, "mac": (16,), "bins_fp16": (16,), "mac_pe": (16,),
    "int8_pe": (8,),
}  # fmt: skip
"""Bits of an activation; those of PEs in floating point are FP16's."""
SINGLE = ("mac_pe", "int8_pe")  # PEs by themselves: of one row, and without a codebook
GRID: dict[str, tuple[Any, ...]] = {
    "pe": tuple(WIDTHS), "act_width": ALIGNED, "rows": (1, *ROWS), "symmetric": (False, True),
}  # fmt: skip
QUICK = GRID | {"rows": (1, 4), "act_width": (8, 16), "symmetric": (False,)}
# Of the sources a figure depends on all but what only shows it.
_SHOWING = ("explore.py", "explore_page.py", "plot.py", "cluster.py", "table.py", "__main__.py")


@dataclass(frozen=True)
class Setting:
    """What all points of a sweep share, in words that a worker elsewhere understands."""

    liberty: tuple[Path, ...]
    clock_ns: float
    folder: Path
    options: flow.Options = CHOICES
    energy: bool = False

    @cache  # noqa: B019  (a process has one setting or two)
    def library(self) -> Library:
        """Read the library."""
        first, *more = self.liberty
        return load(first, self.folder, *more)

    def identity(self) -> Row:
        """Return what a figure depends on besides its point: equal ones give equal figures."""
        sources = sha256()
        rooms = [ROOT / room for room in ("gobo_rtl", "synth")]
        for path in sorted(path for room in rooms for path in room.rglob("*.py")):
            if path.parent.name != "synth" or path.name not in _SHOWING:
                sources.update(path.read_bytes())
        return report.made_by(self.library()) | {
            "sources": sources.hexdigest(), "clock_ns": self.clock_ns,
            "options": asdict(self.options), "energy": self.energy, "commit": None,
        }  # fmt: skip


def points(grid: dict[str, Sequence[Any]]) -> list[Point]:
    """Return the points of a grid that there are."""
    return [
        Point(pe=pe, act_width=width, rows=rows, symmetric=symmetric)
        for pe, width, rows, symmetric in product(*(grid[name] for name in GRID))
        if width in WIDTHS[pe] and (rows == 1) == (pe in SINGLE)
        and not (symmetric and pe in SINGLE)
    ]  # fmt: skip


def sweep(
    chosen: Sequence[Point],
    setting: Setting,
    jobs: int,
    scheduler: str | None,
    console: Console,
    work: Callable[[Point, Setting], Row] | None = None,
) -> list[Row]:
    """Return a row for each point, from ``setting.folder`` where it is there already; a row with a
    ``failure`` has no figures and will be tried again."""
    identity = setting.identity()
    files = {point: _file(point, setting, identity) for point in chosen}
    rows = {point: row for point, path in files.items() if (row := _read(path)) is not None}
    missing = sorted((p for p in chosen if p not in rows), key=_effort, reverse=True)
    if not missing:
        return [rows[point] for point in chosen]
    bar = Progress(
        TextColumn("explore"), BarColumn(), TextColumn("{task.description}"),
        TimeRemainingColumn(), TextColumn("left"), console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    start, done = time.monotonic(), 0
    with bar, clients(min(jobs, len(missing)), scheduler) as client:
        task = bar.add_task(f"0 of {len(missing)} points", total=sum(map(_effort, missing)))
        refuse_unfit(client, setting.identity, identity)
        for point, found in each(client, work or _measured, missing, setting):
            row = _described(point) | ({"failure": str(found)} if isinstance(found, SynthError)
                                       else found)  # fmt: skip
            if "failure" not in row:
                write(files[point], json.dumps(identity | {"row": row}, indent=1) + "\n")
            rows[point] = row
            done += 1
            rate = 60 * done / (time.monotonic() - start)
            words = f"{done} of {len(missing)} points, {rate:.1f} a minute"
            bar.update(task, advance=_effort(point), description=words)
    return [rows[point] for point in chosen]


def _effort(point: Point) -> int:
    """Return what a point takes to measure, roughly and in no unit."""
    return point.rows * (point.act_width + 16) * (3 if point.pe == "bins" else 2)


def _described(point: Point) -> Row:
    return {
        "name": point.name, "pe": point.pe, "act_width": point.act_width, "rows": point.rows,
        "symmetric": point.symmetric,
    }  # fmt: skip


def _measured(point: Point, setting: Setting) -> Row:
    """Measure a point, on a worker."""
    start = time.monotonic()
    row = measure(
        point, setting.library(), setting.folder / "work", clock_ns=setting.clock_ns,
        options=setting.options, energy=setting.energy and point.rows <= ENERGY_ROWS,
    )  # fmt: skip
    return {
        "area_um2": round(row["area_um2"] / point.count, 1),
        "flip_flops": round(row["flip_flops"] / point.count, 2),
        "delay_ns": row["delay_ns"], "pj_per_mac": row["pj_per_mac"],
        "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


def _file(point: Point, setting: Setting, identity: Row) -> Path:
    text = json.dumps([asdict(point), identity], sort_keys=True)
    return setting.folder / "points" / f"{point.name}-{sha256(text.encode()).hexdigest()[:12]}.json"


def _read(path: Path) -> Row | None:
    """Return the row in a file of a sweep, None when there is none that is whole."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))["row"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return row if isinstance(row, dict) else None


def errors_of(path: Path) -> tuple[dict[tuple[str, int, bool], Row], str]:
    """Return the errors in a file of `python -m sim.layer_error`, by PE, width and codebook, and
    where they come from."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found = {
            (str(row["pe"]), int(row["act_width"]), bool(row["symmetric"])): {
                "error": float(row["arithmetic"]), "layer_error": float(row["layer"]),
            }
            for row in document["errors"]
        }  # fmt: skip
        return found, f"{path.name} of commit {document['commit']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SynthError(
            f"cannot read errors from {path}: {error!r}; `python -m sim.layer_error --json` writes "
            "them"
        ) from error


def scores_of(path: Path) -> dict[int, float]:
    """Return the scores of 3-bit weights in a page of `python -m sim.model accuracy`, by the width
    of aligned activations."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SynthError(f"cannot read scores from {path}: {error}") from error
    found = re.findall(r"\| FP16, (\d+) bits aligned per token \| ([\d.]+) \|", text)
    if not found:
        raise SynthError(
            f"there is no score in {path}; `python -m sim.model accuracy --report` writes them"
        )
    return {int(width): float(score) for width, score in found}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments that only a sweep has."""
    command.add_argument(
        "--only", action="append", default=[], metavar="FIELD=VALUE,...",
        help="only these, as pe=products,bins or act_width=8 or rows=4 or symmetric=yes; may be "
        "given several times",
    )  # fmt: skip
    command.add_argument(
        "--quick", action="store_true",
        help="a few small points: 4 rows, 8 and 16 bits, any codebook",
    )  # fmt: skip
    command.add_argument(
        "--no-energy", dest="energy", action="store_false",
        help="areas and paths only, in a third of the time and without Icarus and a model",
    )  # fmt: skip
    command.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
        help="points at a time on this machine (default: its cores, %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="a Dask scheduler, as tcp://host:8786, whose workers measure instead. Start it with "
        f"`{SCHEDULER}` and them with `{WORKER}`, in the root of this repository at this commit, "
        "with its set-up and, for workers, the library under the same path; in a network that you "
        "trust",
    )  # fmt: skip
    command.add_argument(
        "--accuracy", type=Path, default=ACCURACY, metavar="FILE.json",
        help="errors by PE, width and codebook, of `python -m sim.layer_error` (default: "
        "docs/results/layer-error.json)",
    )  # fmt: skip
    command.add_argument("--picture", type=Path, metavar="FILE.svg",
                         help="also draw two of the plots there")  # fmt: skip


def run(options: argparse.Namespace, setting: Setting, command: str) -> int:
    """Sweep and write the page; return 1 when a point failed."""
    if not 1 <= options.jobs <= 1024:
        raise SynthError(f"--jobs must be in 1..1024, not {options.jobs}")
    if not setting.library().has_timing or not sta.is_installed():
        raise SynthError("PEs are compared by their paths: give --liberty or --pdk, and "
                         "sudo apt-get install opensta")  # fmt: skip
    if setting.energy and options.scheduler is None and shutil.which("iverilog") is None:
        raise SynthError("energy needs iverilog: sudo apt-get install iverilog, or --no-energy")
    errors, source = errors_of(options.accuracy)
    scores = scores_of(SCORES)
    chosen = points(_grid(options.only, QUICK if options.quick else GRID))
    if not chosen:
        raise SynthError(
            "no point is left: mac, bins_fp16 and mac_pe have act_width 16 only, int8_pe 8; mac_pe "
            "and int8_pe are of 1 row and have no codebook, columns have 4, 16 or 64 rows"
        )
    console = Console(stderr=True)
    print(f"explore: {len(chosen)} points in {setting.library().name}, for a clock of "
          f"{setting.clock_ns:g} ns", flush=True)  # fmt: skip
    rows = [
        row | _errors(row, errors, scores) | _density(row)
        | {"command": _again(point, options, setting)}
        for point, row in zip(
            chosen, sweep(chosen, setting, options.jobs, options.scheduler, console), strict=True
        )
    ]
    made = _made(setting, source, command)
    written = [setting.folder / "index.html"]
    write(written[0], explore_page.page(rows, made))
    if options.picture:
        write(options.picture, explore_page.picture(rows, made))
        written.append(options.picture)
    failed = [row for row in rows if "failure" in row]
    print(f"{len(rows) - len(failed)} of {len(rows)} points measured")
    print("written: " + ", ".join(str(path) for path in written))
    for row in failed:
        console.print(f"synth: {row['name']}: {row['failure']}", markup=False, soft_wrap=True,
                      highlight=False)  # fmt: skip
    return 1 if failed else 0


def _again(point: Point, options: argparse.Namespace, setting: Setting) -> str:
    """Return the command that measures a point alone, with the library as it was given."""
    words = ["python", "-m", "synth", "explore"]
    if options.liberty:
        words += ["--liberty", *map(str, options.liberty)]
    if options.pdk:
        words += ["--pdk", options.pdk]
    if options.pdk_dir:
        words += ["--pdk-dir", str(options.pdk_dir)]
    words += ["--clock", f"{setting.clock_ns:g}"]
    for name, value in asdict(setting.options).items():
        if value != getattr(CHOICES, name):
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    words += [] if setting.energy else ["--no-energy"]
    for name in GRID:
        words += ["--only", f"{name}={_word(getattr(point, name))}"]
    return shlex.join([*words, "-o", f"build/points/{point.name}"])


def _grid(only: Sequence[str], grid: dict[str, tuple[Any, ...]]) -> dict[str, Sequence[Any]]:
    """Return the grid with what ``--only`` says."""
    chosen: dict[str, Sequence[Any]] = dict(grid)
    for text in only:
        name, _, values = text.partition("=")
        if name not in GRID:
            raise SynthError(f"--only {text}: there is no {name!r}, there is {', '.join(GRID)}")
        known = {_word(value): value for value in GRID[name]}
        for value in values.split(","):
            if value not in known:
                raise SynthError(f"--only {text}: {name} is {', '.join(known)}, not {value!r}")
        chosen[name] = [v for word, v in known.items() if word in values.split(",")]
    return chosen


def _word(value: Any) -> str:
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"


def _errors(row: Row, errors: dict[tuple[str, int, bool], Row], scores: dict[int, float]) -> Row:
    """Return what is known of the errors of a row's PE; a `mac_pe` adds up as `mac` does."""
    pe = "mac" if row["pe"] == "mac_pe" else row["pe"]
    found = errors.get((pe, row["act_width"], row["symmetric"]), {})
    if pe in ("products", "bins") and not row["symmetric"]:
        found = found | {"score": scores.get(row["act_width"])}
    return found


def _density(row: Row) -> Row:
    """Return steps in each critical path by area, in 10^9 a second and mm2."""
    if not row.get("delay_ns"):
        return {}
    return {"density": 1e6 / (row["area_um2"] * row["delay_ns"])}


def _made(setting: Setting, errors: str, command: str) -> Row:
    made = report.made_by(setting.library())
    tools = ", ".join(f"{name} {_version(text)}" for name, text in made["tools"].items() if text)
    return {
        "library": made["library"]["name"],
        "errors": errors,
        "terms": [
            ("library", f"{made['library']['name']}, sha256 {made['library']['sha256'][:12]}…"),
            ("clock to map for", f"{setting.clock_ns:g} ns"),
            ("commit", made["commit"] or "unknown"),
            ("date", f"{datetime.now(UTC):%Y-%m-%d}"),
            ("tools", tools),
            ("options", f"{setting.options.name}; of {', '.join(TRIED)} the best by area x path"),
            ("command", command),
        ],
    }


def _version(text: Any) -> str:
    return "" if text is True else str(text)
