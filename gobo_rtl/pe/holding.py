"""Finished sums on their way out."""

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Holding"]


class Holding(wiring.Component):
    """Holds a column's finished sums and shifts them out, a link of the chain of all columns.

    Paper
    -----
    Our own choice: a chain needs no wide multiplexer, and the next sum begins at once.

    Parameters
    ----------
    shape : Shape or Layout
        Of a row's sum.
    rows : int
        Rows of the column.
    lanes : int
        Rows that leave in a cycle; ``rows`` is a multiple of it.

    Members
    -------
    sums : In, ``rows`` x ``shape``
        Finished sums, read with ``load``.
    load, shift : In, 1
        Take ``sums``; move on by ``lanes`` rows. Not both at once.
    chain : In, ``lanes`` x ``shape``
        What moves in at the end: the next column's ``o``.
    o : Out, ``lanes`` x ``shape``
        The rows that leave next, ascending.

    Timing
    ------
    ``o`` changes in the cycle after ``load`` or ``shift``.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, shape: Shape | data.Layout, rows: int, lanes: int):
        self.rows, self.lanes = rows, lanes
        super().__init__({
            "sums": In(data.ArrayLayout(shape, rows)),
            "load": In(1),
            "shift": In(1),
            "chain": In(data.ArrayLayout(shape, lanes)),
            "o": Out(data.ArrayLayout(shape, lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(self.sums.shape(), reset_less=True)
        behind = [*list(held)[self.lanes :], *self.chain]
        with m.If(self.load | self.shift):
            for word, new, old in zip(held, self.sums, behind, strict=True):
                m.d.sync += word.eq(Mux(self.load, new, old))
        for out, word in zip(self.o, held, strict=False):
            m.d.comb += out.eq(word)
        return m
