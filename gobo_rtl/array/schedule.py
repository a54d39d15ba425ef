"""The order of a layer's passes."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import LayerLayout, PassLayout

__all__ = ["Schedule"]


class Schedule(wiring.Component):
    """Cuts layers into passes: for each block, for each strip, for each token tile of the block.

    Paper
    -----
    Our own choice: docs/accelerator.md section 3.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``rows``, ``columns`` and ``max_inputs``.

    Members
    -------
    i : In, stream of LayerLayout
        Layers, taken with their last pass; ``block`` is 1 with ``resident``.
    o : Out, stream of PassLayout
        Their passes.

    Timing
    ------
    Combinational; a pass a cycle.

    Numerics
    --------
    None: words are counted.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(LayerLayout(config))),
            "o": Out(stream.Signature(PassLayout(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layer, o = self.config, self.i.payload, self.o.payload

        # Place: a tile of a block, of how many tokens from it on; back to the block's first tile
        # for each strip.
        strip, tile, first_tile, number = Signal(18), Signal(16), Signal(16), Signal(16)
        begins = Signal(init=1)  # the layer
        tokens_r, tokens_at_first, tokens = Signal(16), Signal(16), Signal(16)
        m.d.comb += tokens.eq(Mux(begins, layer.tokens, tokens_r))
        opens = number == 0
        last_tile = tile + 1 == layer.tiles
        closes = last_tile | (number + 1 == layer.block)
        first_strip, last_strip = strip == 0, strip + 1 == layer.strips
        tokens_next = tokens - config.columns
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += begins.eq(o.result.last)
            with m.If(~closes):
                m.d.sync += [number.eq(number + 1), tile.eq(tile + 1), tokens_r.eq(tokens_next)]
                with m.If(opens & first_strip):
                    m.d.sync += tokens_at_first.eq(tokens)
            with m.Else():
                m.d.sync += [number.eq(0), strip.eq(Mux(last_strip, 0, strip + 1))]
                with m.If(~last_strip):
                    m.d.sync += [
                        tile.eq(first_tile),
                        tokens_r.eq(Mux(opens, tokens, tokens_at_first)),
                    ]
                with m.Else():
                    m.d.sync += [
                        tile.eq(Mux(last_tile, 0, tile + 1)),
                        first_tile.eq(Mux(last_tile, 0, tile + 1)),
                        tokens_r.eq(tokens_next),
                    ]

        # Pass.
        edge = layer.rows[: config.row_bits]  # rows of the last strip, 0 for all
        m.d.comb += [
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & o.result.last),
            o.first.eq(begins),
            o.acts.steps.eq(layer.inputs),
            o.acts.replay.mark.eq(opens & first_strip),
            o.acts.replay.rewind.eq(closes & ~last_strip),
            o.acts.replay.release.eq(last_strip),
            o.result.strip.eq(strip),
            o.result.tile.eq(tile),
            o.result.rows.eq(Mux(last_strip & (edge != 0), edge, config.rows)),
            o.result.columns.eq(Mux(tokens > config.columns, config.columns, tokens)),
            o.result.new_strip.eq(opens),
            o.result.has_bias.eq(layer.has_bias),
            o.result.last.eq(last_strip & last_tile),
        ]
        with m.If(layer.resident):
            m.d.comb += [
                o.weights.mark.eq(begins),
                o.weights.rewind.eq(last_strip & ~last_tile),
                o.weights.release.eq(last_tile),
            ]
        with m.Else():
            m.d.comb += [
                o.weights.mark.eq(opens),
                o.weights.rewind.eq(~closes),
                o.weights.release.eq(closes),
            ]
        return m
