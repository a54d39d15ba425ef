"""The PE of the paper's words, in FP16: activations are added up by index as they are."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..decode.unpacker import one_hot
from ..formats import VALUE_FORMATS
from .arith import delayed
from .bins import store
from .column import Column
from .combine import Combine
from .float_adder import FloatAdder
from .float_multiplier import FloatMultiplier

__all__ = ["BinsFp16", "BinsFp16PE", "BinsFp16RowLayout", "BinsFp16StepLayout", "CombineFp16"]

_FP16, _FP32 = VALUE_FORMATS["fp16"], VALUE_FORMATS["fp32"]


class BinsFp16StepLayout(data.StructLayout):
    """An activation and the index of its weight; with ``outlier`` it has none. ``first`` and
    ``last`` of a sum."""

    def __init__(self, index_width: int):
        super().__init__({
            "act": _FP16.width, "index": index_width, "outlier": 1, "first": 1, "last": 1,
        })  # fmt: skip


class BinsFp16PE(wiring.Component):
    """Adds FP16 activations up by the index of their weight, each sum in FP16.

    The products are not its own: a :class:`MacPE`, shared by several, takes first the outliers
    times their weights, then the bins times their centroids.

    Paper
    -----
    GOBO (MICRO 2020): one accumulator a centroid, the multiplications at the end; in FP16, as the
    activations are. The rest is our reading: docs/decisions/reference-pes.md.

    Parameters
    ----------
    index_width : int
        Bits of an index, 2 to 4.
    symmetric : bool
        Centroid ``n`` from the top is centroid ``n`` with the other sign: half the bins, and an
        activation of the upper half is taken from the bin of its mirror image.

    Members
    -------
    valid : In, 1
        There is a step in this cycle.
    step : In, BinsFp16StepLayout
        The step.
    done : Out, 1
        A sum is ready, for one cycle.
    o : Out, ``bins`` x 16 bits
        Its bins, FP16, in the order of their indexes.

    Timing
    ------
    A step in every cycle; ``done`` is set ``latency`` cycles after the ``last`` of a sum, and ``o``
    stays until ``latency`` cycles after the next ``first``.

    Numerics
    --------
    A bin begins with +0; its activations are added one after the other in the order of the
    steps, each sum rounded to nearest even as in :class:`FloatAdder`. Sums of thousands of
    activations lose bits, and may overflow to infinity: this is what FP16 bins do.
    """

    def __init__(self, index_width: int = 3, symmetric: bool = False):
        if index_width not in (2, 3, 4):
            raise ValueError(f"index_width must be in 2..4 bits, not {index_width!r}")
        self.index_width = index_width
        self.symmetric = symmetric
        self.bins = 1 << (index_width - symmetric)
        self.latency = 2
        super().__init__({
            "valid": In(1),
            "step": In(BinsFp16StepLayout(index_width)),
            "done": Out(1),
            "o": Out(data.ArrayLayout(_FP16.width, self.bins)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adder = adder = FloatAdder(_FP16)
        step = Signal(self.step.shape(), reset_less=True)
        valid = Signal()
        m.d.sync += [step.eq(self.step), valid.eq(self.valid), self.done.eq(valid & step.last)]

        place, mirrored = step.index, 0
        if self.symmetric:
            mirrored = step.index[-1]
            place = Mux(mirrored, ~step.index, step.index)[:-1]
        bins = [Signal(_FP16.width, name=f"bin{n}", reset_less=True) for n in range(self.bins)]
        with m.Switch(place):
            for n, value in enumerate(bins):
                with m.Case(n):
                    m.d.comb += adder.a.eq(Mux(step.first, 0, value))
        m.d.comb += adder.b.eq(step.act ^ (mirrored << (_FP16.width - 1)))

        for n, value in enumerate(bins):
            with m.If(valid & ~step.outlier & (place == n)):
                m.d.sync += value.eq(adder.o)
            with m.Elif(valid & step.first):
                m.d.sync += value.eq(0)
        m.d.comb += [self.o[n].eq(value) for n, value in enumerate(bins)]
        return m


class BinsFp16RowLayout(data.StructLayout):
    """A row's sum before its end: the sums of activations by shared centroid, FP16, and that of the
    outliers' products, FP32."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "bins": data.ArrayLayout(_FP16.width, config.shared), "outliers": _FP32.width,
        })  # fmt: skip


class BinsFp16(Column):
    """Sums of a token: each row adds the activation to the FP16 bin that its index selects. The
    outliers' products are added up in FP32 beside the bins, by a multiplier and an adder for each
    place of a step's outliers. :class:`CombineFp16` makes sums of both.

    Paper
    -----
    GOBO (MICRO 2020), as :class:`BinsFp16PE`: docs/decisions/reference-pes.md.

    Numerics
    --------
    Bins and sums begin with +0; activations are added to a bin, and products to a row's sum, one
    after the other in the order of the steps, each sum rounded as in :class:`FloatAdder`.
    """

    codebook_delay = None

    @staticmethod
    def sum_shape(config: ArrayConfig) -> BinsFp16RowLayout:
        """Return the shape of what a row's sum is when it leaves."""
        return BinsFp16RowLayout(config)

    @classmethod
    def latency_of(cls, config: ArrayConfig) -> int:
        """Return the cycles until what the rows take, sums and the registers of finished sums."""
        return cls.select_delay + 3

    def sums(self, m: Module) -> list[Value]:
        """Return what the rows hold; ``m`` gets what makes it."""
        config = self.config
        a = delayed(m, self.a, self.select_delay + 1, "a")
        select = delayed(m, self.select[0], 1, "select")
        rows = [Signal(BinsFp16RowLayout(config), name=f"sums{n}", reset_less=True)
                for n in range(config.rows)]  # fmt: skip

        # An outlier's adder takes the sum of the row that has it; no row has two in a cycle.
        afters = []
        for n, weight in enumerate(self.outliers):
            m.submodules[f"multiplier{n}"] = multiplier = FloatMultiplier(self.select_delay + 1)
            m.submodules[f"outlier_adder{n}"] = adder = FloatAdder(_FP32)
            before = one_hot(_FP32.width, [
                (row.hits[n], sums.outliers) for row, sums in zip(select.rows, rows, strict=True)
            ])  # fmt: skip
            m.d.comb += [
                multiplier.a.eq(weight),
                multiplier.b.eq(self.a),
                adder.a.eq(Mux(select.first, 0, before)),
                adder.b.eq(multiplier.o),
            ]
            afters.append(adder.o)

        for number, (row, sums) in enumerate(zip(select.rows, rows, strict=True)):
            with m.If(row.hits.any() | select.first):
                choices = list(zip(row.hits, afters, strict=True))
                m.d.sync += sums.outliers.eq(one_hot(_FP32.width, choices))
            m.submodules[f"adder{number}"] = adder = FloatAdder(_FP16)
            m.d.comb += [
                adder.a.eq(one_hot(_FP16.width, list(zip(row.reads, sums.bins, strict=True)))),
                adder.b.eq(a ^ (row.negate << (_FP16.width - 1))),
            ]
            for total, pick in zip(sums.bins, row.picks, strict=True):
                store(m, total, adder.o, pick, select.first)
        return rows


class CombineFp16(Combine):
    """Multiplies FP16 bins by centroids and adds the products up in FP32: a multiplier and an adder
    for each bin of ``drain_lanes`` rows, shared by the array.

    Paper
    -----
    GOBO (MICRO 2020), the multiplications at the end: docs/decisions/reference-pes.md.

    Numerics
    --------
    To the sum of the outliers' products those of centroids and bins are added one after the other
    in the order of their indexes, each sum rounded as in :class:`FloatAdder`.
    """

    column = BinsFp16

    @staticmethod
    def latency_of(config: ArrayConfig) -> int:
        """Return the cycles from ``i`` to ``o``: a product, and an addition for each bin."""
        return 1 + config.shared

    def sums(self, m: Module, move: Value) -> list[Value]:
        """Return the rows' sums, ``latency`` cycles with ``move`` after ``i``; ``m`` gets what
        makes them."""
        centroids = [delayed(m, centroid, n, f"centroid{n}", move)
                     for n, centroid in enumerate(self.codebook)]  # fmt: skip
        totals = []
        for lane, row in enumerate(self.i.payload.rows):
            total = delayed(m, row.outliers, 1, f"outliers_{lane}", move)
            for n, (value, centroid) in enumerate(zip(row.bins, centroids, strict=True)):
                name = f"{n}_{lane}"
                m.submodules[f"multiplier{name}"] = multiplier = FloatMultiplier()
                m.submodules[f"adder{name}"] = adder = FloatAdder(_FP32)
                m.d.comb += [
                    multiplier.a.eq(centroid),
                    multiplier.b.eq(delayed(m, value, n, f"bin{name}", move)),
                    adder.a.eq(total),
                    adder.b.eq(delayed(m, multiplier.o, 1, f"product{name}", move)),
                ]
                total = delayed(m, adder.o, 1, f"total{name}", move)
            totals.append(total)
        return totals
