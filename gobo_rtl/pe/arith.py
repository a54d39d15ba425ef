"""Shifts, counts and delays that the arithmetic is made of."""

from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data

__all__ = [
    "FloatLayout", "Pipeline", "delayed", "exponent_of", "leading_zeros", "shift_right_jam",
    "significand_of",
]  # fmt: skip


class FloatLayout(data.StructLayout):
    """An IEEE 754 style number of ``width`` bits."""

    def __init__(self, width: int, exponent_width: int):
        fraction = width - 1 - exponent_width
        super().__init__({"fraction": fraction, "exponent": exponent_width, "sign": 1})


def significand_of(number: data.View) -> Value:
    """Return the significand of a :class:`FloatLayout` as an integer, hidden bit included."""
    return Cat(number.fraction, number.exponent.any())


def exponent_of(number: data.View) -> Value:
    """Return the exponent field of a :class:`FloatLayout`, at least 1: subnormals have that of the
    smallest normal numbers."""
    return Cat(number.exponent[0] | ~number.exponent.any(), number.exponent[1:])


def delayed(
    m: Module, value: ValueLike, cycles: int, name: str, enable: ValueLike = 1, reset: bool = False
) -> Signal:
    """Return ``value`` as it was ``cycles`` cycles before, counting those with ``enable`` only; the
    same kind of view as ``value``. With ``reset`` it is 0 after reset, else it stays."""
    for n in range(cycles):
        stage = Signal.like(value, name=f"{name}_{n + 1}", reset_less=not reset)
        with m.If(enable):
            m.d.sync += stage.eq(value)
        value = stage
    return value


def shift_right_jam(m: Module, value: Value, amount: Value, name: str) -> Value:
    """Return ``value`` shifted right with its lowest bit set if any bit that is 1 was lost."""
    for n, shift in enumerate(amount):
        places = min(1 << n, len(value))
        lost = value[:places].any()
        moved = Cat(value[places:], Const(0, places))
        stage = Signal(len(value), name=f"{name}_{n}")
        m.d.comb += stage.eq(Mux(shift, moved | lost, value))
        value = stage
    return value


def leading_zeros(m: Module, value: Value, name: str) -> Value:
    """Return how many bits of ``value`` above its highest 1 are 0: all when it is 0."""
    width = len(value)
    if width == 1:
        return ~value
    half = 1 << (width - 1).bit_length() - 1  # bits of the upper part, a power of two
    upper = leading_zeros(m, value[width - half :], f"{name}u")
    lower = leading_zeros(m, value[: width - half], f"{name}l")
    count = Signal(range(width + 1), name=f"{name}_{width}")
    m.d.comb += count.eq(Mux(upper == half, half + lower, upper))
    return count


class Pipeline:
    """Stages of registers that move together; ``count`` of them so far."""

    def __init__(self, m: Module, move: ValueLike):
        self._m, self._move, self.count = m, move, 0

    def stage(
        self, before: SimpleNamespace | None = None, keep: str = "", **values: Value
    ) -> SimpleNamespace:
        """Return ``values``, and the values of the stage ``before`` named in ``keep``, a stage
        later."""
        self.count += 1
        after = SimpleNamespace()
        values |= {name: getattr(before, name) for name in keep.split()}
        for name, value in values.items():
            register = Signal(value.shape(), name=f"{name}_{self.count}", reset_less=True)
            with self._m.If(self._move):
                self._m.d.sync += register.eq(value)
            setattr(after, name, register)
        return after
