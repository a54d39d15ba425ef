"""The lanes of the output: centroids, and outliers in their place."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import GoboConfig
from ..layout import WindowLayout
from .unpacker import any_of, one_hot

__all__ = ["Lanes"]


class Lanes(wiring.Component):
    """Looks centroids up and puts outliers in their place, in a register for each lane.

    Paper
    -----
    GOBO (MICRO 2020): a weight is codebook[index], or the outlier at its place.

    Parameters
    ----------
    config : GoboConfig
        Uses ``lanes``, ``index_width``, ``value_width`` and ``outliers_per_cycle``.

    Members
    -------
    planes : In, ``index_width`` x ``lanes`` bits
        The indexes of the group held, by planes.
    codebook : In, ``bins`` x ``value_width`` bits
        The centroids of its layer.
    window : In, ``outliers_per_cycle`` x WindowLayout
        The next records.
    due : In, ``outliers_per_cycle`` bits
        Which of them are of the group held.
    step : In, 1
        Write the lanes: outliers due, and with the group's first step centroids elsewhere.
    partial : In, 1
        The group held had a step before: lanes without an outlier keep what they have.
    values : Out, ``lanes`` x ``value_width`` bits
        The weights.

    Timing
    ------
    ``values`` are written at the end of a cycle with ``step``.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: GoboConfig):
        self.config = config
        count = config.outliers_per_cycle
        super().__init__({
            "planes": In(data.ArrayLayout(config.lanes, config.index_width)),
            "codebook": In(data.ArrayLayout(config.value_width, config.bins)),
            "window": In(data.ArrayLayout(WindowLayout(config), count)),
            "due": In(count),
            "step": In(1),
            "partial": In(1),
            "values": Out(data.ArrayLayout(config.value_width, config.lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, due, window = self.config, self.due, self.window
        records, escape = [entry.record for entry in window], [entry.escape for entry in window]
        count = len(records)
        values = [Signal(config.value_width, name=f"lane{n}", reset_less=True)
                  for n in range(config.lanes)]  # fmt: skip
        m.d.comb += self.values.as_value().eq(Cat(values))
        for lane, value in enumerate(values):
            here = [due[n] & ~escape[n] & (records[n].lane == lane) for n in range(count)]
            outlier = Signal(name=f"outlier{lane}")
            index = Cat(plane[lane] for plane in self.planes)
            m.d.comb += outlier.eq(any_of(list(here)))
            centroid = Signal(config.value_width, name=f"centroid{lane}")
            with m.Switch(index):
                for n in range(config.bins):
                    with m.Case(n):
                        m.d.comb += centroid.eq(self.codebook[n])
            with m.If(self.step & (outlier | ~self.partial)):
                m.d.sync += value.eq(Mux(outlier, one_hot(config.value_width, [
                    (here[n], records[n].value) for n in range(count)
                ]), centroid))  # fmt: skip
        return m
