"""Outliers: a value with an exponent of its own to an integer in the layer's unit."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import EXPONENT
from .arith import delayed
from .floating import Operand, bias
from .multiply import PRODUCT_LATENCY, multiplier

__all__ = ["OutlierDecode", "OutlierProduct", "OutlierWeightLayout"]


class OutlierWeightLayout(data.StructLayout):
    """A weight in the layer's unit: its significand, signed and coded as a ``factor``, times
    ``2^shift``."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "factor": multiplier(config).coded_shape(significand_width(config)),
            "shift": range(config.weight_sum_width),
        })  # fmt: skip


def significand_width(config: ArrayConfig) -> int:
    """Return the bits of an outlier's significand, sign and hidden bit included."""
    return config.value.fraction_width + 2


class OutlierDecode(wiring.Component):
    """Takes an outlier apart; one for each place of a step's outliers, shared by all columns.

    Paper
    -----
    Our own choice: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``value_format`` and ``weight_sum_width``.

    Members
    -------
    i : In, bits of a value
        The outlier as it is in memory.
    unit : In, signed
        Exponent of the layer's unit.
    o : Out, OutlierWeightLayout
        The same weight in the layer's unit.

    Timing
    ------
    ``o`` follows ``latency`` cycles after ``i`` and ``unit``; it moves in every cycle.

    Numerics
    --------
    Exact for an outlier that is an integer below 2^``weight_sum_width`` in the unit, which the
    packer proves; for others the result means nothing.
    """

    latency = 3

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i": In(config.value.width),
            "unit": In(signed(EXPONENT)),
            "o": Out(OutlierWeightLayout(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value = self.config.value
        number = Operand(value, self.i)
        significand = Signal(value.fraction_width + 1, reset_less=True)
        places = Signal(signed(EXPONENT + 1), reset_less=True)
        m.d.sync += [
            significand.eq(number.significand),
            places.eq(number.exponent - (bias(value) + value.fraction_width) - self.unit),
        ]
        # To the right nothing is lost, so more places than the significand has come with 0 only.
        sign = delayed(m, number.sign, 1, "sign")
        right = Signal(range(len(significand)))
        magnitude = Signal.like(significand)
        m.d.comb += [
            right.eq(-places),
            magnitude.eq(Mux(places < 0, significand >> right, significand)),
        ]
        signed_one = Signal(signed(significand_width(self.config)), reset_less=True)
        left = Signal.like(self.o.shift, reset_less=True)
        made = Signal(OutlierWeightLayout(self.config), reset_less=True)
        m.d.sync += [
            signed_one.eq(Mux(sign, -magnitude, magnitude)),
            left.eq(Mux(places < 0, 0, places)),
            Value.cast(made.factor).eq(multiplier(self.config).coded(signed_one)),
            made.shift.eq(left),
        ]
        m.d.comb += self.o.eq(made)
        return m


class OutlierProduct(wiring.Component):
    """Multiplies an activation by an outlier; one for each column and place of a step's outliers.

    Paper
    -----
    Our own choice: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``act_width``, ``value_format`` and ``weight_sum_width``.

    Members
    -------
    multiples : In, ``Multiplier.multiples_shape(act_width)``
        The activation's.
    w : In, OutlierWeightLayout
        The weight.
    o : Out, signed(``acc_width``)
        Their product.

    Timing
    ------
    ``o`` follows ``latency`` cycles after ``multiples`` and ``w``; it moves in every cycle.

    Numerics
    --------
    Exact: the product of a weight below 2^``weight_sum_width`` fits ``acc_width`` bits.
    """

    latency = PRODUCT_LATENCY + 1

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "multiples": In(multiplier(config).multiples_shape(config.act_width)),
            "w": In(OutlierWeightLayout(config)),
            "o": Out(signed(config.acc_width)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.config.act_width + significand_width(self.config)
        product = multiplier(self.config).product(
            m, list(self.multiples), self.w.factor, width, "product"
        )
        shift = delayed(m, self.w.shift, PRODUCT_LATENCY, "shift")
        m.d.comb += self.o.eq(delayed(m, (product << shift)[: len(self.o)], 1, "made"))
        return m
