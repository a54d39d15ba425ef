"""What the floating-point units share: the parts of a number, and registers."""

from collections.abc import Container
from types import SimpleNamespace

from amaranth.hdl import Cat, Module, Signal, Value

from ..formats import ValueFormat
from .arith import FloatLayout, exponent_of, significand_of

__all__ = ["Operand", "Registers", "bias", "increment", "infinity", "quiet_nan"]


def infinity(value: ValueFormat) -> int:
    """Return the bits of +infinity: the exponent is all ones."""
    return ((1 << value.exponent_width) - 1) << value.fraction_width


def quiet_nan(value: ValueFormat) -> int:
    """Return the bits of the only NaN that comes out: 0x7FC00000, 0x7E00."""
    return infinity(value) | 1 << (value.fraction_width - 1)


def bias(value: ValueFormat) -> int:
    """Return the exponent field of 1.0."""
    return (1 << (value.exponent_width - 1)) - 1


class Operand:
    """A number taken apart.

    ``sign``; ``exponent``, the field, but 1 for zeros and subnormals; ``significand`` with the
    hidden bit; ``magnitude``, all bits but the sign; and what it is: ``zero``, ``infinite``,
    ``nan``. Exponent and significand of the last two mean nothing.
    """

    def __init__(self, value: ValueFormat, bits: Value):
        number = FloatLayout(value.width, value.exponent_width)(bits)
        high, some = number.exponent.all(), number.fraction.any()
        self.sign = number.sign
        self.exponent = exponent_of(number)
        self.significand = significand_of(number)
        self.magnitude = bits[:-1]
        self.zero = ~self.magnitude.any()
        self.infinite = high & ~some
        self.nan = high & some


class Registers:
    """The places of a unit where its values may be kept for a cycle, and those where they are."""

    def __init__(self, m: Module, places: Container[str]):
        self._m = m
        self._places = places

    def at(self, place: str, **values: Value) -> SimpleNamespace:
        """Return ``values`` as they are after ``place``: from registers, or just as they are."""
        domain = self._m.d.sync if place in self._places else self._m.d.comb
        after = SimpleNamespace()
        for name, value in values.items():
            signal = Signal(value.shape(), name=f"{place}_{name}", reset_less=True)
            domain += signal.eq(value)
            setattr(after, name, signal)
        return after


def increment(bits: Value, up: Value) -> Value:
    """Return ``bits + up``, without the carry: all ones below, and ``up``, flip a bit."""
    half = len(bits) // 2
    if half == 0:
        return bits ^ up
    low, high = bits[:half], bits[half:]
    return Cat(increment(low, up), increment(high, up & low.all()))
