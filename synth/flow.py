"""From Verilog to cells, with yosys and ABC.  docs/decisions/synthesis.md has the reasons."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synth import SynthError
from synth.buffers import Buffer, buffers
from synth.files import write
from synth.library import Library

__all__ = ["ADDERS", "DEFAULT", "RECIPES", "Mapped", "Options", "scripts", "synthesise",
           "synthesise_all"]

LIMIT_SECONDS = 1800
LIMIT_GIGABYTES = 12
ROOT = Path(__file__).resolve().parent.parent
GATED = 6  # flip-flops with one enable, from which a clock gate is smaller than their multiplexers

ADDERS = ("brent-kung", "kogge-stone", "han-carlson", "sklansky")
"""Trees of carries; the first is yosys' own, of which the others are replacements."""

# ABC knows neither clock-to-output nor setup times and is too kind to slow edges, so it gets a
# part of the clock period as its target.
ABC_SHARE = 0.6
_START = "strash; &get -n; &fraig -x; &put; scorr; dc2; "
_KEPT = _START.removesuffix("dc2; ")
_SMALL = "dc2; strash; &get -n; &dch -f; &nf{target}; &put"
_FAST = _SMALL.replace("&nf", "&nf -p")
_SIZES = "; topo; buffer -N 16; topo; upsize{target}; dnsize{target}; stime -p"
_TREES = "; topo; buffer -c -N {fanout}; topo; upsize{{target}}; dnsize{{target}}; stime -p"
_CHOICES = _KEPT + "&get -n; &st; &synch2; &nf{target}; &put"

# Ways to map, from the smallest result to the quickest.
RECIPES = {
    "small": _START + _SMALL + _SIZES,
    "quick": _START + _FAST + _TREES.format(fanout=16),
    "quicker": _START + _FAST + _TREES.format(fanout=10),
    "quickest": _START + _SMALL + _TREES.format(fanout=8),
    "direct": _KEPT + "balance; &get -n; &nf -p{target}; &put" + _TREES.format(fanout=8),
    "choices": _CHOICES + _TREES.format(fanout=16),
    "plain": _CHOICES + _SIZES.replace("buffer -N 16; topo; ", ""),
}
STRAIGHT = ("direct", "choices", "plain")  # keep what yosys made of adders, trees and all
SHARED = ("gates.ys", "sram.v")  # what does not depend on a recipe, but for being of STRAIGHT
_ABC_AREA = _START + _SMALL.format(target="")


@dataclass(frozen=True)
class Options:
    """Choices that change what comes out.

    Parameters
    ----------
    booth : bool
        Multipliers of Booth's digits, not of all partial products.
    adder : str
        The tree of carries, one of ADDERS.
    gate_fanout : int
        Flip-flops that a clock gate drives at most; 0 for any number.
    fanout : int
        Gates that a flip-flop or an input drives at most, more by trees of buffers; 0 leaves
        buffers to ABC, which strings them.
    """

    booth: bool = False
    adder: str = ADDERS[0]
    gate_fanout: int = 0
    fanout: int = 0

    def __post_init__(self) -> None:
        if self.adder not in ADDERS:
            raise SynthError(f"--adder must be one of {', '.join(ADDERS)}, not {self.adder!r}")
        if self.gate_fanout < 0:
            raise SynthError(f"--gate-fanout must be 0 or more, not {self.gate_fanout}")
        if self.fanout < 0 or self.fanout == 1:
            raise SynthError(f"--fanout must be 0 or at least 2, not {self.fanout}")

    @property
    def name(self) -> str:
        """The choices that are not the defaults, in a word; ``plain`` when all are."""
        words = [
            *(["booth"] if self.booth else []),
            *([self.adder] if self.adder != ADDERS[0] else []),
            *([f"gate{self.gate_fanout}"] if self.gate_fanout else []),
            *([f"tree{self.fanout}"] if self.fanout else []),
        ]
        return "+".join(words) or "plain"


DEFAULT = Options()


@dataclass(frozen=True)
class Mapped:
    """A design in cells: areas in um2, ``abc_ns`` ABC's delay (None without timing)."""

    top: str
    area: float
    sequential_area: float
    cells: int
    flip_flops: int
    abc_ns: float | None
    netlist: Path


def scripts(
    top: str, library: Library, clock_ns: float, recipe: str, options: Options,
    boxes: Sequence[str] = (), left_out: Collection[Buffer] = (),
) -> dict[str, str]:  # fmt: skip
    """Return all that yosys and ABC are told, by name of the file; those of SHARED are the same for
    recipes that start from the same gates."""
    target = f" -D {1000 * ABC_SHARE * clock_ns:.0f}"
    abc = RECIPES[recipe].format(target=target) if library.has_timing else _ABC_AREA
    files = {"sram.v": _SRAM} if left_out else {}
    straight = recipe in STRAIGHT
    return files | _script(top, library, options, straight, boxes, left_out) | {
        "abc.script": abc + "\n",
        "abc.constr": f"set_driving_cell {library.driving_cell}\nset_load {library.load}\n",
    }


def synthesise(
    verilog: Path,
    top: str,
    library: Library,
    clock_ns: float,
    folder: Path,
    recipe: str = "small",
    options: Options = DEFAULT,
    boxes: Sequence[str] = (),
) -> Mapped:
    """Map module ``top`` of ``verilog`` to the library's cells for a clock of ``clock_ns``.

    ``recipe`` is one of RECIPES; a library without timing knows only the smallest. Modules of
    ``boxes`` and memories that `synth.buffers` calls buffers are left out. Scripts, log and netlist
    stay in ``folder``. Raises SynthError with yosys' last words.
    """
    folders = {recipe: folder}
    return synthesise_all(verilog, top, library, clock_ns, folders, options, boxes)[recipe]


def synthesise_all(
    verilog: Path,
    top: str,
    library: Library,
    clock_ns: float,
    folders: Mapping[str, Path],
    options: Options = DEFAULT,
    boxes: Sequence[str] = (),
) -> dict[str, Mapped]:
    """Do what `synthesise` does for several recipes, the keys of ``folders``: their gates are the
    same and are made once. These have to be all of STRAIGHT, or all not."""
    if len({recipe in STRAIGHT for recipe in folders}) > 1:
        raise ValueError(f"{', '.join(folders)} do not start from the same gates")
    large = buffers(verilog.read_text(encoding="utf-8"))
    # ABC splits paths at spaces, so the tools work in a folder of the system's, on names of ours.
    with tempfile.TemporaryDirectory(prefix="synth-") as name:
        scratch = Path(name)
        (scratch / "design.v").symlink_to(verilog.resolve())
        (scratch / "library.lib").symlink_to(library.path.resolve())
        for recipe in folders:
            (scratch / recipe).mkdir()
            files = scripts(top, library, clock_ns, recipe, options, boxes, large)
            for file, text in files.items():
                write((scratch if file in SHARED else scratch / recipe) / file, text)
        try:
            status = _yosys(scratch, library, options, list(folders))
        except subprocess.TimeoutExpired as error:
            raise SynthError(f"{top}: yosys took over {LIMIT_SECONDS} s a recipe") from error
        finally:
            for recipe, folder in folders.items():
                folder.mkdir(parents=True, exist_ok=True)
                for path in (scratch / recipe).iterdir():
                    shutil.move(path, folder / path.name)
                for file in (*SHARED, "yosys.log"):
                    if (scratch / file).exists():
                        shutil.copy(scratch / file, folder / file)
    if status:
        log = next(iter(folders.values())) / "yosys.log"
        raise SynthError(f"{top}: {_last_words(log)} (see {log})")
    return {recipe: _mapped(top, library, folder) for recipe, folder in folders.items()}


def _mapped(top: str, library: Library, folder: Path) -> Mapped:
    """Return what yosys has left in a folder."""
    counts = json.loads((folder / "stat.json").read_text(encoding="utf-8"))["design"]
    kinds = counts.get("num_cells_by_type", {})
    said = (folder / "abc.log").read_text(encoding="utf-8", errors="replace")
    delays = re.findall(r"Delay = *([\d.]+) ps", said)
    return Mapped(
        top=top,
        area=counts.get("area", 0.0),
        sequential_area=counts.get("sequential_area", 0.0),
        cells=counts["num_cells"],
        flip_flops=sum(kinds.get(cell, 0) for cell in library.flip_flops),
        abc_ns=float(delays[-1]) / 1000 if delays and library.has_timing else None,
        netlist=folder / "netlist.v",
    )


def _yosys(folder: Path, library: Library, options: Options, recipes: Sequence[str]) -> int:
    """Run the scripts of ``folder`` there, those of ``recipes`` in folders in it, their words into
    yosys.log; return the exit status."""
    command = [sys.executable, "-m", "synth.child", str(LIMIT_GIGABYTES), ",".join(recipes)]
    for step, fanout, cell in (
        ("gates", options.gate_fanout, library.clock_gate),
        ("trees", options.fanout, library.buffer),
    ):
        if fanout and cell:
            command.append(f"{step}={','.join([str(fanout), *cell.split()])}")
    with (folder / "yosys.log").open("w", encoding="utf-8") as log:
        return subprocess.run(
            command, cwd=folder, timeout=LIMIT_SECONDS * len(recipes), stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=subprocess.STDOUT,
        ).returncode  # fmt: skip


# A memory that is left out, with the ports and parameters that yosys gives one.
_SRAM = """\
(* blackbox *)
module sram #(parameter ABITS = 1, WIDTH = 1, RD_PORTS = 1, WR_PORTS = 1) (
  input [RD_PORTS-1:0] RD_CLK, RD_EN, RD_ARST, RD_SRST,
  input [RD_PORTS*ABITS-1:0] RD_ADDR,
  output [RD_PORTS*WIDTH-1:0] RD_DATA,
  input [WR_PORTS-1:0] WR_CLK,
  input [WR_PORTS*ABITS-1:0] WR_ADDR,
  input [WR_PORTS*WIDTH-1:0] WR_EN, WR_DATA
);
endmodule
"""
_SRAM_SIZES = ("ABITS", "WIDTH", "RD_PORTS", "WR_PORTS")
_SRAM_OTHERS = (
    "MEMID", "SIZE", "OFFSET", "INIT",
    *(f"RD_{name}" for name in (
        "CLK_ENABLE", "CLK_POLARITY", "TRANSPARENCY_MASK", "COLLISION_X_MASK", "WIDE_CONTINUATION",
        "CE_OVER_SRST", "ARST_VALUE", "SRST_VALUE", "INIT_VALUE",
    )),
    *(f"WR_{name}" for name in (
        "CLK_ENABLE", "CLK_POLARITY", "PRIORITY_MASK", "WIDE_CONTINUATION",
    )),
)  # fmt: skip


def _script(
    top: str, library: Library, options: Options, straight: bool, boxes: Sequence[str],
    left_out: Collection[Buffer],
) -> dict[str, str]:  # fmt: skip
    """Return the yosys scripts, for a folder that has design.v and library.lib: to gates and clock
    gates, and from there to cells. ``straight`` goes to gates without ABC."""
    unused = "".join(f" -dont_use {cell}" for cell in library.unused)
    constraints = " -constr abc.constr" if library.has_timing else ""
    early = " -noabc" if straight else ""
    booth = " -booth" if options.booth else ""
    adder = f" -extra-map +/choices/{options.adder}.v" if options.adder != ADDERS[0] else ""
    gates = ""
    if library.clock_gate:
        gates = f"clockgate -pos {library.clock_gate} -min_net_size {GATED}"
    hidden = "".join(f"blackbox \\{name}\n" for name in boxes)
    if left_out:
        sizes = sorted({(buffer.words, buffer.width) for buffer in left_out})
        kinds = [f"t:$mem_v2 r:SIZE={words} %i r:WIDTH={width} %i" for words, width in sizes]
        hidden_memories = "\n".join([
            "memory -nomap", "read_verilog -lib sram.v",
            f"select -set large {' '.join(kinds)}{' %u' * (len(kinds) - 1)}",
            "chtype -set sram @large",
            *(f"setparam -unset {name} @large" for name in _SRAM_OTHERS), "",
        ])  # fmt: skip
        bare = "".join(f"setparam -unset {name} t:sram\n" for name in _SRAM_SIZES)
    else:
        hidden_memories = bare = ""
    # A part of a design is an instance in what it is a part of, and keeps its ports.
    ports = "" if "." in top else " -ports"
    return {
        "gates.ys": f"""\
read_liberty -lib -ignore_miss_func library.lib
read_verilog design.v
{hidden}hierarchy -check -top {top}
proc
{hidden_memories}check -assert
synth -flatten -top {top}{booth}{adder}{early}
opt -full
simplemap
{gates}
""",
        "cells.ys": f"""\
dfflibmap -liberty ../library.lib{unused}
tee -o abc.log abc -liberty ../library.lib -script abc.script{constraints}{unused}
opt_clean -purge
check -assert -mapped
tee -q -o stat.json stat -json -liberty ../library.lib
{bare}rename -wire
splitnets{ports} -format __
write_verilog -noattr -noexpr -simple-lhs netlist.v
""",
    }


def _last_words(log: Path) -> str:
    """Return what yosys said last: its error, or the last line of the log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    if any("bad_alloc" in line or line.startswith("MemoryError") for line in lines[-5:]):
        return f"yosys needs more than {LIMIT_GIGABYTES} GB of memory"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["yosys said nothing"])[-1]
