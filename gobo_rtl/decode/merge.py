"""Groups of indexes and outlier records to weights."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import GoboConfig
from ..formats import CRC16, ERRORS
from ..layout import GroupLayout, WeightLayout, WindowLayout, several_widths
from .crc import CRC_WIDTH, crc16_next
from .unpacker import any_of, one_hot

__all__ = ["Merge"]


class Merge(wiring.Component):
    """Looks centroids up and puts outliers in their place.

    A group waits in a register while the records of its outliers come; the lanes of the output
    register are written with centroids once and with outliers as they come. Checks the groups'
    CRC-16 and the order and place of records.

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
        count, bins = config.outliers_per_cycle, config.bins

        # Group: held with its codebook until all of its outliers are in.
        group = Signal(GroupLayout(config), reset_less=True)
        codebook = Signal(self.codebook.shape(), reset_less=True)
        done = Signal()
        load = i.valid & i.ready
        m.d.comb += i.ready.eq(~self.busy | done)
        with m.If(i.ready):
            m.d.sync += self.busy.eq(i.valid)
        with m.If(load):
            m.d.sync += group.eq(i.payload)
            with m.If(i.payload.first):
                m.d.sync += codebook.eq(self.codebook)

        # Records that belong to the group: the next one when its gap is reached, and those that
        # follow it by ``more``. Whether the next one does is known from a register: it was compared
        # in the cycle before, for the group held and for the one after.
        pending = Signal(reset_less=True)  # the tile has records that have not come
        partial = Signal()  # more of the group's records are to come
        since = Signal(config.gap_width, reset_less=True)  # groups from the last record's
        first_due = Signal()  # the next record is of this group
        unknown = Signal()  # whether it is cannot be told: it is not there, or not compared
        last_lane = Signal(config.lane_bits, reset_less=True)
        lane_counts = Signal(reset_less=True)  # the last record was no escape
        records = [entry.record for entry in self.window]
        escape = [entry.escape for entry in self.window]
        due: list[Value] = [first_due]
        for n in range(1, count):
            due.append(due[n - 1] & records[n - 1].more & self.valid[n])
        ends = any_of([due[n] & self.window[n].end for n in range(count)])
        ends_last = any_of([
            here & entry.end & entry.last for here, entry in zip(due, self.window, strict=True)
        ])  # fmt: skip
        more = any_of([
            due[n] & records[n].more & (~due[n + 1] if n + 1 < count else 1) for n in range(count)
        ])
        valid, last, error, bad = Signal(), Signal(), Signal(), Signal()
        disorder_r = Signal()
        free = ~valid | o.ready
        step = Signal()
        m.d.comb += [
            step.eq(self.busy & free & ~unknown & ~disorder_r),
            done.eq(step & ~more),
            self.take.eq(Mux(step, sum(due[1:], due[0]), 0)),
        ]
        # A tile's first group comes next, or nothing does: recomputed until it is there.
        begin = i.payload.start & (~self.busy | done)
        gap = records[0].gap
        after_since = Mux(since.all(), since, since + 1)
        next_since, next_partial, next_pending = Signal.like(since), Signal(), Signal()
        match, stale = Signal(), Signal()
        m.d.comb += [
            next_partial.eq(Mux(step, more, partial)),
            next_pending.eq(Mux(begin, ~i.payload.empty, pending & ~(step & ends))),
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
        with m.If(step):
            for n in range(count):
                with m.If(due[n]):
                    m.d.sync += [last_lane.eq(records[n].lane), lane_counts.eq(~escape[n])]
        outliers_end = Signal(reset_less=True)
        with m.If(begin):
            m.d.sync += outliers_end.eq(i.payload.outliers_end)
        with m.Elif(step & ends):
            m.d.sync += outliers_end.eq(ends_last)

        # Weights: each lane takes a centroid, an outlier, or keeps what it has.
        values = [Signal(config.value_width, name=f"lane{n}", reset_less=True)
                  for n in range(config.lanes)]  # fmt: skip
        m.d.comb += Cat(o.payload.values).eq(Cat(values))
        for lane, value in enumerate(values):
            here = [due[n] & ~escape[n] & (records[n].lane == lane) for n in range(count)]
            outlier = Signal(name=f"outlier{lane}")
            index = Cat(plane[lane] for plane in group.planes)
            m.d.comb += outlier.eq(any_of(list(here)))
            centroid = Signal(config.value_width, name=f"centroid{lane}")
            with m.Switch(index):
                for n in range(bins):
                    with m.Case(n):
                        m.d.comb += centroid.eq(codebook[n])
            with m.If(step & (outlier | ~partial)):
                m.d.sync += value.eq(Mux(outlier, one_hot(config.value_width, [
                    (here[n], records[n].value) for n in range(count)
                ]), centroid))  # fmt: skip

        # Checks: what a step finds is held for a cycle and then condemns the transfer that it made.
        remainder = Signal(CRC_WIDTH, reset_less=True)
        before = Mux(group.start, CRC16.initial, remainder)
        after = Signal(CRC_WIDTH)
        for width in config.index_widths:
            bits = Cat(group.planes)[: config.lanes * width]
            with m.If(group.index_width == width if several_widths(config) else 1):
                m.d.comb += after.eq(crc16_next(before, bits))
        with m.If(done):
            m.d.sync += remainder.eq(after)
        follows = [partial, *(record.more for record in records[:-1])]
        floors = [(last_lane, lane_counts)]
        floors += [(record.lane, ~e) for record, e in zip(records[:-1], escape[:-1], strict=True)]
        disorder = any_of([
            here & ((after_more & ((record.gap != 0) | (counts & (record.lane <= lane))))
                    | (entry.end & record.more))
            for here, after_more, record, (lane, counts), entry
            in zip(due, follows, records, floors, self.window, strict=True)
        ])  # fmt: skip
        finish = done & group.last
        outliers_last = Mux(ends, ends_last, outliers_end)
        finish_r, left_over, end_bad = Signal(), Signal(), Signal()
        fresh, sum_bad, colour_r = Signal(), Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            fresh.eq(load),
            finish_r.eq(finish),
            colour_r.eq(group.colour),
            disorder_r.eq(step & disorder),
            left_over.eq(finish & pending & ~ends),
            end_bad.eq(finish & (outliers_last != group.end)),
        ]
        with m.If(fresh):
            m.d.sync += sum_bad.eq(after != self.index_crc16)
        index_bad = finish_r & sum_bad
        late = finish_r & (self.kill == ERRORS["outlier_crc"]) & (self.kill_colour == colour_r)
        m.d.comb += bad.eq(index_bad | late | disorder_r | left_over | end_bad)
        with m.If(index_bad):
            m.d.comb += self.error_code.eq(ERRORS["index_crc"])
        with m.Elif(late):
            m.d.comb += self.error_code.eq(ERRORS["outlier_crc"])
        with m.Elif(disorder_r):
            m.d.comb += self.error_code.eq(ERRORS["record_order"])
        with m.Elif(left_over):
            m.d.comb += self.error_code.eq(ERRORS["record_place"])
        with m.Elif(end_bad):
            m.d.comb += self.error_code.eq(ERRORS["index_end"])
        with m.Else():
            m.d.comb += self.error_code.eq(self.kill)

        # Output: a condemned transfer, or one made to close the tile, is the last.
        present = ~self.busy | (group.colour == self.kill_colour)
        killed = (self.kill != 0) & present & ~self.stop
        m.d.comb += [
            self.failing.eq(bad | (killed & free)),
            o.valid.eq(valid | bad),
            o.payload.last.eq(last | bad),
            o.payload.error.eq(error | bad),
        ]
        with m.If(bad):
            m.d.sync += [valid.eq(~o.ready), last.eq(1), error.eq(1)]
        with m.Elif(free):
            m.d.sync += [valid.eq(done | killed), last.eq(finish | killed), error.eq(killed)]
        with m.If(self.stop | self.failing):
            m.d.sync += [
                self.busy.eq(0), finish_r.eq(0), disorder_r.eq(0), left_over.eq(0), end_bad.eq(0)
            ]  # fmt: skip
            m.d.comb += next_partial.eq(0)
        return m
