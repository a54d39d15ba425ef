"""The memory-compression front end."""

from amaranth.hdl import Module, Mux, Signal, Value

from ..decode import DecodeUnit
from ..formats import ERRORS
from ..layout import several_widths
from .source import WeightSource

__all__ = ["FrontEnd"]

WAIT = 256  # cycles; longer than the decode unit takes from one group to the next


class FrontEnd(WeightSource):
    """Reads 3-bit weights ahead on two channels and decodes them.

    Paper
    -----
    GOBO (MICRO 2020): any array, unchanged, behind a decoder; docs/hosts.md section 2.

    Timing
    ------
    The first word leaves 3 cycles after the first beats of both channels came; then a word a cycle
    while beats are there, as :class:`DecodeUnit` says.

    Numerics
    --------
    None: the codebook's and the records' values are given as they are. What is wrong with streams
    is found out by the decode unit; ``tile_header`` when a strip has not the layer's inputs,
    ``index_end`` when it has not the layer's strips.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        o = self.o
        m.submodules.decode = decode = DecodeUnit(self.config.image)
        codebook, failed, layer = decode.i_codebook, self.error_code != 0, self.i_layer.payload
        plan = self.runs(m, (self.o_read_indexes, self.o_read_outliers), codebook)
        m.d.comb += [entry.eq(value) for entry, value in
                     zip(codebook.payload.entries, layer.codebook, strict=True)]  # fmt: skip
        if several_widths(self.config.image):
            m.d.comb += codebook.payload.index_width.eq(layer.index_width)
        for name, given, taken in (
            ("indexes", self.i_indexes, decode.i_indexes),
            ("outliers", self.i_outliers, decode.i_outliers),
        ):
            queue = self.queue(m, name, given)
            m.d.comb += [
                Value.cast(taken.payload).eq(queue.r_data),
                taken.valid.eq(queue.r_rdy),
                queue.r_en.eq(taken.ready),
            ]

        # Words, counted.
        take, wrong = Signal(), Signal()
        last, final = self.count(m, plan, take)
        m.d.comb += [
            wrong.eq(decode.o.payload.last != last),
            o.payload.eq(decode.o.payload),
            o.payload.error.eq(decode.o.payload.error | wrong),
            o.valid.eq(decode.o.valid & plan.r_rdy & ~failed),
            decode.o.ready.eq((o.ready & plan.r_rdy) | failed),
            take.eq(o.valid & o.ready),
        ]

        # Runs whose last beat is taken: the one whose last word is given is one of them, and while
        # there is one its words come.
        ended, waits = Signal(4), Signal(range(WAIT))
        ends = decode.i_indexes.valid & decode.i_indexes.ready & decode.i_indexes.payload.last
        m.d.sync += [
            ended.eq(ended + ends - (take & final)),
            waits.eq(Mux((ended != 0) & ~decode.o.valid, waits + 1, 0)),
        ]
        missing = (take & final & (ended == 0)) | (waits == WAIT - 1)
        condemned = Signal()  # by the decode unit, whose code is there in the cycle after
        m.d.sync += condemned.eq(condemned | (take & decode.o.payload.error))
        with m.If(~failed):
            with m.If(condemned):
                m.d.sync += self.error_code.eq(decode.error_code)
            with m.Elif(take & wrong & ~decode.o.payload.error):
                m.d.sync += self.error_code.eq(ERRORS["tile_header"])
            with m.Elif(missing):
                m.d.sync += self.error_code.eq(ERRORS["index_end"])
        return m
