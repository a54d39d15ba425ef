"""A column of the array that multiplies first: products shared by its rows."""

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, ValueLike
from amaranth.lib import data

from ..array_config import ArrayConfig
from ..decode.unpacker import one_hot
from .arith import delayed
from .column import Column
from .multiply import MULTIPLES_LATENCY, PRODUCT_LATENCY, multiplier
from .outlier import OutlierProduct
from .split import SplitLayout, add_split

__all__ = ["OUTLIER_DELAY", "Products", "ProductsRowLayout", "accumulated", "outlier_products"]


OUTLIER_DELAY = MULTIPLES_LATENCY + OutlierProduct.latency
"""Cycles from a column's activation to the products with outliers."""


def outlier_products(column: Column, m: Module, multiples: list[Value]) -> list[Value]:
    """Return the products of an activation, whose multiples are given, and the outliers of the same
    step, ``OutlierProduct.latency`` cycles later; ``m`` gets the units."""
    weights = delayed(m, column.outliers, MULTIPLES_LATENCY, "weights")
    products = []
    for n, weight in enumerate(weights):
        m.submodules[f"outlier{n}"] = unit = OutlierProduct(column.config)
        m.d.comb += unit.w.eq(weight)
        m.d.comb += [one.eq(times) for one, times in zip(unit.multiples, multiples, strict=True)]
        products.append(unit.o)
    return products


def product_width(config: ArrayConfig) -> int:
    """Return the bits of the product of an activation and a centroid."""
    return config.act_width + config.grid_width - 1


def low_width(config: ArrayConfig) -> int:
    """Return the bits of a sum that are as wide as a product."""
    return min(product_width(config), config.acc_width)


ABOVE_PIECE = 5
"""Most bits of a piece above: what is added there has to be chosen first."""


class ProductsRowLayout(data.StructLayout):
    """A row's sum before its end: what is as wide as a product, and what is ``above``, a cycle
    later."""

    def __init__(self, config: ArrayConfig):
        width = low_width(config)
        above = SplitLayout(config.acc_width - width, ABOVE_PIECE)
        super().__init__({"low": SplitLayout(width), "above": above})


def accumulated(
    m: Module, total: data.View, term: Value, carry: ValueLike, last: Value, hit: Value,
    outlier: Value, outlier_hit: Value, last_above: Value, name: str,
) -> Value:  # fmt: skip
    """Add a ``term`` and a ``carry`` to a row's sum, the signal ``total``, and in the next cycle
    the rest of both to the bits above; ``m`` gets what does it. Return what the sum becomes when
    it is not cleared: the bits above belong to the cycle before.

    ``hit``: the term is an outlier's, whose bits above are ``outlier`` a cycle later, with
    ``outlier_hit``; another term's are its sign. With ``last``, and for the bits above a cycle
    later with ``last_above``, the sum is 0 afterwards.
    """
    low, carry = add_split(m, total.low, term, carry, last, f"low{name}")
    size = len(total.above.bits)
    sign = Signal(name=f"sign{name}", reset_less=True)
    m.d.sync += sign.eq(term[-1] & ~hit)
    with m.If(last_above | outlier_hit | (sign ^ carry)):
        above, _ = add_split(m, total.above, outlier | sign.replicate(size), carry, last_above,
                             f"above{name}")  # fmt: skip
    return Cat(low, above)


class Products(Column):
    """Sums of a token: the activation's product with every centroid is made once, and each row
    adds the one that its index selects to its only accumulator. :class:`Resolve` makes sums of
    what the rows hold.

    A product is narrower than a sum. The bits above it change only with a carry, the sign of a
    product or an outlier, and move only then.

    Paper
    -----
    Our own choice, the dual of the published PE: docs/accelerator.md section 2.

    Numerics
    --------
    Exact when every row's sum of ``|weight|`` is below 2^``weight_sum_width``.
    """

    codebook_delay = OUTLIER_DELAY - PRODUCT_LATENCY
    select_delay = OUTLIER_DELAY

    @staticmethod
    def codebook_shape(config: ArrayConfig) -> Shape | data.Layout:
        """Return the shape of a centroid as its products take it."""
        return multiplier(config).coded_shape(config.grid_width)

    @staticmethod
    def coded(config: ArrayConfig, centroid: Value) -> Value:
        """Return a centroid as the column takes it."""
        return multiplier(config).coded(centroid)

    @staticmethod
    def sum_shape(config: ArrayConfig) -> ProductsRowLayout:
        """Return the shape of what a row's sum is when it leaves: pieces and carries."""
        return ProductsRowLayout(config)

    @classmethod
    def parts_of(cls, config: ArrayConfig) -> list[int]:
        """Return the bits that are as wide as a product, and those above, if there are any."""
        row = ProductsRowLayout(config)
        return [width for width in (row["above"].offset, row["above"].width) if width]

    @staticmethod
    def stages_of(config: ArrayConfig) -> int:
        """Return the cycles of a sum and of the bits above."""
        return 2

    @classmethod
    def latency_of(cls, config: ArrayConfig) -> int:
        """Return the cycles until the products, and the registers of finished sums and of the bits
        above."""
        return cls.select_delay + len(cls.parts_of(config))

    def sums(self, m: Module) -> list[Value]:
        """Return the rows' sums; ``m`` gets what makes them."""
        config = self.config
        unit = multiplier(config)
        multiples = unit.multiples(m, self.a, "a")
        outliers = outlier_products(self, m, multiples)
        waits = self.codebook_delay - MULTIPLES_LATENCY
        late = [delayed(m, multiple, waits, f"a{n}_") for n, multiple in enumerate(multiples)]
        products = [unit.product(m, late, centroid, product_width(config), f"product{n}")
                    for n, centroid in enumerate(self.codebook)]  # fmt: skip
        width = low_width(config)
        above = [delayed(m, product[width:], 1, f"above{n}") for n, product in enumerate(outliers)]

        # A row's term and its sum. The complement of a term with a carry is its negative. A sum is
        # cleared when it goes, with its last term, to the registers of finished sums.
        last, last_above = (select.last for select in self.select)
        sums = []
        now, then = (select.rows for select in self.select)
        for number, (row, late) in enumerate(zip(now, then, strict=True)):
            total = Signal(ProductsRowLayout(config), name=f"total{number}", reset_less=True)
            term = Signal(width, name=f"term{number}")
            chosen = one_hot(width, [
                *zip(row.picks, products, strict=True), *zip(row.hits, outliers, strict=True),
            ])  # fmt: skip
            carry: Value = Const(0)
            if config.symmetric:
                chosen, carry = chosen ^ row.negate.replicate(width), row.negate
            m.d.comb += term.eq(chosen)
            outlier = one_hot(len(total.above.bits), list(zip(late.hits, above, strict=True)))
            sums.append(accumulated(
                m, total, term, carry, last, row.hits.any(), outlier, late.hits.any(), last_above,
                f"{number}",
            ))  # fmt: skip
        return sums
