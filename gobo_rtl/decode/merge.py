"""Groups of indexes and outlier records to weights."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import GoboConfig
from ..layout import GroupLayout, WeightLayout, WindowLayout
from .checks import Checks
from .crc import CRC_WIDTH
from .lanes import Lanes
from .schedule import Schedule

__all__ = ["Merge"]


class Merge(wiring.Component):
    """Holds a group until it is decoded, and closes a tile that breaks a rule.

    A group waits in a register with its codebook while :class:`Schedule` takes the records of its
    outliers. :class:`Lanes` is the output register: written with centroids once and with outliers
    as they come. :class:`Checks` condemns what is not as it must be.

    Paper
    -----
    Our own choice: docs/decisions/0001-two-linear-streams.md.

    Parameters
    ----------
    config : GoboConfig
        Uses ``lanes``, ``index_width``, ``value_width`` and ``outliers_per_cycle``.

    Members
    -------
    i : In, stream of GroupLayout
        Groups.
    codebook : In, ``bins`` x ``value_width`` bits
        The centroids of the layer whose first group is transferred on ``i``.
    index_crc16 : In, 16 bits
        In the cycle after a transfer on ``i``: the CRC-16 that its tile must have.
    window, valid, next_gap, next_valid : In
        Records of :class:`OutlierReader`.
    take : Out, number
        Records that leave the window in this cycle.
    kill, kill_colour : In, 3 bits and 1
        Not 0: close the tile of that colour with this error code instead of going on.
    stop : In, 1
        After an error: forget the group held and take none.
    o : Out, stream of WeightLayout
        Decoded groups.
    busy : Out, 1
        A group is held that is not given to ``o`` yet.
    failing : Out, 1
        In this cycle a tile is condemned: its closing transfer is at the output or enters it.
    error_code : Out, 3 bits
        Why, with ``failing``.

    Timing
    ------
    ``o.valid`` 2 cycles after the transfer on ``i``; a group a cycle, plus one for each
    ``outliers_per_cycle`` records of a group after the first as many. ``o.ready`` acts on
    ``i.ready`` in the same cycle.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: GoboConfig):
        self.config = config
        count = config.outliers_per_cycle
        super().__init__({
            "i": In(stream.Signature(GroupLayout(config))),
            "codebook": In(data.ArrayLayout(config.value_width, config.bins)),
            "index_crc16": In(CRC_WIDTH),
            "window": In(data.ArrayLayout(WindowLayout(config), count)),
            "valid": In(count),
            "next_gap": In(2),
            "next_valid": In(1),
            "take": Out(range(count + 1)),
            "kill": In(3),
            "kill_colour": In(1),
            "stop": In(1),
            "o": Out(stream.Signature(WeightLayout(config))),
            "busy": Out(1),
            "failing": Out(1),
            "error_code": Out(3),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i, o = self.config, self.i, self.o
        m.submodules.schedule = schedule = Schedule(config)
        m.submodules.lanes = lanes = Lanes(config)
        m.submodules.checks = checks = Checks(config)

        # Group: held with its codebook until all of its outliers are in.
        group = Signal(GroupLayout(config), reset_less=True)
        codebook = Signal(self.codebook.shape(), reset_less=True)
        fresh, done = Signal(), schedule.done
        load = i.valid & i.ready
        m.d.comb += i.ready.eq(~self.busy | done)
        m.d.sync += fresh.eq(load)
        with m.If(i.ready):
            m.d.sync += self.busy.eq(i.valid)
        with m.If(load):
            m.d.sync += group.eq(i.payload)
            with m.If(i.payload.first):
                m.d.sync += codebook.eq(self.codebook)

        # The parts.
        valid, last, error = Signal(), Signal(), Signal()
        free = ~valid | o.ready
        forget = self.stop | self.failing
        m.d.comb += [
            self.take.eq(schedule.take),
            schedule.valid.eq(self.valid),
            schedule.next_gap.eq(self.next_gap),
            schedule.next_valid.eq(self.next_valid),
            schedule.start.eq(i.payload.start),
            schedule.empty.eq(i.payload.empty),
            schedule.outliers_end.eq(i.payload.outliers_end),
            schedule.held.eq(self.busy),
            schedule.go.eq(free & ~checks.disorder),
            schedule.forget.eq(forget),
            lanes.planes.eq(group.planes),
            lanes.codebook.eq(codebook),
            checks.group.eq(group),
            checks.fresh.eq(fresh),
            checks.index_crc16.eq(self.index_crc16),
            checks.done.eq(done),
            checks.left.eq(schedule.left),
            checks.ended.eq(schedule.ended),
            checks.kill.eq(self.kill),
            checks.kill_colour.eq(self.kill_colour),
            checks.forget.eq(forget),
            *(part.window.eq(self.window) for part in (schedule, lanes, checks)),
        ]
        for part in (lanes, checks):
            m.d.comb += [
                part.due.eq(schedule.due),
                part.step.eq(schedule.step),
                part.partial.eq(schedule.partial),
            ]

        # Output: a condemned transfer, or one made to close the tile, is the last.
        bad = checks.bad
        present = ~self.busy | (group.colour == self.kill_colour)
        killed = (self.kill != 0) & present & ~self.stop
        m.d.comb += [
            self.failing.eq(bad | (killed & free)),
            self.error_code.eq(checks.error_code),
            o.valid.eq(valid | bad),
            o.payload.values.eq(lanes.values),
            o.payload.last.eq(last | bad),
            o.payload.error.eq(error | bad),
        ]
        with m.If(bad):
            m.d.sync += [valid.eq(~o.ready), last.eq(1), error.eq(1)]
        with m.Elif(free):
            m.d.sync += [
                valid.eq(done | killed), last.eq((done & group.last) | killed), error.eq(killed)
            ]  # fmt: skip
        with m.If(forget):
            m.d.sync += self.busy.eq(0)
        return m
