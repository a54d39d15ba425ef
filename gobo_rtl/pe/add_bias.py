"""A bias and a sum in floating point to a result."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from .arith import Pipeline
from .float_adder import FloatAdder

__all__ = ["AddBias"]


class AddBias(wiring.Component):
    """Adds a bias to a sum of PEs that compute in floating point: what :class:`Round` is to the
    others.

    Paper
    -----
    None: docs/decisions/reference-pes.md.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``result_format``, which is ``fp32``.

    Members
    -------
    move : In, 1
        All stages move on; else all stay as they are.
    sum : In, 32 bits
        The sum, FP32.
    bias : In, 32 bits
        FP32, ``bias_delay`` moves after ``sum``.
    o : Out, 32 bits
        ``bias + sum``, ``latency`` moves after ``sum``.

    Timing
    ------
    A result a cycle.

    Numerics
    --------
    That of :class:`FloatAdder`. A bias of +0 leaves a sum as it is, since none is -0.
    """

    bias_delay = 1

    def __init__(self, config: ArrayConfig):
        self.config = config
        width = config.result.width
        super().__init__({
            "move": In(1), "sum": In(width), "bias": In(width), "o": Out(width),
        })  # fmt: skip

    @staticmethod
    def latency_of(config: ArrayConfig) -> int:
        """Return the moves from ``sum`` to ``o`` of a unit of ``config``."""
        return 2

    @property
    def latency(self) -> int:
        """Moves from ``sum`` to ``o``."""
        return self.latency_of(self.config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adder = adder = FloatAdder(self.config.result)
        pipe = Pipeline(m, self.move)
        before = pipe.stage(sum=self.sum)
        assert pipe.count == self.bias_delay
        m.d.comb += [adder.a.eq(before.sum), adder.b.eq(self.bias)]
        after = pipe.stage(o=adder.o)
        assert pipe.count == self.latency
        m.d.comb += self.o.eq(after.o)
        return m
