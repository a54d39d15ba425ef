"""A column of the array that adds first: an accumulator for every centroid in every row."""

from amaranth.hdl import Array, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import data

from ..array_config import ArrayConfig
from ..decode.unpacker import one_hot
from .arith import delayed
from .column import Column
from .products import add, outlier_products

__all__ = ["BinRowLayout", "Bins", "store"]


class BinRowLayout(data.StructLayout):
    """A row's sum before its end: the sums of activations by shared centroid, and that of the
    outliers' products."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "bins": data.ArrayLayout(signed(config.bin_width), config.shared),
            "outliers": signed(config.acc_width),
        })  # fmt: skip


def store(
    m: Module, bins: data.View, row: data.View, select: data.View, after: ValueLike
) -> None:
    """Put ``after`` into the bin that a row takes; with the first step of a sum all others are 0.

    ``row`` is what the row takes of the step and ``select`` the whole of it.
    """
    for n, total in enumerate(bins):
        here = row.take & (row.index == n)
        with m.If(here | select.first):
            m.d.sync += total.eq(Mux(here, after, 0))


class Bins(Column):
    """Sums of a token: each row adds the activation to the bin that its index selects, and
    outliers' products to an accumulator beside them. :class:`Combine` makes sums of both.

    Paper
    -----
    The published idea, in integers: docs/accelerator.md section 2.

    Numerics
    --------
    Exact: ``bin_width`` holds ``max_inputs`` activations, ``acc_width`` every row whose sum of
    ``|weight|`` is below 2^``weight_sum_width``.
    """

    codebook_delay = None
    latency = 5

    @staticmethod
    def sum_shape(config: ArrayConfig) -> BinRowLayout:
        """Return the shape of what a row's sum is when it leaves."""
        return BinRowLayout(config)

    def sums(self, m: Module) -> list[Value]:
        """Return what the rows hold; ``m`` gets what makes it."""
        config, outliers = self.config, outlier_products(self, m)
        a = delayed(m, self.a, self.select_delay + 1, "a")
        select = delayed(m, self.select, 1, "select")
        rows = []
        for number, (chosen, row) in enumerate(zip(self.select.rows, select.rows, strict=True)):
            sums = Signal(BinRowLayout(config), name=f"sums{number}", reset_less=True)
            product = Signal(signed(config.acc_width), name=f"outlier{number}", reset_less=True)
            m.d.sync += product.eq(
                one_hot(config.acc_width, list(zip(chosen.hits, outliers, strict=True)))
            )
            m.d.sync += sums.outliers.eq(Mux(select.first, 0, sums.outliers) + product)

            # One adder; the complement of an activation with a carry is its negative.
            before = Signal(signed(config.bin_width), name=f"before{number}")
            after = Signal.like(before, name=f"after{number}")
            m.d.comb += before.eq(Mux(select.first, 0, Array(sums.bins)[row.index]))
            if config.symmetric:
                term = Signal.like(before, name=f"term{number}")
                m.d.comb += term.eq(Mux(row.negate, ~a, a))
                m.d.comb += after.eq(add(before, term, row.negate))
            else:
                m.d.comb += after.eq(before + a)
            store(m, sums.bins, row, select, after)
            rows.append(sums)
        return rows
