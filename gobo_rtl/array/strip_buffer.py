"""Strips of indexes and outliers on chip, given out step by step and again."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import IndexWordLayout, OutlierWordLayout, ReplayLayout, WeightStepLayout
from .fork import Fork
from .replay import Replay

__all__ = ["Ring", "StripBuffer"]

AHEAD = 2  # words between memory and output


class Ring(wiring.Component):
    """A ring of words in memory, whose units end with a word that has ``last``.

    Paper
    -----
    Our own choice: docs/accelerator.md section 3.

    Parameters
    ----------
    shape : layout
        Of a word; has a field ``last``.
    depth : int
        Words in the ring; a power of two.

    Members
    -------
    i : In, stream of ``shape``
        Words of the units.
    i_pass : In, stream of ReplayLayout
        What is done with each unit that is given out.
    o : Out, stream of ``shape``
        Words of the units given out.
    blocked : Out, 1
        A word waits at ``i`` and there is no room.
    drained : Out, 1
        No word can be read that has not been.
    held : Out, 1
        As many words wait before ``o`` as have room there.

    Timing
    ------
    3 cycles from ``i`` to ``o``; a word a cycle on either side, without a bubble between units.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, shape: Any, depth: int):
        self.shape, self.depth = shape, depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "i_pass": In(stream.Signature(ReplayLayout())),
            "o": Out(stream.Signature(shape)),
            "blocked": Out(1),
            "drained": Out(1),
            "held": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, o = self.i, self.o
        m.submodules.replay = replay = Replay(self.depth)
        m.submodules.memory = memory = Memory(shape=self.shape, depth=self.depth, init=[])
        m.submodules.queue = queue = SyncFIFO(width=len(Value.cast(i.payload)), depth=AHEAD)
        write, read = memory.write_port(), memory.read_port()
        wiring.connect(m, wiring.flipped(self.i_pass), replay.i)
        m.d.comb += [
            i.ready.eq(replay.head != replay.limit),
            write.addr.eq(replay.head),
            write.data.eq(i.payload),
            write.en.eq(i.valid & i.ready),
            replay.commit.eq(write.en),
            replay.end.eq(replay.head + 1),
            read.addr.eq(replay.address),
            read.en.eq(replay.read),
            replay.next.eq(replay.valid & queue.w_rdy),
            replay.last.eq(read.data.last),
            queue.w_data.eq(read.data),
            queue.w_en.eq(replay.valid),
            Value.cast(o.payload).eq(queue.r_data),
            o.valid.eq(queue.r_rdy),
            queue.r_en.eq(o.ready),
            self.blocked.eq(i.valid & ~i.ready),
            self.drained.eq(replay.drained),
            self.held.eq(~queue.w_rdy),
        ]
        return m


class StripBuffer(wiring.Component):
    """Keeps strips of indexes and of outliers, and gives both out step by step.

    Every strip has an index word a step and at its last step an outlier word with ``last``, so
    the next outlier word always comes, and a step waits for it to know that it has no outliers.
    A step's outlier words are offered on ``i_outliers`` before its index word is on ``i_indexes``,
    or with it.

    Paper
    -----
    Our own choice: docs/accelerator.md section 3.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``rows``, ``index_width``, ``outliers_per_step``, ``index_depth`` and
        ``outlier_depth``.

    Members
    -------
    i_indexes : In, stream of IndexWordLayout
        A word a step.
    i_outliers : In, stream of OutlierWordLayout
        Words of the steps that have outliers, and of every strip's last.
    i_pass : In, stream of ReplayLayout
        What is done with each strip that is given out.
    o : Out, stream of WeightStepLayout
        The cycles of the steps: one for each outlier word of the step, or one without. The last
        has ``plain`` and ``done``. ``first`` with the first cycle of a strip, ``last`` with the
        last.
    too_large : Out, 1
        A strip, or what is to be kept with it, can never fit: a word waits for room, and none is
        released before it comes. Stays until reset.

    Timing
    ------
    3 cycles from a step's words to ``o``; a cycle of ``o`` a cycle, without a bubble between
    strips, while words and commands are there.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i_indexes": In(stream.Signature(IndexWordLayout(config))),
            "i_outliers": In(stream.Signature(OutlierWordLayout(config))),
            "i_pass": In(stream.Signature(ReplayLayout())),
            "o": Out(stream.Signature(WeightStepLayout(config))),
            "too_large": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, o = self.config, self.o
        m.submodules.indexes = indexes = Ring(IndexWordLayout(config), config.index_depth)
        m.submodules.outliers = outliers = Ring(OutlierWordLayout(config), config.outlier_depth)
        m.submodules.passes = passes = Fork(ReplayLayout(), 2, depth=4)
        wiring.connect(m, wiring.flipped(self.i_indexes), indexes.i)
        wiring.connect(m, wiring.flipped(self.i_outliers), outliers.i)
        wiring.connect(m, wiring.flipped(self.i_pass), passes.i)
        wiring.connect(m, passes.o[0], indexes.i_pass)
        wiring.connect(m, passes.o[1], outliers.i_pass)

        # Steps: the next outlier word is of the running step, or of one to come.
        index, outlier = indexes.o.payload, outliers.o.payload
        step = Signal(config.step_bits)
        further = Signal()  # the running step has given a cycle already
        here = outlier.step == step
        transfer = o.valid & o.ready
        m.d.comb += [
            o.valid.eq(indexes.o.valid & outliers.o.valid),
            o.payload.planes.eq(index.planes),
            o.payload.plain.eq(o.payload.done),
            o.payload.done.eq(~(here & outlier.more)),
            o.payload.first.eq((step == 0) & ~further),
            o.payload.last.eq(index.last & o.payload.done),
            indexes.o.ready.eq(transfer & o.payload.done),
            outliers.o.ready.eq(transfer & here),
        ]
        for entry, word in zip(o.payload.entries, outlier.entries, strict=True):
            m.d.comb += [entry.eq(word), entry.valid.eq(word.valid & here)]
        with m.If(transfer):
            m.d.sync += further.eq(~o.payload.done)
            with m.If(o.payload.done):
                m.d.sync += step.eq(Mux(index.last, 0, step + 1))

        # What a waiting word waits for: words are released when a strip ends, and no word that it
        # lacks comes before the waiting one. An outlier's comes before its index.
        lacks_indexes = indexes.drained & ~indexes.o.valid
        lacks_outliers = outliers.drained & ~outliers.o.valid & ~self.i_outliers.valid
        with m.If(
            (indexes.blocked & (indexes.drained | (indexes.held & lacks_outliers)))
            | (outliers.blocked & (outliers.drained | (lacks_indexes & ~self.i_indexes.valid)))
        ):
            m.d.sync += self.too_large.eq(1)
        return m
