"""The critical path, by OpenSTA when it is installed."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synth import SynthError
from synth.files import write
from synth.library import Library

__all__ = ["CriticalPath", "critical_path", "is_installed", "run"]

LIMIT_SECONDS = 1800

# Inputs come from the driving cell at the clock edge, outputs have to be there before the next:
# nothing is left out because it crosses the block's edge. A design without a clock gets a
# virtual one. Only commands that the OpenSTA of 2019 in Debian 12 has too.
_SCRIPT = """\
read_liberty library.lib
{read}
link_design {top}
set_cmd_units -time ns -capacitance fF
set clocks [get_ports -quiet {{clk aclk}}]
if {{[llength $clocks]}} {{
  create_clock -name clock -period {clock_ns} $clocks
}} else {{
  create_clock -name clock -period {clock_ns}
}}
foreach port [all_inputs] {{
  if {{[lsearch {{clk aclk}} [get_name $port]] < 0}} {{
    set_driving_cell -lib_cell {driving_cell} $port
    set_input_delay 0 -clock clock $port
  }}
}}
set_output_delay 0 -clock clock [all_outputs]
set_load {load} [all_outputs]
report_checks -path_delay max -digits 4 -format full -fields {{capacitance slew fanout}}
"""


@dataclass(frozen=True)
class CriticalPath:
    """The longest path: clock period less slack, in ns, and where it starts and ends."""

    delay_ns: float
    start: str
    end: str


def is_installed() -> bool:
    """Whether OpenSTA is on PATH."""
    return shutil.which("sta") is not None


def run(top: str, name: str, script: str, library: Library, folder: Path) -> str:
    """Return what OpenSTA says to a script, for which ``library.lib`` is the library.

    ``name``.tcl and ``name``.log stay in ``folder``. ``SynthError`` has its first error.
    """
    write(folder / f"{name}.tcl", script)
    link = folder / "library.lib"  # a name without spaces, which OpenSTA cannot read
    link.unlink(missing_ok=True)
    link.symlink_to(library.path.resolve())
    try:
        done = subprocess.run(
            ["sta", "-no_splash", "-exit", f"{name}.tcl"], cwd=folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise SynthError(f"{top}: OpenSTA took over {LIMIT_SECONDS} s") from error
    report = done.stdout + done.stderr
    log = folder / f"{name}.log"
    write(log, report)
    if told := re.search(r"^(?:\[ERROR|Error).*", report, re.MULTILINE):
        raise SynthError(f"{top}: OpenSTA failed: {told[0]} (see {log})")
    return report


def critical_path(
    top: str, library: Library, clock_ns: float, folder: Path, parts: Sequence[str] = ()
) -> CriticalPath:
    """Return the critical path of the netlist that `flow.synthesise` left in ``folder``, with those
    of its ``parts`` in folders there.

    The clock is ideal and wires have no delay. The report stays in ``folder``.
    """
    read = "\n".join(f"read_verilog {name}" for name in
                     (*(f"{part}/netlist.v" for part in parts), "netlist.v"))  # fmt: skip
    script = _SCRIPT.format(
        top=top, clock_ns=clock_ns, driving_cell=library.driving_cell, load=library.load, read=read
    )  # fmt: skip
    report = run(top, "sta", script, library, folder)
    slack = re.search(r"(-?[\d.]+)\s+slack", report)
    if not slack:
        raise SynthError(
            f"{top}: OpenSTA failed: it reported no path (see {folder / 'sta.log'})"
        )
    start, end = (
        # A flip-flop is called after its output: `name[3]\cell`.
        re.findall(rf"^{key}: ([^\s\\\\]+)", report, re.MULTILINE)[0]
        for key in ("Startpoint", "Endpoint")
    )
    return CriticalPath(round(clock_ns - float(slack[1]), 4), start, end)
