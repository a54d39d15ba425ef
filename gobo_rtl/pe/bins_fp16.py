"""The PE of the paper's words, in FP16: activations are added up by index as they are."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..formats import VALUE_FORMATS
from .float_adder import FloatAdder

__all__ = ["BinsFp16PE", "BinsFp16StepLayout"]

_FP16 = VALUE_FORMATS["fp16"]


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
