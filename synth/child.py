"""Yosys in a process of its own, since a mistake in a script or a design ends it all:
``python -m synth.child GIGABYTES [FANOUT CELL ENABLE:CLOCK:OUT]``."""

import resource
import sys
from collections import defaultdict
from typing import Any

from pyosys import libyosys as ys

__all__ = ["main", "split"]


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


def main(gigabytes: str, *gates: str) -> None:
    """Run gates.ys and cells.ys in so much memory at most; between them split clock gates, when
    their fan-out, kind and pins are given."""
    size = int(gigabytes) << 30
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    design = ys.Design()
    ys.run_pass("script gates.ys", design)
    if gates:
        fanout, cell, pins = gates
        split(design, cell, pins, int(fanout))
    ys.run_pass("script cells.ys", design)


if __name__ == "__main__":
    main(*sys.argv[1:])
