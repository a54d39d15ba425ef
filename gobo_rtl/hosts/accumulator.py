"""Sums of weight tiles, added up in a memory."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..pe.float_adder import FloatAdder
from .layout import FP32

__all__ = ["Accumulator"]


class Accumulator(wiring.Component):
    """Adds terms to the sums of a memory, a term a cycle, and lets them be read.

    Paper
    -----
    Our own choice: docs/hosts.md section 3.

    Parameters
    ----------
    depth : int
        Words of sums, at least 2.
    lanes : int
        Sums in a word, a power of two.

    Members
    -------
    valid, first, address : In, 1, 1 and number of a sum
        A term comes to that sum in the next cycle; with ``first`` the sum begins with it. Sum ``n``
        is lane ``n % lanes`` of word ``n // lanes``.
    term : In, 32 bits
        FP32: the term announced in the cycle before.
    read, place : In, 1 and number of a word
        Read that word; without ``read`` the one at ``o`` stays.
    o : Out, ``lanes`` x 32 bits
        FP32: the sums read in the cycle before, or last.

    Timing
    ------
    A term a cycle to any sum, also to the same one; it can be read 3 cycles after ``valid``.

    Numerics
    --------
    A sum begins with +0; the adder is that of running sums, :class:`FloatAdder`.
    """

    def __init__(self, depth: int, lanes: int = 1):
        if not isinstance(depth, int) or depth < 2:
            raise ValueError(f"depth must be at least 2 words, not {depth!r}")
        if not isinstance(lanes, int) or lanes < 1 or lanes & (lanes - 1):
            raise ValueError(f"lanes must be a power of two, not {lanes!r}")
        self.depth, self.lanes = depth, lanes
        super().__init__({
            "valid": In(1), "first": In(1), "address": In(range(depth * lanes)),
            "term": In(FP32.width), "read": In(1), "place": In(range(depth)),
            "o": Out(lanes * FP32.width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adder = adder = FloatAdder(FP32, 1, running=True)
        width = self.lanes * FP32.width
        m.submodules.sums = memory = Memory(shape=width, depth=self.depth, init=[])
        write, leave = memory.write_port(granularity=FP32.width), memory.read_port()
        before = memory.read_port(transparent_for=(write,))

        # The memory is read; the sum is in the adder; it is written. The next term's sum is read a
        # cycle before it is written: then it is the adder's.
        bits = self.lanes.bit_length() - 1
        adds, first, same = Signal(), Signal(reset_less=True), Signal()
        adding, lane = Signal.like(self.address, reset_less=True), Signal(max(1, bits))
        m.d.sync += [
            adds.eq(self.valid), first.eq(self.first), adding.eq(self.address),
            same.eq(adds & (adding == self.address)),
            write.en.eq(adds << lane), write.addr.eq(adding >> bits),
        ]  # fmt: skip
        m.d.comb += [
            lane.eq(adding[:bits]),
            before.addr.eq(self.address >> bits), before.en.eq(self.valid),
            adder.a.eq(Mux(same, adder.o, before.data.word_select(lane, FP32.width))),
            adder.b.eq(self.term), adder.first.eq(first), adder.valid.eq(1),
            write.data.eq(adder.o.replicate(self.lanes)),
            leave.addr.eq(self.place), leave.en.eq(self.read), self.o.eq(leave.data),
        ]  # fmt: skip
        return m
