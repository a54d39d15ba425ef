"""A column of the array that multiplies first: products shared by its rows."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed

from ..array_config import ArrayConfig
from ..decode.unpacker import one_hot
from .arith import delayed
from .column import Column
from .outlier import OutlierProduct

__all__ = ["Products", "add", "outlier_products"]


def add(left: Value, right: Value, carry: Value) -> Value:
    """Return ``left + right + carry``, modulo the width of ``left``, made by one adder."""
    wide = Cat(carry, left).as_signed() + Cat(carry, right).as_signed()
    return wide[1 : 1 + len(left)].as_signed()


def outlier_products(column: Column, m: Module) -> list[Value]:
    """Return the products of a column's activation and a step's outliers, with ``select``; ``m``
    gets the units."""
    assert column.select_delay == OutlierProduct.latency
    products = []
    for n, weight in enumerate(column.outliers):
        m.submodules[f"outlier{n}"] = unit = OutlierProduct(column.config)
        m.d.comb += [unit.a.eq(column.a), unit.w.eq(weight)]
        products.append(unit.o)
    return products


class Products(Column):
    """Sums of a token: the activation's product with every centroid is made once, and each row
    adds the one that its index selects to its only accumulator.

    Paper
    -----
    Our own choice, the dual of the published PE: docs/accelerator.md section 2.

    Numerics
    --------
    Exact when every row's sum of ``|weight|`` is below 2^``weight_sum_width``.
    """

    codebook_delay = 1
    latency = 5

    @staticmethod
    def sum_shape(config: ArrayConfig) -> signed:
        """Return the shape of what a row's sum is when it leaves: the sum."""
        return signed(config.acc_width)

    def sums(self, m: Module) -> list[Value]:
        """Return the rows' sums; ``m`` gets what makes them."""
        config, outliers = self.config, outlier_products(self, m)
        a = delayed(m, self.a, self.codebook_delay, "a")
        width = config.act_width + config.grid_width - 1
        products = [Signal(signed(width), name=f"product{n}", reset_less=True)
                    for n in range(config.shared)]  # fmt: skip
        for product, centroid in zip(products, self.codebook, strict=True):
            m.d.sync += product.eq(a * centroid)

        # A row's term, then its sum. The complement of a term with a carry is its negative.
        first = delayed(m, self.select.first, 1, "first")
        totals = []
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
            totals.append(total)
        return totals
