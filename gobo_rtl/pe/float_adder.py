"""A floating-point adder."""

from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..formats import ValueFormat
from .arith import leading_zeros
from .floating import Operand, Registers, increment, shift_left, shift_right

__all__ = ["FloatAdder"]

# Where the registers of each latency are.
_PLACES = {
    0: (),
    1: ("result",),
    2: ("aligned", "result"),
    3: ("aligned", "total", "result"),
    4: ("aligned", "total", "normal", "result"),
    5: ("ordered", "aligned", "total", "normal", "result"),
    6: ("ordered", "aligned", "total", "coarse", "normal", "result"),
}
# Below the last place of the larger term, three more decide the rounding, the last for all that was
# lost: were two places lost by cancellation, the terms would have been at most one place apart and
# nothing is below.
_BELOW = 3


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
        Cycles from terms to sum, 0 to 6; with 0 it is combinational.
    running : bool
        ``a`` is the sum so far, in which ``b`` is to be: less hardware, for fewer numbers. Terms
        and sum are not subnormal, the sum is finite below 2 to the 127 in magnitude, and of NaN
        there is only the one that comes out.

    Members
    -------
    a, b : In, ``value.width``
        Terms.
    first, valid : In, 1
        With ``running`` only: ``first`` has +0 instead of ``a``, and without ``valid`` it is +0
        instead of ``b``; not both.
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

    def __init__(self, value: ValueFormat, latency: int = 0, running: bool = False):
        if latency not in _PLACES:
            raise ValueError(f"latency of an adder must be in 0..6 cycles, not {latency!r}")
        self.value = value
        self.latency = latency
        self.running = running
        flags = {"first": In(1), "valid": In(1)} if running else {}
        super().__init__({
            "a": In(value.width), "b": In(value.width), **flags, "o": Out(value.width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value = self.value
        registers = Registers(m, _PLACES[self.latency])
        ordered = self._ordered(m, registers)

        # A difference adds the complement, and one.
        small, lost = shift_right(
            m, Cat(Const(0, _BELOW - 1), ordered.small), ordered.distance, "small"
        )
        below, small = Cat(lost, small[: _BELOW - 1]), small[_BELOW - 1 :]
        size = len(small)
        aligned = registers.at(
            "aligned",
            large=ordered.large ^ (ordered.differ & ordered.less).replicate(size),
            small=small ^ (ordered.differ & ~ordered.less).replicate(size),
            below=Mux(ordered.differ, -below, below)[:_BELOW],
            carry=ordered.differ & ~below.any(),
            exponent=ordered.exponent,
            sign=ordered.sign,
            differ=ordered.differ,
        )

        # The top bit of the total is the carry's, with an exponent greater by one.
        bits = (Cat(Const(1, 1), aligned.large) + Cat(aligned.carry, aligned.small))[1:]
        total = registers.at(
            "total",
            bits=Cat(aligned.below, bits[:-1], bits[-1] & ~aligned.differ),
            exponent=(aligned.exponent + 1)[: value.exponent_width],
            sign=aligned.sign,
        )

        # The highest one goes to the top, but no further than to the exponent 1: there the result
        # is subnormal.
        size, seen = len(total.bits), total.bits
        if not self.running:
            seen = seen | (Const(1 << size, size + 1) >> total.exponent)[:size]
        shift = leading_zeros(m, seen, "zeros")
        fine = len(shift) - 2
        coarse = registers.at(
            "coarse",
            bits=shift_left(m, total.bits, shift[fine:], "coarse_bits", fine),
            shift=shift[:fine],
            exponent=(total.exponent - (shift[fine:] << fine))[: value.exponent_width],
            some=shift != size,
            overflow=total.exponent.all() & total.bits[-1],
            sign=total.sign,
        )
        shifted = shift_left(m, coarse.bits, coarse.shift, "fine_bits")
        kept, rest = shifted[_BELOW + 1 : -1], shifted[: _BELOW + 1]
        finite = Const(1) if self.running else ~coarse.overflow
        hidden = coarse.some if self.running else shifted[-1]
        normal = registers.at(
            "normal",
            kept=Cat(
                kept & finite.replicate(len(kept)),
                Mux(hidden, coarse.exponent - coarse.shift, 0)[: value.exponent_width],
            ),
            up=rest[-1] & (rest[:-1].any() | kept[0]) & finite,
            sign=coarse.sign,
        )

        # Rounding up carries from fraction to exponent, and so into normal numbers and infinity.
        result = Cat(increment(normal.kept, normal.up), normal.sign)
        m.d.comb += self.o.eq(registers.at("result", bits=result).bits)
        return m

    def _ordered(self, m: Module, registers: Registers) -> SimpleNamespace:
        """Return the term of the greater exponent as ``large``, the other as ``small``.

        Of terms with the same exponent nothing is shifted; ``less`` says that ``large`` is not, and
        the difference the other way round. NaN and infinity are ``large``, and ``small`` is then 0.
        """
        value = self.value
        a, b = (Operand(value, bits, plain=self.running) for bits in (self.a, self.b))
        only_a, only_b = (~self.valid, self.first) if self.running else (Const(0), Const(0))
        both = ~(only_a | only_b)
        special = a.exponent.all() | b.exponent.all()
        ahead, same = a.exponent - b.exponent, a.exponent == b.exponent
        swap, differ, less, nan = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            swap.eq(only_b | (ahead[-1] & ~only_a)),
            differ.eq((a.sign ^ b.sign) & both),
            less.eq(same & (a.significand < b.significand) & both & ~special),
            nan.eq((a.nan & ~only_b) | (b.nan & ~only_a) | (a.infinite & b.infinite & differ)),
        ]
        zero = (
            (differ & same & (a.significand == b.significand))
            | (only_a & a.zero) | (only_b & b.zero)
        )  # fmt: skip
        size = len(a.significand)
        large, quiet = Mux(swap, b.significand, a.significand), Const(3 << (size - 2), size)
        return registers.at(
            "ordered",
            large=large | Mux(nan, quiet, 0) if self.running else Mux(nan, quiet, large),
            small=Mux(swap, a.significand, b.significand) & (both & ~special).replicate(size),
            exponent=Mux(swap, b.exponent, a.exponent),
            distance=Mux(swap, _capped(b.exponent - a.exponent, size), _capped(ahead, size)),
            less=less,
            sign=Mux(swap | less, b.sign, a.sign) & ~zero & ~nan,
            differ=differ,
        )


def _capped(distance: Value, size: int) -> Value:
    """Return the places to shift ``size`` bits by, or as many as leave none of them."""
    width = (size + _BELOW - 1).bit_length()
    return distance[:width] | distance[width:-1].any().replicate(width)
