"""Sums of weight tiles, added up: one for each place of a memory."""

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
        Sums, at least 2.

    Members
    -------
    valid, first, address : In, 1, 1 and number of a sum
        A term comes to that sum in the next cycle; with ``first`` the sum begins with it.
    term : In, 32 bits
        FP32: the term announced in the cycle before.
    read, place : In, 1 and number of a sum
        Read that sum; without ``read`` the one at ``o`` stays.
    o : Out, 32 bits
        FP32: the sum read in the cycle before, or last.

    Timing
    ------
    A term a cycle to any sum, also to the same one; it can be read 3 cycles after ``valid``.

    Numerics
    --------
    A sum begins with +0; the adder is that of running sums, :class:`FloatAdder`.
    """

    def __init__(self, depth: int):
        if not isinstance(depth, int) or depth < 2:
            raise ValueError(f"depth must be at least 2 sums, not {depth!r}")
        self.depth = depth
        super().__init__({
            "valid": In(1), "first": In(1), "address": In(range(depth)), "term": In(FP32.width),
            "read": In(1), "place": In(range(depth)), "o": Out(FP32.width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adder = adder = FloatAdder(FP32, 1, running=True)
        m.submodules.sums = memory = Memory(shape=FP32.width, depth=self.depth, init=[])
        write, leave = memory.write_port(), memory.read_port()
        before = memory.read_port(transparent_for=(write,))

        # The memory is read; the sum is in the adder; it is written. The next term's sum is read a
        # cycle before it is written: then it is the adder's.
        adds, first, same = Signal(), Signal(reset_less=True), Signal()
        adding = Signal.like(self.address, reset_less=True)
        m.d.sync += [
            adds.eq(self.valid), first.eq(self.first), adding.eq(self.address),
            same.eq(adds & (adding == self.address)),
            write.en.eq(adds), write.addr.eq(adding),
        ]  # fmt: skip
        m.d.comb += [
            before.addr.eq(self.address), before.en.eq(self.valid),
            adder.a.eq(Mux(same, adder.o, before.data)), adder.b.eq(self.term),
            adder.first.eq(first), adder.valid.eq(1),
            write.data.eq(adder.o),
            leave.addr.eq(self.place), leave.en.eq(self.read), self.o.eq(leave.data),
        ]  # fmt: skip
        return m
