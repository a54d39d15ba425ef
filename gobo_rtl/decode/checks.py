"""The rules of a tile: CRC-16 of its groups, order and place of its records."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import GoboConfig
from ..formats import CRC16, ERRORS
from ..layout import GroupLayout, WindowLayout, several_widths
from .crc import CRC_WIDTH, crc16_next
from .unpacker import any_of

__all__ = ["Checks"]


class Checks(wiring.Component):
    """Condemns a group's transfer in the cycle after the step that made it.

    What a step finds is held in registers for that cycle. Of several rules broken the least code is
    given; what others found (``kill``) comes last, but for a sum that comes with a tile's end.

    Paper
    -----
    Our own choice: docs/formats.md section 5.

    Parameters
    ----------
    config : GoboConfig
        Uses ``lanes``, ``index_widths`` and ``outliers_per_cycle``.

    Members
    -------
    group : In, GroupLayout
        The group held.
    fresh : In, 1
        In the cycle before it was not held.
    index_crc16 : In, 16 bits
        With ``fresh``: the CRC-16 that the groups up to its tile's last must have.
    window, due : In
        The next records and which of them are of the group held.
    step, done, partial, left, ended : In, 1
        Of :class:`Schedule`.
    kill, kill_colour : In, 3 bits and 1
        What others found, and in which tile.
    forget : In, 1
        Drop what the last step found.
    bad : Out, 1
        The step of the cycle before broke a rule: condemn its transfer.
    disorder : Out, 1
        It is the order of records: no step may follow.
    error_code : Out, 3 bits
        The rule broken, if ``bad``; else ``kill``.

    Timing
    ------
    ``bad``, ``disorder`` and ``error_code`` a cycle after the step.

    Numerics
    --------
    None: bits are compared.
    """

    def __init__(self, config: GoboConfig):
        self.config = config
        count = config.outliers_per_cycle
        super().__init__({
            "group": In(GroupLayout(config)),
            "fresh": In(1),
            "index_crc16": In(CRC_WIDTH),
            "window": In(data.ArrayLayout(WindowLayout(config), count)),
            "due": In(count),
            "step": In(1),
            "done": In(1),
            "partial": In(1),
            "left": In(1),
            "ended": In(1),
            "kill": In(3),
            "kill_colour": In(1),
            "forget": In(1),
            "bad": Out(1),
            "disorder": Out(1),
            "error_code": Out(3),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, group, due, step = self.config, self.group, self.due, self.step

        # Sum: compared once a group, long before the tile's last may leave.
        remainder, after = Signal(CRC_WIDTH, reset_less=True), Signal(CRC_WIDTH)
        before = Mux(group.start, CRC16.initial, remainder)
        for width in config.index_widths:
            bits = Cat(group.planes)[: config.lanes * width]
            with m.If(group.index_width == width if several_widths(config) else 1):
                m.d.comb += after.eq(crc16_next(before, bits))
        with m.If(self.done):
            m.d.sync += remainder.eq(after)
        sum_bad = Signal(reset_less=True)
        with m.If(self.fresh):
            m.d.sync += sum_bad.eq(after != self.index_crc16)

        # Order: a record against the one before it.
        last_lane = Signal(config.lane_bits, reset_less=True)
        lane_counts = Signal(reset_less=True)  # the last record was no escape
        records = [entry.record for entry in self.window]
        counts = [~entry.escape for entry in self.window]
        with m.If(step):
            for n, record in enumerate(records):
                with m.If(due[n]):
                    m.d.sync += [last_lane.eq(record.lane), lane_counts.eq(counts[n])]
        follows = [self.partial, *(record.more for record in records[:-1])]
        floors = [last_lane, *(record.lane for record in records[:-1])]
        disorder = any_of([
            here & ((after_more & ((record.gap != 0) | (floor_counts & (record.lane <= floor))))
                    | (entry.end & record.more))
            for here, after_more, record, floor, floor_counts, entry
            in zip(due, follows, records, floors, [lane_counts, *counts[:-1]], self.window,
                   strict=True)
        ])  # fmt: skip

        # Verdict on the last step.
        finish = self.done & group.last
        finish_r, left_over, end_bad = Signal(), Signal(), Signal()
        disorder_r, colour_r = self.disorder, Signal(reset_less=True)
        m.d.sync += [
            finish_r.eq(finish),
            colour_r.eq(group.colour),
            disorder_r.eq(step & disorder),
            left_over.eq(finish & self.left),
            end_bad.eq(finish & (self.ended != group.end)),
        ]
        with m.If(self.forget):
            m.d.sync += [finish_r.eq(0), disorder_r.eq(0), left_over.eq(0), end_bad.eq(0)]
        index_bad = finish_r & sum_bad
        late = finish_r & (self.kill == ERRORS["outlier_crc"]) & (self.kill_colour == colour_r)
        m.d.comb += self.bad.eq(index_bad | late | disorder_r | left_over | end_bad)
        m.d.comb += self.error_code.eq(self.kill)
        for broken, name in reversed((
            (index_bad, "index_crc"), (late, "outlier_crc"), (disorder_r, "record_order"),
            (left_over, "record_place"), (end_bad, "index_end"),
        )):  # fmt: skip
            with m.If(broken):
                m.d.comb += self.error_code.eq(ERRORS[name])
        return m
