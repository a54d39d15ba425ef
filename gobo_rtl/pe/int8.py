"""The multiply-accumulate PE in 8-bit integers, to measure the others against."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .arith import delayed
from .floating import Registers, carry_save

__all__ = ["Int8PE", "Int8StepLayout"]

_WIDTH = 8
_HALF = 2 * _WIDTH  # bits of a product, and of half a sum
# Where the registers of each latency of the multiplier are.
_PLACES = {0: (), 1: ("product",), 2: ("rows", "product")}


class Int8StepLayout(data.StructLayout):
    """A weight and its activation, and whether they are the ``first`` and ``last`` of a sum."""

    def __init__(self) -> None:
        super().__init__({
            "weight": signed(_WIDTH), "act": signed(_WIDTH), "first": 1, "last": 1,
        })  # fmt: skip


class Int8PE(wiring.Component):
    """Multiplies INT8 weights and activations and adds the products up in 32 bits.

    The high half of a sum is a cycle behind the low one, from which a register has the carry: so no
    carry has farther to go than a product is wide.

    Paper
    -----
    None: what quantisation to 8 bits is usually run on; docs/decisions/reference-pes.md.

    Parameters
    ----------
    multiplier_latency : int
        Cycles of the multiplier, 0 to 2; with 2 its rows have a register before they are added up.

    Members
    -------
    valid : In, 1
        There is a step in this cycle.
    step : In, Int8StepLayout
        The step.
    done : Out, 1
        The low half of a sum is ready, for one cycle; the high half is in the next.
    o_low : Out, 16
        Low half of that sum.
    o_high : Out, signed(16)
        High half of it, a cycle after ``done``.

    Timing
    ------
    A step in every cycle; ``done`` is set ``latency`` cycles after the ``last`` of a sum. A cycle
    without a step leaves the sum as it is.

    Numerics
    --------
    Two's complement, modulo 2 to the 32: exact for 131,071 steps of any values.
    """

    def __init__(self, multiplier_latency: int = 2):
        if multiplier_latency not in _PLACES:
            raise ValueError(
                f"multiplier_latency must be in 0..2 cycles, not {multiplier_latency!r}"
            )
        self.multiplier_latency = multiplier_latency
        self.latency = multiplier_latency + 1
        super().__init__({
            "valid": In(1), "step": In(Int8StepLayout()),
            "done": Out(1), "o_low": Out(_HALF), "o_high": Out(signed(_HALF)),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        registers = Registers(m, _PLACES[self.multiplier_latency])
        weight, act = self.step.weight, self.step.act

        # The weight's highest bit counts as its negative: the complement of the activation, and
        # one.  With its sign bit flipped a number is 2^(n - 1) more, which one constant takes back
        # for all the rows: so no row has a sign to extend.
        top = 1 << (_WIDTH - 1)
        rows, excess = [], 0
        for n in range(_WIDTH):
            bits = Mux(weight[n], act, 0)[:_WIDTH]
            if n == _WIDTH - 1:
                bits, excess = ~bits, excess - (1 << n)
            rows.append((bits ^ top) << n)
            excess += top << n
        rows.append(Const(-excess % (1 << _HALF), _HALF))
        first, second = carry_save(m, rows, _HALF, "rows")
        parts = registers.at("rows", first=first, second=second)
        valid = delayed(m, self.valid, max(self.multiplier_latency - 1, 0), "valid", reset=True)
        bits = (parts.first + parts.second)[:_HALF] & valid.replicate(_HALF)
        product = registers.at("product", bits=bits)

        flags = Cat(self.valid & self.step.first, self.valid & self.step.last)
        first, last = delayed(m, flags, self.multiplier_latency, "flags", reset=True)
        low, high = Signal(_HALF, reset_less=True), Signal(signed(_HALF), reset_less=True)
        carry, negative, first_r = (
            Signal(name=name, reset_less=True) for name in ("carry", "negative", "first_r")
        )
        m.d.sync += [
            Cat(low, carry).eq(Mux(first, 0, low) + product.bits),
            negative.eq(product.bits[-1]),
            first_r.eq(first),
            high.eq(Mux(first_r, 0, high) + Mux(negative, -1, 0) + carry),
            self.done.eq(last),
        ]
        m.d.comb += [self.o_low.eq(low), self.o_high.eq(high)]
        return m
