"""FP16 times FP16, exact."""

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..formats import VALUE_FORMATS
from .arith import FloatLayout, leading_zeros
from .floating import Operand, Registers, bias, carry_save, shift_left

__all__ = ["FloatMultiplier"]

_FACTOR, _PRODUCT = VALUE_FORMATS["fp16"], VALUE_FORMATS["fp32"]
# Where the registers of each latency are.
_PLACES = {
    0: (),
    1: ("result",),
    2: ("normal", "result"),
    3: ("normal", "rows", "result"),
    4: ("normal", "rows", "product", "result"),
}


class FloatMultiplier(wiring.Component):
    """Multiplies two FP16 numbers; the product is an FP32 number.

    Paper
    -----
    None: IEEE 754; docs/decisions/reference-pes.md.

    Parameters
    ----------
    latency : int
        Cycles from factors to product, 0 to 4; with 0 it is combinational.

    Members
    -------
    a, b : In, 16
        Factors.
    o : Out, 32
        Their product.

    Timing
    ------
    ``o`` is the product of the factors ``latency`` cycles before; unless that is 0 it comes from a
    register. A new pair in every cycle; there is no reset.

    Numerics
    --------
    Exact: a product of two finite FP16 has 22 bits at most and an exponent in -48..31, so it is
    zero or a normal FP32. Subnormals count in full, zeros have the sign of the product. NaN, and
    zero times infinity, give 0x7FC00000.
    """

    def __init__(self, latency: int = 0):
        if latency not in _PLACES:
            raise ValueError(f"latency of a multiplier must be in 0..4 cycles, not {latency!r}")
        self.latency = latency
        super().__init__({
            "a": In(_FACTOR.width), "b": In(_FACTOR.width), "o": Out(_PRODUCT.width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        registers = Registers(m, _PLACES[self.latency])
        a, b = (_Factor(m, bits, name) for bits, name in ((self.a, "a"), (self.b, "b")))
        size = _FACTOR.fraction_width + 1

        # Both factors are shifted until they have their hidden bit, so the product has one of its
        # two highest bits, unless it is zero.  The exponent gets one less for each place: for each
        # factor the shift's complement, and one.
        offset = Const(bias(_PRODUCT) - 2 * bias(_FACTOR) + 2, _PRODUCT.exponent_width)
        shifts = [(~Cat(factor.shift, Const(0, 1))).as_signed() for factor in (a, b)]
        exponents = carry_save(
            m, [a.exponent + b.exponent + offset, *shifts], _PRODUCT.exponent_width, "exponent"
        )
        normal = registers.at(
            "normal",
            a=a.normal,
            b=b.normal,
            exponent=(exponents[0] + exponents[1])[: _PRODUCT.exponent_width],
            sign=a.sign ^ b.sign,
            infinite=a.infinite | b.infinite,
            nan=a.nan | b.nan | (a.zero & b.infinite) | (a.infinite & b.zero),
        )
        partial = [Mux(bit, normal.a, 0) << n for n, bit in enumerate(normal.b)]
        first, second = carry_save(m, partial, 2 * size, "rows")
        rows = registers.at(
            "rows",
            first=first,
            second=second,
            exponent=normal.exponent,
            zero=~(normal.a[-1] & normal.b[-1]),
            sign=normal.sign & ~normal.nan,
            infinite=normal.infinite,
            nan=normal.nan,
        )
        product = registers.at(
            "product",
            bits=(rows.first + rows.second)[: 2 * size],
            exponent=rows.exponent,
            zero=rows.zero,
            sign=rows.sign,
            infinite=rows.infinite,
            nan=rows.nan,
        )

        # What depends on the product's highest bit, which is the last to be known, is only chosen.
        special = product.infinite | product.nan
        places = 2 * size - 1
        empty = Const(0, _PRODUCT.fraction_width - places)
        low, high = (
            Cat(
                Mux(special, Cat(Const(0, places - 1), product.nan), fraction),
                Mux(special, ~Const(0, len(exponent)), Mux(product.zero, 0, exponent)),
            )
            for fraction, exponent in (
                (Cat(Const(0, 1), product.bits[: places - 1]), product.exponent),
                (product.bits[:places], (product.exponent + 1)[: len(product.exponent)]),
            )
        )
        result = Cat(empty, Mux(product.bits[-1], high, low), product.sign)
        m.d.comb += self.o.eq(registers.at("result", bits=result).bits)
        return m


class _Factor(Operand):
    """A factor in its ``normal`` form, shifted by ``shift`` places; zero has none.

    Subnormal numbers have the exponent 0 here, and so a significand that is twice their fraction.
    """

    def __init__(self, m: Module, bits: Value, name: str):
        super().__init__(_FACTOR, bits)
        number = FloatLayout(_FACTOR.width, _FACTOR.exponent_width)(bits)
        subnormal = ~number.exponent.any()
        twice = Cat(Const(0, 1), number.fraction)
        zeros = leading_zeros(m, number.fraction, f"{name}_zeros")
        self.exponent = number.exponent
        self.significand = Mux(subnormal, twice, self.significand)
        self.shift = zeros & subnormal.replicate(len(zeros))
        self.normal = shift_left(m, self.significand, self.shift, f"{name}_normal")
