"""What is measured side by side: columns of PEs by their sizes, PEs by themselves; figures."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from shutil import which
from typing import Any

from synth import SynthError, flow, gates, power, report, sta
from synth.files import write
from synth.library import Library

__all__ = ["CHOICES", "CLOCK_NS", "SINGLE", "TRIED", "Point", "key", "measure", "run"]

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
CHOICES = flow.Options(adder="han-carlson", fanout=12)
"""Options that are good for PEs of every kind, by area times path."""
CLOCK_NS = 1.5
TRIED = ("direct", "plain", "choices")
"""Recipes of which the best by area times path counts for each PE."""
# What a figure comes from beside its Verilog: when these change, it is made again.
SOURCES = tuple(f"synth/{name}.py" for name in ("child", "flow", "gates", "points", "power", "sta"))
SOURCES += ("sim/passes.py", "sim/workload.py")
SINGLE = ("mac_pe", "int8_pe", "bins_fp16_pe")
"""PEs by themselves, as units of `python -m gobo_rtl`."""


@dataclass(frozen=True)
class Point:
    """A PE, 3-bit indexes.

    Parameters
    ----------
    pe : str
        ``products``, ``bins``, ``mac`` or ``bins_fp16``, in columns of ``rows``; or one of SINGLE.
    act_width : int
        Bits of an activation; 41 is the width that holds every FP16.
    rows : int
        PEs in a column.
    symmetric : bool
        For sign-symmetric codebooks.
    outliers : int
        Outliers that a step takes without a stall.
    unit : str
        The block of the array that is measured, a column unless it is said.
    value_format : str
        ``fp16``, or ``bf16``: centroids of 9 bits, and sums of weights of 21.
    """

    pe: str
    act_width: int = 16
    rows: int = 16
    symmetric: bool = False
    outliers: int = 1
    unit: str = "column"
    value_format: str = "fp16"

    @property
    def single(self) -> bool:
        """Whether it is one PE by itself."""
        return self.pe in SINGLE

    @property
    def count(self) -> int:
        """How many PEs the figures are of."""
        return 1 if self.single or self.unit != "column" else self.rows

    @property
    def name(self) -> str:
        """What it is called in files and tables."""
        if self.single:
            return self.pe
        words = [self.pe, f"{self.act_width}b", f"{self.rows}r"]
        words += ["symmetric"] if self.symmetric else []
        words += ["bf16"] if self.value_format == "bf16" else []
        words += [f"{self.outliers}o"] if self.outliers != 1 else []
        return "-".join(words + ([self.unit] if self.unit != "column" else []))

    @property
    def settings(self) -> list[str]:
        """What `python -m gobo_rtl verilog` and `python -m sim.workload` take for its sizes."""
        sizes: dict[str, Any] = {}
        if not self.single:
            sizes = {"pe": self.pe, "rows": self.rows, "outliers_per_step": self.outliers,
                     "index_widths": 3}  # fmt: skip
            if self.pe in ("products", "bins"):
                sizes |= {"act_width": self.act_width}
            sizes |= {"align": "absolute"} if self.act_width == 41 else {}
            sizes |= {"symmetric": "true"} if self.symmetric else {}
            if self.value_format == "bf16":
                sizes |= {"value_format": "bf16", "weight_sum_width": 21}
        settings = [word for size in sizes.items() for word in ("--set", "{}={}".format(*size))]
        return ["--config", "default", *settings]

    @property
    def command(self) -> str:
        """What a person types for its Verilog."""
        unit = self.pe if self.single else self.unit
        words = " ".join(self.settings)
        return f"python -m gobo_rtl verilog --unit {unit} {words} -o build/blocks"


def measure(
    point: Point, library: Library, folder: Path, *, clock_ns: float = CLOCK_NS,
    options: flow.Options = CHOICES, energy: bool = False,
) -> Row:  # fmt: skip
    """Return area (um2) and flip-flops, the path (ns) and, with ``energy``, picojoules of a
    multiply-accumulate of a trained model's layer, or None.

    The best recipe's by area times path, and those of each in ``by_recipe``. What is known of the
    same Verilog, library and choices is not measured again: it lies in ``folder``. Raises
    SynthError with what a tool has said.
    """
    unit = point.pe if point.single else point.unit
    work = folder / point.name
    run("gobo_rtl", "verilog", "--unit", unit, *point.settings, "-o", str(work))
    (design,) = report.find_designs(work, [], unit)
    if energy and which("iverilog") is None:
        raise SynthError("energy needs iverilog: sudo apt-get install iverilog")
    if not library.has_timing or not sta.is_installed():
        raise SynthError("PEs are compared by their paths: give --liberty or --pdk, and "
                         "sudo apt-get install opensta")  # fmt: skip
    found_at = key(design, library, clock_ns, TRIED, options)
    known = folder / "known"
    described = {"name": point.name, "command": point.command}
    for end in ("-energy", "") if not energy else ("-energy",):
        try:
            row: Row = json.loads((known / f"{found_at}{end}.json").read_text(encoding="utf-8"))
            return row | described
        except (OSError, ValueError):
            pass
    by_recipe: dict[str, Row] = {}
    netlists = flow.synthesise_all(
        design.verilog, design.top, library, clock_ns,
        {recipe: work / recipe for recipe in TRIED}, options,
    )  # fmt: skip
    for recipe, mapped in netlists.items():
        path = sta.critical_path(design.top, library, clock_ns, work / recipe)
        by_recipe[recipe] = {
            "area_um2": round(mapped.area, 1), "flip_flops": mapped.flip_flops,
            "sequential_um2": round(mapped.sequential_area, 1), "delay_ns": path.delay_ns,
            "path": f"{path.start} -> {path.end}",
        }  # fmt: skip

    def cost(recipe: str) -> float:
        return float(by_recipe[recipe]["area_um2"] * by_recipe[recipe]["delay_ns"])

    best = min(by_recipe, key=cost)
    row = by_recipe[best] | {
        "recipe": best, "clock_ns": clock_ns, "pj_per_mac": None, "by_recipe": by_recipe,
    }  # fmt: skip
    if energy:
        row |= _energy(point, netlists[best], library, clock_ns, work)
    write(known / f"{found_at}{'-energy' if energy else ''}.json", json.dumps(row, indent=1) + "\n")
    return row | described


def key(
    design: report.Design, library: Library, clock_ns: float, recipes: Sequence[str],
    options: flow.Options = CHOICES,
) -> str:  # fmt: skip
    """Return what equal figures have in common: all that they come from, but not its name."""
    scripts = [flow.scripts("top", library, clock_ns, recipe, options) for recipe in recipes]
    made_by = [(ROOT / name).read_text(encoding="utf-8") for name in SOURCES]
    words = (
        design.verilog.read_text(encoding="utf-8").replace(design.top, "top"), library.sha256,
        clock_ns, scripts, made_by, version("pyosys"), options.name,
    )  # fmt: skip
    return sha256(repr(words).encode()).hexdigest()[:16]


def _energy(
    point: Point, mapped: flow.Mapped, library: Library, clock_ns: float, work: Path
) -> Row:
    """Return what a netlist takes for a multiply-accumulate of a trained model's layer (pJ)."""
    trace_file = work / "trace.npz"
    # What the first column of an array sees is what its only one does.
    which = ["--alone", point.pe] if point.single else ["--set", "columns=1"]
    run("sim.workload", *point.settings, *which, "-o", str(trace_file))
    trace = gates.load_trace(trace_file, point.pe if point.single else point.unit)
    vcd = gates.replay(mapped.netlist, mapped.top, library, trace, mapped.netlist.parent)
    nets = power.activity(vcd, trace.cycles)
    vcd.unlink()
    used = power.power(mapped.top, library, clock_ns, mapped.netlist.parent, nets)
    spent = used.total * trace.cycles * clock_ns * 1e-9 / trace.macs
    return {"pj_per_mac": round(1e12 * spent, 3), "cycles": trace.cycles, "macs": trace.macs}


def run(module: str, *arguments: str) -> None:
    """Run a program of this repository."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        raise SynthError(f"{module} failed: {words[-1]}")
