"""A column of the array that adds first: an accumulator for every centroid in every row."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, ValueLike
from amaranth.lib import data

from ..array_config import ArrayConfig
from ..decode.unpacker import one_hot
from .arith import delayed
from .column import Column
from .multiply import multiplier
from .products import OUTLIER_DELAY, outlier_products
from .split import SplitLayout, add_split, cuts

__all__ = ["BinRowLayout", "Bins", "store"]


class BinRowLayout(data.StructLayout):
    """A row's sum before its end: the sum of the outliers' products, and the sums of activations by
    shared centroid in pieces, ``piece0`` the lowest, each finished a cycle after the one below."""

    def __init__(self, config: ArrayConfig):
        pieces = pairwise(cuts(config.bin_width))
        super().__init__({
            "outliers": SplitLayout(config.acc_width),
            **{f"piece{n}": data.ArrayLayout(high - low, config.shared)
               for n, (low, high) in enumerate(pieces)},
        })  # fmt: skip


def store(m: Module, total: Value, after: ValueLike, pick: ValueLike, first: ValueLike) -> None:
    """Put ``after`` into the bin ``total`` if the row picks it; with the first step of a sum every
    other bin is 0."""
    with m.If(Value.cast(pick) | first):
        m.d.sync += total.eq(Mux(pick, after, 0))


class Bins(Column):
    """Sums of a token: each row adds the activation to the bin that its index selects, and
    outliers' products to an accumulator beside them. :class:`Combine` makes sums of both.

    A bin is added to in pieces, a cycle after each other: so the next step finds the lower pieces
    of any bin as this one has left them.

    Paper
    -----
    The published idea, in integers: docs/accelerator.md section 2.

    Numerics
    --------
    Exact: ``bin_width`` holds ``max_inputs`` activations, ``acc_width`` every row whose sum of
    ``|weight|`` is below 2^``weight_sum_width``.
    """

    codebook_delay = None
    select_delay = OUTLIER_DELAY - 1  # outliers are a cycle behind

    @staticmethod
    def sum_shape(config: ArrayConfig) -> BinRowLayout:
        """Return the shape of what a row's sum is when it leaves."""
        return BinRowLayout(config)

    @classmethod
    def parts_of(cls, config: ArrayConfig) -> list[int]:
        """Return the bits of the outliers' sum and of all bins' lowest pieces, and those of each
        further piece."""
        row = BinRowLayout(config)
        sizes = [Shape.cast(field.shape).width for _, field in row]
        return [sizes[0] + sizes[1], *sizes[2:]]

    @staticmethod
    def stages_of(config: ArrayConfig) -> int:
        """Return the cycles of a bin's pieces, at least those until the outliers' products."""
        return max(2, len(cuts(config.bin_width)) - 1)

    @classmethod
    def latency_of(cls, config: ArrayConfig) -> int:
        """Return the cycles until the activation, the pieces of its bin and the registers of
        finished sums."""
        return cls.select_delay + 1 + len(cls.parts_of(config))

    def sums(self, m: Module) -> list[Value]:
        """Return what the rows hold; ``m`` gets what makes it."""
        config = self.config
        outliers = outlier_products(self, m, multiplier(config).multiples(m, self.a, "a"))
        rows = [Signal(BinRowLayout(config), name=f"sums{n}", reset_less=True)
                for n in range(config.rows)]  # fmt: skip
        last = self.select[1].last
        beside = []
        for number, (sums, row) in enumerate(zip(rows, self.select[1].rows, strict=True)):
            term = one_hot(config.acc_width, list(zip(row.hits, outliers, strict=True)))
            with m.If(last | row.hits.any()):
                after, _ = add_split(m, sums.outliers, term, 0, last, f"outliers{number}")
            beside.append(after)

        a = delayed(m, self.a, self.select_delay, "a").as_signed()
        wide = Signal(config.bin_width)
        m.d.comb += wide.eq(a)
        carries: list[Value] = [row.negate for row in self.select[0].rows]
        for n, (low, high) in enumerate(pairwise(cuts(config.bin_width))):
            part, select = delayed(m, wide[low:high], n, f"a{n}"), self.select[n]
            for number, (sums, row) in enumerate(zip(rows, select.rows, strict=True)):
                # One adder; the complement of an activation with a carry is its negative.
                size, bins = high - low, sums[f"piece{n}"]
                carry = Signal(name=f"carry{number}_{n}", reset_less=True)
                before = one_hot(size, list(zip(row.reads, bins, strict=True)))
                term = part ^ row.negate.replicate(size) if config.symmetric else part
                whole = Cat(Const(1, 1), before) + Cat(carries[number], term)
                m.d.sync += carry.eq(whole[size + 1])
                for total, pick in zip(bins, row.picks, strict=True):
                    store(m, total, whole[1 : size + 1], pick, select.first)
                carries[number] = carry
        size = len(rows[0].outliers.as_value())
        return [Cat(after, sums.as_value()[size:])
                for after, sums in zip(beside, rows, strict=True)]  # fmt: skip
