"""Products, for cells and for the multiplier blocks of an FPGA."""

from abc import ABC, abstractmethod

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, ValueLike, signed
from amaranth.lib import data

from ..array_config import ArrayConfig
from ..decode.unpacker import one_hot

__all__ = ["MULTIPLES_LATENCY", "PRODUCT_LATENCY", "Blocks", "Digits", "Multiplier", "multiplier"]

DIGIT = 3  # bits of a digit, which is one of -4..4: Booth's recoding to the base 8
TIMES = (1, 2, 3, 4, -1, -2, -3, -4)
MULTIPLES_LATENCY = 1
"""Cycles of :meth:`Multiplier.multiples`."""
PRODUCT_LATENCY = 2
"""Cycles of :meth:`Multiplier.product`."""


class Multiplier(ABC):
    """A way to multiply a number, whose multiples are shared by all its products, by others."""

    @staticmethod
    @abstractmethod
    def coded_shape(width: int) -> Shape | data.Layout:
        """Return the shape of a signed factor of ``width`` bits, coded."""

    @staticmethod
    @abstractmethod
    def coded(number: Value) -> Value:
        """Return a signed factor as :meth:`coded_shape` says."""

    @staticmethod
    @abstractmethod
    def multiples_shape(width: int) -> data.ArrayLayout:
        """Return the shape of the multiples of a signed number of ``width`` bits."""

    @staticmethod
    @abstractmethod
    def multiples(m: Module, number: Value, name: str, enable: ValueLike = 1) -> list[Value]:
        """Return the multiples of ``number``, signed, ``MULTIPLES_LATENCY`` cycles with ``enable``
        later."""

    @staticmethod
    @abstractmethod
    def product(
        m: Module, multiples: list[Value], coded: ValueLike, width: int, name: str,
        enable: ValueLike = 1,
    ) -> Signal:  # fmt: skip
        """Return a product, signed, in ``width`` bits, ``PRODUCT_LATENCY`` cycles with ``enable``
        later: of the number whose multiples are given, times a ``coded`` factor."""


class Blocks(Multiplier):
    """A multiplier for each product; a tool for FPGAs makes it of blocks and their registers."""

    @staticmethod
    def coded_shape(width: int) -> Shape | data.Layout:
        """Return the shape of the factor itself."""
        return signed(width)

    @staticmethod
    def coded(number: Value) -> Value:
        """Return the factor itself."""
        return number

    @staticmethod
    def multiples_shape(width: int) -> data.ArrayLayout:
        """Return the shape of the number itself."""
        return data.ArrayLayout(signed(width), 1)

    @staticmethod
    def multiples(m: Module, number: Value, name: str, enable: ValueLike = 1) -> list[Value]:
        """Return the number itself, registered."""
        word = Signal(signed(len(number)), name=f"{name}_times1", reset_less=True)
        with m.If(enable):
            m.d.sync += word.eq(number)
        return [word]

    @staticmethod
    def product(
        m: Module, multiples: list[Value], coded: ValueLike, width: int, name: str,
        enable: ValueLike = 1,
    ) -> Signal:  # fmt: skip
        """Return a product, which is registered twice."""
        made = Signal(signed(width), name=f"{name}_made", reset_less=True)
        product = Signal(signed(width), name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += [
                made.eq(multiples[0] * Value.cast(coded).as_signed()), product.eq(made),
            ]  # fmt: skip
        return product


class Digits(Multiplier):
    """A factor in digits: each chooses a multiple of the number, and the choices are added up."""

    @staticmethod
    def coded_shape(width: int) -> data.ArrayLayout:
        """Return the shape of digits, the lowest first: each has a bit for each of ``TIMES`` and
        none set for 0."""
        return data.ArrayLayout(len(TIMES), -(-width // DIGIT))

    @staticmethod
    def coded(number: Value) -> Value:
        """Return a factor's digits."""
        count = Digits.coded_shape(len(number)).length
        sign = number[-1].replicate(count * DIGIT - len(number))
        bits = Cat(Const(0, 1), number, sign)  # a digit also looks at the bit below it
        digits = []
        for n in range(count):
            seen = bits[DIGIT * n : DIGIT * (n + 1) + 1]
            values = [(k & 1) + (k >> 1 & 1) + 2 * (k >> 2 & 1) - 4 * (k >> 3) for k in range(16)]
            digits += [Cat(seen == k for k in range(16) if values[k] == times).any()
                       for times in TIMES]  # fmt: skip
        return Cat(digits)

    @staticmethod
    def multiples_shape(width: int) -> data.ArrayLayout:
        """Return the shape of the number times each of ``TIMES``."""
        return data.ArrayLayout(signed(width + DIGIT), len(TIMES))

    @staticmethod
    def multiples(m: Module, number: Value, name: str, enable: ValueLike = 1) -> list[Value]:
        """Return the number times each of ``TIMES``."""
        made = {}
        for times, value in {
            1: number, 3: number + (number << 1), -1: -number, -3: number - (number << 2),
        }.items():  # fmt: skip
            word = Signal(value.shape(), name=f"{name}_times{times}".replace("-", "_"),
                          reset_less=True)  # fmt: skip
            with m.If(enable):
                m.d.sync += word.eq(value)
            made |= {times: word, 2 * times: word << 1, 4 * times: word << 2}
        return [made[times] for times in TIMES]

    @staticmethod
    def product(
        m: Module, multiples: list[Value], coded: ValueLike, width: int, name: str,
        enable: ValueLike = 1,
    ) -> Signal:  # fmt: skip
        """Return a product.

        The first cycle chooses a multiple for each digit and reduces them to two numbers without a
        carry going far, the second adds these."""
        size = max(len(multiple) for multiple in multiples)
        same = [Signal(signed(size), name=f"{name}_wide{n}") for n in range(len(multiples))]
        m.d.comb += [signal.eq(multiple) for signal, multiple in zip(same, multiples, strict=True)]
        digits = Value.cast(coded)
        rows = [
            one_hot(size, list(zip(digits.word_select(n, len(TIMES)), same, strict=True)))
            for n in range(len(digits) // len(TIMES))
        ]
        terms = _aligned(rows, size, width)
        while len(terms) > 2:
            one, two, three, *rest = terms
            carries = (one & two | one & three | two & three) << 1
            terms = [*rest, one ^ two ^ three, carries[:width]]
        kept = []
        for n, term in enumerate(terms):
            kept.append(Signal(width, name=f"{name}_{n}", reset_less=True))
            with m.If(enable):
                m.d.sync += kept[-1].eq(term)
        product = Signal(signed(width), name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += product.eq(sum(kept[1:], kept[0]))
        return product


def multiplier(config: ArrayConfig) -> type[Multiplier]:
    """Return how an array multiplies."""
    return {"digits": Digits, "blocks": Blocks}[config.multipliers]


def _aligned(rows: list[Value], size: int, width: int) -> list[Value]:
    """Return signed numbers of ``size`` bits, each ``DIGIT`` places above the one before it, as
    numbers of ``width`` bits with the same sum.

    A sign weighs ``-2^p``, which is its complement times ``2^p`` less ``2^p``. So no sign goes to
    all places above; the constants have room above the lowest number, which takes the ones of them
    that stand at its own sign as the carries that come of it."""
    places = [size - 1 + DIGIT * n for n in range(len(rows))]
    constant = -sum(1 << place for place in places if place < width) % (1 << width)
    terms = []
    for n, row in enumerate(rows):
        low, sign = row[: size - 1], row[size - 1]
        if n:
            terms.append(Cat(Const(0, DIGIT * n), low, ~sign, Const(0, width))[:width])
            continue
        above, carries = [], True
        for place in range(size - 1, width):
            one = bool(constant >> place & 1)
            above.append((sign if one else ~sign) if carries else Const(one, 1))
            carries &= one
        terms.append(Cat(low, *above)[:width])
    return terms
