"""A ring gives each word at its place, as often as it is rewound to, and loses none too early.

Proved for all time, for any commands, any sizes of units and of what is committed at once, and
any pace. Every word holds its number, counted further than the ring's own pointers go.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gobo_rtl.array import replay
from gobo_rtl.array_layout import ReplayLayout
from tests.sabotage.plant import Fault, planted_package

from .prover import Claims, bounded, prove, reach

FILE = "gobo_rtl/array/replay.py"
FAULTS = {
    "a mark is forgotten": Fault(
        "mark", FILE, "back.eq(Mux(begins & command.mark, at, mark))", "back.eq(mark)"
    ),
    "a mark is set in the middle of a unit": Fault(
        "begins", FILE, "begins.eq(self.last)", "begins.eq(1)"
    ),
    "one word too many is released": Fault("tail", FILE, "tail.eq(after)", "tail.eq(after + 1)"),
    "all is released": Fault("head", FILE, "tail.eq(after)", "tail.eq(head)"),
    "released before the unit's end": Fault(
        "release", FILE, "m.If(ends & command.release)", "m.If(self.next & command.release)"
    ),
    "a word is given before it is committed": Fault(
        "early", FILE, "Mux(self.next, after != head, at != head)",
        "Mux(self.next, 1, at != head)",
    ),
    "the memory is not read again": Fault(
        "again", FILE, "self.read.eq(self.next | ~there)", "self.read.eq(self.next)"
    ),
    "a bubble when reading goes back": Fault(
        "bubble", FILE, "there.eq(rewinds | Mux(", "there.eq(~rewinds & Mux("
    ),
    "the ring is never quite full": Fault(
        "full", FILE, "self.limit.eq(tail ^ self.depth)", "self.limit.eq(tail + self.depth - 1)"
    ),
}  # fmt: skip


class Ring(wiring.Component):
    """Replay with a memory; several words may be committed at once."""

    def __init__(self, source: ModuleType, depth: int, width: int) -> None:
        self.replay = source.Replay(depth)
        self.depth, self.width = depth, width
        super().__init__({
            "i": In(stream.Signature(ReplayLayout())), "write": In(1), "commit": In(1),
            "data": In(width), "room": Out(1), "o": Out(width), "valid": Out(1),
            "next": In(1), "last": In(1), "drained": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.replay = replay = self.replay
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        offset = Signal(range(self.depth + 1))
        place = Signal.like(replay.head)
        with m.If(write.en):
            m.d.sync += offset.eq(Mux(self.commit, 0, offset + 1))
        m.d.comb += [
            replay.i.payload.eq(self.i.payload),
            replay.i.valid.eq(self.i.valid),
            self.i.ready.eq(replay.i.ready),
            place.eq(replay.head + offset),
            self.room.eq(place != replay.limit),
            write.addr.eq(place),
            write.data.eq(self.data),
            write.en.eq(self.write & self.room),
            replay.commit.eq(write.en & self.commit),
            replay.end.eq(place + 1),
            read.addr.eq(replay.address),
            read.en.eq(replay.read),
            self.o.eq(read.data),
            self.valid.eq(replay.valid),
            replay.next.eq(self.next),
            replay.last.eq(self.last),
            self.drained.eq(replay.drained),
        ]
        return m


def ring_claims(depth: int, source: ModuleType = replay) -> Claims:
    """Return the claims."""
    width = depth.bit_length() + 2
    dut = Ring(source, depth, width)
    claims = Claims(dut)
    m, command = claims.m, dut.i.payload
    claims.drive(dut.i, "command")

    # The reference: numbers of words, and what the commands say of them.
    written, committed, at, mark, tail = (
        Signal(width, name=name) for name in ("written", "committed", "at", "mark", "tail")
    )
    begins, marked = Signal(), Signal()
    take = claims.free(1, "take") & dut.valid
    ends = take & dut.last
    wrote = dut.write & dut.room
    m.d.comb += [
        dut.write.eq(claims.free(1, "write_in") & ~claims.reset),
        dut.commit.eq(claims.free(1, "commit_in")),
        dut.data.eq(written),
        dut.next.eq(take),
        dut.last.eq(claims.free(1, "last_in")),
    ]
    marks = begins & command.mark
    with m.If(wrote):
        m.d.sync += written.eq(written + 1)
        with m.If(dut.commit):
            m.d.sync += committed.eq(written + 1)
    with m.If(take):
        m.d.sync += [at.eq(at + 1), begins.eq(dut.last)]
        with m.If(marks):
            m.d.sync += [mark.eq(at), marked.eq(1)]
        with m.If(dut.last & command.rewind):
            m.d.sync += at.eq(Mux(marks, at, mark))
        with m.If(dut.last & command.release):
            m.d.sync += [tail.eq(at + 1), marked.eq(0)]
    with m.If(claims.reset):
        m.d.sync += [number.eq(0) for number in (written, committed, at, mark, tail, marked)]
        m.d.sync += begins.eq(1)

    # What the parent promises.
    claims.assume(~(command.rewind & command.release))
    claims.assume(~command.rewind | marks | marked)
    in_reset = claims.before(claims.reset, "reset_before")
    seen = Mux(in_reset, 0, claims.before(committed, "committed_before"))

    kept = Signal(width)
    m.d.comb += kept.eq(written - tail)
    claims.claim("a word given is the one at its place", ~dut.valid | (dut.o == at))
    claims.claim("a word is given as soon as it can be read",
                 dut.valid == (dut.i.valid & (at != seen)))
    claims.claim("what is not released stays", kept <= depth)
    claims.claim("what is released is free", dut.room == (kept != depth))
    claims.claim("a command is taken with its unit's end", dut.i.ready == ends)
    claims.claim("drained when all is read", dut.drained == (at == committed))

    ended = claims.before(ends, "ended")
    went_back = claims.before(ends & command.rewind & (mark != at) & ~marks, "went_back")
    claims.event("a full ring is read again", went_back & take & (kept == depth))
    claims.event("a unit of one word is read again",
                 claims.before(ends & marks & command.rewind, "alone") & ended & take)
    claims.event("several words are committed at once", wrote & dut.commit & (written != committed))
    claims.event("several units are released at once",
                 ends & command.release & (at != tail) & begins)
    return claims


@pytest.mark.parametrize("depth", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_words_come_at_their_place(depth: int, tmp_path: Path) -> None:
    assert prove(ring_claims(depth), tmp_path).holds


def test_what_is_proved_of_can_happen(tmp_path: Path) -> None:
    claims = ring_claims(2)
    assert set(reach(claims, tmp_path, 12)) == set(claims.events)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    package = planted_package(FAULTS[name], tmp_path)
    claims = ring_claims(4, import_module(f"{package}.array.replay"))
    assert bounded(claims, tmp_path / "proof", 16).holds is False
