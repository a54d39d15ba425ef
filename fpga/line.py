"""The line that tells how a run went."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .compare import COUNT

__all__ = ["Line"]

DIGITS = len(str((1 << COUNT) - 1))


class Line(wiring.Component):
    """Says ``TITLE: 1234 words, 0 wrong: PASS``, or ``FAIL``, and ends the line.

    Paper
    -----
    None.

    Parameters
    ----------
    title : str
        ASCII.

    Members
    -------
    go : In, 1
        Say it now; without effect while it is being said.
    words, wrong : In, 20 bits
        With ``go``.
    passed : In, 1
        With ``go``.
    o : Out, stream of 8 bits
        Bytes.
    idle : Out, 1
        Nothing is being said.

    Timing
    ------
    The first byte comes 22 cycles after ``go``; a digit that is a leading zero takes a cycle.

    Numerics
    --------
    Decimal, without leading zeros.
    """

    def __init__(self, title: str):
        self.title = title
        super().__init__({
            "go": In(1), "words": In(COUNT), "wrong": In(COUNT), "passed": In(1),
            "o": Out(stream.Signature(8)), "idle": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A number becomes decimal bit by bit: digits of 5 and more get 3, then all are doubled.
        numbers = {"words": Signal(COUNT), "wrong": Signal(COUNT)}
        digits = {name: [Signal(4, name=f"{name}_{n}") for n in range(DIGITS)] for name in numbers}
        passed, left, convert = Signal(), Signal(range(COUNT + 1)), Signal()
        for name, number in numbers.items():
            whole = Cat(*(Mux(d >= 5, d + 3, d)[:4] for d in digits[name]))
            with m.If(convert):
                m.d.sync += Cat(number, *digits[name]).eq(Cat(number, whole) << 1)

        chars: list[tuple[ValueLike, ValueLike]] = []  # and whether one is 0 and not the last

        def say(text: str) -> None:
            chars.extend((ord(char), 0) for char in text)

        def say_number(name: str) -> None:
            *high, low = reversed(digits[name])
            chars.extend((ord("0") + digit, digit == 0) for digit in high)
            chars.append((ord("0") + low, 0))

        say(f"{self.title}: ")
        say_number("words")
        say(" words, ")
        say_number("wrong")
        say(" wrong: ")
        chars += [(Mux(passed, ord(p), ord(f)), 0) for p, f in zip("PASS", "FAIL", strict=True)]
        say("\r\n")
        place, begun = Signal(range(len(chars))), Signal()  # a digit that is not 0 was said
        char, zero, digit = Signal(8), Signal(), Signal()
        with m.Switch(place):
            for n, (each, is_zero) in enumerate(chars):
                with m.Case(n):
                    m.d.comb += [char.eq(each), zero.eq(is_zero)]
                    m.d.comb += digit.eq(isinstance(is_zero, Value))

        skip = zero & ~begun
        m.d.comb += self.o.payload.eq(char)
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.idle.eq(1)
                with m.If(self.go):
                    m.d.sync += [number.eq(getattr(self, name)) for name, number in numbers.items()]
                    m.d.sync += [Cat(*(Cat(*each) for each in digits.values())).eq(0)]
                    m.d.sync += [passed.eq(self.passed), left.eq(COUNT), place.eq(0)]
                    m.next = "convert"
            with m.State("convert"):
                m.d.comb += convert.eq(left != 0)
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.next = "say"
            with m.State("say"):
                m.d.comb += self.o.valid.eq(~skip)
                with m.If(skip | self.o.ready):
                    m.d.sync += [place.eq(place + 1), begun.eq(digit & ~skip)]
                    with m.If(place == len(chars) - 1):
                        m.next = "idle"
        return m
