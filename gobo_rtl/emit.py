"""Verilog of components, with the parts that occur many times written once."""

import gc
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from amaranth.back import verilog
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["copies", "emit"]

Component = TypeVar("Component", bound=wiring.Component)

_ZEROS = re.compile(r"  initial begin\n(?:    (?P<name>\w+)\[\d+\] = (?P<zero>\d+'h0+);\n)+  end\n")

# Entries of arrays: ABC9 of yosys takes a wire called `x[1]` for bit 1 of `x`, and joins them.
_ENTRIES = re.compile(r"\\\S+\[\d+\]\S* ")


@dataclass
class _Emission:
    """The platform of Verilog's text: modules that it still has to have, by name."""

    top: str
    parts: dict[str, wiring.Component]


def copies(
    m: Module, name: str, count: int, make: Callable[[], Component], platform: object
) -> list[Component]:
    """Give ``m`` submodules ``name0``, ``name1`` ... of which ``make`` returns one, all equal;
    return them, or for Verilog's text, which has their module once, what to connect.

    A reset by ``ResetInserter`` reaches modules a cycle later: until then their inputs have to be
    what they are after reset.
    """
    if not isinstance(platform, _Emission):
        parts = [make() for _ in range(count)]
        for n, part in enumerate(parts):
            m.submodules[f"{name}{n}"] = part
        return parts
    module = f"{platform.top}.{name}"
    platform.parts[module] = make()
    signature = platform.parts[module].signature
    placed = [signature.create(path=(f"{name}{n}",)) for n in range(count)]
    started = Signal(name=f"{name}_started")
    m.d.sync += started.eq(1)
    for n, ports in enumerate(placed):
        pins = {
            f"{'i' if member.flow is In else 'o'}_{port}": Value.cast(getattr(ports, port))
            for port, member in signature.members.items()
        }
        m.submodules[f"{name}{n}"] = Instance(
            module, i_clk=ClockSignal(), i_rst=ResetSignal() | ~started, **pins
        )
    return placed


def emit(component: wiring.Component, top: str) -> str:
    """Return the Verilog of ``component`` as module ``top``; equal for equal configurations."""
    # Millions of small objects, all of which stay until the end: looking for garbage among them
    # takes as long as all the rest.
    collecting = gc.isenabled()
    gc.disable()
    try:
        emission, texts = _Emission(top, {top: component}), []
        while emission.parts:
            name, part = emission.parts.popitem()
            texts.append(verilog.convert(
                part, name=name, platform=emission, emit_src=False, strip_internal_attrs=True
            ))  # fmt: skip
    finally:
        if collecting:
            gc.enable()
    return _ZEROS.sub(_loop, _ENTRIES.sub(_dotted, "\n".join(texts)))


def _dotted(name: re.Match[str]) -> str:
    """Return the name of an array's entry, or of what is in one, with dots for brackets."""
    return name[0].replace("[", ".").replace("]", "")


def _loop(zeros: re.Match[str]) -> str:
    """Return a loop in place of a line for each word of a memory that is zero at first."""
    name, zero, depth = zeros["name"], zeros["zero"], zeros[0].count("\n") - 2
    return f"""  initial begin : zero_{name}
    integer n;
    for (n = 0; n < {depth}; n = n + 1)
      {name}[n] = {zero};
  end
"""
