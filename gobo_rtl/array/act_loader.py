"""Activations from memory, token by token, with the scale of each."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import ActBeatLayout, CommandLayout, LayerLayout, ScaleLayout
from ..decode.unpacker import any_of
from ..layout import BeatLayout

__all__ = ["ActLoader"]

LAYERS = 2  # whose commands are given while beats of the one before still come


def _greater(values: list[Value]) -> Value:
    """Return the greatest of ``values``, by a balanced tree."""
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=False)
        rest = values[len(values) & ~1 :]
        values = [Mux(one > other, one, other) for one, other in pairs] + rest
    return values[0]


class ActLoader(wiring.Component):
    """Reads the activations of a layer's tokens and finds each token's scale on the way.

    A command a token, whose beats are the next of ``i``. Does not align activations, and does not
    load what is past the last token: the last token ends its tile.

    Paper
    -----
    Our own choice: docs/accelerator.md sections 2 and 3.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``columns``, ``act_format``, ``beat_width``, ``max_inputs`` and ``address_width``.

    Members
    -------
    i_layer : In, stream of LayerLayout
        Layers; taken with the last command.
    fence_open : In, 1
        All jobs before that of the layer at ``i_layer`` are done, and stay so; a layer with
        ``fence`` waits for it.
    i : In, stream of BeatLayout
        Beats of the commands, in their order; ``last`` is not looked at.
    o_read : Out, stream of CommandLayout
        A command a token.
    o : Out, stream of ActBeatLayout
        The same beats; the scale, with a token's last, is of its own activations, not of what its
        last beat holds past them. Of integers the scale is 0.

    Timing
    ------
    A command a cycle and a beat a cycle; a beat leaves a cycle after it came. Commands go ahead of
    the beats by up to ``LAYERS`` layers.

    Numerics
    --------
    The exponent is the greatest of ``max(exponent field, 1)``, fields of all ones included; the
    token is special when one is all ones.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i_layer": In(stream.Signature(LayerLayout(config))),
            "fence_open": In(1),
            "i": In(stream.Signature(BeatLayout(config.image))),
            "o_read": Out(stream.Signature(CommandLayout(config))),
            "o": Out(stream.Signature(ActBeatLayout(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i, o = self.config, self.i, self.o
        layer, command = self.i_layer.payload, self.o_read.payload
        per_beat = config.acts_per_beat
        shape = data.StructLayout({"inputs": config.step_bits + 1, "tokens": 16})
        m.submodules.layers = layers = SyncFIFO(width=shape.size, depth=LAYERS)

        # Commands: token after token; what the beats have to be counted by goes ahead.
        token = Signal(16)
        address = Signal(config.address_width, reset_less=True)
        final = token + 1 == layer.tokens
        begin = token == 0
        may = Mux(begin, layers.w_rdy & (self.fence_open | ~layer.fence), 1)
        transfer = self.o_read.valid & self.o_read.ready
        m.d.comb += [
            self.o_read.valid.eq(self.i_layer.valid & may),
            command.address.eq(Mux(begin, layer.act_address, address)),
            command.beats.eq((layer.inputs + (per_beat - 1)) // per_beat),
            self.i_layer.ready.eq(transfer & final),
            layers.w_data.eq(Cat(layer.inputs, layer.tokens)),
            layers.w_en.eq(transfer & begin),
        ]
        with m.If(transfer):
            m.d.sync += [
                token.eq(Mux(final, 0, token + 1)),
                address.eq(command.address + layer.act_stride),
            ]

        # Beats: where each belongs.
        counts = Signal(shape)
        left = Signal.like(counts.inputs, reset_less=True)  # activations, from this beat on
        inside = Signal()  # of a token
        column = Signal(range(max(2, config.columns)))
        number = Signal(16)
        here = Mux(inside, left, counts.inputs)
        end = here <= per_beat
        last_token = number + 1 == counts.tokens
        last_column = column == config.columns - 1
        accept = i.valid & i.ready
        m.d.comb += [
            counts.eq(layers.r_data),
            i.ready.eq(layers.r_rdy & (~o.valid | o.ready)),
            layers.r_en.eq(accept & end & last_token),
        ]
        with m.If(accept):
            m.d.sync += [left.eq(here - per_beat), inside.eq(~end)]
            with m.If(end):
                m.d.sync += [
                    number.eq(Mux(last_token, 0, number + 1)),
                    column.eq(Mux(last_token | last_column, 0, column + 1)),
                ]
        with m.If(i.ready | o.ready):
            m.d.sync += o.valid.eq(accept)
        with m.If(accept):
            m.d.sync += [
                o.payload.data.eq(i.payload.data),
                o.payload.column.eq(column),
                o.payload.end.eq(end),
                o.payload.last.eq(end & (last_token | last_column)),
            ]

        # Scale: of the beat, then of the token so far.
        if not config.act.integer:
            width = config.act.exponent_width
            words = [i.payload.data.word_select(n, config.act.width) for n in range(per_beat)]
            counted = [here > n for n in range(per_beat)]
            fields = [
                Mux(used, word[-1 - width : -1], Const(0, width))
                for used, word in zip(counted, words, strict=True)
            ]
            so_far, beat, token_scale = (
                Signal(ScaleLayout(config), name=name) for name in ("so_far", "beat", "scale")
            )
            m.d.comb += [
                token_scale.exponent.eq(_greater([so_far.exponent, beat.exponent])),
                token_scale.special.eq(so_far.special | beat.special),
                o.payload.scale.eq(token_scale),
            ]
            with m.If(accept):
                m.d.sync += [
                    beat.exponent.eq(_greater([Const(1, width), *fields])),
                    beat.special.eq(any_of([field.all() for field in fields])),
                ]
            with m.If(o.valid & o.ready):
                m.d.sync += so_far.eq(Mux(o.payload.end, 0, token_scale))
        return m
