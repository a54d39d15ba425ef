"""What is claimed of the unpacker: its chunks are the bits of the sections, in order."""

from types import ModuleType

from amaranth.hdl import Array, Mux, Signal, signed

from gobo_rtl.decode import unpacker

from .contracts import sections_are_whole
from .prover import Claims

__all__ = ["SECTIONS", "unpacker_claims"]

SECTIONS: dict[str, tuple[int, tuple[int, ...], int, bool]] = {
    "groups of 8 bits": (64, (8,), 0, False),
    "groups of 12 bits": (64, (12,), 0, False),
    "groups of 8 or 12 bits": (64, (8, 12), 0, False),
    "groups of 48 bits": (64, (48,), 0, False),
    "groups wider than a beat": (64, (96,), 0, False),
    "records of 32 bits": (64, (32,), 64, True),
    "records of 32 bits, two at a time": (64, (32, 64), 64, True),
    "records of 48 bits": (64, (48,), 64, True),
    "records of 32 bits, two at a time, of wide beats": (128, (32, 64), 64, True),
}
"""Beat width, sizes of chunks, bits before the first, and whether the last may be smaller."""


def unpacker_claims(
    beat_width: int,
    sizes: tuple[int, ...],
    start: int,
    tails: bool,
    source: ModuleType = unpacker,
) -> Claims:
    """Return the claims.  A bit of any beat is watched from when the beat is at the input until a
    chunk brings it; ``ahead`` is the number of bits of the section that are still to come before.

    ``stored`` is the number of bits taken less the number given: negative when chunks, or the
    section's start, were read from a beat that still stands at the input.
    """
    dut = source.Unpacker(beat_width, sizes, start, tails=tails)
    claims = Claims(dut)
    m, i, o, top = claims.m, dut.i, dut.o, max(sizes)
    claims.drive(i, "i")
    take = claims.free(1, "take")
    chosen = dut.size if len(sizes) > 1 else Signal()
    m.d.comb += [
        o.ready.eq(take),
        chosen.eq(claims.free(len(chosen), "size_in")),
        dut.final.eq(claims.free(1, "final_in")),
        dut.skip.eq(claims.free(1, "skip_in")),
        dut.enable.eq(claims.free(1, "enable_in")),
    ]
    size = Array(sizes)[chosen] if len(sizes) > 1 else sizes[0]
    accept, give = i.valid & i.ready, o.valid & o.ready

    # The section as the page has it: bits follow each other, beat after beat.
    reach = beat_width + 2 * top
    untouched = Signal(init=1)  # nothing of the section was taken or given
    stored = Signal(signed(reach.bit_length() + 1), init=-start)
    ended = Signal()  # a beat with `last` was taken
    rest = Signal.like(stored)
    done = dut.skip | (give & dut.final)
    m.d.comb += rest.eq(stored + Mux(accept, beat_width, 0) - Mux(give, size, 0))
    m.d.sync += [
        untouched.eq(Mux(done, 1, untouched & ~accept & ~give)),
        stored.eq(Mux(done, -start, rest)),
        ended.eq(~done & (ended | (accept & i.payload.last))),
    ]
    with m.If(claims.reset):
        m.d.sync += [untouched.eq(1), stored.eq(-start), ended.eq(0)]

    # What the parent promises.
    waits = claims.before(o.valid & ~o.ready & ~claims.reset, "waits")
    for condition in sections_are_whole(claims, dut, untouched, tails).values():
        claims.assume(condition)

    # A watched bit.
    here = claims.free(range(beat_width), "watched_bit")
    pick = claims.free(1, "pick") & i.valid & ~dut.skip
    watching, expected, ahead_r = Signal(), Signal(), Signal.like(stored)
    starts = pick & ~watching & (stored + here >= 0)
    watched = Signal()
    ahead = Signal.like(stored)
    value = Mux(watching, expected, i.payload.data.bit_select(here, 1))
    comes = watched & give & (ahead < size)
    m.d.comb += [watched.eq(watching | starts), ahead.eq(Mux(watching, ahead_r, stored + here))]
    m.d.sync += [
        watching.eq(~claims.reset & watched & ~comes & ~done),
        expected.eq(value),
        ahead_r.eq(Mux(give, ahead - size, ahead)),
    ]
    brought = o.payload.bit_select(ahead[: reach.bit_length()], 1)
    claims.claim("a bit comes at its place", ~comes | (brought == value))

    # Beats.
    last = Mux(stored >= size, ended, i.payload.last)
    enough = (stored >= size) | (i.valid & (stored + beat_width >= size))
    claims.claim("a section ends with the beat of its last bit",
                 ~(give & dut.final) | ((rest >= 0) & (rest < beat_width)))
    claims.claim("nothing is given that has not come", ~o.valid | enough)
    claims.claim("last is that of the section's last beat",
                 ~(give & dut.final) | (dut.last == last))
    claims.claim("starved when the beats end before the section",
                 dut.starved == (ended & (stored < size)))
    live = dut.enable & ~dut.starved
    claims.claim("a chunk is offered as soon as its bits are there", ~(live & enough) | o.valid)
    claims.claim("a beat that does not fill a chunk is taken",
                 ~(live & i.valid & ~enough) | i.ready)
    claims.claim("a section without chunks takes one beat", ~dut.skip | (i.ready & ~give))
    claims.claim("nothing moves without enable", dut.enable | dut.skip | ~(o.valid | accept))
    shown = o.payload & ((1 << size) - 1) if len(sizes) > 1 else o.payload
    before = claims.before(shown, "offered")
    claims.claim("o.valid stays", ~waits | o.valid)
    claims.claim("o.payload stays", ~waits | (shown == before))

    claims.event("a watched bit waits in the store", comes & watching & (stored > ahead))
    claims.event("a chunk is made of two beats", give & (stored > 0) & (stored < size))
    ended_before = claims.before(done & ~dut.skip, "ended_before")
    claims.event("a section ends and the next one begins", ended_before & give)
    claims.event("a chunk waits", waits & give)
    claims.event("the beats end too early", dut.starved)
    return claims
