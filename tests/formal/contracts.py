"""What the parts of the decode unit promise each other: claimed of the one that gives, assumed by
the proof of the one that takes, so that the proofs of the parts make one of the whole.

Each function returns its conditions by name, to be given to ``claim`` or to ``assume``.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream

from gobo_rtl.config import GoboConfig
from gobo_rtl.decode.unpacker import Unpacker

from .prover import Claims

__all__ = [
    "FreeUnpacker", "groups_are_of_tiles", "records_stay", "sections_are_whole",
    "takes_what_is_there",
]  # fmt: skip


class FreeUnpacker(Unpacker):
    """Stands for the unpacker in the proof of its parent: gives anything that the unpacker may."""

    def choose(self, claims: Claims) -> None:
        """Choose what it gives, anew in every cycle."""
        self.offers = claims.free(1, "chunk_offered")
        self.takes_beat = claims.free(1, "beat_taken")
        self.chunk = claims.free(len(self.o.payload), "chunk")
        self.tells_last = claims.free(1, "chunk_last")
        self.starves = claims.free(1, "starves")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        live = self.enable & ~self.starved
        m.d.comb += [
            self.starved.eq(self.starves),
            self.o.valid.eq(live & self.offers),
            self.o.payload.eq(self.chunk),
            self.i.ready.eq(self.skip | (live & self.takes_beat)),
            self.last.eq(self.tells_last),
        ]
        return m


def sections_are_whole(
    claims: Claims, dut: Unpacker, untouched: Value, tails: bool
) -> dict[str, Value]:
    """What the unpacker asks of its parent; ``untouched`` while nothing of the section is taken or
    given."""
    sizes = len(dut.takes)
    chosen = dut.size if sizes > 1 else Const(0, 1)
    give = dut.o.valid & dut.o.ready
    waits = claims.before(dut.o.valid & ~dut.o.ready & ~claims.reset, "waits")
    same = chosen == claims.before(chosen, "size_before")
    asked = {
        "size is one of the sizes": chosen < sizes,
        "a section is skipped at its start": ~dut.skip | (untouched & dut.i.valid & ~dut.enable),
        "enable stays while a chunk waits": ~waits | dut.enable,
    }
    if tails:
        given = claims.before(give, "given_before")
        return {
            **asked,
            "chunks before the last are of the greatest size": dut.final | (chosen == sizes - 1),
            "size changes with a chunk only": untouched | given | same,
            "size stays while a chunk waits": ~waits | same,
        }
    return {**asked, "size is that of the section": (untouched & ~waits) | same}


def takes_what_is_there(valid: Value, take: Value) -> dict[str, Value]:
    """What the window on the next records asks of the one who takes them."""
    there = [take == 0, *(bit & (take == n + 1) for n, bit in enumerate(valid))]
    return {"records taken are there": Cat(there).any()}


def records_stay(
    claims: Claims, config: GoboConfig, part: object, fresh: Value
) -> dict[str, Value]:
    """What ``part``, with the window's ports, promises of the next records; with ``fresh`` nothing
    was before this cycle."""
    count = config.outliers_per_cycle
    window, valid, take = part.window, part.valid, part.take  # type: ignore[attr-defined]
    took = claims.before(take, "took")
    was = [claims.before(valid[n], f"valid{n}_before") for n in range(count)]
    old = [claims.before(window[n].as_value(), f"window{n}_before") for n in range(count)]
    gaps = claims.before(part.next_gap, "next_gap_before")  # type: ignore[attr-defined]
    comes = claims.before(part.next_valid, "next_valid_before")  # type: ignore[attr-defined]
    first = window[0].record.gap
    stays = [
        ~((took == taken) & was[n]) | (valid[n - taken] & (window[n - taken].as_value() == old[n]))
        for taken in range(count + 1) for n in range(taken, count)
    ]  # fmt: skip
    return {
        "no record is there at first": ~fresh | (valid == 0),
        "records are there in order": Cat(
            valid[n - 1] | ~valid[n] for n in range(1, count)
        ).all() if count > 1 else Value.cast(1),
        "next_valid tells valid": fresh | (valid[0] == comes),
        "next_gap tells gaps of 0 and 1":
            fresh | ~valid[0] | (gaps == Cat(first == 0, first == 1)),
        "records that are not taken stay": fresh | Cat(stays).all(),
        "escapes are marked": Cat(
            ~valid[n] | (window[n].escape == (window[n].record.gap == config.gap_escape))
            for n in range(count)
        ).all(),
    }  # fmt: skip


def groups_are_of_tiles(
    claims: Claims, o: stream.Interface, index_crc16: Value, fresh: Value, off: Value
) -> dict[str, Value]:
    """What the reader of indexes promises of its groups; with ``off`` it is reset."""
    m, group = claims.m, o.payload
    inside, in_layer = Signal(name="inside_tile"), Signal(name="inside_layer")
    tile = Cat(group.empty, group.outliers_end, group.colour)
    kept, sum_kept = Signal.like(tile, name="tile_kept"), Signal(16, name="sum_kept")
    waits = Signal(name="group_waits")
    offered = claims.before(group.as_value(), "group_offered")
    moved = claims.before(o.valid & o.ready, "group_moved")
    moved_on = claims.before(inside, "inside_before")
    transfer = o.valid & o.ready
    m.d.sync += waits.eq(o.valid & ~o.ready & ~off)
    m.d.sync += sum_kept.eq(Mux(moved, index_crc16, sum_kept))
    with m.If(off):
        m.d.sync += [inside.eq(0), in_layer.eq(0)]
    with m.Elif(transfer):
        m.d.sync += [
            inside.eq(~group.last), in_layer.eq(~(group.last & group.end)), kept.eq(tile),
        ]  # fmt: skip
    return {
        "a group stays until it is taken": off | ~waits | (o.valid & (group.as_value() == offered)),
        "start is the first of a tile": off | (group.start == ~inside),
        "first is the first of a layer": off | (group.first == ~in_layer),
        "a tile's groups say the same of it": off | ~o.valid | ~inside | (tile == kept),
        "neighbours have other colours":
            off | fresh | ~o.valid | inside | ~in_layer | (group.colour != kept[2]),
        "a tile's groups have one sum": ~(moved & moved_on) | (index_crc16 == sum_kept),
    }  # fmt: skip
