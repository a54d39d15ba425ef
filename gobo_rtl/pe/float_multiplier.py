"""FP16 times FP16, exact."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..formats import VALUE_FORMATS
from .arith import leading_zeros
from .floating import Operand, Registers, bias, infinity, quiet_nan

__all__ = ["FloatMultiplier"]

_FACTOR, _PRODUCT = VALUE_FORMATS["fp16"], VALUE_FORMATS["fp32"]
# Where the registers of each latency are.
_PLACES = {
    0: (), 1: ("result",), 2: ("product", "result"), 3: ("parts", "product", "result"),
}  # fmt: skip


class FloatMultiplier(wiring.Component):
    """Multiplies two FP16 numbers; the product is an FP32 number.

    Paper
    -----
    None: IEEE 754; docs/decisions/reference-pes.md.

    Parameters
    ----------
    latency : int
        Cycles from factors to product, 0 to 3; with 0 it is combinational.

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
            raise ValueError(f"latency of a multiplier must be in 0..3 cycles, not {latency!r}")
        self.latency = latency
        super().__init__({
            "a": In(_FACTOR.width), "b": In(_FACTOR.width), "o": Out(_PRODUCT.width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        registers = Registers(m, _PLACES[self.latency])
        a, b = Operand(_FACTOR, self.a), Operand(_FACTOR, self.b)
        half = len(b.significand) // 2
        parts = registers.at(
            "parts",
            low=a.significand * b.significand[:half],
            high=a.significand * b.significand[half:],
            exponent=a.exponent + b.exponent,
            sign=a.sign ^ b.sign,
            zero=a.zero | b.zero,
            infinite=a.infinite | b.infinite,
            nan=a.nan | b.nan | (a.zero & b.infinite) | (a.infinite & b.zero),
        )
        product = registers.at(
            "product",
            bits=(parts.low + (parts.high << half))[: 2 * len(b.significand)],
            exponent=parts.exponent,
            sign=parts.sign,
            zero=parts.zero,
            infinite=parts.infinite,
            nan=parts.nan,
        )

        # The highest one of the product goes to the place of the hidden bit.
        size = len(product.bits)
        shift, exponent = Signal(range(size)), Signal(_PRODUCT.exponent_width)
        normal = Signal(size)
        m.d.comb += [
            shift.eq(leading_zeros(m, product.bits, "zeros")),
            normal.eq(product.bits << shift),
            exponent.eq(product.exponent + (bias(_PRODUCT) - 2 * bias(_FACTOR) + 1) - shift),
        ]
        fraction = Cat(Const(0, _PRODUCT.fraction_width - (size - 1)), normal[:-1])
        magnitude = Signal(_PRODUCT.width - 1)
        with m.If(product.infinite):
            m.d.comb += magnitude.eq(infinity(_PRODUCT))
        with m.Elif(~product.zero):
            m.d.comb += magnitude.eq(Cat(fraction, exponent))
        result = Mux(product.nan, quiet_nan(_PRODUCT), Cat(magnitude, product.sign))
        m.d.comb += self.o.eq(registers.at("result", bits=result).bits)
        return m
