"""Outlier stream to a window on the next records."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import GoboConfig
from ..formats import CRC16, ERRORS, TILE_HEADER
from ..layout import BeatLayout, RecordLayout, TileHeaderLayout, TileLayout, WindowLayout
from .crc import CRC_WIDTH, crc16_next
from .unpacker import Unpacker

__all__ = ["OutlierReader"]


class OutlierReader(wiring.Component):
    """Reads tile headers and records, and keeps a window on the next records.

    Checks the records' CRC-16. Does not look into the records.

    Paper
    -----
    Our own choice: docs/formats.md section 4.3.

    Parameters
    ----------
    config : GoboConfig
        Uses ``outliers_per_cycle``, ``record_width`` and ``beat_width``.

    Members
    -------
    i : In, stream of BeatLayout
        The outlier stream.
    o_tile : Out, stream of TileLayout
        What the header says, a transfer a tile; read from the beat in place.
    window : Out, ``outliers_per_cycle`` x WindowLayout
        The next records in order; not a stream, since several may leave in a cycle.
    valid : Out, ``outliers_per_cycle`` bits
        Bit n: record n of the window is there. Bit n is set only if bit n - 1 is.
    take : In, number
        How many records leave the window in this cycle; at most those that are there.
    next_valid : Out, 1
        ``valid[0]`` of the next cycle.
    next_gap : Out, 2 bits
        Bit n: the record that will be first in the next cycle, if any, has gap n.
    error_code, error_colour : Out, 3 bits and 1
        What is wrong, as in docs/formats.md section 5, 0 for nothing, and in which tile. Known at
        the latest in the cycle after the one in which the tile's last record can leave the window;
        by then the next tile may be begun, but no further one is. Kept until reset.

    Timing
    ------
    Combinational from ``i`` to ``o_tile``. The first records enter the window in the cycle of
    the header's transfer where a beat holds both; then ``outliers_per_cycle`` a cycle. The window
    always holds as many when the beats are there: it is as deep as it takes to fill it by whole
    chunks.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: GoboConfig):
        self.config = config
        count = config.outliers_per_cycle
        super().__init__({
            "i": In(stream.Signature(BeatLayout(config))),
            "o_tile": Out(stream.Signature(TileLayout())),
            "window": Out(data.ArrayLayout(WindowLayout(config), count)),
            "valid": Out(count),
            "take": In(range(count + 1)),
            "next_gap": Out(2),
            "next_valid": Out(1),
            "error_code": Out(3),
            "error_colour": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i, o_tile = self.config, self.i, self.o_tile
        count, width = config.outliers_per_cycle, config.record_width
        m.submodules.unpacker = unpacker = Unpacker(
            config.beat_width,
            tuple(width * n for n in range(1, count + 1)),
            TILE_HEADER.width,
            tails=True,
        )
        wiring.connect(m, wiring.flipped(i), unpacker.i)

        # Section: a tile's header is taken from the beat in place, then its records.
        header = Signal(TileHeaderLayout())
        opened, left = Signal(), Signal.like(header.record_count, reset_less=True)
        remaining = Mux(opened, left, header.record_count)
        left_is_tail = Signal(reset_less=True)  # left <= count, known before the cycle
        tail = Mux(opened, left_is_tail, header.record_count <= count)
        empty = header.record_count == 0
        opening = o_tile.valid & o_tile.ready
        colour, wrong, bad_sum = Signal(), Signal(), Signal()
        transfer = unpacker.o.valid & unpacker.o.ready
        m.d.comb += [
            header.as_value().eq(i.payload.data[: TILE_HEADER.width]),
            unpacker.enable.eq(opened | (opening & ~empty)),
            unpacker.skip.eq(opening & empty),
            unpacker.final.eq(tail),
            o_tile.valid.eq(~opened & i.valid & ~wrong & ~bad_sum),
            o_tile.payload.group_count.eq(header.group_count),
            o_tile.payload.index_crc16.eq(header.index_crc16),
            o_tile.payload.empty.eq(empty),
            o_tile.payload.last.eq(i.payload.last),
            o_tile.payload.colour.eq(~colour),
        ]
        if count > 1:
            m.d.comb += unpacker.size.eq(Mux(tail, remaining - 1, count - 1))
        with m.If(transfer):
            m.d.sync += [
                left.eq(Mux(opened, left - count, header.record_count - count)),
                left_is_tail.eq(remaining <= 2 * count),
            ]
        with m.Elif(opening):
            m.d.sync += [left.eq(header.record_count), left_is_tail.eq(tail)]
        with m.If(transfer & tail):
            m.d.sync += opened.eq(0)
        with m.Elif(opening & ~empty):
            m.d.sync += opened.eq(1)
        with m.If(opening):
            m.d.sync += colour.eq(~colour)

        # Window: those taken leave, a chunk enters behind the rest when all of it fits.
        depth = 2 * count - 1
        entries = [
            Signal(WindowLayout(config), name=f"entry{n}", reset_less=True) for n in range(depth)
        ]
        held = Signal(range(depth + 1))
        rest = Signal.like(held)
        arriving = Mux(tail, remaining, count)
        m.d.comb += [
            rest.eq(held - self.take),
            unpacker.o.ready.eq(rest < count),
            self.next_valid.eq((rest != 0) | transfer),
            *(self.window[n].eq(entries[n]) for n in range(count)),
            *(self.valid[n].eq(held > n) for n in range(count)),
        ]
        m.d.sync += held.eq(rest + Mux(transfer, arriving, 0))
        arrivals = []
        for n in range(count):
            entry = Signal(WindowLayout(config), name=f"arrival{n}")
            m.d.comb += [
                entry.record.eq(RecordLayout(config)(unpacker.o.payload.word_select(n, width))),
                entry.escape.eq(entry.record.gap == config.gap_escape),
                entry.end.eq(tail & (remaining == n + 1)),
                entry.last.eq(unpacker.last),
            ]
            arrivals.append(entry)
        firsts = [entry.record.gap for entry in entries[: count + 1]]
        with m.If(rest == 0):
            m.d.comb += self.next_gap.eq(Cat(arrivals[0].record.gap == n for n in range(2)))
        with m.Else(), m.Switch(self.take):
            for taken, gap in enumerate(firsts):
                with m.Case(taken):
                    m.d.comb += self.next_gap.eq(Cat(gap == n for n in range(2)))
        for n, entry in enumerate(entries):
            with m.Switch(self.take):
                for taken in range(1, count + 1):
                    if n + taken < depth:
                        with m.Case(taken):
                            m.d.sync += entry.eq(entries[n + taken])
            for at in range(count):
                if 0 <= n - at < count:
                    with m.If(transfer & (rest == at)):
                        m.d.sync += entry.eq(arrivals[n - at])

        # Sum: over the records that entered the window in the cycle before, where they stand.
        remainder = Signal(CRC_WIDTH, init=CRC16.initial)
        expected = Signal(CRC_WIDTH, reset_less=True)
        arrived = Signal(range(count + 1))
        complete = Signal()
        m.d.sync += [
            arrived.eq(Mux(transfer, arriving, 0)),
            complete.eq((transfer & tail) | unpacker.skip),
        ]
        with m.If(opening):
            m.d.sync += expected.eq(header.outlier_crc16)
        places = [Cat(entry.record for entry in entries[at : at + count]) for at in range(count)]
        stood = places[0]
        if count > 1:
            place = Signal(range(count), reset_less=True)
            m.d.sync += place.eq(rest)
            stood = Signal(count * width)
            with m.Switch(place):
                for at, records in enumerate(places):
                    with m.Case(at):
                        m.d.comb += stood.eq(records)
        after = Signal(CRC_WIDTH)
        with m.Switch(arrived):
            for n in range(count + 1):
                with m.Case(n):
                    m.d.comb += after.eq(crc16_next(remainder, stood[: width * n]))
        m.d.sync += remainder.eq(Mux(complete, CRC16.initial, after))

        # Error: the first is kept. A sum may be found wrong while the next tile is begun.
        bad_sum_colour, other = Signal(), Signal(3)
        with m.If(complete & ~bad_sum):
            m.d.sync += [bad_sum.eq(after != expected), bad_sum_colour.eq(colour)]
        with m.If(~wrong):
            with m.If(opened & unpacker.starved):
                m.d.sync += [wrong.eq(1), other.eq(ERRORS["outlier_end"])]
            with m.Elif(opening & (header.group_count == 0)):
                m.d.sync += [wrong.eq(1), other.eq(ERRORS["tile_header"])]
        m.d.comb += [
            self.error_code.eq(Mux(bad_sum, ERRORS["outlier_crc"], other)),
            self.error_colour.eq(Mux(bad_sum, bad_sum_colour, colour)),
        ]
        return m
