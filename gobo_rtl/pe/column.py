"""What all columns of the array have in common: their ports, and the way out of finished sums."""

from typing import ClassVar

from amaranth.hdl import Module, Shape, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import centroid_shape
from .arith import delayed
from .holding import Holding
from .outlier import OutlierWeightLayout
from .select import SelectLayout

__all__ = ["Column"]


class Column(wiring.Component):
    """The sums of a token, one for each row: the interface of all PEs.

    What the rows do with a step is the subclass's, which has ``sum_shape``, ``sums`` and the class
    attributes; what is not said there is as it is here.

    Paper
    -----
    Our own choice: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``rows``, ``symmetric``, ``drain_lanes`` and the widths.

    Members
    -------
    a : In, signed(``act_width``) or 16
        Activation of a step: aligned, or for PEs that compute in floating point the bits of FP16.
    outliers : In, ``outliers_per_step`` x OutlierWeightLayout or 16
        Outliers of the same step, with ``a``; taken apart, or as bits.
    codebook : In, ``shared`` x ``centroid_shape``
        Shared centroids of the same step, ``codebook_delay`` cycles after ``a``; not looked at
        where that is None.
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
    The subclass's.
    """

    codebook_delay: ClassVar[int | None]
    select_delay: ClassVar[int] = 2
    latency: ClassVar[int]

    def __init__(self, config: ArrayConfig):
        self.config = config
        lanes = data.ArrayLayout(self.sum_shape(config), config.drain_lanes)
        act, outlier = signed(config.act_width), OutlierWeightLayout(config)
        if config.floating:
            act, outlier = unsigned(config.act.width), unsigned(config.value.width)
        super().__init__({
            "a": In(act),
            "outliers": In(data.ArrayLayout(outlier, config.outliers_per_step)),
            "codebook": In(data.ArrayLayout(centroid_shape(config), config.shared)),
            "select": In(SelectLayout(config)),
            "shift": In(1),
            "chain": In(lanes),
            "o": Out(lanes),
        })

    @staticmethod
    def sum_shape(config: ArrayConfig) -> Shape | data.Layout:
        """Return the shape of what a row's sum is when it leaves."""
        raise NotImplementedError

    def sums(self, m: Module) -> list[Value]:
        """Return the rows' sums, finished ``latency - 1`` cycles after the last ``a``; ``m`` gets
        what makes them."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.holding = holding = Holding(
            self.sum_shape(config), config.rows, config.drain_lanes
        )
        m.d.comb += [held.eq(total) for held, total in zip(holding.sums, self.sums(m), strict=True)]
        since = self.latency - self.select_delay - 1  # cycles from `select` to a finished sum
        m.d.comb += [
            holding.load.eq(delayed(m, self.select.last, since, "last")),
            holding.shift.eq(self.shift),
            holding.chain.eq(self.chain),
            self.o.eq(holding.o),
        ]
        return m
