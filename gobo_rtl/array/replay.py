"""Pointers of a ring of words that can be read several times."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_layout import ReplayLayout

__all__ = ["Replay"]


class Replay(wiring.Component):
    """Tells where to write and what to read next in a ring whose units are read again.

    A unit is what a command is for: the words of a strip, or of a token tile. The commands say
    for each unit, in the order of reading, whether its beginning is marked, and whether at its end
    reading goes back to the mark, or its words and all before them are released. Words keep their
    place until they are released.

    The memory belongs to the parent. It answers a cycle after ``address``; what it answers is kept
    at its output, read again until it is there, until ``next``. So the address follows from what
    is done with the word at the output in the same cycle, and there is no bubble at the end of a
    unit, though it is only then known.

    The parent never gives a command with both ``rewind`` and ``release``, and goes back only to a
    mark whose words it has not released.

    Paper
    -----
    Our own choice: docs/accelerator.md section 3.

    Parameters
    ----------
    depth : int
        Words in the ring; a power of two, at least 2.

    Members
    -------
    i : In, stream of ReplayLayout
        What is done with each unit; taken with its last word.
    head : Out, pointer
        Where the next word is written that no reader may see yet. A pointer is an address with one
        bit more above it, which tells a full ring from an empty one.
    limit : Out, pointer
        The first place from ``head`` on that is not free.
    commit, end : In, 1 and pointer
        All words before ``end``, the one written in this cycle included, can be read.
    address, read : Out, address and 1
        Of the memory, and whether it is to be read: the output changes only then.
    valid : Out, 1
        The memory's output is the next word of the unit whose command is at ``i``.
    next, last : In, 1
        That word is taken, and with it the unit ends; only with ``valid``.
    drained : Out, 1
        No word can be read that has not been, since the mark or at all.

    Timing
    ------
    A word a cycle, without a bubble between units. A word can be read in the cycle after
    ``commit``: ``valid`` 2 cycles after it. Released places are free in the cycle after.

    Numerics
    --------
    None: words are counted.
    """

    def __init__(self, depth: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two of at least 2 words, not {depth}")
        self.depth = depth
        bits = depth.bit_length()
        super().__init__({
            "i": In(stream.Signature(ReplayLayout())),
            "head": Out(bits),
            "limit": Out(bits),
            "commit": In(1),
            "end": In(bits),
            "address": Out(bits - 1),
            "read": Out(1),
            "valid": Out(1),
            "next": In(1),
            "last": In(1),
            "drained": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        command, head = self.i.payload, self.head
        tail, mark, at = Signal.like(head), Signal.like(head), Signal.like(head)
        begins = Signal(init=1)  # the word at the memory's output is its unit's first
        there = Signal()  # it was committed when it was read

        # Write side.
        m.d.comb += self.limit.eq(tail ^ self.depth)
        with m.If(self.commit):
            m.d.sync += head.eq(self.end)

        # Read side: a word follows, or the one at the mark.
        after, back, place = Signal.like(head), Signal.like(head), Signal.like(head)
        ends = Signal()
        rewinds = ends & command.rewind
        m.d.comb += [
            ends.eq(self.next & self.last),
            after.eq(at + 1),
            back.eq(Mux(begins & command.mark, at, mark)),
            place.eq(Mux(rewinds, back, Mux(self.next, after, at))),
            self.address.eq(place),
            self.read.eq(self.next | ~there),
            self.valid.eq(there & self.i.valid),
            self.i.ready.eq(ends),
            self.drained.eq(at == head),
        ]
        m.d.sync += [
            at.eq(place),
            there.eq(rewinds | Mux(self.next, after != head, at != head)),
        ]
        with m.If(self.next):
            m.d.sync += [begins.eq(self.last), mark.eq(back)]
        with m.If(ends & command.release):
            m.d.sync += tail.eq(after)
        return m
