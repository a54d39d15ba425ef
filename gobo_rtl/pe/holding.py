"""Finished sums on their way out."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..decode.unpacker import one_hot

__all__ = ["Holding"]


class Holding(wiring.Component):
    """Holds a column's finished sums until they are read, some neighbouring rows at a time.

    Paper
    -----
    Our own choice: a sum is stored once and stays where it is, and the next sum begins at once.

    Parameters
    ----------
    width : int
        Bits of a row's sum.
    rows : int
        Rows of the column.
    lanes : int
        Rows that leave in a cycle; ``rows`` is a multiple of it.

    Members
    -------
    sums : In, ``rows`` x ``width``
        Finished sums, read with ``load``.
    load : In, 1
        Take ``sums``.
    read : In, ``rows / lanes``
        At most one bit is set: which rows are at ``o``.
    o : Out, ``lanes`` x ``width``
        The rows that are read, 0 without any.

    Timing
    ------
    Sums can be read from the cycle after ``load`` on; ``o`` follows ``read`` in the same cycle.

    Numerics
    --------
    None.
    """

    def __init__(self, width: int, rows: int, lanes: int):
        self.rows, self.lanes = rows, lanes
        super().__init__({
            "sums": In(data.ArrayLayout(width, rows)),
            "load": In(1),
            "read": In(rows // lanes),
            "o": Out(data.ArrayLayout(width, lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(self.sums.shape(), reset_less=True)
        with m.If(self.load):
            m.d.sync += held.eq(self.sums)
        words, size = list(held), len(Cat(*self.o))
        groups = [Cat(*words[n : n + self.lanes]) for n in range(0, self.rows, self.lanes)]
        chosen = one_hot(size, list(zip(self.read, groups, strict=True)))
        m.d.comb += Cat(*self.o).eq(chosen)
        return m
