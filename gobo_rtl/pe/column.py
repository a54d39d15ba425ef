"""What all columns of the array have in common: their ports, and the way out of finished sums."""

from abc import ABC, abstractmethod
from typing import ClassVar

from amaranth.hdl import Cat, Module, Shape, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import centroid_shape
from .arith import delayed
from .holding import Holding
from .outlier import OutlierWeightLayout
from .select import SelectLayout

__all__ = ["Column"]


class Column(wiring.Component, ABC):
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
    codebook : In, ``shared`` x ``codebook_shape``
        Shared centroids of the same step, ``codebook_delay`` cycles after ``a``; not looked at
        where that is None.
    select : In, ``stages`` x SelectLayout
        What the rows take of the same step, ``select_delay`` cycles after ``a``; each further
        stage has the same a cycle later. ``last`` is 1 after reset, which columns do without: so
        all sums are cleared.
    read : In, ``rows / drain_lanes``
        At most one bit is set: which rows' finished sums are at ``o``.
    o : Out, ``drain_lanes`` x ``sum_shape``
        Those sums, all 0 without any.

    Timing
    ------
    Moves in every cycle. After the ``last`` step of a sum its rows can be read from ``latency``
    cycles after ``a`` on; those of the sum before must have been read by then.

    Numerics
    --------
    The subclass's.
    """

    codebook_delay: ClassVar[int | None]
    select_delay: ClassVar[int] = 2

    def __init__(self, config: ArrayConfig):
        self.config = config
        lanes = data.ArrayLayout(self.sum_shape(config), config.drain_lanes)
        act, outlier = signed(config.act_width), OutlierWeightLayout(config)
        if config.floating:
            act, outlier = unsigned(config.act.width), unsigned(config.value.width)
        super().__init__({
            "a": In(act),
            "outliers": In(data.ArrayLayout(outlier, config.outliers_per_step)),
            "codebook": In(data.ArrayLayout(self.codebook_shape(config), config.shared)),
            "select": In(data.ArrayLayout(SelectLayout(config), self.stages_of(config))),
            "read": In(config.rows // config.drain_lanes),
            "o": Out(lanes),
        })

    @staticmethod
    def codebook_shape(config: ArrayConfig) -> Shape | data.Layout:
        """Return the shape of a shared centroid as the column takes it."""
        return centroid_shape(config)

    @staticmethod
    def coded(config: ArrayConfig, centroid: Value) -> Value:
        """Return a centroid as the column takes it."""
        return centroid

    @staticmethod
    @abstractmethod
    def sum_shape(config: ArrayConfig) -> Shape | data.Layout:
        """Return the shape of what a row's sum is when it leaves."""

    @classmethod
    def parts_of(cls, config: ArrayConfig) -> list[int]:
        """Return the bits of a row's sum that are finished together, those of ``sum_shape`` from
        the lowest on; each part a cycle after the one before it."""
        return [Shape.cast(cls.sum_shape(config)).width]

    @staticmethod
    def stages_of(config: ArrayConfig) -> int:
        """Return for how many cycles the column looks at what the rows take of a step."""
        return 1

    @classmethod
    @abstractmethod
    def latency_of(cls, config: ArrayConfig) -> int:
        """Return the cycles from ``a`` of the last step of a sum until its rows can be
        read."""

    @property
    def latency(self) -> int:
        """Cycles from ``a`` of the last step of a sum until its rows can be read."""
        return self.latency_of(self.config)

    @abstractmethod
    def sums(self, m: Module) -> list[Value]:
        """Return the rows' sums, whose last part is finished ``latency - 1`` cycles after the last
        ``a``; ``m`` gets what makes them."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        sums = [Value.cast(total) for total in self.sums(m)]
        parts = self.parts_of(config)
        # Cycles from `select` to the first part of a finished sum.
        since = self.latency - self.select_delay - len(parts)
        load = delayed(m, self.select[0].last, since, "last")
        at, ways = 0, []
        for n, width in enumerate(parts):
            m.submodules[f"holding{n}"] = holding = Holding(width, config.rows, config.drain_lanes)
            m.d.comb += [held.eq(total[at : at + width])
                         for held, total in zip(holding.sums, sums, strict=True)]  # fmt: skip
            m.d.comb += [holding.load.eq(load), holding.read.eq(self.read)]
            load = delayed(m, load, 1, f"load{n}")
            at += width
            ways.append(holding.o)
        m.d.comb += [Value.cast(out).eq(Cat(*row)) for out, *row in zip(self.o, *ways, strict=True)]
        return m
