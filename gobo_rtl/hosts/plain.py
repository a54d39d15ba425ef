"""Plain weights from memory."""

from amaranth.hdl import Module, Signal, Value

from ..decode.unpacker import Unpacker
from ..formats import ERRORS
from .narrow import Narrow
from .source import WeightSource

__all__ = ["PlainReader"]


class PlainReader(WeightSource):
    """Reads weights that are in memory as FP16 or FP32, in the array's order.

    Timing
    ------
    A word leaves a cycle after its last beat came, or later; a word a cycle while beats are there.

    Numerics
    --------
    FP32 is rounded to FP16, :class:`Narrow`. A layer whose beats are not as many as its words need
    is ``index_end``.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, o = self.config, self.o
        plan = self.runs(m, [self.o_read_indexes])
        queue = self.queue(m, "queue", self.i_indexes)
        m.d.comb += self.i_outliers.ready.eq(1)

        width = config.stored.width
        m.submodules.words = words = Unpacker(config.beat_width, (config.lanes * width,))
        failed, take = self.error_code != 0, Signal()
        m.d.comb += [
            Value.cast(words.i.payload).eq(queue.r_data),
            words.i.valid.eq(queue.r_rdy),
            queue.r_en.eq(words.i.ready | failed),
            words.enable.eq(~failed), words.final.eq(1),
            o.valid.eq(words.o.valid & plan.r_rdy & ~failed),
            words.o.ready.eq(o.ready & plan.r_rdy),
            take.eq(o.valid & o.ready),
        ]  # fmt: skip
        last, final = self.count(m, plan, take)
        m.d.comb += o.payload.last.eq(last)
        for n, value in enumerate(o.payload["values"]):
            word = words.o.payload.word_select(n, width)
            if width != len(value):
                m.submodules[f"narrow{n}"] = narrow = Narrow()
                m.d.comb += narrow.i.eq(word)
                word = narrow.o
            m.d.comb += value.eq(word)

        # The last word's last beat is the command's.
        with m.If(~failed & ((take & (words.last != final)) | words.starved)):
            m.d.sync += self.error_code.eq(ERRORS["index_end"])
        return m
