"""What is claimed of the decode unit: its groups are those of ``docs/formats.md``.

The reference is made from the page and knows no cycles: the beats of both streams are bits chosen
once, and where tiles, groups and records stand in them is computed from these bits alone.  Beats
are arbitrary, so most are nonsense, and the claims also tell which tiles are condemned, and why.
"""

import sys
from collections.abc import Sequence
from types import ModuleType

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value, ValueLike

from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import ERRORS, TILE_HEADER

from .prover import Claims

__all__ = ["ShortEscape", "decoding_claims"]


class ShortEscape(GoboConfig):
    """A configuration whose escape is a gap of 2, so that a proof can reach what follows it."""

    @property
    def gap_escape(self) -> int:
        return 2


def any_of(bits: Sequence[Value]) -> Value:
    """Return whether one of ``bits`` is set."""
    return Cat(bits).any()


def named(claims: Claims, value: Value, name: str) -> Signal:
    """Give ``value`` a name in counterexamples."""
    signal = Signal(value.shape(), name=name)
    claims.m.d.comb += signal.eq(value)
    return signal


def no_sum(remainder: ValueLike, bits: ValueLike) -> Value:
    """Return 0, or the remainder when there are no bits: the sum in a header is right when it is 0,
    so right and wrong ones both occur, and a solver has no sums to do."""
    return Const(0, 16) if len(Value.cast(bits)) else Value.cast(remainder)


def simple_sum(remainder: ValueLike, bits: ValueLike) -> Value:
    """Return a plain function of its inputs that stands for the CRC-16."""
    bits = Value.cast(bits)
    if not len(bits):
        return Value.cast(remainder)
    total: Value = Cat(Value.cast(remainder)[5:], Value.cast(remainder)[:5])
    for n in range(0, len(bits), 16):
        total = (total ^ bits[n : n + 16])[:16]
    return total


class Beats:
    """Beats that are chosen once: ``data`` and ``last`` of each."""

    def __init__(self, claims: Claims, config: GoboConfig, count: int, name: str) -> None:
        self.count = count
        self.data = [claims.fixed(config.beat_width, f"{name}{n}") for n in range(count)]
        self.last = [claims.fixed(1, f"{name}{n}_last") for n in range(count)]
        self.payloads = [Cat(data, last) for data, last in zip(self.data, self.last, strict=True)]

    def from_beat(self, claims: Claims, start: Value) -> "Beats":
        """Return the beats from ``start`` on, zeros behind the last."""
        other = object.__new__(Beats)
        other.count = self.count
        for kind in ("data", "last"):
            mine = getattr(self, kind)
            zero = Const(0, len(mine[0]))
            moved = []
            for n in range(self.count):
                value = zero
                for shift in range(self.count - n):
                    value = Mux(start == shift, mine[n + shift], value)
                moved.append(named(claims, value, f"from_{kind}{n}"))
            setattr(other, kind, moved)
        return other


def decoding_claims(
    config: GoboConfig,
    *,
    index_beats: int = 3,
    outlier_beats: int = 4,
    codebooks: int = 3,
    tiles: int = 3,
    sums: bool = False,
    source: ModuleType,
) -> Claims:
    """Return the claims about beats chosen once and given at any pace, after which no more come.

    A first phase gives other beats, arbitrary in every cycle, until an error and ``clear``; it may
    be left out, so that the claims hold after the reset and after ``clear`` alike.  With ``sums``
    a plain function stands for the CRC-16 in unit and reference, else there are no sums to do:
    ``source``, a copy of ``gobo_rtl.decode``, is changed for that.
    """
    sum_of = simple_sum if sums else no_sum
    for user in ("checks", "outlier_reader"):
        sys.modules[f"{source.__name__}.{user}"].crc16_next = sum_of
    dut = source.DecodeUnit(config)
    claims = Claims(dut)
    m, o = claims.m, dut.o
    width = config.index_width
    group_bits = config.lanes * width

    # Streams.
    index = Beats(claims, config, index_beats, "index")
    outlier = Beats(claims, config, outlier_beats, "outlier")
    books = [claims.fixed(config.codebook_width, f"codebook{n}") for n in range(codebooks)]
    first_phase = Signal()
    clear = claims.free(1, "clear_in")
    m.d.comb += [dut.clear.eq(first_phase & clear), o.ready.eq(claims.free(1, "take"))]
    with m.If(claims.reset):
        m.d.sync += first_phase.eq(claims.free(1, "has_first_phase"))
    with m.Elif(dut.clear & (dut.error_code != 0)):
        m.d.sync += first_phase.eq(0)
    taken = {}
    for port, name, payloads in (
        (dut.i_indexes, "indexes", index.payloads),
        (dut.i_outliers, "outliers", outlier.payloads),
        (dut.i_codebook, "codebook", books),
    ):
        at = taken[name] = Signal(range(len(payloads) + 1), name=f"{name}_at")
        left = first_phase | (at < len(payloads))
        other = claims.free(len(payloads[0]), f"{name}_first")
        payload = Mux(first_phase, other, Array(payloads)[at])
        claims.drive(port, name, payload, left)
        with m.If(claims.reset | first_phase):
            m.d.sync += at.eq(0)
        with m.Elif(port.valid & port.ready):
            m.d.sync += at.eq(at + 1)

    # Tiles: where each starts follows from the headers before.
    def headed(start: Value) -> dict[str, Value]:
        beat = outlier.from_beat(claims, start).data[0]
        return {f.name: beat[f.offset : f.offset + f.width] for f in TILE_HEADER.fields}

    def beats(bits: Value, limit: int) -> Value:
        """Return the beats that ``bits`` take, or ``limit`` if they are more."""
        count = (bits + config.beat_width - 1) >> (config.beat_width.bit_length() - 1)
        return Mux(count > limit, limit, count)[: limit.bit_length()]

    too_far = max(index_beats, outlier_beats) + 1
    index_at, outlier_at, layer = Const(0, 4), Const(0, 4), Const(0, 3)
    starts = []
    for number in range(tiles):
        head = headed(outlier_at)
        index_need = named(claims, beats(head["group_count"] * group_bits, too_far), "index_need")
        outlier_need = named(claims, beats(
            head["record_count"] * config.record_width + TILE_HEADER.width, too_far
        ), "outlier_need")  # fmt: skip
        starts.append({
            "index_at": index_at, "outlier_at": outlier_at, "layer": layer,
            "index_need": index_need, "outlier_need": outlier_need,
        })  # fmt: skip
        after = outlier_at + outlier_need
        ended = any_of([(after == n + 1) & outlier.last[n] for n in range(outlier_beats)])
        index_at, outlier_at, layer = (
            named(claims, Mux(value > top, top, value)[:4], f"tile{number + 1}_{name}")
            for value, top, name in (
                (index_at + index_need, 8, "index"), (after, 8, "outlier"),
                (layer + ended, 7, "layer"),
            )
        )

    # The tile that is watched.
    watched = claims.fixed(range(tiles), "watched_tile")
    here = {
        key: named(claims, Array(start[key] for start in starts)[watched], f"watched_{key}")
        for key in starts[0]
    }
    head = {key: named(claims, v, key) for key, v in headed(here["outlier_at"]).items()}
    groups, records = head["group_count"], head["record_count"]
    own_index = index.from_beat(claims, here["index_at"])
    own_outlier = outlier.from_beat(claims, here["outlier_at"])
    index_all = here["index_at"] + here["index_need"] <= index_beats
    outlier_all = here["outlier_at"] + here["outlier_need"] <= outlier_beats
    index_early = any_of([
        own_index.last[n] & (n + 1 < here["index_need"]) for n in range(index_beats)
    ])
    outlier_early = any_of([
        own_outlier.last[n] & (n + 1 < here["outlier_need"]) for n in range(outlier_beats)
    ])
    index_ends = any_of([
        own_index.last[n] & (n + 1 == here["index_need"]) for n in range(index_beats)
    ])
    outlier_ends = any_of([
        own_outlier.last[n] & (n + 1 == here["outlier_need"]) for n in range(outlier_beats)
    ])
    differ = index_all & outlier_all & (index_ends != outlier_ends)

    # Its groups.
    planes = Cat(own_index.data)
    held = index_beats * config.beat_width // group_bits
    group = claims.fixed(range(held), "watched_group")
    lane = claims.fixed(range(config.lanes), "watched_lane")
    bits = Array(planes[n * group_bits : (n + 1) * group_bits] for n in range(held))[group]
    number = Cat(bits.word_select(j, config.lanes).bit_select(lane, 1) for j in range(width))
    number = named(claims, number, "watched_index")
    book = Array(books)[here["layer"]]
    centroid = named(claims, book.word_select(number, config.value_width), "watched_centroid")
    remainder: Value = Const(0xFFFF, 16)
    index_sum = remainder
    for n in range(held):
        remainder = named(
            claims, sum_of(remainder, planes[n * group_bits : (n + 1) * group_bits]), "sum"
        )
        index_sum = Mux(groups == n + 1, remainder, index_sum)

    # Its records.
    body = Cat(own_outlier.data)[TILE_HEADER.width :]
    size, lanes_at, gap_at = config.record_width, config.lane_bits, config.lane_bits + 1
    disorder, unplaced, unlinked, hits = [], [], [], []
    place: Value = Const(0, 16)
    before = None
    remainder = outlier_sum = Const(0xFFFF, 16)
    for n in range(len(body) // size):
        raw = body[n * size : (n + 1) * size]
        record = {
            "lane": raw[:lanes_at], "more": raw[lanes_at], "gap": raw[gap_at:16], "value": raw[16:],
        }  # fmt: skip
        beat = (TILE_HEADER.width + (n + 1) * size - 1) // config.beat_width
        there = (n < records) & (here["outlier_at"] + beat < outlier_beats)
        escape = record["gap"] == config.gap_escape
        place = named(claims, (place + record["gap"])[:16], "place")
        unplaced.append(there & (place >= groups))
        # More records are due, none in this group: there is no place left for them.
        unplaced.append(there & (n + 1 < records) & ~record["more"] & (place + 1 >= groups))
        disorder.append(there & (n + 1 == records) & record["more"])
        if before is not None:
            far = record["gap"] != 0
            falls = ~before["escape"] & (record["lane"] <= before["lane"])
            disorder.append(there & before["more"] & (far | falls))
            unlinked.append(there & ~before["more"] & ~far)
        hit = there & ~escape & (place == group) & (record["lane"] == lane)
        hits.append((hit, record["value"]))
        remainder = named(claims, sum_of(remainder, raw), "sum")
        outlier_sum = Mux(records == n + 1, remainder, outlier_sum)
        before = {**record, "escape": escape}
    is_outlier = named(claims, any_of([hit for hit, _ in hits]), "watched_is_outlier")
    value = centroid
    for hit, mine in hits:
        value = Mux(hit, mine, value)

    # Rules that it breaks.
    broken = {
        "index_crc": index_all & ~index_early & (groups != 0) & (index_sum != head["index_crc16"]),
        "outlier_crc": outlier_all & ~outlier_early & (outlier_sum != head["outlier_crc16"]),
        "record_order": any_of([*disorder, *unlinked]),
        "record_place": any_of([*unplaced, *unlinked]),
        "index_end": index_early | differ,
        "outlier_end": outlier_early | differ,
        "tile_header": groups == 0,
    }
    broken = {name: named(claims, rule, f"broken_{name}") for name, rule in broken.items()}
    good = named(claims, ~any_of(list(broken.values())), "watched_good")

    # What comes out.
    tile, place_out, failed = Signal(range(tiles + 1)), Signal(16), Signal()
    owed = Signal()  # the closing transfer of the first phase may be taken after `clear`
    moves = o.valid & o.ready & ~first_phase & ~owed
    with m.If(claims.reset):
        m.d.sync += owed.eq(0)
    with m.Elif(first_phase | owed):
        m.d.sync += owed.eq(o.valid & ~o.ready)
    with m.If(claims.reset | first_phase):
        m.d.sync += [tile.eq(0), place_out.eq(0), failed.eq(0)]
    with m.Elif(moves):
        m.d.sync += place_out.eq(Mux(o.payload.last, 0, place_out + 1))
        with m.If(o.payload.error):
            m.d.sync += failed.eq(1)
        with m.Elif(o.payload.last):
            m.d.sync += tile.eq(Mux(tile == tiles, tile, tile + 1))
    mine = named(claims, moves & (tile == watched), "watched_moves")
    fine = mine & ~o.payload.error
    is_last = place_out + 1 == groups
    got = named(claims, Array(o.payload.values)[lane], "watched_value")
    claims.claim("a weight is its centroid, or the outlier in its place",
                 ~(fine & good & (place_out == group)) | (got == value))
    claims.claim("a group is the last exactly where the header says",
                 ~(fine & (groups != 0)) | (o.payload.last == is_last))
    claims.claim("no group is given before its indexes are there",
                 ~(fine & good) | (place_out < held))
    claims.claim("a tile that breaks a rule is condemned",
                 ~(fine & o.payload.last) | (good & index_all & outlier_all))
    claims.claim("a tile that breaks no rule is not condemned", ~(mine & o.payload.error) | ~good)
    claims.claim("error comes with last", ~(moves & o.payload.error) | o.payload.last)
    claims.claim("a condemned tile is not longer than its header says",
                 ~mine | (place_out == 0) | (place_out < groups))
    claims.claim("nothing follows an error", ~(moves & failed))
    judged = ~first_phase & (tile == watched)
    for name, code in ERRORS.items():
        if code:
            claims.claim(f"{name} is the code of a broken rule",
                         ~(judged & (dut.error_code == code)) | broken[name])
            claims.event(f"error {name}", judged & mine & (dut.error_code == code))
    claims.claim("an error has a code in the cycle after its transfer",
                 first_phase | ~failed | (dut.error_code != 0))

    had_first = Signal()
    m.d.sync += had_first.eq(first_phase | (had_first & ~claims.reset))
    ends = fine & o.payload.last
    seen_outlier = Signal()
    outlier_moves = fine & (place_out == group) & is_outlier & ~o.payload.last
    m.d.sync += seen_outlier.eq(~claims.reset & (seen_outlier | outlier_moves))
    claims.event("two tiles end", ends & (watched == 1))
    claims.event("a second layer begins and its first tile ends", ends & (here["layer"] == 1))
    claims.event("a tile of three groups with an outlier before its last ends",
                 ends & seen_outlier & (groups == 3))
    claims.event("a tile of six groups over two beats ends", ends & (groups == 6))
    claims.event("a tile ends after an error and clear", ends & had_first)
    claims.event("a group with two outliers ends a second tile",
                 ends & (watched == 1) & (place_out == group) & is_outlier & (records == 2)
                 & (groups == 2) & hits[1][0])
    if config.gap_escape < 4:
        claims.event("an outlier comes after an escape",
                     ends & is_outlier & (place_out == group) & (groups == config.gap_escape + 1))
    return claims
