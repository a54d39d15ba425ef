# amaranth: UnusedElaboratable=no
"""Words as they come, held against those that are stored."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["COUNT", "Compare"]

COUNT = 20
"""Bits of a count of words."""


class Compare(wiring.Component):
    """Compares transfers of several words with those that are stored, in their order.

    Paper
    -----
    None: it is a test.

    Parameters
    ----------
    width, lanes : int
        Bits of a word, and words of a transfer, the first lowest.
    flags : int
        Further bits above them: when one differs, all words of the transfer are wrong.
    due : sequence of int
        The transfers that are due, as bits.

    Members
    -------
    i : In, stream of ``lanes`` x ``width`` + ``flags`` bits
        Transfers; after the last one that is due all are wrong.
    plant : In, 1
        While it is 1 a bit of the first transfer that is due is another: a test of the test.
    words, wrong : Out, 20 bits
        Words of transfers that were due, and words that were wrong.
    done : Out, 1
        All transfers that are due have come.

    Timing
    ------
    ``i`` waits in the first cycle after reset only; counts follow a cycle after the transfer.

    Numerics
    --------
    ``words`` and ``wrong`` hold all that are due; beyond these ``wrong`` stays at its highest.
    """

    def __init__(self, width: int, lanes: int, flags: int, due: Sequence[int]):
        self.width, self.lanes, self.due = width, lanes, due
        self.bits = width * lanes + flags
        if not due or len(due) * lanes >> COUNT:
            raise ValueError(
                f"between 1 and {(1 << COUNT) - 1} words must be due, not {len(due) * lanes}"
            )
        self.memory = Memory(shape=self.bits, depth=len(due), init=due)
        super().__init__({
            "i": In(stream.Signature(self.bits)),
            "plant": In(1),
            "words": Out(COUNT),
            "wrong": Out(COUNT),
            "done": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = self.memory
        read = self.memory.read_port()
        at, at_next = Signal(range(len(self.due) + 1)), Signal(range(len(self.due) + 1))
        there, take = Signal(), Signal()
        m.d.comb += [
            self.done.eq(at == len(self.due)),
            self.i.ready.eq(there),
            take.eq(self.i.valid & there),
            at_next.eq(Mux(take & ~self.done, at + 1, at)),
            read.addr.eq(at_next),
        ]
        m.d.sync += [there.eq(1), at.eq(at_next)]

        differ = Signal(self.bits)
        m.d.comb += differ.eq(self.i.payload ^ read.data ^ (self.plant & (at == 0)))
        whole = (differ >> self.width * self.lanes).any() | self.done
        wrong = [part.any() | whole for part in
                 (differ.word_select(n, self.width) for n in range(self.lanes))]  # fmt: skip
        total = Signal(range(self.lanes + 1))
        m.d.comb += total.eq(sum(wrong))
        with m.If(take):
            grown = self.wrong + total
            m.d.sync += self.wrong.eq(Mux(grown[COUNT:].any(), Cat(*[1] * COUNT), grown))
            with m.If(~self.done):
                m.d.sync += self.words.eq(self.words + self.lanes)
        return m
