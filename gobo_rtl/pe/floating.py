"""What the floating-point units share: the parts of a number, and registers."""

from collections.abc import Container, Sequence
from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from ..formats import ValueFormat
from .arith import FloatLayout, exponent_of, significand_of

__all__ = [
    "Operand", "Registers", "bias", "carry_save", "increment", "infinity",
    "quiet_nan", "shift_left", "shift_right",
]  # fmt: skip


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
    hidden bit; and what it is: ``zero``, ``infinite``, ``nan``. Exponent and significand of the
    last two mean nothing.

    A ``plain`` number is not subnormal, and if it is NaN it is the one that comes out: so its
    exponent is the field, and less has to be looked at.
    """

    def __init__(self, value: ValueFormat, bits: Value, plain: bool = False):
        number = FloatLayout(value.width, value.exponent_width)(bits)
        high = number.exponent.all()
        some = number.fraction[-1] if plain else number.fraction.any()
        self.sign = number.sign
        self.exponent = number.exponent if plain else exponent_of(number)
        self.significand = significand_of(number)
        self.zero = ~(number.exponent if plain else bits[:-1]).any()
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


def carry_save(m: Module, rows: Sequence[Value], width: int, name: str) -> tuple[Value, Value]:
    """Return two values of ``width`` bits whose sum, modulo 2^``width``, is that of ``rows``: of
    three rows at a time come their sum without carries, and the carries."""
    extended = []
    for number, row in enumerate(rows):
        extended.append(Signal(width, name=f"{name}_{number}"))
        m.d.comb += extended[-1].eq(row)
    level = 0
    while len(extended) > 2:
        level += 1
        after = []
        for n in range(0, len(extended) - 2, 3):
            a, b, c = extended[n : n + 3]
            total, carry = (Signal(width, name=f"{name}_{level}_{n}_{what}") for what in "sc")
            m.d.comb += [total.eq(a ^ b ^ c), carry.eq(((a & b) | (c & (a ^ b))) << 1)]
            after += [total, carry]
        extended = after + extended[len(extended) - len(extended) % 3 :]
    first, second = extended
    return first, second


def shift_right(m: Module, value: Value, amount: Value, name: str) -> tuple[Value, Value]:
    """Return ``value`` shifted right, and whether a bit that is 1 was lost.

    The widest shift comes first, so that the last has one bit to look at.
    """
    lost = []
    for n in reversed(range(len(amount))):
        places = min(1 << n, len(value))
        lost.append(amount[n] & value[:places].any())
        stage = Signal(len(value), name=f"{name}_{n}")
        m.d.comb += stage.eq(Mux(amount[n], value[places:], value))
        value = stage
    return value, Cat(lost).any()


def shift_left(m: Module, bits: Value, shift: Value, name: str, first: int = 0) -> Value:
    """Return ``bits`` shifted to the left by ``shift`` times 2^``first``, without what is lost."""
    for n in reversed(range(len(shift))):
        places = min(1 << (first + n), len(bits))
        stage = Signal(len(bits), name=f"{name}_{n}")
        moved = Cat(Const(0, places), bits[: len(bits) - places])
        m.d.comb += stage.eq(Mux(shift[n], moved, bits))
        bits = stage
    return bits
