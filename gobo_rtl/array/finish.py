"""Sums to results: biases, rounding, and the beats that are written."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import ResultBeatLayout, ResultPassLayout, SumsLayout
from ..layout import BeatLayout
from ..pe.add_bias import AddBias
from ..pe.arith import delayed
from ..pe.round import Round

__all__ = ["Finish"]


class Finish(wiring.Component):
    """Adds the biases of a pass's rows to its sums, rounds, and packs what is in the matrix.

    Does not look at ``last`` of the biases, nor at ``strip``, ``tile`` and ``last`` of a pass.

    Paper
    -----
    Our own choice: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``rows``, ``columns``, ``drain_lanes``, ``acc_width``, ``result_format`` and
        ``beat_width``.

    Members
    -------
    i : In, stream of SumsLayout
        Sums as :class:`Array` gives them.
    i_pass : In, stream of ResultPassLayout
        What of each pass is in the matrix.
    i_bias : In, stream of BeatLayout
        Biases in FP32: the ``rows`` of a strip for each pass with ``new_strip`` and ``has_bias``.
    o : Out, stream of ResultBeatLayout
        Results by columns, ascending; a column begins in a beat of its own, and ``last`` ends it.
        Columns and rows past the pass's are not sent, nor are beats that hold none.

    Timing
    ------
    ``drain_lanes`` results a cycle, passes without a bubble when the next pass and its biases are
    there; the biases of two strips are held. A result leaves ``latency`` cycles after the transfer
    of its sum when ``o`` does not wait. ``i.ready`` and ``i_bias.ready`` do not depend on
    ``o.ready`` in the same cycle.

    Numerics
    --------
    Those of :class:`Round`, or of :class:`AddBias` where the PEs compute in floating point;
    without biases they are +0.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        self.unit = AddBias if config.floating else Round
        super().__init__({
            "i": In(stream.Signature(SumsLayout(config))),
            "i_pass": In(stream.Signature(ResultPassLayout(config))),
            "i_bias": In(stream.Signature(BeatLayout(config.image))),
            "o": Out(stream.Signature(ResultBeatLayout(config))),
        })

    @property
    def latency(self) -> int:
        """Cycles from a transfer of ``i`` to that of its results."""
        return 1 + self.unit.latency_of(self.config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, o = self.config, self.o
        lanes, groups = config.drain_lanes, config.rows // config.drain_lanes

        # Sums wait for their pass and its biases; two places, so that ready comes from a register.
        m.submodules.sums = fifo = SyncFIFO(width=self.i.payload.shape().size, depth=2)
        sums = data.View(SumsLayout(config), fifo.r_data)
        take, move = Signal(), Signal()
        m.d.comb += [
            fifo.w_data.eq(self.i.payload),
            fifo.w_en.eq(self.i.valid),
            self.i.ready.eq(fifo.w_rdy),
            fifo.r_en.eq(take),
        ]

        # The pass, and where in it the sums are.
        current = Signal(ResultPassLayout(config), reset_less=True)
        active, begin = Signal(), Signal()
        group, column = Signal(range(max(2, groups))), Signal(range(max(2, config.columns)))
        group_ends = group == groups - 1
        finish = take & sums.last
        m.d.comb += take.eq(fifo.r_rdy & active & move)
        with m.If(take):
            m.d.sync += group.eq(Mux(group_ends, 0, group + 1))
            with m.If(group_ends):
                m.d.sync += column.eq(Mux(sums.last, 0, column + 1))
        with m.If(begin):
            m.d.sync += [current.eq(self.i_pass.payload), active.eq(1)]
        with m.Elif(finish):
            m.d.sync += active.eq(0)

        # Biases: a beat is those of a cycle's rows; one bank is read while the other is filled.
        m.submodules.biases = biases = Memory(
            shape=self.i_bias.payload.data.shape(), depth=2 * groups, init=[]
        )
        write, read = biases.write_port(), biases.read_port()
        fill, bank, held, after = Signal(), Signal(), Signal(), Signal()
        place, full = Signal(range(max(2, groups))), Signal(2)
        store = self.i_bias.valid & self.i_bias.ready
        m.d.comb += [
            self.i_bias.ready.eq(~full.bit_select(fill, 1)),
            write.en.eq(store),
            write.addr.eq(place + Mux(fill, groups, 0)),
            write.data.eq(self.i_bias.payload.data),
            read.en.eq(move),
            read.addr.eq(group + Mux(bank, groups, 0)),
        ]
        with m.If(store):
            m.d.sync += place.eq(Mux(place == groups - 1, 0, place + 1))
            with m.If(place == groups - 1):
                m.d.sync += [full.bit_select(fill, 1).eq(1), fill.eq(~fill)]
        # A strip begins: the bank of the one before is free, the other one must be full.
        new = self.i_pass.payload.new_strip
        needs = new & self.i_pass.payload.has_bias
        m.d.comb += [
            after.eq(bank ^ held),
            self.i_pass.ready.eq((~active | finish) & (~needs | full.bit_select(after, 1))),
            begin.eq(self.i_pass.valid & self.i_pass.ready),
        ]
        with m.If(begin & new):
            m.d.sync += [bank.eq(after), held.eq(needs)]
            with m.If(held):
                m.d.sync += full.bit_select(bank, 1).eq(0)

        # Rounding.
        has_bias = delayed(m, current.has_bias, self.unit.bias_delay, "has_bias", move)
        words = []
        for n, total in enumerate(sums.sums):
            m.submodules[f"round{n}"] = unit = self.unit(config)
            if not config.floating:
                m.d.comb += [unit.exponent.eq(sums.exponent), unit.special.eq(sums.special)]
            m.d.comb += [
                unit.move.eq(move),
                unit.sum.eq(total),
                unit.bias.eq(Mux(has_bias, read.data.word_select(n, unit.bias.shape().width), 0)),
            ]
            words.append(unit.o)
        row = group * lanes
        inside = Cat(row + n < current.rows for n in range(lanes))
        there = take & inside[0] & (column < current.columns)
        ends = group_ends | (row + lanes >= current.rows)
        cycles = self.unit.latency_of(config)
        valid = delayed(m, there, cycles, "valid", move, reset=True)
        keep = delayed(m, inside, cycles, "keep", move)
        last = delayed(m, ends, cycles, "last", move)

        # Beats.
        keep = Cat(bit.replicate(config.result.width // 8) for bit in keep)
        m.d.comb += [o.payload.last.eq(last), move.eq(~o.valid | o.ready)]
        if lanes * config.result.width == config.beat_width:
            m.d.comb += [o.valid.eq(valid), o.payload.data.eq(Cat(words)), o.payload.keep.eq(keep)]
            return m
        # Results are half as wide as sums are counted: those of two cycles make a beat.
        upper = delayed(m, group[0], cycles, "upper", move)
        half = Signal(config.beat_width // 2, reset_less=True)
        with m.If(valid & move & ~upper):
            m.d.sync += half.eq(Cat(words))
        m.d.comb += o.valid.eq(valid & (upper | last))
        with m.If(upper):
            m.d.comb += [
                o.payload.data.eq(Cat(half, words)),
                o.payload.keep.eq(Cat(Const(-1, len(keep)), keep)),
            ]
        with m.Else():
            m.d.comb += [o.payload.data.eq(Cat(words)), o.payload.keep.eq(keep)]
        return m
