"""Read commands for the biases of a layer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import CommandLayout, LayerLayout

__all__ = ["BiasLoader"]


class BiasLoader(wiring.Component):
    """Asks for the biases of all strips once a block; their beats go to :class:`Finish`.

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
        A command a block.

    Timing
    ------
    Combinational; a command a cycle.

    Numerics
    --------
    A bias has 32 bits in memory, in any format of results.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i_layer": In(stream.Signature(LayerLayout(config))),
            "o_read": Out(stream.Signature(CommandLayout(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layer = self.config, self.i_layer.payload
        done = Signal(16)  # token tiles
        after = done + layer.block
        final = after >= layer.tiles
        m.d.comb += [
            self.o_read.valid.eq(self.i_layer.valid & layer.has_bias),
            self.o_read.payload.address.eq(layer.bias_address),
            self.o_read.payload.beats.eq(layer.strips * (config.rows * 32 // config.beat_width)),
            self.i_layer.ready.eq(~layer.has_bias | (self.o_read.ready & final)),
        ]
        with m.If(self.o_read.valid & self.o_read.ready):
            m.d.sync += done.eq(Mux(final, 0, after))
        return m
