"""A PE of the array by its sizes: how to get the Verilog of a column of it, and its figures."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth import SynthError, flow, report
from synth.library import Library

__all__ = ["Point", "measure"]

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Point:
    """A kind of PE, in columns of ``rows`` of them."""

    pe: str
    act_width: int
    rows: int
    symmetric: bool

    @property
    def name(self) -> str:
        """What it is called in files and tables."""
        return f"{self.pe}-{self.act_width}b-{self.rows}r" + "-symmetric" * self.symmetric

    @property
    def unit(self) -> str:
        """What `python -m gobo_rtl list` calls it: a column, or a PE by itself."""
        return self.pe if self.pe.endswith("_pe") else "column"

    @property
    def arguments(self) -> list[str]:
        """What `python -m gobo_rtl verilog` takes for it."""
        if self.unit != "column":
            return ["--config", "paper", "--unit", self.unit]
        sizes = {"pe": self.pe, "act_width": self.act_width, "rows": self.rows}
        sizes |= {"align": "absolute"} if self.act_width == 41 else {}
        sizes |= {"symmetric": "true"} if self.symmetric else {}
        settings = [word for size in sizes.items() for word in ("--set", "{}={}".format(*size))]
        return ["--config", "paper", "--unit", "column", *settings]

    @property
    def command(self) -> str:
        """What a person types for its Verilog."""
        return f"python -m gobo_rtl verilog {' '.join(self.arguments)} -o build/blocks"


def measure(
    point: Point, library: Library, clock_ns: float, folder: Path,
    options: flow.Options = flow.DEFAULT,
) -> Row:  # fmt: skip
    """Return area and flip-flops of a PE, and the path of its column."""
    work = folder / point.name
    command = [sys.executable, "-m", "gobo_rtl", "verilog", *point.arguments, "-o", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SynthError((done.stderr.strip() or "no Verilog was written").splitlines()[-1])
    (design,) = report.find_designs(work, [], point.unit)
    row = report.measure(design, library, clock_ns, work, options)
    return {
        "area_um2": round(row["area_um2"] / point.rows, 1),
        "flip_flops": round(row["flip_flops"] / point.rows, 2),
        "delay_ns": row["delay_ns"],
        "pj_per_mac": None,
    }
