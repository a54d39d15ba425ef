"""The decode unit: memory beats in, plain weights out."""

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import GoboConfig
from ..formats import ERRORS
from ..layout import BeatLayout, CodebookLayout, WeightLayout, several_widths
from .index_reader import IndexReader
from .merge import Merge
from .outlier_reader import OutlierReader

__all__ = ["DecodeUnit"]


class DecodeUnit(wiring.Component):
    """Decodes layers: a group of ``lanes`` weights a cycle from two linear streams of beats.

    Every stream is read front to back. Nothing is stored but what is in flight: the codebook, a
    group of indexes, a group of weights, and a window on the next outliers. Does not address
    memory and does not know the shape of a layer.

    Paper
    -----
    GOBO (MICRO 2020): weights are codebook[index], or the outlier at its place. The streams are our
    own choice: docs/decisions/0001-two-linear-streams.md.

    Parameters
    ----------
    config : GoboConfig
        Uses all sizes but ``lane_rows``, ``tile_rows`` and ``burst_beats``, which are the packer's.

    Members
    -------
    i_codebook : In, stream of CodebookLayout
        A transfer a layer.
    i_indexes : In, stream of BeatLayout
        The index stream.
    i_outliers : In, stream of BeatLayout
        The outlier stream.
    o : Out, stream of WeightLayout
        A transfer a group.
    error_code : Out, 3 bits
        0 until a stream breaks a rule; then which one, as in docs/formats.md section 5, until
        ``clear``. Beats and codebooks that come in between are taken and dropped.
    clear : In, 1
        Go back to the beginning of a layer after an error; without effect otherwise.

    Timing
    ------
    The first group leaves 2 cycles after the cycle in which the first beats of both streams are
    there; then a group a cycle while beats are there, across tiles and layers, with up to
    ``outliers_per_cycle`` outliers in each; a group with more takes a cycle for each as many.
    Where beats have 64 bits, a tile's header is a beat of its own: a tile with outliers starts a
    cycle later when their first beat is needed at once.

    Numerics
    --------
    None: the words of codebook and records are given as they are.
    """

    def __init__(self, config: GoboConfig):
        self.config = config
        super().__init__({
            "i_codebook": In(stream.Signature(CodebookLayout(config))),
            "i_indexes": In(stream.Signature(BeatLayout(config))),
            "i_outliers": In(stream.Signature(BeatLayout(config))),
            "o": Out(stream.Signature(WeightLayout(config))),
            "error_code": Out(3),
            "clear": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i_codebook = self.config, self.i_codebook
        indexes, outliers, merge = IndexReader(config), OutlierReader(config), Merge(config)
        failed = Signal()
        m.submodules.indexes = ResetInserter(failed)(indexes)
        m.submodules.outliers = ResetInserter(failed)(outliers)
        m.submodules.merge = merge

        # Streams.
        wiring.connect(m, outliers.o_tile, indexes.i_tile)
        m.d.comb += [
            indexes.i.payload.eq(self.i_indexes.payload),
            indexes.i.valid.eq(self.i_indexes.valid),
            self.i_indexes.ready.eq(indexes.i.ready | failed),
            outliers.i.payload.eq(self.i_outliers.payload),
            outliers.i.valid.eq(self.i_outliers.valid),
            self.i_outliers.ready.eq(outliers.i.ready | failed),
            merge.index_crc16.eq(indexes.index_crc16),
            merge.window.eq(outliers.window),
            merge.valid.eq(outliers.valid),
            merge.next_gap.eq(outliers.next_gap),
            merge.next_valid.eq(outliers.next_valid),
            outliers.take.eq(merge.take),
            merge.i.payload.eq(indexes.o.payload),
            merge.i.valid.eq(indexes.o.valid & ~failed),
            indexes.o.ready.eq(merge.i.ready),
            merge.stop.eq(failed),
        ]
        wiring.connect(m, merge.o, wiring.flipped(self.o))

        # Codebook: goes with the first group of a layer.
        first = indexes.o.payload.first
        taken = indexes.o.valid & indexes.o.ready & first
        m.d.comb += [
            merge.codebook.eq(i_codebook.payload.entries),
            i_codebook.ready.eq(taken | failed),
        ]
        wrong_width = 0
        if several_widths(config):
            width, width_r = i_codebook.payload.index_width, Signal(3, reset_less=True)
            with m.If(taken):
                m.d.sync += width_r.eq(width)
            known = Signal()
            m.d.comb += [
                known.eq(sum(width == n for n in config.index_widths)),
                indexes.index_width.eq(Mux(first, width, width_r)),
                indexes.enable.eq(~first | (i_codebook.valid & known)),
            ]
            wrong_width = first & i_codebook.valid & ~known
        else:
            m.d.comb += [
                indexes.index_width.eq(config.index_width),
                indexes.enable.eq(~first | i_codebook.valid),
            ]

        # Error: what the readers find closes the tile that is begun.
        starved, wrong, colour = Signal(), Signal(), Signal(reset_less=True)
        m.d.sync += [
            starved.eq(indexes.starved),
            wrong.eq(indexes.active & wrong_width),
            colour.eq(indexes.o.payload.colour),
        ]
        with m.If(outliers.error_code != 0):
            m.d.comb += merge.kill.eq(outliers.error_code)
            m.d.comb += merge.kill_colour.eq(outliers.error_colour)
        with m.Else():
            m.d.comb += merge.kill_colour.eq(colour)
            with m.If(starved):
                m.d.comb += merge.kill.eq(ERRORS["index_end"])
            with m.Elif(wrong):
                m.d.comb += merge.kill.eq(ERRORS["tile_header"])
        with m.If(failed):
            m.d.sync += failed.eq(~self.clear)
        with m.Elif(merge.failing):
            m.d.sync += [failed.eq(1), self.error_code.eq(merge.error_code)]
        with m.If(failed & self.clear):
            m.d.sync += self.error_code.eq(0)
        return m
