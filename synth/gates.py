"""A netlist at work: its cells in Icarus, on what a block sees while it works on a real layer."""

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from synth import SynthError
from synth.files import write
from synth.library import Library

__all__ = ["Trace", "load_trace", "replay"]

LIMIT_SECONDS = 1800
Bits = NDArray[np.uint8]

_MODELS = """\
read_liberty -ignore_miss_func library.lib
proc
opt_clean
write_verilog -noattr models.v
"""
_CHILD = "from pyosys import libyosys as ys; ys.run_pass('script models.ys', ys.Design())"

# Inputs change after the clock's edge and outputs are taken before the next. A cycle of reset is
# before the first one, in which the block idles. Nothing takes time: there are no glitches. A
# cycle that counts goes from the edge before it to its own.
_BENCH = """\
`timescale 1ns / 1ps
module bench;
  reg clk = 0, rst = 1;
  reg [{inputs}:0] given [0:{last}];
  reg [{inputs}:0] i;
  wire [{outputs}:0] o;
  integer n, file;
  {top} dut ({ports});
  initial begin
    $readmemh("given.hex", given);
    file = $fopen("seen.hex", "w");
    i = given[0];
    #5 clk = 1;
    #5 clk = 0;
    rst = 0;
    $dumpfile("activity.vcd");
    if ({first} == 0) $dumpvars(1, dut);
    for (n = 0; n <= {last}; n = n + 1) begin
      i = given[n];
      #5 $fdisplay(file, "%h", o);
      clk = 1;
      if (n == {first} - 1) $dumpvars(1, dut);
      #5 if (n == {end} - 1 && {first} > 0) $dumpoff;
      clk = 0;
    end
    $finish;
  end
endmodule
"""
_CLOCK_GATE = """\
module {name} (input {enable}, input {clock}, output {out});
  reg open = 0;
  always @* if (!{clock}) open = {enable};
  assign {out} = {clock} & open;
endmodule
"""


@dataclass(frozen=True)
class Trace:
    """The ports of a block by name, each a (cycles, width) array of bits, lowest first; the
    ``window`` of cycles that counts for power, the first, not 0, and the one after the last; and
    how many multiply-accumulates it did in these. All count without a window."""

    inputs: dict[str, Bits]
    outputs: dict[str, Bits]
    macs: int
    window: tuple[int, int] | None = None

    @property
    def length(self) -> int:
        """How many cycles there are."""
        return len(next(iter(self.inputs.values())))

    @property
    def counted(self) -> tuple[int, int]:
        """The first cycle that counts, and the one after the last."""
        return self.window or (0, self.length)

    @property
    def cycles(self) -> int:
        """How many cycles count."""
        first, end = self.counted
        return end - first


def load_trace(path: Path, unit: str) -> Trace:
    """Read the ports of block ``unit`` in a file of `python -m sim.workload`."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            macs = int(file[f"{unit}:macs"])
            first, end = map(int, file[f"{unit}:window"])
            inputs, outputs = (
                {key.removeprefix(start): file[key] for key in file if key.startswith(start)}
                for start in (f"{unit}:in:", f"{unit}:out:")
            )
    except KeyError as error:
        raise SynthError(f"{path} has no trace of {unit}") from error
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise SynthError(f"{path} is not a file of `python -m sim.workload`: {error}") from error
    tables = [*inputs.values(), *outputs.values()]
    sizes = {bits.shape[0] if bits.ndim == 2 else 0 for bits in tables}
    if not inputs or not outputs or len(sizes) != 1 or not all(sizes) or macs < 1:
        raise SynthError(f"{path}: the ports of {unit} are not (cycles, width) bits of one length")
    if (first, end) != (0, min(sizes)) and not 0 < first < end <= min(sizes):
        raise SynthError(f"{path}: {unit} has {min(sizes)} cycles, and none of {first} to {end}")
    return Trace(inputs, outputs, macs, (first, end))


def replay(netlist: Path, top: str, library: Library, trace: Trace, folder: Path) -> Path:
    """Run a netlist on the inputs of ``trace``; return the changes of its nets, in the cycles that
    count, as VCD.

    ``SynthError`` when an output differs in any cycle, which says where, or a tool fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gates-") as name:
        scratch = Path(name)
        (scratch / "library.lib").symlink_to(library.path.resolve())
        write(scratch / "models.ys", _MODELS)
        _run([sys.executable, "-c", _CHILD], scratch)
        models = scratch / "models.v"
        # A register of a cell begins with 0, as in the simulation that made the trace.
        text = re.sub(r"^( *reg \w+);", r"\1 = 0;", models.read_text(encoding="utf-8"), flags=re.M)
        if library.clock_gate:
            cell, pins = library.clock_gate.split()
            enable, clock, out = pins.split(":")
            text = re.sub(rf"^module {cell}\(.*?^endmodule\n", "", text, flags=re.M | re.S)
            text += _CLOCK_GATE.format(name=cell, enable=enable, clock=clock, out=out)
        write(models, text)
        (scratch / "netlist.v").symlink_to(netlist.resolve())
        write(scratch / "bench.v", _bench(top, trace))
        write(scratch / "given.hex", _hex(np.concatenate(list(trace.inputs.values()), axis=1)))
        _run(["iverilog", "-g2005", "-o", "bench.vvp", "bench.v", "netlist.v", "models.v"], scratch)
        _run(["vvp", "-n", "bench.vvp"], scratch)
        _compare(top, trace, (scratch / "seen.hex").read_text(encoding="ascii").split())
        shutil.move(scratch / "activity.vcd", folder / "activity.vcd")
    return folder / "activity.vcd"


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=LIMIT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise SynthError(f"{command[0]} took over {LIMIT_SECONDS} s") from error
    if done.returncode:
        raise SynthError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def _bench(top: str, trace: Trace) -> str:
    """Return a bench for a netlist whose ports are bits, called ``name_0_`` where there are more
    than one."""
    pins = [".clk(clk)", ".rst(rst)"]
    for ports, wire in ((trace.inputs, "i"), (trace.outputs, "o")):
        at = 0
        for name, bits in ports.items():
            width = bits.shape[1]
            for n in range(width):
                pins.append(f".{name}{f'_{n}_' if width > 1 else ''}({wire}[{at + n}])")
            at += width
    inputs, outputs = (
        sum(bits.shape[1] for bits in ports.values()) - 1 for ports in (trace.inputs, trace.outputs)
    )
    return _BENCH.format(
        top=top, inputs=inputs, outputs=outputs, last=trace.length - 1, first=trace.counted[0],
        end=trace.counted[1], ports=",\n    ".join(pins),
    )  # fmt: skip


def _hex(bits: Bits) -> str:
    """Return rows of bits as lines of hexadecimal digits, the highest first."""
    width = -(-bits.shape[1] // 8) * 8
    padded = np.pad(bits, ((0, 0), (0, width - bits.shape[1])))
    rows = np.packbits(padded[:, ::-1], axis=1)
    return "".join(row.tobytes().hex() + "\n" for row in rows)


def _compare(top: str, trace: Trace, lines: list[str]) -> None:
    """Refuse outputs that are not those of the trace."""
    if len(lines) != trace.length:
        raise SynthError(f"{top}: the netlist ran {len(lines)} cycles, not {trace.length}")
    wanted = _hex(np.concatenate(list(trace.outputs.values()), axis=1)).split()
    digits = -(-sum(bits.shape[1] for bits in trace.outputs.values()) // 4)
    for cycle, (line, right) in enumerate(zip(lines, wanted, strict=True)):
        if line != right[-digits:]:
            raise SynthError(
                f"{top}: in cycle {cycle} the netlist's outputs are {line}, the RTL's "
                f"{right[-digits:]}"
            )
