"""Which of the next records belong to the group held."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import GoboConfig
from ..layout import WindowLayout
from .unpacker import any_of

__all__ = ["Schedule"]


class Schedule(wiring.Component):
    """Takes the records of the group held out of the window, a step a cycle.

    The next record is due when the groups counted since the last one are its gap; those that follow
    it by ``more`` are due with it. Whether the next one is, is known from a register: it was
    compared in the cycle before, for the group held and for the one after. Does not check records:
    :class:`Checks` does.

    Paper
    -----
    Our own choice: docs/formats.md section 4.3.

    Parameters
    ----------
    config : GoboConfig
        Uses ``outliers_per_cycle`` and ``gap_width``.

    Members
    -------
    window, valid, next_gap, next_valid : In
        Records of :class:`OutlierReader`.
    take : Out, number
        Records that leave the window in this cycle.
    start, empty, outliers_end : In, 1
        Of the group that comes next: the tile begins, it has no records, and it ends the outlier
        stream of the layer. The last two are read with ``start``; anything while no group is
        there.
    held : In, 1
        There is a group whose records are to be taken.
    go : In, 1
        A step may be made.
    forget : In, 1
        After an error: the group held is none any more.
    due : Out, ``outliers_per_cycle`` bits
        Bit n: record n of the window is there and of the group held.
    step : Out, 1
        In this cycle the group held and the records due are used.
    done : Out, 1
        With ``step``: it was the group's last.
    partial : Out, 1
        The group held had a step before.
    left : Out, 1
        The tile has records that do not come with this step.
    ended : Out, 1
        The layer's outlier stream ends with this tile, as far as told: known when all records of
        the tile have come.

    Timing
    ------
    A step a cycle while ``go`` and records are there. A group takes one, plus one for each
    ``outliers_per_cycle`` records after the first as many.

    Numerics
    --------
    The count of groups since the last record stops at its greatest, an escape's gap.
    """

    def __init__(self, config: GoboConfig):
        self.config = config
        count = config.outliers_per_cycle
        super().__init__({
            "window": In(data.ArrayLayout(WindowLayout(config), count)),
            "valid": In(count),
            "next_gap": In(2),
            "next_valid": In(1),
            "take": Out(range(count + 1)),
            "start": In(1),
            "empty": In(1),
            "outliers_end": In(1),
            "held": In(1),
            "go": In(1),
            "forget": In(1),
            "due": Out(count),
            "step": Out(1),
            "done": Out(1),
            "partial": Out(1),
            "left": Out(1),
            "ended": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, step, done, partial = (
            self.config.outliers_per_cycle, self.step, self.done, self.partial,
        )  # fmt: skip

        # Records due: the first one's part is a register, and so is whether it is not known.
        pending = Signal(reset_less=True)  # the tile has records that have not come
        since = Signal(self.config.gap_width, reset_less=True)  # groups from the last record's
        first_due, unknown = Signal(), Signal()
        follows = [entry.record.more for entry in self.window]
        due: list[Value] = [first_due]
        for n in range(1, count):
            due.append(due[n - 1] & follows[n - 1] & self.valid[n])
        ends = any_of([due[n] & self.window[n].end for n in range(count)])
        ends_last = any_of([
            here & entry.end & entry.last for here, entry in zip(due, self.window, strict=True)
        ])  # fmt: skip
        more = any_of([
            due[n] & follows[n] & (~due[n + 1] if n + 1 < count else 1) for n in range(count)
        ])
        outliers_end = Signal(reset_less=True)
        m.d.comb += [
            self.due.eq(Cat(due)),
            step.eq(self.held & self.go & ~unknown),
            done.eq(step & ~more),
            self.take.eq(Mux(step, sum(due[1:], due[0]), 0)),
            self.left.eq(pending & ~ends),
            self.ended.eq(Mux(ends, ends_last, outliers_end)),
        ]

        # The next cycle. A tile's first group comes, or nothing does: recomputed until it is there.
        begin = self.start & (~self.held | done)
        after_since = Mux(since.all(), since, since + 1)
        next_since, next_partial, next_pending = Signal.like(since), Signal(), Signal()
        match, stale = Signal(), Signal()
        m.d.comb += [
            next_partial.eq(~self.forget & Mux(step, more, partial)),
            next_pending.eq(Mux(begin, ~self.empty, pending & ~(step & ends))),
            next_since.eq(Mux(begin, 0, Mux(first_due, Mux(step, done, since),
                                            Mux(done, after_since, since)))),
        ]  # fmt: skip
        with m.If(begin):
            m.d.comb += match.eq(self.next_gap[0])
        with m.Elif(step & first_due):
            m.d.comb += match.eq(more | Mux(done, self.next_gap[1], self.next_gap[0]))
        with m.Elif(unknown & ~self.valid[0]):  # a record that comes after a wait
            m.d.comb += [match.eq(partial | self.next_gap[0]), stale.eq(since != 0)]
        with m.Elif(unknown | done):
            gap = self.window[0].record.gap
            m.d.comb += match.eq(gap == Mux(unknown, since, after_since))
        with m.Else():
            m.d.comb += match.eq(first_due)
        m.d.sync += [
            since.eq(next_since),
            partial.eq(next_partial),
            pending.eq(next_pending),
            first_due.eq(next_pending & self.next_valid & ~stale & match),
            unknown.eq(next_pending & (~self.next_valid | stale)),
        ]
        with m.If(begin):
            m.d.sync += outliers_end.eq(self.outliers_end)
        with m.Elif(step & ends):
            m.d.sync += outliers_end.eq(ends_last)
        return m
