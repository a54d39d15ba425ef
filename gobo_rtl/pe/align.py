"""Activations to integers of one unit a token."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import ScaleLayout
from .arith import FloatLayout, delayed, exponent_of, shift_right_jam, significand_of

__all__ = ["Aligner"]


class Aligner(wiring.Component):
    """Aligns an activation to its token's unit.

    Does not look for NaN and infinity: what it gives for them, and for the rest of a special token,
    means nothing.

    Paper
    -----
    Our own choice: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``act_format``, ``align`` and ``act_width``.

    Members
    -------
    i : In, bits of an activation
        As it is in memory.
    scale : In, ScaleLayout
        Its token's.
    o : Out, signed(``act_width``)
        The activation in units of its token.

    Timing
    ------
    ``o`` follows ``latency`` cycles after ``i`` and ``scale``; it moves in every cycle.

    Numerics
    --------
    ``token``: rounded to nearest, ties to even, within +-(2^(``act_width`` - 1) - 1); the exponent
    of ``scale`` must not be below the activation's. ``absolute`` and integers: exact.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i": In(config.act.width),
            "scale": In(ScaleLayout(config)),
            "o": Out(signed(config.act_width)),
        })

    @staticmethod
    def latency_of(config: ArrayConfig) -> int:
        """Return the cycles from ``i`` to ``o`` of an aligner of ``config``."""
        if config.act.integer:
            return 1
        return 2 if config.align == "absolute" else 3

    @property
    def latency(self) -> int:
        """Cycles from ``i`` to ``o``."""
        return self.latency_of(self.config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, act = self.config, self.config.act
        if act.integer:
            m.d.comb += self.o.eq(delayed(m, self.i, 1, "made").as_signed())
            return m
        number = data.View(FloatLayout(act.width, act.exponent_width), self.i)
        significand, exponent = significand_of(number), exponent_of(number)
        precision = len(significand)
        size = config.act_width - 1
        magnitude = Signal(size)
        up = Signal()
        if config.align == "absolute":
            places = (exponent - 1)[: act.exponent_width]
            m.d.comb += magnitude.eq(delayed(m, (significand << places)[:size], 1, "magnitude"))
        else:
            # The significand with `fraction` bits below the unit, at least 2 so that a half can be
            # told from more and from less when a shift has jammed what it lost into the last.
            fraction = max(precision - size, 2)
            word = Signal(size + fraction, reset_less=True)
            shifted = Signal.like(word, reset_less=True)
            distance = Signal(act.exponent_width)
            places = Signal(len(word).bit_length(), reset_less=True)
            m.d.comb += distance.eq(self.scale.exponent - exponent)
            m.d.sync += [
                word.eq(Cat(Const(0, len(word) - precision), significand)),
                places.eq(Mux(distance >= 1 << len(places), ~0, distance)),
                shifted.eq(shift_right_jam(m, word, places, "shift")),
            ]
            m.d.comb += [
                magnitude.eq(shifted[fraction:]),
                up.eq(shifted[fraction - 1] & (shifted[: fraction - 1].any() | shifted[fraction])
                      & ~magnitude.all()),
            ]  # fmt: skip
        # -(n + 1) is ~n, so a sign and a rounding up cancel.
        sign = delayed(m, number.sign, self.latency - 1, "sign")
        made = Cat(magnitude ^ sign.replicate(size), sign) + (up ^ sign)
        m.d.comb += self.o.eq(delayed(m, made[: len(self.o)], 1, "made"))
        return m
