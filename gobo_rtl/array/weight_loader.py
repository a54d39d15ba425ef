"""Strips of indexes and outliers from the two streams of a layer."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import CommandLayout, IndexWordLayout, LayerLayout, OutlierWordLayout
from ..decode.checks import Checks
from ..decode.index_reader import IndexReader
from ..decode.outlier_reader import OutlierReader
from ..decode.schedule import Schedule
from ..decode.unpacker import any_of
from ..formats import ERRORS
from ..layout import BeatLayout, GroupLayout, several_widths
from .runs import ask_for_runs

__all__ = ["WeightLoader"]

STREAMS = 2  # that are asked for while beats of the one before still come


class WeightLoader(wiring.Component):
    """Reads a layer's two streams, once a block or once in all, and gives words of its strips.

    A group of the index stream is the index word of a step. Records become outlier words of the
    step whose group they belong to; the last step of a strip has one even without outliers. The
    words of a step are offered together, those of the next step after them. All rules of the
    streams are checked, and that they are as long as the layer says.

    Paper
    -----
    Our own choice: docs/accelerator.md section 3.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``rows``, ``index_widths``, ``outliers_per_step``, ``max_inputs``, ``beat_width`` and
        ``address_width``.

    Members
    -------
    i_layer : In, stream of LayerLayout
        Layers; taken with the last command.
    o_read_indexes, o_read_outliers : Out, stream of CommandLayout
        The whole stream, once a block; once in all with ``resident``.
    i_indexes, i_outliers : In, stream of BeatLayout
        The beats of the commands; ``last`` ends a command.
    o_indexes : Out, stream of IndexWordLayout
        A word a step.
    o_outliers : Out, stream of OutlierWordLayout
        Words of the steps that have outliers, and of every strip's last.
    error_code : Out, 3 bits
        Which rule of docs/formats.md section 5 is broken, 0 for none; ``tile_header`` also where a
        tile has not the layer's columns, ``index_end`` also where the stream has not its strips.
        The first is kept until reset, and nothing is given any more.

    Timing
    ------
    A command a cycle and channel. A word leaves 2 cycles after the cycle in which the first beats
    are there; then a step a cycle while beats are there, plus one for each ``outliers_per_step``
    records of a step after the first as many.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        command, beat = CommandLayout(config), BeatLayout(config.image)
        super().__init__({
            "i_layer": In(stream.Signature(LayerLayout(config))),
            "o_read_indexes": Out(stream.Signature(command)),
            "o_read_outliers": Out(stream.Signature(command)),
            "i_indexes": In(stream.Signature(beat)),
            "i_outliers": In(stream.Signature(beat)),
            "o_indexes": Out(stream.Signature(IndexWordLayout(config))),
            "o_outliers": Out(stream.Signature(OutlierWordLayout(config))),
            "error_code": Out(3),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, image, layer = self.config, self.config.image, self.i_layer.payload
        m.submodules.indexes = indexes = IndexReader(image)
        m.submodules.outliers = outliers = OutlierReader(image)
        m.submodules.schedule = schedule = Schedule(image)
        m.submodules.checks = checks = Checks(image)
        plan = data.StructLayout({
            "index_width": 3, "inputs": config.step_bits + 1, "strips": layer.strips.shape(),
        })  # fmt: skip
        m.submodules.plans = plans = SyncFIFO(width=plan.size, depth=STREAMS)
        failed = self.error_code != 0

        # Both streams for each block; what their words are counted by goes ahead.
        m.d.comb += plans.w_data.eq(Cat(layer.index_width, layer.inputs, layer.strips))
        ask_for_runs(
            m, self.i_layer, (self.o_read_indexes, self.o_read_outliers),
            [(plans.w_en, plans.w_rdy)], layer.block, layer.resident,
        )  # fmt: skip

        # Readers; a tile is begun when it is known what it is to be.
        current = Signal(plan)
        header, group = indexes.i_tile, indexes.o.payload
        wiring.connect(m, wiring.flipped(self.i_indexes), indexes.i)
        wiring.connect(m, wiring.flipped(self.i_outliers), outliers.i)
        m.d.comb += [
            current.eq(plans.r_data),
            header.payload.eq(outliers.o_tile.payload),
            header.valid.eq(outliers.o_tile.valid & plans.r_rdy),
            outliers.o_tile.ready.eq(header.ready & plans.r_rdy),
            indexes.index_width.eq(current.index_width if several_widths(image)
                                   else image.index_width),
            indexes.enable.eq(1),
        ]  # fmt: skip

        # Group: held until all of its outliers are in words.
        held, fresh = Signal(), Signal()
        group_r = Signal(GroupLayout(image), reset_less=True)
        load = indexes.o.valid & indexes.o.ready
        m.d.comb += [
            indexes.o.ready.eq((~held | schedule.done) & ~failed),
            plans.r_en.eq(load & group.last & group.end),
        ]
        m.d.sync += fresh.eq(load)
        with m.If(~held | schedule.done):
            m.d.sync += held.eq(load)
        with m.If(load):
            m.d.sync += group_r.eq(group)

        # Its records: as many as make a word, or all that are left.
        count = config.outliers_per_step
        short = any_of([
            schedule.due[n] & entry.record.more & ~entry.end & ~outliers.valid[n + 1]
            for n, entry in zip(range(count - 1), outliers.window, strict=False)
        ])  # fmt: skip
        free = Cat(~o.valid | o.ready for o in (self.o_indexes, self.o_outliers)).all()
        m.d.comb += [
            schedule.valid.eq(outliers.valid),
            schedule.next_gap.eq(outliers.next_gap),
            schedule.next_valid.eq(outliers.next_valid),
            outliers.take.eq(schedule.take),
            schedule.start.eq(group.start),
            schedule.empty.eq(group.empty),
            schedule.outliers_end.eq(group.outliers_end),
            schedule.held.eq(held),
            schedule.go.eq(free & ~short & ~checks.bad & ~failed),
            schedule.forget.eq(failed),
            checks.group.eq(group_r),
            checks.fresh.eq(fresh),
            checks.index_crc16.eq(indexes.index_crc16),
            checks.due.eq(schedule.due),
            checks.step.eq(schedule.step),
            checks.done.eq(schedule.done),
            checks.partial.eq(schedule.partial),
            checks.left.eq(schedule.left),
            checks.ended.eq(schedule.ended),
            checks.forget.eq(failed),
            *(part.window.eq(outliers.window) for part in (schedule, checks)),
        ]

        # Words.
        number = Signal(config.step_bits)
        due = [
            here & ~entry.escape
            for here, entry in zip(schedule.due, outliers.window, strict=True)
        ]  # fmt: skip
        last = schedule.done & group_r.last
        for o in (self.o_indexes, self.o_outliers):
            with m.If(o.ready):
                m.d.sync += o.valid.eq(0)
        with m.If(schedule.step):
            word = self.o_outliers.payload
            m.d.sync += [
                self.o_indexes.valid.eq(schedule.done),
                self.o_indexes.payload.planes.eq(group_r.planes),
                self.o_indexes.payload.last.eq(group_r.last),
                self.o_outliers.valid.eq(any_of(list(due)) | last),
                word.step.eq(number),
                word.more.eq(~schedule.done),
                word.last.eq(last),
            ]
            for valid, source, entry in zip(due, outliers.window, word.entries, strict=True):
                m.d.sync += [
                    entry.valid.eq(valid),
                    entry.row.eq(source.record.lane),
                    entry.value.eq(source.record.value),
                ]
        with m.If(schedule.done):
            m.d.sync += number.eq(Mux(group_r.last, 0, number + 1))

        # Errors: the first is kept; of several at once the least.
        strip = Signal.like(layer.strips)
        last_strip = strip + 1 == current.strips
        with m.If(load & group.last):
            m.d.sync += strip.eq(Mux(group.end, 0, strip + 1))
        columns_bad = header.valid & header.ready & (header.payload.group_count != current.inputs)
        strips_bad = load & group.last & (group.end != last_strip)
        with m.If(~failed):
            for bad, code in (
                (columns_bad, ERRORS["tile_header"]),
                (strips_bad | indexes.starved, ERRORS["index_end"]),
                (outliers.error_code != 0, outliers.error_code),
                (checks.bad, checks.error_code),
            ):
                with m.If(bad):
                    m.d.sync += self.error_code.eq(code)
        return m
