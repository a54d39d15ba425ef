"""Power of a netlist at work: the switching of its nets, by OpenSTA."""

import re
from dataclasses import dataclass
from pathlib import Path

from vcd.reader import ScalarChange, TokenKind, VarDecl, tokenize

from synth import SynthError, sta
from synth.files import write
from synth.library import Library

__all__ = ["Activity", "Power", "activity", "power"]

_PARTS = ("internal", "switching", "leakage")

# What a clock tree would give. Without one a clock gate drives thousands of flip-flops, and their
# power is that of an edge of many nanoseconds.
CLOCK_EDGE_NS = 0.05

# Activity is that of the nets, told to the inputs of cells: OpenSTA has no power at outputs that
# is not told at inputs too. It has to come before the first report.
_SCRIPT = """\
read_liberty library.lib
read_verilog netlist.v
link_design {top}
create_clock -name clock -period {clock_ns} [get_ports clk]
set_cmd_units -time ns -power W
set_assigned_transition {clock_edge_ns} [all_registers -clock_pins]
source activity.tcl
foreach pin [get_pins -hierarchical *] {{
  if {{[get_property $pin direction] == "input"}} {{
    set net [get_full_name [get_nets -of_objects $pin]]
    if {{[info exists activity($net)]}} {{
      ::sta::set_power_pin_activity $pin {{*}}$activity($net)
    }}
  }}
}}
report_power -digits 6
"""


@dataclass(frozen=True)
class Activity:
    """Transitions a cycle of a net, and the share of the time in which it is 1."""

    density: float
    duty: float


@dataclass(frozen=True)
class Power:
    """Watts of ``internal`` (in cells), ``switching`` (of nets) and ``leakage`` power."""

    internal: float
    switching: float
    leakage: float

    @property
    def total(self) -> float:
        """Watts in all."""
        return self.internal + self.switching + self.leakage


def activity(vcd: Path, cycles: int) -> dict[str, Activity]:
    """Return the activity of the nets of a VCD by name; it has ``cycles`` cycles, and nothing that
    counts after all nets are unknown."""
    names: dict[str, list[str]] = {}
    now, begun, ended = 0, None, 0
    value: dict[str, str] = {}
    since: dict[str, int] = {}
    high: dict[str, int] = {}
    changes: dict[str, int] = {}
    with vcd.open("rb") as file:
        for token in tokenize(file):
            if token.kind is TokenKind.CHANGE_SCALAR:
                change: ScalarChange = token.scalar_change
                code, new = change.id_code, change.value
                old = value.get(code)
                if old == "1":
                    high[code] = high.get(code, 0) + now - since[code]
                if old in ("0", "1") and new in ("0", "1") and old != new:
                    changes[code] = changes.get(code, 0) + 1
                value[code], since[code] = new, now
            elif token.kind is TokenKind.CHANGE_TIME:
                now = token.time_change
                begun = now if begun is None else begun
                ended = now
            elif token.kind is TokenKind.VAR:
                var: VarDecl = token.var
                names.setdefault(var.id_code, []).append(var.reference.lstrip("\\"))
    span = ended - (begun or 0)
    if not span:
        raise SynthError(f"{vcd} has no time in it")
    found = {}
    for code, every in names.items():
        if value.get(code) == "1":
            high[code] = high.get(code, 0) + ended - since[code]
        for name in every:
            found[name] = Activity(changes.get(code, 0) / cycles, high.get(code, 0) / span)
    return found


def power(
    top: str, library: Library, clock_ns: float, folder: Path, nets: dict[str, Activity]
) -> Power:
    """Return the power of the netlist that `flow.synthesise` left in ``folder`` at a clock.

    The clock is ideal, its edges take CLOCK_EDGE_NS at flip-flops, and wires have no load of their
    own. Script and report stay in ``folder``.
    """
    table = "".join(
        f"  {{{name}}} {{{each.density:.6g} {each.duty:.6g}}}\n" for name, each in nets.items()
    )
    write(folder / "activity.tcl", f"array set activity {{\n{table}}}\n")
    script = _SCRIPT.format(top=top, clock_ns=clock_ns, clock_edge_ns=CLOCK_EDGE_NS)
    report = sta.run(top, "power", script, library, folder)
    found = re.search(r"^Total((?:\s+[\d.e+-]+){3})", report, re.MULTILINE)
    if not found:
        raise SynthError(f"{top}: OpenSTA told no power (see {folder / 'power.log'})")
    return Power(**dict(zip(_PARTS, map(float, found[1].split()), strict=True)))
