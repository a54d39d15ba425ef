"""FP32 to FP16."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..pe.arith import FloatLayout
from ..pe.floating import bias, increment, infinity, quiet_nan, shift_right
from .layout import FP16, FP32

__all__ = ["Narrow"]


class Narrow(wiring.Component):
    """Rounds an FP32 number to FP16.

    Paper
    -----
    None: IEEE 754.

    Parameters
    ----------
    None.

    Members
    -------
    i : In, 32 bits
        FP32.
    o : Out, 16 bits
        FP16.

    Timing
    ------
    Combinational.

    Numerics
    --------
    To nearest, ties to even; subnormals in full; what is too large is infinite; NaN is 0x7E00.
    """

    def __init__(self) -> None:
        super().__init__({"i": In(FP32.width), "o": Out(FP16.width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        number = FloatLayout(FP32.width, FP32.exponent_width)(self.i)
        below = FP32.fraction_width - FP16.fraction_width  # bits that a normal number loses
        # The exponent field it would have; subnormal from 0 down: shifted by one place and more.
        exponent = number.exponent - (bias(FP32) - bias(FP16))
        subnormal = Signal()
        places = Signal(4)
        m.d.comb += [
            subnormal.eq(exponent < 1),
            places.eq(Mux(exponent < -13, 15, 1 - exponent) & subnormal.replicate(4)),
        ]
        significand = Cat(number.fraction[below - 1 :], number.exponent.any())
        shifted, lost = shift_right(m, significand, places, "shifted")
        sticky = lost | number.fraction[: below - 1].any()
        up = shifted[0] & (sticky | shifted[1])
        # The hidden bit counts one exponent, and rounding up may carry into it.
        high = Mux(subnormal, 0, exponent - 1)[: FP16.exponent_width] << FP16.fraction_width
        finite = increment((high + shifted[1:])[: FP16.width - 1], up)
        special = number.exponent.all()
        nan = special & number.fraction.any()
        large = ~subnormal & (exponent > 2 * bias(FP16))
        m.d.comb += self.o.eq(
            Mux(nan, Const(quiet_nan(FP16), FP16.width),
                Cat(Mux(large, infinity(FP16), finite)[: FP16.width - 1], number.sign))
        )  # fmt: skip
        return m
