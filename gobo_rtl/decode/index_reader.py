"""Index stream to groups of index planes."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import GoboConfig
from ..layout import BeatLayout, GroupLayout, TileLayout, several_widths
from .crc import CRC_WIDTH
from .unpacker import Unpacker

__all__ = ["IndexReader"]


class IndexReader(wiring.Component):
    """Cuts the index stream into groups and marks their place in tile and layer.

    Does not look at the indexes; their CRC-16 is checked in :class:`Merge`.

    Paper
    -----
    Our own choice: docs/formats.md section 4.2.

    Parameters
    ----------
    config : GoboConfig
        Uses ``lanes``, ``index_widths`` and ``beat_width``.

    Members
    -------
    i : In, stream of BeatLayout
        The index stream.
    i_tile : In, stream of TileLayout
        What the outlier stream's header says of each tile.
    o : Out, stream of GroupLayout
        A group; planes above the layer's index width are 0.
    index_width : In, 3 bits
        Bits of the layer's indexes; read with every group.
    enable : In, 1
        ``index_width`` is that of the layer: with ``o.payload.first`` a group is given only then.
    index_crc16 : Out, 16 bits
        CRC-16 that the tile of the group transferred in the cycle before must have.
    active : Out, 1
        A tile is begun and not all of its groups are given.
    starved : Out, 1
        The tile begun needs another beat, but the one before had ``last``.

    Timing
    ------
    Combinational from ``i`` and ``i_tile`` to ``o``; a group a cycle while beats and headers are
    there, tiles and layers without a bubble.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: GoboConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(BeatLayout(config))),
            "i_tile": In(stream.Signature(TileLayout())),
            "o": Out(stream.Signature(GroupLayout(config))),
            "index_width": In(3),
            "enable": In(1),
            "index_crc16": Out(CRC_WIDTH),
            "active": Out(1),
            "starved": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, o = self.config, self.o
        widths = config.index_widths
        m.submodules.unpacker = unpacker = Unpacker(
            config.beat_width, tuple(config.lanes * width for width in widths)
        )
        wiring.connect(m, wiring.flipped(self.i), unpacker.i)
        m.d.comb += unpacker.enable.eq(self.enable)

        # Tile: begun in the cycle of its first group, or before if the group is not there yet;
        # what its header says is kept while the groups are counted down.
        tile_r = Signal(TileLayout(), reset_less=True)
        tile = Signal(TileLayout())
        start = Signal(init=1)
        first = Signal(init=1)
        one_left = Signal(reset_less=True)  # tile_r.group_count is 1, known before the cycle
        final = Mux(self.active, one_left, self.i_tile.payload.group_count == 1)
        begun = self.active | self.i_tile.valid
        transfer = o.valid & o.ready
        m.d.comb += [
            self.i_tile.ready.eq(~self.active),
            tile.eq(Mux(self.active, tile_r, self.i_tile.payload)),
            self.starved.eq(self.active & unpacker.starved),
        ]
        with m.If(self.i_tile.valid & self.i_tile.ready):
            m.d.sync += [self.active.eq(1), tile_r.eq(self.i_tile.payload), one_left.eq(final)]
        with m.If(transfer):
            m.d.sync += [
                self.active.eq(~final),
                start.eq(final),
                first.eq(final & unpacker.last),
                tile_r.group_count.eq(tile.group_count - 1),
                one_left.eq(tile.group_count == 2),
            ]

        # Group.
        m.d.comb += [
            unpacker.o.ready.eq(begun & o.ready),
            unpacker.final.eq(final),
            o.valid.eq(begun & unpacker.o.valid),
            o.payload.first.eq(first),
            o.payload.start.eq(start),
            o.payload.last.eq(final),
            o.payload.end.eq(unpacker.last),
            self.index_crc16.eq(tile_r.index_crc16),
            o.payload.empty.eq(tile.empty),
            o.payload.colour.eq(tile.colour),
            o.payload.outliers_end.eq(tile.last),
        ]
        if several_widths(config):
            m.d.comb += o.payload.index_width.eq(self.index_width)
            for n, width in enumerate(widths):
                with m.If(self.index_width == width):
                    m.d.comb += unpacker.size.eq(n)
        for n, plane in enumerate(o.payload.planes):
            used = self.index_width > n if n >= widths[0] else 1
            m.d.comb += plane.eq(Mux(used, unpacker.o.payload.word_select(n, config.lanes), 0))
        return m

