"""A serial line out."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Transmitter"]


class Transmitter(wiring.Component):
    """Sends bytes: 8 bits, lowest first, no parity, one stop bit.

    Paper
    -----
    None.

    Parameters
    ----------
    divisor : int
        Cycles of a bit, at least 2.

    Members
    -------
    i : In, stream of 8 bits
        Bytes.
    tx : Out, 1
        The line, 1 when nothing is sent.

    Timing
    ------
    A byte takes 10 bits.

    Numerics
    --------
    None.
    """

    def __init__(self, divisor: int):
        if divisor < 2:
            raise ValueError(f"divisor must be at least 2 cycles, not {divisor}")
        self.divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, left = Signal(9), Signal(range(11))
        wait = Signal(range(self.divisor))
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [bits.eq(Cat(self.i.payload, 1)), self.tx.eq(0), left.eq(10)]
            m.d.sync += wait.eq(self.divisor - 1)
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(left != 0):
            m.d.sync += [self.tx.eq(bits[0]), bits.eq(Cat(bits[1:], 1)), left.eq(left - 1)]
            m.d.sync += wait.eq(self.divisor - 1)
        return m
