"""The multiply-accumulate PE: what an array without GOBO has, to measure the others against."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..decode.unpacker import one_hot
from ..formats import VALUE_FORMATS
from .arith import delayed
from .column import Column
from .float_adder import FloatAdder
from .float_multiplier import FloatMultiplier

__all__ = ["Mac", "MacPE", "MacStepLayout"]

_FP16, _FP32 = VALUE_FORMATS["fp16"], VALUE_FORMATS["fp32"]


class MacStepLayout(data.StructLayout):
    """A weight and its activation, and whether they are the ``first`` and ``last`` of a sum."""

    def __init__(self) -> None:
        super().__init__({"weight": _FP16.width, "act": _FP16.width, "first": 1, "last": 1})


class MacPE(wiring.Component):
    """Multiplies FP16 weights and activations and adds the products up in FP32.

    An addition takes several cycles, so as many sums are under way at once, for tokens that share
    the weights: they go round in the registers of the adder, and need no others.

    Paper
    -----
    None: the reference of GOBO's comparison is a Tensor-Core-like unit;
    docs/decisions/reference-pes.md.

    Parameters
    ----------
    multiplier_latency : int
        Cycles of the multiplier, 0 to 4; with 0 and 1 the step has no register of its own.
    adder_latency : int
        Cycles of the adder, 1 to 6; ``interleave`` is the same.

    Members
    -------
    valid : In, 1
        There is a step in this cycle.
    step : In, MacStepLayout
        The steps of one sum are a multiple of ``interleave`` cycles apart, those of ``interleave``
        sums in turn; a cycle without a step leaves its sum as it is.
    done : Out, 1
        A sum is ready, for one cycle.
    o : Out, 32
        That sum, FP32.

    Timing
    ------
    A step in every cycle; ``done`` is set ``latency`` cycles after the ``last`` of a sum.

    Numerics
    --------
    A sum begins with +0; the exact products are added one after the other in the order of the
    steps, each sum rounded to nearest even as in :class:`FloatAdder`. No sum of finite products is
    infinite, if it has fewer than 2 to the 95 steps.
    """

    def __init__(self, multiplier_latency: int = 3, adder_latency: int = 5):
        if adder_latency == 0:
            raise ValueError("adder_latency must be in 1..6 cycles, not 0: a register has the sum")
        self._multiplier = FloatMultiplier(multiplier_latency)
        self._adder = FloatAdder(_FP32, adder_latency, running=True)
        self.interleave = adder_latency
        self.latency = multiplier_latency + adder_latency
        super().__init__({
            "valid": In(1), "step": In(MacStepLayout()), "done": Out(1), "o": Out(_FP32.width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = self._multiplier
        m.submodules.adder = adder = self._adder
        flags = Cat(self.valid, self.valid & self.step.first, self.valid & self.step.last)
        valid, first, last = delayed(m, flags, multiplier.latency, "flags", reset=True)
        m.d.comb += [
            multiplier.a.eq(self.step.weight),
            multiplier.b.eq(self.step.act),
            adder.a.eq(adder.o),
            adder.b.eq(multiplier.o),
            adder.first.eq(first),
            adder.valid.eq(valid),
            self.o.eq(adder.o),
            self.done.eq(delayed(m, last, adder.latency, "done", reset=True)),
        ]
        return m


class Mac(Column):
    """Sums of a token: each row looks its weight up and has a multiplier and an adder in floating
    point.

    The adder takes one cycle, so that a sum takes a product in every cycle and an array of these
    PEs the steps that the others take; :class:`MacPE` has the adder with stages.

    Paper
    -----
    None: docs/decisions/reference-pes.md.

    Numerics
    --------
    Those of :class:`MacPE`, in the order of the steps: of one step a row takes one product. No sum
    is -0.
    """

    codebook_delay = Column.select_delay

    @staticmethod
    def sum_shape(config: ArrayConfig) -> unsigned:
        """Return the shape of what a row's sum is when it leaves: the bits of FP32."""
        return unsigned(_FP32.width)

    @classmethod
    def latency_of(cls, config: ArrayConfig) -> int:
        """Return the cycles until weight, product, sum and the registers of finished sums."""
        return cls.select_delay + 4

    def sums(self, m: Module) -> list[Value]:
        """Return the rows' sums; ``m`` gets what makes them."""
        outliers = [delayed(m, value, self.select_delay, f"outlier{n}")
                    for n, value in enumerate(self.outliers)]  # fmt: skip
        act = delayed(m, self.a, self.select_delay + 1, "a")
        rows = self.select[0].rows
        multipliers = [FloatMultiplier(1) for _ in rows]
        since = 1 + multipliers[0].latency  # cycles from `select` to the adders
        first = delayed(m, self.select[0].first, since, "first")
        totals = []
        for number, (row, multiplier) in enumerate(zip(rows, multipliers, strict=True)):
            m.submodules[f"multiplier{number}"] = multiplier
            m.submodules[f"adder{number}"] = adder = FloatAdder(_FP32, 1)
            assert self.latency == self.select_delay + since + adder.latency + 1
            takes = delayed(m, row.picks.any() | row.hits.any(), since, f"takes{number}")
            weight = Signal(_FP16.width, name=f"weight{number}", reset_less=True)
            choices = [*zip(row.picks, self.codebook, strict=True),
                       *zip(row.hits, outliers, strict=True)]  # fmt: skip
            sign = row.negate << (_FP16.width - 1)
            m.d.sync += weight.eq(one_hot(_FP16.width, choices) ^ sign)
            m.d.comb += [
                multiplier.a.eq(weight),
                multiplier.b.eq(act),
                # No sum is -0, since it began with +0; so +0 leaves any sum as it is.
                adder.a.eq(Mux(first, 0, adder.o)),
                adder.b.eq(Mux(takes, multiplier.o, 0)),
            ]
            totals.append(adder.o)
        return totals
