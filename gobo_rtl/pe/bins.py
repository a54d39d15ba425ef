"""A column of the array that adds first: an accumulator for every centroid in every row."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..decode.unpacker import one_hot
from .arith import delayed
from .holding import Holding
from .outlier import OutlierProduct, OutlierWeightLayout
from .products import add, outlier_products
from .select import SelectLayout

__all__ = ["BinRowLayout", "Bins"]


class BinRowLayout(data.StructLayout):
    """A row's sum before its end: the sums of activations by shared centroid, and that of the
    outliers' products."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "bins": data.ArrayLayout(signed(config.bin_width), config.shared),
            "outliers": signed(config.acc_width),
        })  # fmt: skip


class Bins(wiring.Component):
    """Sums of a token: each row adds the activation to the bin that its index selects, and
    outliers' products to an accumulator beside them. :class:`Combine` makes sums of both.

    Paper
    -----
    The published idea, in integers: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``rows``, ``symmetric``, ``drain_lanes`` and the widths.

    Members
    -------
    a : In, signed(``act_width``)
        Aligned activation of a step.
    outliers : In, ``outliers_per_step`` x OutlierWeightLayout
        Outliers of the same step, with ``a``.
    select : In, SelectLayout
        What the rows take of the same step, ``select_delay`` cycles after ``a``.
    shift : In, 1
        Move the finished sums on by ``drain_lanes`` rows.
    chain, o : In and Out, ``drain_lanes`` x ``sum_shape``
        The next column's finished sums, and this one's.

    Timing
    ------
    Moves in every cycle. After the ``last`` step of a sum the first rows are at ``o`` ``latency``
    cycles after ``a``; those of the sum before must have left by then.

    Numerics
    --------
    Exact: ``bin_width`` holds ``max_inputs`` activations, ``acc_width`` every row whose sum of
    ``|weight|`` is below 2^``weight_sum_width``.
    """

    select_delay = 2
    latency = 5

    def __init__(self, config: ArrayConfig):
        self.config = config
        assert self.select_delay == OutlierProduct.latency
        lanes = data.ArrayLayout(self.sum_shape(config), config.drain_lanes)
        super().__init__({
            "a": In(signed(config.act_width)),
            "outliers": In(data.ArrayLayout(OutlierWeightLayout(config), config.outliers_per_step)),
            "select": In(SelectLayout(config)),
            "shift": In(1),
            "chain": In(lanes),
            "o": Out(lanes),
        })

    @staticmethod
    def sum_shape(config: ArrayConfig) -> BinRowLayout:
        """Return the shape of what a row's sum is when it leaves."""
        return BinRowLayout(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.holding = holding = Holding(
            self.sum_shape(config), config.rows, config.drain_lanes
        )
        outliers = outlier_products(m, config, self.a, self.outliers)
        a = delayed(m, self.a, self.select_delay + 1, "a")
        select = delayed(m, self.select, 1, "select")
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
            for n, total in enumerate(sums.bins):
                here = row.take & (row.index == n)
                with m.If(here | select.first):
                    m.d.sync += total.eq(Mux(here, after, 0))
            m.d.comb += holding.sums[number].eq(sums)
        m.d.comb += [
            holding.load.eq(delayed(m, self.select.last, 2, "last")),
            holding.shift.eq(self.shift),
            holding.chain.eq(self.chain),
            self.o.eq(holding.o),
        ]
        return m
