"""Indexes and outliers of a step to what each row takes of it."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import StepLayout
from .arith import delayed

__all__ = ["RowLayout", "Select", "SelectLayout"]


class RowLayout(data.StructLayout):
    """What a row takes: the term of the shared centroid whose bit of ``picks`` is set, with its
    sign changed by ``negate``; or the product of the outlier whose bit of ``hits`` is set; or
    nothing.

    At most one bit of ``picks``, ``hits`` is set: a plane of ANDs and a tree of ORs, without a
    decoder in every column, chooses. ``reads`` is ``picks`` but for the first step of a sum, in
    which it is 0: what a sum has so far."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "picks": config.shared, "reads": config.shared, "negate": 1,
            "hits": config.outliers_per_step,
        })  # fmt: skip


class SelectLayout(data.StructLayout):
    """What all rows take in a cycle, and whether it is the ``first`` or ``last`` of a sum."""

    def __init__(self, config: ArrayConfig):
        rows = data.ArrayLayout(RowLayout(config), config.rows)
        super().__init__({"rows": rows, "first": 1, "last": 1})


class Select(wiring.Component):
    """Tells every row what to take of a step, for all columns.

    Paper
    -----
    Our own choice: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``rows``, ``shared``, ``symmetric``, ``index_widths`` and ``outliers_per_step``.

    Members
    -------
    i : In, stream of StepLayout
        Steps; their activations and codebook are not looked at.
    o : Out, SelectLayout
        What the rows take; nothing where there was no transfer. ``last`` is 1 after reset, so that
        sums begin with nothing.

    Timing
    ------
    ``o`` follows ``latency`` cycles after ``i``; it moves in every cycle.

    Numerics
    --------
    None. In a symmetric codebook of 2^b centroids index ``n`` of the upper half is the negative of
    index ``2^b - 1 - n``: the lower half is shared, whatever b is.
    """

    latency = 2

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(StepLayout(config), always_ready=True)),
            "o": Out(SelectLayout(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, step = self.config, self.i.payload
        top = Cat(step.index_width == width for width in config.index_widths)  # one-hot
        begins = delayed(m, self.i.valid & step.first, self.latency - 1, "begins", reset=True)
        first = delayed(m, begins, 1, "first", reset=True)
        ends = delayed(m, self.i.valid & step.last, self.latency - 1, "ends", reset=True)
        last = Signal(init=1)
        m.d.sync += last.eq(ends)
        plain = delayed(m, self.i.valid & step.plain, 1, "plain", reset=True)
        m.d.comb += [self.o.first.eq(first), self.o.last.eq(last)]
        for number, row in enumerate(self.o.rows):
            index = Cat(plane[number] for plane in step.planes)
            upper = Const(0)
            if config.symmetric:
                upper = (Cat(index[width - 1] for width in config.index_widths) & top).any()
                places = (config.shared - 1).bit_length()
                below = Cat((step.index_width > n) & upper for n in range(places))
                index = index[:places] ^ below
                upper = delayed(m, upper, 1, f"upper{number}")
            index = delayed(m, index, 1, f"index{number}")
            take = Signal(name=f"take{number}")
            picks = Cat(take & (index == n) for n in range(config.shared))
            hits = Signal(config.outliers_per_step, name=f"hits{number}")
            seen = Signal(name=f"seen{number}")  # an entry came in an earlier cycle of the step
            m.d.sync += [
                hits.eq(Cat(self.i.valid & e.valid & (e.row == number) for e in step.entries)),
                seen.eq(Mux(plain, 0, seen | hits.any())),
                row.hits.eq(hits),
                row.picks.eq(picks),
                row.reads.eq(Mux(begins, 0, picks)),
                row.negate.eq(take & upper),
            ]
            m.d.comb += take.eq(plain & ~seen & ~hits.any())
        return m
