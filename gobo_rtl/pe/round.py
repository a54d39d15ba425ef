"""The one rounding: a bias and an exact sum to a result."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import EXPONENT
from ..formats import VALUE_FORMATS
from .arith import Pipeline, leading_zeros, shift_right_jam
from .floating import Operand, bias, infinity, quiet_nan

__all__ = ["Round"]

BIAS = VALUE_FORMATS["fp32"]
_PRECISION = BIAS.fraction_width + 1
_GUARD = _PRECISION + 3


class Round(wiring.Component):
    """Adds a bias to a sum exactly and rounds once.

    Of the two the one with the higher place is put at the top of a window, the other is shifted to
    its place; a bit of it that falls out below sets the lowest bit of the window. The window has
    enough bits below a sum (``_GUARD``) and below a bias that then the two cannot cancel so far
    that the lowest bit would be rounded upon.

    Paper
    -----
    Our own choice: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``acc_width`` and ``result_format``.

    Members
    -------
    move : In, 1
        All stages move on; else all stay as they are.
    sum : In, signed(``acc_width``)
        The sum, below 2^(``acc_width`` - 1) in magnitude.
    exponent : In, signed
        Of the unit of the sum.
    special : In, 1
        The result is NaN.
    bias : In, 32 bits
        FP32, ``bias_delay`` moves after ``sum``.
    o : Out, bits of a result
        ``bias + sum * 2^exponent``, ``latency`` moves after ``sum``.

    Timing
    ------
    A result a cycle; stages of an adder or a shifter each.

    Numerics
    --------
    IEEE 754: to nearest, ties to even; overflow to infinity. A sum of zero is +0. A bias that is
    infinite gives itself; NaN is the quiet NaN without sign.
    """

    bias_delay = 1

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "move": In(1),
            "sum": In(signed(config.acc_width)),
            "exponent": In(signed(EXPONENT)),
            "special": In(1),
            "bias": In(BIAS.width),
            "o": Out(config.result.width),
        })

    @staticmethod
    def latency_of(config: ArrayConfig) -> int:
        """Return the moves from ``sum`` to ``o`` of a unit of ``config``."""
        return 11 + (config.result != BIAS)

    @property
    def latency(self) -> int:
        """Moves from ``sum`` to ``o``."""
        return self.latency_of(self.config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        result = self.config.result
        size = self.config.acc_width - 1  # bits of a sum's magnitude
        window = max(size, _PRECISION) + _GUARD
        pipe = Pipeline(m, self.move)

        # Magnitudes, and the places of their highest bits: how far they are apart.
        s = pipe.stage(
            negative=self.sum[-1], magnitude=abs(self.sum)[:size],
            place=self.exponent + (size - 1), special=self.special,
        )  # fmt: skip
        assert pipe.count == self.bias_delay
        addend = Operand(BIAS, self.bias)
        other_place = addend.exponent - bias(BIAS)
        s = pipe.stage(
            s, "negative magnitude place", zero=s.magnitude == 0, other=addend.significand,
            other_negative=addend.sign, other_place=other_place, apart=s.place - other_place,
            nan=s.special | addend.nan, infinite=addend.infinite,
        )  # fmt: skip

        # The higher one at the top of the window, the lower one shifted to its place. A bias that
        # is subnormal or zero counts as high as its exponent: its last place is the lowest of all.
        swap = s.zero | (s.apart < 0)
        high, low = (
            Cat(Const(0, window - len(number)), number) for number in (s.magnitude, s.other)
        )
        places = abs(s.apart)[: len(s.apart)]
        bits = window.bit_length()
        s = pipe.stage(
            s, "nan infinite other_negative", high=Mux(swap, low, high), low=Mux(swap, high, low),
            places=Mux(places[bits:].any(), Const(-1, bits), places[:bits]),
            place=Mux(swap, s.other_place, s.place), subtract=s.negative ^ s.other_negative,
            negative=Mux(swap, s.other_negative, s.negative),
        )  # fmt: skip
        keep = "nan infinite other_negative negative place"
        s = pipe.stage(s, f"{keep} high subtract",
                       low=shift_right_jam(m, s.low, s.places, "low"))  # fmt: skip

        # Their sum, of one bit more than the window.
        total = Signal(signed(window + 2))
        m.d.comb += total.eq(Mux(s.subtract, s.high - s.low, s.high + s.low))
        s = pipe.stage(s, keep, total=total)
        least = 1 - bias(result)  # place of the smallest normal number
        s = pipe.stage(
            s, "nan infinite other_negative", negative=s.negative ^ s.total[-1],
            magnitude=abs(s.total)[: window + 1], room=s.place + 1 - least,
        )  # fmt: skip

        # Normalised, but not below the place of subnormals.
        keep = "nan infinite other_negative negative"
        s = pipe.stage(s, f"{keep} magnitude room", zero=s.magnitude == 0,
                       zeros=leading_zeros(m, s.magnitude, "zeros"))  # fmt: skip
        keep += " zero"
        below = s.room < 0
        up = Signal.like(s.zeros)
        m.d.comb += up.eq(Mux(below, 0, Mux(s.room < s.zeros, s.room, s.zeros)))
        exponent = Mux(below, 0, s.room - up)
        down = Mux(below, -s.room, 0)
        s = pipe.stage(
            s, f"{keep} magnitude", up=up, exponent=exponent[: len(s.room)],
            down=Mux((down >> bits).any(), Const(-1, bits), down[:bits]),
        )  # fmt: skip
        s = pipe.stage(s, f"{keep} exponent down", number=(s.magnitude << s.up)[: window + 1])
        if result != BIAS:  # a bias is never below the place of FP32's subnormals
            s = pipe.stage(s, f"{keep} exponent",
                           number=shift_right_jam(m, s.number, s.down, "number"))  # fmt: skip

        # Rounded; the significand's highest bit and a carry add to the exponent by themselves.
        rest = window + 1 - (result.fraction_width + 1)
        s = pipe.stage(
            s, f"{keep} exponent", significand=s.number[rest:],
            up=s.number[rest - 1] & (s.number[: rest - 1].any() | s.number[rest]),
        )  # fmt: skip
        packed = Signal(len(s.exponent) + result.fraction_width + 1)
        number = Signal(result.width - 1)
        negative = Signal()
        m.d.comb += [
            packed.eq(Cat(Const(0, result.fraction_width), s.exponent) + s.significand + s.up),
            number.eq(packed),
            negative.eq(s.negative & ~s.zero),
        ]
        with m.If(s.nan):
            m.d.comb += [number.eq(quiet_nan(result)), negative.eq(0)]
        with m.Elif(s.infinite):
            m.d.comb += [number.eq(infinity(result)), negative.eq(s.other_negative)]
        with m.Elif(s.zero):
            m.d.comb += number.eq(0)
        with m.Elif(packed >= infinity(result)):
            m.d.comb += number.eq(infinity(result))
        s = pipe.stage(o=Cat(number, negative))
        assert pipe.count == self.latency
        m.d.comb += self.o.eq(s.o)
        return m
