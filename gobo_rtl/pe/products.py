"""A column of the array that multiplies first: products shared by its rows."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..decode.unpacker import one_hot
from .arith import delayed
from .holding import Holding
from .outlier import OutlierProduct, OutlierWeightLayout
from .select import SelectLayout

__all__ = ["Products", "add", "outlier_products"]


def add(left: Value, right: Value, carry: Value) -> Value:
    """Return ``left + right + carry``, modulo the width of ``left``, made by one adder."""
    wide = Cat(carry, left).as_signed() + Cat(carry, right).as_signed()
    return wide[1 : 1 + len(left)].as_signed()


def outlier_products(m: Module, config: ArrayConfig, a: Value, outliers: data.View) -> list[Value]:
    """Return the products of a column's activation and a step's outliers; ``m`` gets the units."""
    products = []
    for n, weight in enumerate(outliers):
        m.submodules[f"outlier{n}"] = unit = OutlierProduct(config)
        m.d.comb += [unit.a.eq(a), unit.w.eq(weight)]
        products.append(unit.o)
    return products


class Products(wiring.Component):
    """Sums of a token: the activation's product with every centroid is made once, and each row
    adds the one that its index selects to its only accumulator.

    Paper
    -----
    Our own choice, the dual of the published PE: docs/accelerator.md section 2.

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
    codebook : In, ``shared`` x signed(``grid_width``)
        Shared centroids of the same step, ``codebook_delay`` cycles after ``a``.
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
    Exact when every row's sum of ``|weight|`` is below 2^``weight_sum_width``.
    """

    codebook_delay = 1
    select_delay = 2
    latency = 5

    def __init__(self, config: ArrayConfig):
        self.config = config
        assert self.select_delay == OutlierProduct.latency
        lanes = data.ArrayLayout(self.sum_shape(config), config.drain_lanes)
        super().__init__({
            "a": In(signed(config.act_width)),
            "outliers": In(data.ArrayLayout(OutlierWeightLayout(config), config.outliers_per_step)),
            "codebook": In(data.ArrayLayout(signed(config.grid_width), config.shared)),
            "select": In(SelectLayout(config)),
            "shift": In(1),
            "chain": In(lanes),
            "o": Out(lanes),
        })

    @staticmethod
    def sum_shape(config: ArrayConfig) -> signed:
        """Return the shape of what a row's sum is when it leaves: the sum."""
        return signed(config.acc_width)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.holding = holding = Holding(
            self.sum_shape(config), config.rows, config.drain_lanes
        )
        outliers = outlier_products(m, config, self.a, self.outliers)
        a = delayed(m, self.a, self.codebook_delay, "a")
        width = config.act_width + config.grid_width - 1
        products = [Signal(signed(width), name=f"product{n}", reset_less=True)
                    for n in range(config.shared)]  # fmt: skip
        for product, centroid in zip(products, self.codebook, strict=True):
            m.d.sync += product.eq(a * centroid)

        # A row's term, then its sum. The complement of a term with a carry is its negative.
        first = delayed(m, self.select.first, 1, "first")
        for number, row in enumerate(self.select.rows):
            term = Signal(signed(config.acc_width), name=f"term{number}", reset_less=True)
            carry = Signal(name=f"carry{number}", reset_less=True)
            total = Signal(signed(config.acc_width), name=f"total{number}", reset_less=True)
            product = Signal(signed(width), name=f"selected{number}")
            m.d.comb += product.eq(Array(products)[row.index] & row.take.replicate(width))
            outlier = one_hot(config.acc_width, list(zip(row.hits, outliers, strict=True)))
            before = Mux(first, 0, total)
            if config.symmetric:
                negate = row.negate & row.take
                m.d.sync += [
                    term.eq(Mux(negate, ~product, product) | outlier),
                    carry.eq(negate),
                    total.eq(add(before, term, carry)),
                ]
            else:
                m.d.sync += [term.eq(product | outlier), total.eq(before + term)]
            m.d.comb += holding.sums[number].eq(total)
        m.d.comb += [
            holding.load.eq(delayed(m, self.select.last, 2, "last")),
            holding.shift.eq(self.shift),
            holding.chain.eq(self.chain),
            self.o.eq(holding.o),
        ]
        return m
