"""A floating-point adder."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..formats import ValueFormat
from .arith import leading_zeros, shift_right_jam
from .floating import Operand, Registers, increment, infinity, quiet_nan

__all__ = ["FloatAdder"]

# Where the registers of each latency are.
_PLACES = {
    0: (),
    1: ("result",),
    2: ("aligned", "result"),
    3: ("aligned", "total", "result"),
    4: ("aligned", "total", "normal", "result"),
    5: ("ordered", "aligned", "total", "normal", "result"),
}


class FloatAdder(wiring.Component):
    """Adds two numbers of an IEEE 754 format, FP32 or FP16.

    Paper
    -----
    None: IEEE 754; docs/decisions/reference-pes.md.

    Parameters
    ----------
    value : ValueFormat
        Format of terms and sum.
    latency : int
        Cycles from terms to sum, 0 to 5; with 0 it is combinational.

    Members
    -------
    a, b : In, ``value.width``
        Terms.
    o : Out, ``value.width``
        Their sum.

    Timing
    ------
    ``o`` is the sum of the terms ``latency`` cycles before; unless that is 0 it comes from a
    register. A new pair in every cycle; there is no reset.

    Numerics
    --------
    The exact sum, rounded to nearest, ties to even. Subnormals count in full; what is too large is
    infinite; the sum of opposites is +0, of two -0 it is -0. NaN, and the difference of infinities,
    give the quiet NaN without sign: 0x7FC00000, 0x7E00.
    """

    def __init__(self, value: ValueFormat, latency: int = 0):
        if latency not in _PLACES:
            raise ValueError(f"latency of an adder must be in 0..5 cycles, not {latency!r}")
        self.value = value
        self.latency = latency
        super().__init__({"a": In(value.width), "b": In(value.width), "o": Out(value.width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value = self.value
        registers = Registers(m, _PLACES[self.latency])

        # The term of the greater magnitude is `large`; so the difference is never negative.
        a, b = Operand(value, self.a), Operand(value, self.b)
        swap, differ, nan = Signal(), Signal(), Signal()
        m.d.comb += [
            swap.eq(a.magnitude < b.magnitude),
            differ.eq(a.sign ^ b.sign),
            nan.eq(a.nan | b.nan | (a.infinite & b.infinite & differ)),
        ]
        opposite = differ & (a.magnitude == b.magnitude)
        ordered = registers.at(
            "ordered",
            large=Mux(swap, b.significand, a.significand),
            small=Mux(swap, a.significand, b.significand),
            exponent=Mux(swap, b.exponent, a.exponent),
            distance=Mux(swap, (b.exponent - a.exponent)[:-1], (a.exponent - b.exponent)[:-1]),
            sign=Mux(swap, b.sign, a.sign) & ~opposite,
            differ=differ,
            infinite=a.infinite | b.infinite,
            nan=nan,
        )

        # Below the last place of `large`, three more decide the rounding: were two places lost by
        # cancellation, the terms would have been at most one place apart and nothing is below.
        places = Const(0, 3)
        aligned = registers.at(
            "aligned",
            large=Cat(places, ordered.large),
            small=shift_right_jam(m, Cat(places, ordered.small), ordered.distance, "small"),
            exponent=ordered.exponent,
            sign=ordered.sign,
            differ=ordered.differ,
            infinite=ordered.infinite,
            nan=ordered.nan,
        )

        # The top bit of the total is the carry's.  It has the exponent `exponent` + 1, so a shift
        # to the left by `exponent` is the most there may be: there the result is subnormal.
        size = value.fraction_width + 1 + len(places) + 1
        term = Mux(aligned.differ, ~aligned.small, aligned.small)
        carry = aligned.differ  # a difference adds the complement and one
        bits = (Cat(Const(1, 1), aligned.large) + Cat(carry, term))[1:]
        total = registers.at(
            "total",
            bits=Cat(bits[:-1], bits[-1] & ~aligned.differ),
            stop=(Const(1 << (size - 1), size) >> aligned.exponent)[:size],
            exponent=aligned.exponent,
            sign=aligned.sign,
            infinite=aligned.infinite,
            nan=aligned.nan,
        )
        shift, shifted, seen = Signal(range(size + 1)), Signal(size), Signal(size)
        m.d.comb += [
            seen.eq(total.bits | total.stop),
            shift.eq(leading_zeros(m, seen, "zeros")),
            shifted.eq(total.bits << shift),
        ]
        hidden = shifted[-1]
        kept, rest = shifted[len(places) + 1 : -1], shifted[: len(places) + 1]
        exponent = Signal(value.exponent_width)
        m.d.comb += exponent.eq(Mux(hidden, total.exponent + 1 - shift, 0))
        normal = registers.at(
            "normal",
            kept=Cat(kept, exponent),
            up=rest[-1] & (rest[:-1].any() | kept[0]),
            sign=total.sign,
            infinite=total.infinite | exponent.all(),
            nan=total.nan,
        )

        # Rounding up carries from fraction to exponent, and so into normal numbers and infinity.
        magnitude = Mux(normal.infinite, infinity(value), increment(normal.kept, normal.up))
        result = Mux(normal.nan, quiet_nan(value), Cat(magnitude[: value.width - 1], normal.sign))
        m.d.comb += self.o.eq(registers.at("result", bits=result).bits)
        return m
