"""What is claimed of the readers: groups and records are the bits of the beats, in order.

The reference follows the sections of ``docs/formats.md`` bit by bit; a bit of any beat is watched
from when the beat is at the input until it comes out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from amaranth.hdl import Cat, Const, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import stream

from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import ERRORS, TILE_HEADER

from .contracts import (
    FreeUnpacker,
    groups_are_of_tiles,
    records_stay,
    sections_are_whole,
    takes_what_is_there,
)
from .prover import Claims

__all__ = ["index_claims", "outlier_claims"]


@dataclass(frozen=True)
class Section:
    """A section of a stream: beats in, chunks of ``size`` bits out after ``head`` bits."""

    stored: Signal
    """Bits taken less bits given: negative while given bits stand at the input."""
    rest: Value
    """The same after this cycle."""
    ended: Signal
    """A beat with ``last`` was taken."""
    enough: Value
    """A chunk's bits are there."""
    last: Value
    """The section's last beat, if this is its last chunk, has ``last``."""
    starved: Value
    """The beats ended before the chunk."""


def section(
    claims: Claims, i: stream.Interface, size: int, head: int, give: Value, done: Value,
    chunk: Value,
) -> Section:
    """Follow a section, and claim that its chunks are its bits."""
    m, beat = claims.m, len(i.payload.data)
    top = beat + 2 * size + head
    accept = i.valid & i.ready
    stored = Signal(signed(top.bit_length() + 1), name="stored", init=-head)
    ended = Signal(name="ended")
    rest = Signal.like(stored, name="rest")
    m.d.comb += rest.eq(stored + Mux(accept, beat, 0) - Mux(give, size, 0))
    m.d.sync += [
        stored.eq(Mux(done, -head, rest)),
        ended.eq(~done & (ended | (accept & i.payload.last))),
    ]
    with m.If(claims.reset):
        m.d.sync += [stored.eq(-head), ended.eq(0)]

    # A watched bit: `ahead` bits of the section are still to come before it.
    here = claims.free(range(beat), "watched_bit")
    pick = claims.free(1, "pick") & i.valid
    watching, expected = Signal(name="watching"), Signal(name="expected")
    ahead_r, ahead = Signal.like(stored, name="ahead_r"), Signal.like(stored, name="ahead")
    starts = pick & ~watching & (stored + here >= 0)
    watched = Signal(name="watched")
    value = Mux(watching, expected, i.payload.data.bit_select(here, 1))
    comes = watched & give & (ahead < size)
    m.d.comb += [watched.eq(watching | starts), ahead.eq(Mux(watching, ahead_r, stored + here))]
    m.d.sync += [
        watching.eq(~claims.reset & watched & ~comes & ~done),
        expected.eq(value),
        ahead_r.eq(Mux(give, ahead - size, ahead)),
    ]
    place = ahead[: size.bit_length()]
    claims.claim("a bit comes at its place", ~comes | (chunk.bit_select(place, 1) == value))
    claims.event("a watched bit waits in the store", comes & watching & (stored > ahead))
    claims.event("a chunk is made of two beats", give & (stored > 0) & (stored < size))
    return Section(
        stored, rest, ended,
        (stored >= size) | (i.valid & (stored + beat >= size)),
        Mux(stored >= size, ended, i.payload.last),
        ended & (stored < size),
    )  # fmt: skip


def index_claims(config: GoboConfig, source: ModuleType) -> Claims:
    """Return the claims of IndexReader: beats, tiles and stalls are anything; a tile has groups."""
    dut = source.index_reader.IndexReader(config)
    claims = Claims(dut)
    m, i, o, tile = claims.m, dut.i, dut.o, dut.i_tile
    size = config.lanes * config.index_width
    claims.drive(i, "i")
    m.d.comb += [
        tile.valid.eq(claims.free(1, "tile_offer")),
        tile.payload.eq(claims.free(len(tile.payload.as_value()), "tile_in")),
        o.ready.eq(claims.free(1, "take")),
        dut.index_width.eq(config.index_width),
        dut.enable.eq(claims.free(1, "enable_in")),
    ]
    give = o.valid & o.ready
    waits = claims.before(o.valid & ~o.ready & ~claims.reset, "waits")
    claims.assume(~(o.payload.first & waits) | dut.enable)
    claims.assume(dut.enable | o.payload.first)
    claims.assume(tile.payload.group_count != 0)

    # The tile as its header has it.
    active, groups = Signal(name="tile_active"), Signal(16, name="groups_left")
    said = Signal.like(tile.payload.as_value(), name="tile_said")
    taken = tile.valid & tile.ready
    now = Mux(active, said, tile.payload.as_value())
    left = Mux(active, groups, tile.payload.group_count)
    with m.If(claims.reset):
        m.d.sync += active.eq(0)
    with m.Elif(taken | give):
        m.d.sync += active.eq(~(give & (left == 1)))
    m.d.sync += [groups.eq(Mux(give, left - 1, left)), said.eq(now)]
    here = section(
        claims, i, size, 0, give, give & (left == 1), Cat(o.payload.planes)
    )
    beat = config.beat_width
    live = dut.enable & (active | tile.valid) & ~here.starved
    parts = tile.payload.shape()(now)
    claims.claim("a header is taken when no tile is begun", tile.ready == ~active)
    claims.claim("a group is given when its bits and its header are there",
                 o.valid == (live & here.enough))
    claims.claim("the header's count of groups is given",
                 ~o.valid | (o.payload.last == (left == 1)))
    claims.claim("a tile ends with the beat of its last bit",
                 ~(give & o.payload.last) | ((here.rest >= 0) & (here.rest < beat)))
    claims.claim("end is last of the tile's last beat",
                 ~(o.valid & o.payload.last) | (o.payload.end == here.last))
    claims.claim("a group says what the header says", ~o.valid | (
        Cat(o.payload.empty, o.payload.outliers_end, o.payload.colour)
        == Cat(parts.empty, parts.last, parts.colour)
    ))  # fmt: skip
    was_given = claims.before(give, "was_given") & ~claims.before(claims.reset, "was_reset")
    claims.claim("its sum is the header's",
                 ~was_given | (dut.index_crc16 == claims.before(parts.index_crc16, "sum_said")))
    claims.claim("active and starved are told", (dut.active == active)
                 & (dut.starved == (active & here.starved)))
    for name, condition in groups_are_of_tiles(
        claims, o, dut.index_crc16, Const(0), claims.reset
    ).items():
        if name != "neighbours have other colours":  # colours are the other reader's
            claims.claim(name, condition)
    given = Signal(4, name="groups_given")
    m.d.sync += given.eq(Mux(claims.reset | ~active, 0, given) + give)
    later = Signal(name="later_tile")
    m.d.sync += later.eq(~claims.reset & (later | (give & o.payload.last & ~o.payload.end)))
    claims.event("a second tile of six groups ends", later & give & o.payload.last & (given == 5))
    claims.event("a tile starves", dut.starved)
    return claims


def outlier_claims(
    config: GoboConfig, source: ModuleType, sum_of: Callable[[ValueLike, ValueLike], Value]
) -> Claims:
    """Return the claims of OutlierReader: its unpacker gives any chunks, at any pace.

    ``sum_of`` stands for the CRC-16 on both sides: ``source``, a copy of ``gobo_rtl.decode``, is
    changed for both.
    """
    reader = source.outlier_reader
    reader.crc16_next = sum_of
    count, size, head = config.outliers_per_cycle, config.record_width, TILE_HEADER.width
    stub = FreeUnpacker(
        config.beat_width, tuple(size * n for n in range(1, count + 1)), head, tails=True
    )
    reader.Unpacker = lambda *sizes, tails: stub
    dut = reader.OutlierReader(config)
    claims = Claims(dut)
    stub.choose(claims)
    m, i, o_tile, wrong = claims.m, dut.i, dut.o_tile, dut.error_code != 0
    claims.drive(i, "i")
    m.d.comb += [
        o_tile.ready.eq(claims.free(1, "tile_take")),
        dut.take.eq(claims.free(len(dut.take), "take_in")),
    ]
    for condition in takes_what_is_there(dut.valid, dut.take).values():
        claims.assume(condition)
    fresh = claims.before(claims.reset, "fresh")
    for name, condition in records_stay(claims, config, dut, fresh).items():
        claims.claim(name, condition)

    # The tile: its header is the first bits of the beat at the input while none is begun.
    header = {f.name: i.payload.data[f.offset : f.offset + f.width] for f in TILE_HEADER.fields}
    opening = o_tile.valid & o_tile.ready
    transfer = stub.o.valid & stub.o.ready
    opened, records = Signal(name="tile_opened"), Signal(16, name="records_left")
    colour, untouched = Signal(name="tile_colour"), Signal(name="tile_untouched")
    left = Mux(opened, records, header["record_count"])
    arriving = Mux(left > count, count, left)
    begun = opened | (opening & (header["record_count"] != 0))
    final = transfer & (left <= count)
    skip = opening & (header["record_count"] == 0)
    m.d.sync += [
        opened.eq(~claims.reset & begun & ~final),
        records.eq(Mux(transfer, left - arriving, left)),
        colour.eq(~claims.reset & (colour ^ opening)),
        untouched.eq(
            claims.reset | final | skip | (untouched & ~transfer & ~(i.valid & i.ready))
        ),
    ]
    for name, condition in sections_are_whole(claims, stub, untouched, True).items():
        claims.claim(name, condition)
    claims.claim("a tile is offered when its header is there",
                 o_tile.valid == (i.valid & ~opened & ~wrong))
    claims.claim("a tile says what its header says", ~o_tile.valid | (
        (o_tile.payload.group_count == header["group_count"])
        & (o_tile.payload.index_crc16 == header["index_crc16"])
        & (o_tile.payload.empty == (header["record_count"] == 0))
        & (o_tile.payload.last == i.payload.last)
        & (o_tile.payload.colour == ~colour)
    ))  # fmt: skip
    claims.claim("its records are read, and no more",
                 (stub.enable == begun) & (stub.skip == skip))
    claims.claim("the last chunk has the rest of them",
                 ~transfer | ((stub.final == (left <= count))
                              & ((stub.size == arriving - 1) if count > 1 else 1)))

    # The window: a watched record, with `ahead` ones before it.
    held, rest = Signal(range(2 * count), name="held"), Signal(range(2 * count), name="rest")
    m.d.comb += rest.eq(held - dut.take)
    m.d.sync += held.eq(Mux(claims.reset, 0, rest + Mux(transfer, arriving, 0)))
    claims.claim("as many records are there as were given",
                 dut.valid == Cat(held > n for n in range(count)))
    claims.claim("a chunk enters when it has a place", stub.o.ready == (rest < count))
    pick = claims.free(1, "pick")
    at, bit = claims.free(range(count), "pick_at"), claims.fixed(range(size), "watched_bit")
    watching, ahead = Signal(name="watching"), Signal(range(2 * count), name="ahead")
    expected, is_end, is_last = (Signal(name=name) for name in ("expected", "is_end", "is_last"))
    gone = dut.take > ahead
    starts = pick & transfer & (at < arriving) & (~watching | gone)
    m.d.sync += [
        watching.eq(~claims.reset & (starts | (watching & ~gone))),
        ahead.eq(Mux(starts, rest + at, ahead - dut.take)),
    ]
    with m.If(starts):
        m.d.sync += [
            expected.eq(stub.chunk.word_select(at, size).bit_select(bit, 1)),
            is_end.eq(left == at + 1),
            is_last.eq(stub.tells_last),
        ]
    for n, entry in enumerate(dut.window):
        here = watching & (ahead == n)
        claims.claim(f"record {n} of the window is the one given", ~here | (
            (entry.record.as_value().bit_select(bit, 1) == expected)
            & (entry.end == is_end) & (~is_end | (entry.last == is_last))
        ))  # fmt: skip

    # Rules: what is wrong is told, and stays.
    remainder, expects = Signal(16, name="remainder"), Signal(16, name="sum_expected")
    complete = claims.before((final | skip) & ~claims.reset, "complete")
    came = claims.before(Mux(transfer & ~claims.reset, arriving, 0)[: len(dut.take)], "came")
    chunk = claims.before(stub.chunk, "chunk_before")
    now: Value = remainder
    for n in range(1, count + 1):
        now = Mux(came == n, sum_of(remainder, chunk[: n * size]), now)
    m.d.sync += remainder.eq(Mux(claims.reset | complete, 0xFFFF, now))
    with m.If(opening):
        m.d.sync += expects.eq(header["outlier_crc16"])
    sum_bad, no_end, no_groups, bad_colour = (
        Signal(name=name) for name in ("sum_bad", "no_end", "no_groups", "bad_colour")
    )
    m.d.sync += sum_bad.eq(~claims.reset & (sum_bad | (complete & (now != expects))))
    with m.If(~sum_bad):
        m.d.sync += bad_colour.eq(colour)
    with m.If(claims.reset):
        m.d.sync += [no_end.eq(0), no_groups.eq(0)]
    with m.Elif(~no_end & ~no_groups):
        m.d.sync += [
            no_end.eq(opened & stub.starved),
            no_groups.eq(opening & (header["group_count"] == 0)),
        ]
    code = Mux(sum_bad, ERRORS["outlier_crc"], Mux(
        no_end, ERRORS["outlier_end"], Mux(no_groups, ERRORS["tile_header"], 0)
    ))  # fmt: skip
    claims.claim("a broken rule is told, and nothing else", dut.error_code == code)
    claims.claim("its tile is told", (code == 0) | (
        dut.error_colour == Mux(sum_bad, bad_colour, colour)
    ))  # fmt: skip
    for name, condition in (("sum", sum_bad), ("end", no_end), ("header", no_groups)):
        claims.event(f"wrong {name}", condition)
    later = Signal(name="later_tile")
    m.d.sync += later.eq(~claims.reset & (later | (complete & (now == expects))))
    claims.event("the last record of a second tile with two chunks leaves",
                 later & ~wrong & watching & is_end & gone & ~opened
                 & claims.before(came != 0, "came_before"))
    return claims
