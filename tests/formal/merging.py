"""What is claimed of the merge: each group leaves once and in order, with the outliers whose gaps
lead to it, and a tile that breaks a rule is condemned.

Groups and records are anything that the readers promise, at any pace.
"""

from collections.abc import Callable
from types import ModuleType

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value, ValueLike

from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import ERRORS

from .contracts import groups_are_of_tiles, records_stay, takes_what_is_there
from .prover import Claims

__all__ = ["Narrow", "merge_claims"]


class Narrow(GoboConfig):
    """A configuration with gaps of 3 bits, 7 an escape, and values of 1 bit: that a gap differs
    from a count, and a value is moved, is said by few clauses, so that a proof for all time ends.
    """

    @property
    def gap_width(self) -> int:
        return 3

    @property
    def value_width(self) -> int:
        return 1


def merge_claims(
    config: GoboConfig, source: ModuleType, sum_of: Callable[[ValueLike, ValueLike], Value]
) -> Claims:
    """Return the claims of Merge, of a watched bit of a watched lane.

    ``sum_of`` stands for the CRC-16 on both sides: ``source``, a copy of ``gobo_rtl.decode``, is
    changed for that.
    """
    source.checks.crc16_next = sum_of
    count = config.outliers_per_cycle
    dut = source.merge.Merge(config)
    claims = Claims(dut)
    m, i, o = claims.m, dut.i, dut.o

    # The unit around it: an error resets the readers and stops the merge until `clear`.
    stop, clear = Signal(name="stopped"), claims.free(1, "clear_in")
    with m.If(claims.reset):
        m.d.sync += stop.eq(0)
    with m.Elif(stop):
        m.d.sync += stop.eq(~clear)
    with m.Else():
        m.d.sync += stop.eq(dut.failing)
    inputs = {
        name: claims.free(len(Value.cast(getattr(dut, name))), f"{name}_in")
        for name in ("codebook", "index_crc16", "window", "valid", "next_gap", "next_valid",
                     "kill", "kill_colour")
    }  # fmt: skip
    m.d.comb += [Value.cast(getattr(dut, name)).eq(value) for name, value in inputs.items()]
    m.d.comb += [
        dut.stop.eq(stop),
        i.valid.eq(claims.free(1, "group_offer") & ~stop & ~claims.reset),
        i.payload.eq(claims.free(len(i.payload.as_value()), "group_in")),
        o.ready.eq(claims.free(1, "take")),
    ]
    off = claims.reset | stop
    fresh = claims.before(off, "fresh")
    for promises in (
        records_stay(claims, config, dut, fresh),
        groups_are_of_tiles(claims, i, dut.index_crc16, fresh, off),
    ):
        for condition in promises.values():
            claims.assume(condition)
    for name, condition in takes_what_is_there(dut.valid, dut.take).items():
        claims.claim(name, condition)

    # The group held, and the records taken for it.
    load, done = i.valid & i.ready, dut.busy & i.ready
    group = Signal.like(i.payload, name="held_group")
    fresh_group = claims.before(load, "loaded")
    with m.If(load):
        m.d.sync += group.eq(i.payload)
    held = Signal(name="held")
    with m.If(off | dut.failing):
        m.d.sync += held.eq(0)
    with m.Elif(i.ready):
        m.d.sync += held.eq(load)
    claims.claim("a group is held until it is done", dut.busy == held)

    taken = [dut.take > n for n in range(count)]
    records = [entry.record for entry in dut.window]
    counts = [~entry.escape for entry in dut.window]
    any_taken = dut.take != 0
    linked = Signal(name="linked")  # the last record taken had `more`
    since = Signal(config.gap_width, name="groups_since")  # from its group to the one held
    remain = Signal(name="records_remain")  # the tile has records that were not taken
    in_group = Signal(name="taken_for_group")
    ended = Signal(name="stream_ended")
    last_lane, last_counts = Signal(config.lane_bits, name="last_lane"), Signal(name="last_counts")

    ends, ends_last, more, disorder = Const(0), ended, linked, Const(0)
    floor, floor_counts, follows = last_lane, last_counts, linked
    wrong_group = Const(0)
    for n in range(count):
        record, entry = records[n], dut.window[n]
        ends = ends | (taken[n] & entry.end)
        ends_last = Mux(taken[n] & entry.end, entry.last, ends_last)
        more = Mux(taken[n], record.more, more)
        disorder = disorder | (taken[n] & (
            (follows & ((record.gap != 0) | (floor_counts & (record.lane <= floor))))
            | (entry.end & record.more)
        ))  # fmt: skip
        # One that follows by `more` is of the group; another must have its gap.
        wrong_group = wrong_group | (taken[n] & ~follows & (
            (record.gap != since) if n == 0 else Const(1)
        ))  # fmt: skip
        floor = Mux(taken[n], record.lane, floor)
        floor_counts = Mux(taken[n], counts[n], floor_counts)
        follows = Mux(taken[n], record.more, follows)
    remains = remain & ~ends
    claims.claim("records are taken for the group held", ~any_taken | held)
    claims.claim("records are taken while the tile has some", ~any_taken | remain)
    claims.claim("a record is taken for the group that its gap leads to", ~wrong_group)
    claims.claim("no group is done before the records that follow by more", ~done | ~more)
    claims.claim("no group is done while its next record is not known",
                 ~(done & remain & ~in_group & ~any_taken) | dut.valid[0])
    claims.claim("no group is done before a record whose gap leads to it",
                 ~(done & remain & ~in_group & ~any_taken) | (records[0].gap != since))
    with m.If(load):
        m.d.sync += in_group.eq(0)
    with m.Elif(any_taken):
        m.d.sync += in_group.eq(1)
    moved_on = Mux(any_taken | linked, 0, since)
    m.d.sync += [
        linked.eq(~off & ~dut.failing & more),
        since.eq(Mux(done, Mux(moved_on.all(), moved_on, moved_on + 1), moved_on)),
        last_lane.eq(floor), last_counts.eq(floor_counts),
        remain.eq(remains), ended.eq(ends_last),
    ]
    with m.If(load & i.payload.start):
        m.d.sync += [since.eq(0), remain.eq(~i.payload.empty), ended.eq(i.payload.outliers_end)]

    # The watched bit of the watched lane.
    lane = claims.fixed(range(config.lanes), "watched_lane")
    bit = claims.fixed(range(config.value_width), "watched_bit")
    entry = claims.fixed(range(config.bins), "watched_entry")
    book_bit = Signal(name="book_bit")
    fresh_bit = Array(dut.codebook)[entry].bit_select(bit, 1)
    with m.If(load & i.payload.first):
        m.d.sync += book_bit.eq(fresh_bit)
    index = Cat(Array(plane)[lane] for plane in i.payload.planes)
    known, expected = Signal(name="known"), Signal(name="expected")
    value, is_known = expected, known
    for n in range(count):
        hit = taken[n] & counts[n] & (records[n].lane == lane)
        value = Mux(hit, records[n].value.bit_select(bit, 1), value)
        is_known = is_known | hit
    with m.If(load):
        m.d.sync += [
            known.eq(index == entry),
            expected.eq(Mux(i.payload.first, fresh_bit, book_bit)),
        ]
    with m.Else():
        m.d.sync += [known.eq(is_known), expected.eq(value)]

    # The rules that a tile must keep, found at a step, told with the transfer after it.
    remainder = Signal(16, name="sum_before")
    total = sum_of(Mux(group.start, 0xFFFF, remainder), Cat(group.planes))
    with m.If(done):
        m.d.sync += remainder.eq(total)
    sum_bad = Signal(name="sum_bad")
    with m.If(fresh_group):
        m.d.sync += sum_bad.eq(total != dut.index_crc16)
    sum_now = Mux(fresh_group, total != dut.index_crc16, sum_bad)
    closes = done & group.last
    off_now = off | dut.failing
    step = done | any_taken
    broken = {
        "index_crc": closes & sum_now,
        "record_order": step & disorder,
        "record_place": closes & remains,
        "index_end": closes & (ends_last != group.end),
    }
    was = {
        name: claims.before(rule & ~off_now, f"was_{name}") for name, rule in broken.items()
    }
    was_closed = claims.before(closes & ~off_now, "was_closed")
    was_colour = claims.before(group.colour, "was_colour")
    late = was_closed & (dut.kill == ERRORS["outlier_crc"]) & (dut.kill_colour == was_colour)
    bad = Cat(*was.values(), late).any()
    code = dut.kill
    for name, rule in reversed((
        ("index_crc", was["index_crc"]), ("outlier_crc", late),
        ("record_order", was["record_order"]), ("record_place", was["record_place"]),
        ("index_end", was["index_end"]),
    )):  # fmt: skip
        code = Mux(rule, ERRORS[name], code)
    claims.claim("a broken rule condemns", ~bad | (dut.failing & o.payload.error & o.valid))
    claims.claim("its code is told", ~dut.failing | (dut.error_code == code))
    claims.claim("nothing else fails but what others found",
                 ~dut.failing | bad | (dut.kill != 0))

    # What leaves: a transfer for each group done, or the one that closes a tile.
    out, out_last, out_known, out_bit, out_error = (
        Signal(name=f"out_{name}") for name in ("there", "last", "known", "bit", "error")
    )
    free = ~out | o.ready
    closing = dut.failing & ~bad
    with m.If(claims.reset):
        m.d.sync += out.eq(0)
    with m.Elif(bad):
        m.d.sync += [out.eq(~o.ready), out_last.eq(1), out_error.eq(1)]
    with m.Elif(free):
        m.d.sync += [
            out.eq(done | closing), out_last.eq(group.last | closing), out_error.eq(closing),
            out_known.eq(is_known), out_bit.eq(value),
        ]  # fmt: skip
    claims.claim("a transfer for each group, or one that closes a tile", o.valid == (out | bad))
    claims.claim("last and error are of the group, or close the tile", ~o.valid | (
        (o.payload.last == (out_last | bad)) & (o.payload.error == (out_error | bad))
    ))  # fmt: skip
    got = Array(o.payload.values)[lane].bit_select(bit, 1)
    claims.claim("a weight is its centroid, or the outlier in its place",
                 ~(o.valid & ~o.payload.error & out_known) | (got == out_bit))
    claims.claim("a group is done only when the output has room", ~done | free)

    finishes = o.valid & o.ready & o.payload.last
    later = Signal(name="later_tile")
    m.d.sync += later.eq(~claims.reset & (later | (finishes & ~o.payload.error)))
    for name, rule in was.items():
        claims.event(f"error {name}", rule)
    claims.event("a late error", late)
    claims.event("two records of a group, one after an escape", done & in_group & any_taken)
    claims.event("a second tile ends after an error", later & finishes & ~o.payload.error
                 & stopped_once(claims, stop))
    claims.event("a record comes two groups after another", any_taken & (since == 2))
    return claims


def stopped_once(claims: Claims, stop: Signal) -> Signal:
    once = Signal(name="stopped_once")
    claims.m.d.sync += once.eq(~claims.reset & (once | stop))
    return once
