"""Biases from memory, strip by strip, just ahead of their use."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import CommandLayout, LayerLayout
from ..layout import BeatLayout

__all__ = ["BiasLoader"]

STRIPS = 2  # whose biases are here or on their way


class BiasLoader(wiring.Component):
    """Reads the biases of a layer's strips, once a block, and keeps those of the next strips.

    A command is given only when there is room for its beats, so it never holds up a bus that it
    shares.

    Paper
    -----
    Our own choice: docs/accelerator.md section 3.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``rows``, ``beat_width`` and ``address_width``.

    Members
    -------
    i_layer : In, stream of LayerLayout
        Layers; taken with the last command, or at once when there are no biases.
    o_read : Out, stream of CommandLayout
        A command a strip.
    i : In, stream of BeatLayout
        The beats of the commands; always taken.
    o : Out, stream of BeatLayout
        The same beats, for :class:`Finish`.

    Timing
    ------
    A command a cycle while there is room; 1 cycle from ``i`` to ``o``.

    Numerics
    --------
    A bias has 32 bits in memory, in any format of results.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        beat = BeatLayout(config.image)
        super().__init__({
            "i_layer": In(stream.Signature(LayerLayout(config))),
            "o_read": Out(stream.Signature(CommandLayout(config))),
            "i": In(stream.Signature(beat)),
            "o": Out(stream.Signature(beat)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layer, read, o = self.config, self.i_layer.payload, self.o_read, self.o
        size = config.rows * 4
        beats = size // config.beat_bytes
        word = Value.cast(self.i.payload)
        m.submodules.queue = queue = SyncFIFO(width=len(word), depth=STRIPS * beats)

        # Commands: strip after strip, and again for each block; `room` is in strips.
        offset = Signal(config.address_width)
        strip = Signal.like(layer.strips)
        tile = Signal.like(layer.tiles)
        room = Signal(range(STRIPS + 1), init=STRIPS)
        last_strip = strip + 1 == layer.strips
        next_tile = tile + layer.block
        last_block = next_tile >= layer.tiles
        give = read.valid & read.ready
        m.d.comb += [
            read.valid.eq(self.i_layer.valid & layer.has_bias & (room != 0)),
            read.payload.address.eq(layer.bias_address + offset),
            read.payload.beats.eq(beats),
            self.i_layer.ready.eq(~layer.has_bias | (give & last_strip & last_block)),
        ]
        with m.If(give):
            m.d.sync += [
                strip.eq(Mux(last_strip, 0, strip + 1)),
                offset.eq(Mux(last_strip, 0, offset + size)),
            ]
            with m.If(last_strip):
                m.d.sync += tile.eq(Mux(last_block, 0, next_tile))

        # Beats: `last` ends a strip's.
        leaves = o.valid & o.ready & o.payload.last
        m.d.sync += room.eq(room - give + leaves)
        m.d.comb += [
            queue.w_data.eq(word),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(1),
            Value.cast(o.payload).eq(queue.r_data),
            o.valid.eq(queue.r_rdy),
            queue.r_en.eq(o.ready),
        ]
        return m
