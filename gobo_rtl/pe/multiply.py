"""Products in digits: the multiples of a number are made once and shared by all its products."""

from amaranth.hdl import Cat, Const, Module, Signal, Value, ValueLike, signed
from amaranth.lib import data

from ..decode.unpacker import one_hot

__all__ = ["MULTIPLES_LATENCY", "PRODUCT_LATENCY", "digits_shape", "multiples_of", "product_of",
           "recoded"]  # fmt: skip

DIGIT = 3  # bits of a digit, which is one of -4..4: Booth's recoding to the base 8
TIMES = (1, 2, 3, 4, -1, -2, -3, -4)
MULTIPLES_LATENCY = 1
"""Cycles of :func:`multiples_of`."""
PRODUCT_LATENCY = 2
"""Cycles of :func:`product_of`."""


def digits_shape(width: int) -> data.ArrayLayout:
    """Return the shape of a signed number of ``width`` bits in digits, the lowest first: each has a
    bit for each of ``TIMES`` and none set for 0."""
    return data.ArrayLayout(len(TIMES), -(-width // DIGIT))


def recoded(number: Value) -> Value:
    """Return a signed number in digits, as :func:`digits_shape` says."""
    count = digits_shape(len(number)).length
    sign = number[-1].replicate(count * DIGIT - len(number))
    bits = Cat(Const(0, 1), number, sign)  # a digit also looks at the bit below it
    digits = []
    for n in range(count):
        seen = bits[DIGIT * n : DIGIT * (n + 1) + 1]
        values = [(k & 1) + (k >> 1 & 1) + 2 * (k >> 2 & 1) - 4 * (k >> 3) for k in range(16)]
        digits += [Cat(seen == k for k in range(16) if values[k] == times).any()
                   for times in TIMES]  # fmt: skip
    return Cat(digits)


def multiples_of(m: Module, number: Value, name: str, enable: ValueLike = 1) -> list[Value]:
    """Return ``number``, signed, times each of ``TIMES``, a cycle with ``enable`` later."""
    made = {}
    for times, value in {
        1: number, 3: number + (number << 1), -1: -number, -3: number - (number << 2),
    }.items():  # fmt: skip
        word = Signal(value.shape(), name=f"{name}_times{times}".replace("-", "_"), reset_less=True)
        with m.If(enable):
            m.d.sync += word.eq(value)
        made |= {times: word, 2 * times: word << 1, 4 * times: word << 2}
    return [made[times] for times in TIMES]


def product_of(
    m: Module, multiples: list[Value], digits: Value, width: int, name: str, enable: ValueLike = 1
) -> Signal:
    """Return a product, signed, in ``width`` bits, ``PRODUCT_LATENCY`` cycles with ``enable``
    later: of the number whose multiples are given, times a number in digits.

    The first cycle chooses a multiple for each digit and reduces them to two numbers without a
    carry going far, the second adds these."""
    size = max(len(multiple) for multiple in multiples)
    same = [Signal(signed(size), name=f"{name}_wide{n}") for n in range(len(multiples))]
    m.d.comb += [signal.eq(multiple) for signal, multiple in zip(same, multiples, strict=True)]
    rows = [one_hot(size, list(zip(digit, same, strict=True))) for digit in digits]
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
