"""Yosys in a process of its own, since a mistake in a script or a design ends it all:
``python -m synth.child GIGABYTES FOLDER,... [gates=FANOUT,CELL,ENABLE:CLOCK:OUT]
[trees=FANOUT,CELL,IN:OUT]``.
"""

import resource
import sys
from collections import defaultdict
from contextlib import chdir
from typing import Any

from pyosys import libyosys as ys

__all__ = ["main", "plant", "split"]


def split(design: Any, cell: str, pins: str, fanout: int) -> None:
    """Give each clock gate of kind ``cell`` at most ``fanout`` flip-flops, with more gates."""
    enable, clock, out = (ys.IdString(f"\\{pin}") for pin in pins.split(":"))
    kind, clocked = ys.IdString(f"\\{cell}"), ys.IdString("\\C")
    for module in design.modules_.values():
        driven: dict[str, list[Any]] = defaultdict(list)
        gates = []
        for each in module.cells_.values():
            if each.type == kind:
                gates.append(each)
            elif each.hasPort(clocked) and each.getPort(clocked).is_wire():
                driven[_wire(each, clocked)].append(each)
        for gate in gates:
            # Neighbours by number are neighbours in a word.
            flip_flops = sorted(driven[_wire(gate, out)], key=_number)
            for number in range(1, -(-len(flip_flops) // fanout)):
                wire = module.addWire(ys.IdString(f"{gate.name}_out{number}"), 1)
                more = module.addCell(ys.IdString(f"{gate.name}_{number}"), kind)
                for pin in (enable, clock):
                    more.setPort(pin, gate.getPort(pin))
                more.setPort(out, ys.SigSpec(wire))
                for each in flip_flops[number * fanout : (number + 1) * fanout]:
                    each.setPort(clocked, ys.SigSpec(wire))


def _wire(cell: Any, port: Any) -> str:
    return str(cell.getPort(port).as_wire().name)


def _number(cell: Any) -> tuple[int, str]:
    """Return what sorts names that end in numbers by these."""
    name = str(cell.name)
    return len(name), name


def plant(design: Any, cell: str, pins: str, fanout: int) -> None:
    """Let what a flip-flop or an input drives have at most ``fanout`` sinks, by balanced trees of
    buffers: ABC, which would string its buffers, sees none of these nets."""
    into, out = (ys.IdString(f"\\{pin}") for pin in pins.split(":"))
    kind = ys.IdString(f"\\{cell}")
    for module in design.modules_.values():
        sinks: dict[tuple[str, int], list[tuple[Any, Any]]] = defaultdict(list)
        starts: dict[tuple[str, int], Any] = {}
        for wire in module.wires_.values():
            if wire.port_input:
                for bit in ys.SigSpec(wire).bits():
                    starts[_key(bit)] = ys.SigSpec(wire, bit.offset, 1)
        for each in list(module.cells_.values()):
            for port, signal in each.connections_.items():
                bits = signal.bits()
                if signal.size() != 1 or bits[0].wire is None or str(port) in CLOCKS:
                    continue
                if each.is_builtin_ff() and str(port) == "\\Q":
                    starts[_key(bits[0])] = signal
                elif str(each.type).startswith("$_") and str(port) not in OUTPUTS:
                    sinks[_key(bits[0])].append((each, port))
        for key, start in starts.items():
            ends, level = sorted(sinks[key], key=lambda sink: _number(sink[0])), 0
            while len(ends) > fanout:
                # Equal shares for as few buffers as there can be.
                count = -(-len(ends) // fanout)
                above = []
                for number in range(count):
                    name = f"\\{str(key[0]).lstrip(chr(92))}_{key[1]}_tree{level}_{number}"
                    wire = module.addWire(ys.IdString(name), 1)
                    more = module.addCell(ys.IdString(name + "_buffer"), kind)
                    more.setPort(out, ys.SigSpec(wire))
                    low, high = (len(ends) * n // count for n in (number, number + 1))
                    for sink, port in ends[low:high]:
                        sink.setPort(port, ys.SigSpec(wire))
                    above.append((more, into))
                ends, level = above, level + 1
            if level:
                for buffer, port in ends:
                    buffer.setPort(port, start)


CLOCKS = ("\\C", "\\CLK", "\\E")  # of flip-flops and latches: trees of these are another matter
OUTPUTS = ("\\Y", "\\Q")


def _key(bit: Any) -> tuple[str, int]:
    return str(bit.wire.name), bit.offset


def main(gigabytes: str, folders: str, *steps: str) -> None:
    """Run gates.ys, split clock gates and plant trees of buffers as ``steps`` say, and from there
    run cells.ys in each of ``folders``; in so much memory at most."""
    size = int(gigabytes) << 30
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    design = ys.Design()
    ys.run_pass("script gates.ys", design)
    for step in steps:
        name, _, words = step.partition("=")
        fanout, cell, pins = words.split(",")
        {"gates": split, "trees": plant}[name](design, cell, pins, int(fanout))
    ys.run_pass("design -save gates", design)
    for folder in folders.split(","):
        ys.run_pass("design -load gates", design)
        with chdir(folder):
            ys.run_pass("script cells.ys", design)


if __name__ == "__main__":
    main(*sys.argv[1:])
