"""Division by a constant, rounded up."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Divide"]


class Divide(wiring.Component):
    """Divides by a constant and rounds up, a bit of the quotient a cycle.

    Paper
    -----
    None: long division.

    Parameters
    ----------
    width : int
        Bits of the dividend and of the quotient.
    divisor : int
        At least 1, below ``2^width``.

    Members
    -------
    start : In, 1
        Begin with ``i``, whatever is going on.
    i : In, ``width`` bits
        The dividend.
    o : Out, ``width`` bits
        The quotient.

    Timing
    ------
    ``o`` is there ``latency`` cycles after ``start`` and stays until the next.

    Numerics
    --------
    ``ceil(i / divisor)``, exact.
    """

    def __init__(self, width: int, divisor: int):
        assert 1 <= divisor < 1 << width
        self.width, self.divisor = width, divisor
        self.latency = width + 2
        super().__init__({"start": In(1), "i": In(width), "o": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Bits of the dividend leave at the top while those of the quotient enter at the bottom.
        bits = Signal(self.width + 1)
        left = Signal(range(len(bits) + 1))
        rest = Signal(range(max(2, self.divisor)))
        trial = Signal(len(rest) + 1)
        fits = trial >= self.divisor
        m.d.comb += [trial.eq(Cat(bits[-1], rest)), self.o.eq(bits)]
        with m.If(self.start):
            m.d.sync += [bits.eq(self.i + (self.divisor - 1)), rest.eq(0), left.eq(len(bits))]
        with m.Elif(left != 0):
            m.d.sync += [
                bits.eq(Cat(fits, bits[:-1])),
                rest.eq(Mux(fits, trial - self.divisor, trial)),
                left.eq(left - 1),
            ]
        return m
