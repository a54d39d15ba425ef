"""One stream to several engines that go at their own pace."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

__all__ = ["Fork"]


class Fork(wiring.Component):
    """Gives every word to each of several outputs, with a queue in front of each.

    Paper
    -----
    Our own choice: docs/accelerator.md section 4.

    Parameters
    ----------
    shape : layout
        Of a word.
    count : int
        Outputs, at least 1.
    fields : list of sequences of names, optional
        The fields of a word that each output gives; the others are 0 there, and not stored.
    depth : int
        Words that wait for an output, at least 2; an output may be as far behind the others.

    Members
    -------
    i : In, stream of ``shape``
        Words.
    o : Out, ``count`` streams of ``shape``
        The same words, each.

    Timing
    ------
    1 cycle from ``i`` to ``o``; a word a cycle while no queue is full.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(
        self, shape: data.Layout, count: int, fields: Sequence[Sequence[str]] | None = None,
        depth: int = 2,
    ):  # fmt: skip
        if count < 1 or depth < 2:
            raise ValueError(f"count must be at least 1 and depth 2, not {count} and {depth}")
        if fields is not None and len(fields) != count:
            raise ValueError(f"fields must be those of {count} outputs, not of {len(fields)}")
        self.shape, self.count, self.fields, self.depth = shape, count, fields, depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)).array(count),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sent = Signal(self.count)  # the outputs that have the word at the input already
        takes = Signal(self.count)
        m.d.comb += self.i.ready.eq((sent | takes).all())
        with m.If(self.i.valid):
            m.d.sync += sent.eq(0)
            with m.If(~self.i.ready):
                m.d.sync += sent.eq(sent | takes)
        for n, o in enumerate(self.o):
            word, there = self.i.payload, o.payload
            if self.fields is not None:
                word, there = (Cat(view[name] for name in self.fields[n]) for view in (word, there))
            word, there = Value.cast(word), Value.cast(there)
            queue = SyncFIFO(width=len(word), depth=self.depth)
            m.submodules[f"queue{n}"] = queue
            m.d.comb += [
                queue.w_data.eq(word),
                queue.w_en.eq(self.i.valid & ~sent[n]),
                takes[n].eq(queue.w_rdy),
                there.eq(queue.r_data),
                o.valid.eq(queue.r_rdy),
                queue.r_en.eq(o.ready),
            ]
        return m
