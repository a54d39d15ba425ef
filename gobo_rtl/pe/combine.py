"""The end of a sum: what the rows held becomes sums."""

from typing import ClassVar

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import SumsLayout, centroid_shape
from .arith import delayed
from .bins import Bins
from .column import Column
from .multiply import MULTIPLES_LATENCY, PRODUCT_LATENCY, multiplier
from .products import Products
from .split import cuts, joined

__all__ = ["BinSumsLayout", "Combine", "Resolve"]


class BinSumsLayout(data.StructLayout):
    """:class:`SumsLayout` before the centroids are multiplied in: in place of the sums, ``rows`` as
    a column gives them."""

    def __init__(self, config: ArrayConfig, column: type[Column] = Bins):
        rest = {name: field.shape for name, field in SumsLayout(config) if name != "sums"}
        rows = data.ArrayLayout(column.sum_shape(config), config.drain_lanes)
        super().__init__({"rows": rows, **rest})


class Combine(wiring.Component):
    """Multiplies bins by centroids and adds up: ``drain_lanes`` rows a cycle, shared by the array.

    Paper
    -----
    The published idea, multiplication at the end: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``shared``, ``drain_lanes`` and the widths.

    Members
    -------
    i : In, stream of BinSumsLayout
        Rows as the column gives them.
    codebook : In, ``shared`` x ``centroid_shape``
        Shared centroids, read with every transfer on ``i``.
    o : Out, stream of SumsLayout
        Their sums.

    Timing
    ------
    ``o.valid`` ``latency`` cycles after the transfer on ``i``; a transfer a cycle. ``o.ready`` acts
    on ``i.ready`` in the same cycle: all stages move or none.

    Numerics
    --------
    Exact when every row's sum of ``|weight|`` is below 2^``weight_sum_width``.
    """

    column: ClassVar[type[Column]] = Bins
    multiplies: ClassVar[bool] = True

    def __init__(self, config: ArrayConfig):
        self.config = config
        shared = data.ArrayLayout(centroid_shape(config), config.shared)
        super().__init__({
            "i": In(stream.Signature(BinSumsLayout(config, self.column))),
            **({"codebook": In(shared)} if self.multiplies else {}),
            "o": Out(stream.Signature(SumsLayout(config))),
        })

    @staticmethod
    def latency_of(config: ArrayConfig) -> int:
        """Return the cycles from ``i`` to ``o``: rows read, multiples of the bins, products, and
        levels of adders."""
        return 1 + MULTIPLES_LATENCY + PRODUCT_LATENCY + config.shared.bit_length()

    @property
    def latency(self) -> int:
        """Cycles from ``i`` to ``o``."""
        return self.latency_of(self.config)

    def sums(self, m: Module, move: Value) -> list[Value]:
        """Return the rows' sums, ``latency`` cycles with ``move`` after ``i``; ``m`` gets what
        makes them."""
        # A centroid as its bin's products take it.
        sums, codebook = [], delayed(m, self.codebook, MULTIPLES_LATENCY, "codebook", move)
        unit = multiplier(self.config)
        factors = [delayed(m, unit.coded(c), 1, f"factor{n}_", move)
                   for n, c in enumerate(codebook)]  # fmt: skip
        for lane, row in enumerate(delayed(m, self.i.payload.rows, 1, "rows", move)):
            def stage(value: Value, name: str, lane: int = lane) -> Value:
                """Return ``value`` registered, modulo the width of a sum."""
                made = Signal(signed(self.config.acc_width), name=f"{name}_{lane}")
                with m.If(move):
                    m.d.sync += made.eq(value)
                return made

            pieces = [row[f"piece{n}"] for n in range(len(cuts(self.config.bin_width)) - 1)]
            bins = [Cat(*bits).as_signed() for bits in zip(*pieces, strict=True)]
            terms = []
            for n, (total, centroid) in enumerate(zip(bins, factors, strict=True)):
                multiples = unit.multiples(m, total, f"bin{n}_{lane}", move)
                terms.append(unit.product(
                    m, multiples, centroid, self.config.acc_width, f"product{n}_{lane}", move
                ))  # fmt: skip
            beside = stage(joined(row.outliers), "joined")
            waits = MULTIPLES_LATENCY + PRODUCT_LATENCY - 1
            terms.append(delayed(m, beside, waits, f"outliers{lane}", move))
            levels = 2 + waits
            while len(terms) > 1:
                pairs = [terms[n : n + 2] for n in range(0, len(terms), 2)]
                terms = [stage(sum(pair[1:], pair[0]), "sum") for pair in pairs]
                levels += 1
            assert levels == self.latency
            sums.append(terms[0])
        return sums

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, o = self.i, self.o
        move = Signal()
        valid = delayed(m, i.valid, self.latency, "valid", move, reset=True)
        m.d.comb += [o.valid.eq(valid), move.eq(~valid | o.ready), i.ready.eq(move)]
        made = self.sums(m, move)
        m.d.comb += [out.eq(total) for out, total in zip(o.payload.sums, made, strict=True)]
        names = [name for name, _ in o.payload.shape() if name != "sums"]
        rest = Cat(i.payload[name] for name in names)
        m.d.comb += Cat(o.payload[name] for name in names).eq(
            delayed(m, rest, self.latency, "rest", move)
        )
        return m


class Resolve(Combine):
    """Adds the carries that wait in the sums of products: ``drain_lanes`` rows a cycle, shared by
    the array.

    Paper
    -----
    Our own choice: docs/accelerator.md section 2.

    Members
    -------
    i : In, stream of BinSumsLayout
        Rows as the column gives them.
    o : Out, stream of SumsLayout
        Their sums.
    """

    column = Products
    multiplies = False

    @staticmethod
    def latency_of(config: ArrayConfig) -> int:
        """Return the cycles from ``i`` to ``o``: rows read, and their sums."""
        return 2

    def sums(self, m: Module, move: Value) -> list[Value]:
        """Return the rows' sums, ``latency`` cycles with ``move`` after ``i``; ``m`` gets what
        makes them."""
        sums = []
        for lane, row in enumerate(delayed(m, self.i.payload.rows, 1, "rows", move)):
            total = Signal(signed(self.config.acc_width), name=f"sum_{lane}", reset_less=True)
            with m.If(move):
                m.d.sync += total.eq(joined(row.low, row.above))
            sums.append(total)
        return sums
