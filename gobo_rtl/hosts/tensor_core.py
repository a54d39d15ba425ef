"""Dot-product units of 4 outputs by 4 inputs by 4 tokens."""

from functools import partial

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..emit import copies
from ..host_config import TensorCoreConfig
from ..pe.arith import delayed
from ..pe.float_adder import FloatAdder
from ..pe.float_multiplier import FloatMultiplier
from .accumulator import Accumulator
from .core import HostCore
from .drain import BANKS, Drain
from .layout import FP16, FP32

__all__ = ["Dot", "TensorCoreArray"]

SIZE = 4


class Dot(wiring.Component):
    """Multiplies four pairs of numbers and adds the products up, as a tree.

    Paper
    -----
    None: a Tensor-Core-like unit; docs/hosts.md section 3.3.

    Parameters
    ----------
    None.

    Members
    -------
    weights, acts : In, 4 x 16 bits
        FP16.
    o : Out, 32 bits
        FP32: the sum of the products, ``latency`` cycles after.

    Timing
    ------
    A sum a cycle.

    Numerics
    --------
    Products are exact; the sum of the first two, that of the others and the sum of both are each
    rounded to nearest even: :class:`FloatAdder`. It may be -0.
    """

    latency = 3

    def __init__(self) -> None:
        super().__init__({
            "weights": In(SIZE * FP16.width), "acts": In(SIZE * FP16.width), "o": Out(FP32.width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        terms = []
        for n in range(SIZE):
            m.submodules[f"multiplier{n}"] = multiplier = FloatMultiplier(1)
            m.d.comb += [
                multiplier.a.eq(self.weights.word_select(n, FP16.width)),
                multiplier.b.eq(self.acts.word_select(n, FP16.width)),
            ]
            terms.append(multiplier.o)
        cycles = 1
        while len(terms) > 1:
            sums = []
            for n, (a, b) in enumerate(zip(terms[::2], terms[1::2], strict=True)):
                m.submodules[f"adder{cycles}_{n}"] = adder = FloatAdder(FP32, 1, running=True)
                m.d.comb += [adder.a.eq(a), adder.b.eq(b), adder.valid.eq(1)]
                sums.append(adder.o)
            terms, cycles = sums, cycles + 1
        assert cycles == self.latency
        m.d.comb += self.o.eq(terms[0])
        return m


class TensorCoreArray(HostCore):
    """``units`` x 16 dot products, and an accumulator for each.

    Paper
    -----
    None: Tensor-Core-like units; docs/hosts.md section 3.3.

    Parameters
    ----------
    config : TensorCoreConfig
        Uses ``units``, ``tokens``, ``act_word`` and what the layouts do.

    Timing
    ------
    A weight word for 4 tokens a cycle; ``o.valid`` rises ``latency`` cycles after the transfer of
    the pass's last activations.

    Numerics
    --------
    docs/hosts.md section 3.3.
    """

    latency = Dot.latency + 3
    """Cycles from the last activations of a pass to its first sums on ``o``."""

    def __init__(self, config: TensorCoreConfig):
        self.config: TensorCoreConfig = config
        super().__init__(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, acts = self.config, self.i.payload
        rows, words = config.rows, config.tile_words
        m.submodules.drain = drain = Drain(config)
        wiring.connect(m, drain.o, wiring.flipped(self.o))

        # Activations stay for each word of their weight tile.
        word = Signal(range(max(2, words)))
        more = Cat(*(acts.uses[n * SIZE] for n in range(1, words)), 0)  # a word follows
        done = ~more.bit_select(word, 1)
        control = self.control(m, drain, self.i.valid, acts, done, lambda number: 1)
        m.d.comb += self.i.ready.eq(control.ready)
        with m.If(control.use):
            m.d.sync += word.eq(Mux(done, 0, word + 1))

        # Weights: the tile that is loaded, and the one that is used; its last word may come late.
        shape = data.ArrayLayout(self.i_weights.payload["values"].shape(), words)
        coming, own = (Signal(shape, name=n, reset_less=True) for n in ("coming", "own"))
        for n in range(words):
            load = control.take & (control.number == n)
            given = self.i_weights.payload["values"]
            with m.If(load):
                m.d.sync += coming[n].eq(given)
            with m.If(control.swap):
                m.d.sync += own[n].eq(Mux(load, given.as_value(), coming[n].as_value()))
        weights = Signal(shape.elem_shape)
        m.d.comb += weights.eq(own[word])

        # Dot products of every token with every row; an input that is not there is +0.
        tokens = []
        for token in acts["values"]:
            used = Cat(
                value & use.replicate(FP16.width)
                for value, use in zip(token, acts.uses, strict=True)
            )
            tokens.append(used.word_select(word, SIZE * FP16.width))
        dots = copies(m, "dot", config.act_banks * rows, Dot, platform)
        groups = -(-config.tokens // config.act_banks)
        depth = BANKS * groups
        accumulators = copies(m, "accumulator", len(dots), partial(Accumulator, depth), platform)

        wait = Dot.latency - 1  # cycles from activations to what announces their sums
        valids = Signal(wait)
        m.d.sync += valids.eq(Cat(control.use, valids))
        place = acts.slot + control.bank * groups
        first = acts.first & (word == 0)
        where = delayed(m, Cat(first, place), wait, "where")
        bits = config.act_banks.bit_length() - 1
        for n, (dot, accumulator) in enumerate(zip(dots, accumulators, strict=True)):
            token, row = divmod(n, rows)
            m.d.comb += [
                dot.weights.eq(weights.as_value().word_select(row, SIZE * FP16.width)),
                dot.acts.eq(tokens[token]),
                accumulator.valid.eq(valids[-1]),
                accumulator.first.eq(where[0]), accumulator.address.eq(where[1:]),
                accumulator.term.eq(dot.o), accumulator.read.eq(drain.read),
                accumulator.place.eq((drain.token >> bits) + drain.bank * groups),
            ]  # fmt: skip
        chosen = Signal(bits + len(drain.group))
        per_token = rows // config.array.drain_lanes
        with m.If(drain.read):
            m.d.sync += chosen.eq(drain.token[:bits] * per_token + drain.group)
        sums = Cat(accumulator.o for accumulator in accumulators)
        m.d.comb += drain.i.eq(sums.word_select(chosen, len(drain.i)))

        ended = Signal(wait + 2)
        m.d.sync += ended.eq(Cat(control.taken & acts.last, ended))
        m.d.comb += [
            drain.done.eq(ended[-1]),
            drain.tokens.eq(delayed(m, acts.tokens, len(ended), "tokens")),
        ]
        return m
