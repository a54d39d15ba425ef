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
    window, valid : In
        Records of :class:`OutlierReader`.
    take : Out, number
        Records that leave the window in this cycle.
    kill : In, 3 bits
        Not 0: close the tile with this error code instead of going on.
    stop : In, 1
        After an error: forget the group held and take none.
    o : Out, stream of WeightLayout
        Decoded groups.
    busy : Out, 1
        A group is held that is not given to ``o`` yet.
    closing : Out, 1
        The group held is its tile's last.
    error_code : Out, 3 bits
        Not 0: in this cycle a transfer with ``error`` enters the output register, and why.

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
            "window": In(data.ArrayLayout(WindowLayout(config), count)),
            "valid": In(count),
            "take": Out(range(count + 1)),
            "kill": In(3),
            "stop": In(1),
            "o": Out(stream.Signature(WeightLayout(config))),
            "busy": Out(1),
            "closing": Out(1),
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
        m.d.comb += self.closing.eq(group.last)

        # Records that belong to the group: the next one when its gap is reached, and those that
        # follow it by ``more``.
        pending = Signal(reset_less=True)  # the tile has records that have not come
        partial = Signal()  # more of the group's records are to come
        since = Signal(config.gap_width, reset_less=True)  # groups from the last record's
        last_lane = Signal(config.lane_bits, reset_less=True)
        lane_counts = Signal(reset_less=True)  # the last record was no escape
        records = [entry.record for entry in self.window]
        escape = [record.gap == config.gap_escape for record in records]
        due: list[Value] = [pending & self.valid[0] & (partial | (records[0].gap == since))]
        for n in range(1, count):
            due.append(due[n - 1] & records[n - 1].more & self.valid[n])
        ends = any_of([due[n] & self.window[n].end for n in range(count)])
        ends_last = any_of([due[n] & self.window[n].end & self.window[n].last for n in range(count)])
        unknown = pending & ~self.valid[0]
        more = any_of([
            due[n] & records[n].more & (~due[n + 1] if n + 1 < count else 1) for n in range(count)
        ])
        free = ~o.valid | o.ready
        step = Signal()
        m.d.comb += [
            step.eq(self.busy & free & ~unknown),
            done.eq(step & ~more),
            self.take.eq(Mux(step, sum(due[1:], due[0]), 0)),
        ]
        with m.If(step):
            m.d.sync += [
                partial.eq(more),
                since.eq(Mux(due[0], 0, since) + done),
            ]
            with m.If(ends):
                m.d.sync += pending.eq(0)
            for n in range(count):
                with m.If(due[n]):
                    m.d.sync += [last_lane.eq(records[n].lane), lane_counts.eq(~escape[n])]
        with m.If(load & i.payload.start):
            m.d.sync += [pending.eq(~i.payload.empty), since.eq(0)]
        outliers_end = Signal(reset_less=True)
        with m.If(load & i.payload.start):
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
            with m.If(step & (outlier | ~partial)):
                m.d.sync += value.eq(
                    one_hot(config.value_width, [
                        *((here[n], records[n].value) for n in range(count)),
                        *((~outlier & (index == n), codebook[n]) for n in range(bins)),
                    ])
                )  # fmt: skip

        # Checks.
        remainder = Signal(CRC_WIDTH, init=CRC16.initial)
        after = Signal(CRC_WIDTH)
        for width in config.index_widths:
            bits = Cat(group.planes)[: config.lanes * width]
            with m.If(group.index_width == width if several_widths(config) else 1):
                m.d.comb += after.eq(crc16_next(remainder, bits))
        with m.If(done):
            m.d.sync += remainder.eq(Mux(group.last, CRC16.initial, after))
        follows = [partial, *(records[n].more for n in range(count - 1))]
        floors = [(last_lane, lane_counts), *((r.lane, ~e) for r, e in zip(records, escape))]
        disorder = any_of([
            due[n] & (
                (follows[n] & ((records[n].gap != 0) | (floors[n][1] & (records[n].lane <= floors[n][0]))))
                | (self.window[n].end & records[n].more)
            )
            for n in range(count)
        ])  # fmt: skip
        finish = done & group.last
        left_over = pending & ~ends
        outliers_last = Mux(ends, ends_last, outliers_end)
        code = self.error_code
        with m.If(finish & (after != group.index_crc16)):
            m.d.comb += code.eq(ERRORS["index_crc"])
        with m.Elif(free & (self.kill == ERRORS["outlier_crc"])):
            m.d.comb += code.eq(ERRORS["outlier_crc"])
        with m.Elif(step & disorder):
            m.d.comb += code.eq(ERRORS["record_order"])
        with m.Elif(finish & left_over):
            m.d.comb += code.eq(ERRORS["record_place"])
        with m.Elif(finish & (outliers_last != group.end)):
            m.d.comb += code.eq(ERRORS["index_end"])
        with m.Elif(free):
            m.d.comb += code.eq(self.kill)

        # Output.
        with m.If(free):
            m.d.sync += [
                o.valid.eq(done | (code != 0)),
                o.payload.last.eq(finish | (code != 0)),
                o.payload.error.eq(code != 0),
            ]

        # After an error nothing is begun; the closing transfer waits on the output.
        with m.If(self.stop):
            m.d.sync += [self.busy.eq(0), partial.eq(0), remainder.eq(CRC16.initial)]
            with m.If(free):
                m.d.sync += o.valid.eq(0)
        return m
