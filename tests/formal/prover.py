"""Claims about a design, and a solver that proves or refutes them.

A :class:`Claims` builds a circuit around a design: free inputs, what is assumed of them, and
claims, each a bit that is to be 1 in every cycle.  Registers of the design hold anything in cycle
0, in which it is reset, so that what is proved holds for a chip that was just switched on; the
claims are about cycles from 1 on.  A design that is ``cleared`` begins with the reset values and 0
instead, in cycle 0.  The circuit goes through yosys to an and-inverter graph, and to ABC:

- :func:`prove`: PDR (IC3), which finds an inductive invariant itself: true in all cycles for ever;
- :func:`induction`: what is claimed is the invariant, over ``depth`` cycles: for ever as well;
- :func:`bounded`: no counterexample in so many cycles;
- :func:`reach`: in how many cycles an event can be seen, to show that claims are not empty.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyosys
from amaranth.back import rtlil
from amaranth.hdl import (
    Cat,
    ClockDomain,
    Const,
    Module,
    Mux,
    ResetInserter,
    Signal,
    Value,
    ValueLike,
)
from amaranth.lib import stream, wiring

__all__ = ["Claims", "Verdict", "bounded", "induction", "prove", "reach"]

ABC = Path(pyosys.__file__).parent / "yosys-abc"
LIMIT_SECONDS = 900
SWEPT = "swept.aig"
_FOUND = re.compile(r"Output (\d+) of miter \S+ was asserted in frame (\d+)")

_CHILD = "import sys; from pyosys import libyosys as ys; ys.run_pass('script flow.ys', ys.Design())"
_YOSYS = """
read_rtlil circuit.il
hierarchy -check -top top
flatten
proc
setattr -unset init w:dut.*
check -assert
memory_map
opt_clean
opt -full
techmap
opt -fast
dffunmap
setundef -undriven -anyseq
aigmap
design -save all
delete -output o:event_* o:step_*
opt_clean
stat
write_aiger -zinit -map claims.aim claims.aig
design -load all
delete -output o:claim_* o:step_*
opt_clean
write_aiger -zinit -map events.aim events.aig
"""
# Registers hold anything but the one that counts cycles.
_STEP = """
design -load all
delete -output o:claim_* o:event_*
setattr -unset init w:* w:induction_age %d
opt_clean
write_aiger -zinit -map step.aim step.aig
"""


class Claims:
    """A design among free inputs, with assumptions, claims and events."""

    def __init__(
        self, dut: wiring.Component, *, cleared: bool = False, depth: int | None = None
    ) -> None:
        self.m = Module()
        self.cleared = cleared
        self.depth = depth
        """Cycles of an induction, where one is made."""
        self.dut = dut
        self.ports: list[Signal] = []
        self.claims: dict[str, Value] = {}
        self.events: dict[str, Value] = {}
        self.is_built = False
        self._assumed: list[Value] = []
        self.reset = Signal(init=not cleared)
        """The first cycle."""
        self.m.domains.sync = self.clock = ClockDomain("sync", reset_less=True)
        self.m.submodules.dut = ResetInserter(self.reset)(dut)
        self.m.d.sync += self.reset.eq(0)

    def free(self, shape: object, name: str) -> Value:
        """Return a value that is anything in every cycle."""
        signal = Signal(shape, name=name)
        self.ports.append(Value.cast(signal))
        return signal

    def fixed(self, shape: object, name: str) -> Value:
        """Return a value that is anything, and the same in all cycles from 1 on."""
        chosen = self.free(shape, f"{name}_chosen")
        kept = Signal(shape, name=f"{name}_kept")
        with self.m.If(self.reset):
            self.m.d.sync += kept.eq(chosen)
        return kept

    def before(self, value: ValueLike, name: str | None = None) -> Signal:
        """Return what ``value`` was in the cycle before."""
        old = Signal.like(Value.cast(value), name=name or f"before_{len(self.ports)}")
        self.m.d.sync += old.eq(value)
        return old

    def assume(self, condition: ValueLike) -> None:
        """Take ``condition`` for granted, from cycle 1 on."""
        self._assumed.append(Value.cast(condition).bool())

    def claim(self, name: str, condition: ValueLike) -> None:
        """Claim that ``condition`` holds in every cycle from 1 on."""
        self.claims[name] = Value.cast(condition).bool()

    def event(self, name: str, condition: ValueLike) -> None:
        """Name something that is to be shown possible."""
        self.events[name] = Value.cast(condition).bool()

    def drive(
        self, port: stream.Interface, name: str, payload: Value | None = None, more: ValueLike = 1,
        *, pauses: bool = True,
    ) -> None:  # fmt: skip
        """Drive an input stream by its rules and at any pace, or without ``pauses``: with
        ``payload`` while there is ``more``, without one with anything."""
        offer = self.free(1, f"{name}_offer") if pauses else Const(1)
        if payload is None:
            payload = self.free(len(Value.cast(port.payload)), f"{name}_fresh")
        waiting = Signal(name=f"{name}_waiting")
        kept = Signal.like(payload, name=f"{name}_kept")
        self.m.d.comb += [
            port.valid.eq(~self.reset & ((offer & more) | waiting)),
            Value.cast(port.payload).eq(Mux(waiting, kept, payload)),
        ]
        self.m.d.sync += [
            waiting.eq(port.valid & ~port.ready), kept.eq(Value.cast(port.payload)),
        ]  # fmt: skip

    def keeps_rules(self, port: stream.Interface, name: str) -> None:
        """Claim the rules of streams for an output: what is offered stays until it is taken."""
        waiting = Signal(name=f"{name}_waits")
        payload = self.before(port.payload.as_value(), f"{name}_offered")
        self.m.d.sync += waiting.eq(~self.reset & port.valid & ~port.ready)
        self.claim(f"{name}.valid stays", ~waiting | port.valid)
        self.claim(f"{name}.payload stays", ~waiting | (port.payload.as_value() == payload))
        self.event(f"{name} waits and is taken", waiting & port.valid & port.ready)

    def build(self, folder: Path) -> None:
        """Write the circuit into ``folder``: the outputs of ``claims.aig`` and ``events.aig`` are 1
        when a claim is broken, or an event seen, in a cycle up to which all assumptions held."""
        if self.is_built:
            return
        self.is_built = True
        m = self.m
        held = Signal(init=1)
        holds = Signal()
        m.d.comb += holds.eq(held & Cat(self._assumed).all())
        m.d.sync += held.eq(self.reset | holds)
        outputs = []
        broken = [~claim for claim in self.claims.values()]
        for kind, bits in (("claim", broken), ("event", self.events.values())):
            for n, bit in enumerate(bits):
                outputs.append(Signal(name=f"{kind}_{n:03}"))
                m.d.comb += outputs[-1].eq(bit & holds & ~self.reset)
        if self.depth is not None:
            outputs += self._step(broken)
        # The clock is a port: without one no register would move, and every claim would hold.
        text = rtlil.convert(m, name="top", ports=[self.clock.clk, *self.ports, *outputs])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "circuit.il").write_text(text)
        flow = _YOSYS.replace("setattr -unset init w:dut.*\n", "") if self.cleared else _YOSYS
        flow += _STEP if self.depth is not None else ""
        (folder / "flow.ys").write_text(flow)
        _run(folder, sys.executable, "-c", _CHILD)

    def _step(self, broken: list[Value]) -> list[Signal]:
        """Return for each claim whether it is broken in the cycle after ``depth`` cycles that any
        cycle but that of the reset may begin, in which all claims and assumptions held."""
        m = self.m
        age, held, kept = Signal(range(self.depth + 2), name="induction_age"), Signal(), Signal()
        fair = Cat(self._assumed).all() & ~self.reset
        m.d.comb += kept.eq((age == 0) | held)
        m.d.sync += [age.eq(Mux(age > self.depth, age, age + 1)),
                     held.eq(kept & fair & ~Cat(broken).any())]  # fmt: skip
        outputs = [Signal(name=f"step_{n:03}") for n in range(len(broken))]
        m.d.comb += [output.eq(bit & kept & fair & (age == self.depth))
                     for output, bit in zip(outputs, broken, strict=True)]  # fmt: skip
        return outputs


@dataclass(frozen=True)
class Verdict:
    """What the solver found; ``holds`` is None when it gave up."""

    holds: bool | None
    cycle: int = 0
    """Of the counterexample; the reset is cycle 0."""
    broken: str = ""
    """The claim that does not hold there."""


def prove(claims: Claims, folder: Path, *, sweep: bool = False) -> Verdict:
    """Prove all claims for all time, or find a counterexample to one; works in ``folder``.

    With ``sweep`` registers that provably hold the same are made one before: worth it where the
    claims count what the design counts.
    """
    first = f"scorr{' -C 100000' if claims.cleared else ''}; write_aiger {SWEPT}; " if sweep else ""
    return _verdict(claims, folder, f"{first}pdr -T {LIMIT_SECONDS}")


def bounded(claims: Claims, folder: Path, cycles: int) -> Verdict:
    """Look for a counterexample to a claim in ``cycles`` cycles after the reset."""
    return _verdict(claims, folder, f"bmc3 -F {cycles + 1}")


def induction(claims: Claims, folder: Path) -> Verdict:
    """Prove all claims for all time by induction over cycles: they hold in ``depth`` cycles after
    the reset, and in the cycle after any ``depth`` in which they held, whatever the registers held
    before these. A counterexample to the second, in cycle 0, need not be one to the claims."""
    assert claims.depth is not None
    first = bounded(claims, folder, claims.depth)
    if not first.holds:
        return first
    said = _run(folder, str(ABC), "-c", f"read_aiger step.aig; bmc3 -F {claims.depth + 1}")
    if found := _FOUND.search(said):
        return Verdict(False, 0, list(claims.claims)[int(found[1])])
    return Verdict(True if "No output asserted" in said else None)


def reach(claims: Claims, folder: Path, cycles: int) -> dict[str, int]:
    """Return for each event that can be in ``cycles`` cycles after the reset the first of them."""
    claims.build(folder)
    names = list(claims.events)
    commands = []
    for wanted in range(len(names)):
        commands += ["read_aiger events.aig"]
        commands += [f"zeropo -N {n}" for n in range(len(names)) if n != wanted]
        commands += [f"bmc3 -F {cycles + 1}"]
    said = _run(folder, str(ABC), "-c", "; ".join(commands))
    seen = _FOUND.findall(said)
    return {names[int(output)]: int(frame) for output, frame in seen}


def _verdict(claims: Claims, folder: Path, command: str) -> Verdict:
    claims.build(folder)
    said = _run(folder, str(ABC), "-c", f"read_aiger claims.aig; {command}")
    if found := _FOUND.search(said):
        return Verdict(False, int(found[2]), list(claims.claims)[int(found[1])])
    proved = "Property proved" in said or "No output asserted" in said or _all_zero(folder / SWEPT)
    return Verdict(True if proved else None)


def _all_zero(circuit: Path) -> bool:
    """Return whether a circuit is there whose outputs have all been found to be 0."""
    if not circuit.exists():
        return False
    with circuit.open("rb") as file:
        latches, outputs = (int(number) for number in file.readline().split()[3:5])
        lines = [file.readline().split()[0] for _ in range(latches + outputs)]
    return outputs > 0 and set(lines[latches:]) == {b"0"}


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, timeout=LIMIT_SECONDS, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    (folder / f"{Path(command[0]).name}.log").write_text(done.stdout)
    assert done.returncode == 0, f"{command[0]} failed in {folder}:\n{done.stdout[-2000:]}"
    return done.stdout
