# amaranth: UnusedElaboratable=no
"""Every index word and outlier word of a strip goes out once each time the strip is given, in
order, an outlier with the step that it belongs to.

Proved for all time, at any pace: a ring gives the words that its commands mean, units of any sizes
again and again; and words of two such rings are joined step by step, whatever outliers there are.
The whole buffer, with small rings, is checked for every run of the first ``FIRST`` cycles: strips
of 1 or 2 steps and any commands.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.data import StructLayout

from gobo_rtl.array import strip_buffer
from gobo_rtl.array_config import ARRAYS
from gobo_rtl.array_layout import IndexWordLayout, OutlierWordLayout, ReplayLayout
from tests.sabotage.plant import Fault, planted_package

from .inside import Elaborated, elaborated, resized
from .prover import Claims, bounded, prove, reach
from .test_axi import queue

CONFIG = ARRAYS["tiny"]
STEP = 3  # bits of a step, and of a word's number
CYCLES = 14  # in which events and faults are seen
FIRST = 8
FILE = "gobo_rtl/array/strip_buffer.py"
FAULTS: dict[str, tuple[str, Fault, str]] = {  # and the claim that is broken
    "an outlier goes out with the next step": ("join", Fault(
        "next", FILE, "here = outlier.step == step", "here = outlier.step + 1 == step",
    ), "an outlier goes out with its step"),
    "an index goes with each word of outliers": ("join", Fault(
        "each", FILE, "indexes.o.ready.eq(transfer & o.payload.done)",
        "indexes.o.ready.eq(transfer)",
    ), "an index is taken when its step is done"),
    "the last outlier word stays": ("join", Fault(
        "stays", FILE, "outliers.o.ready.eq(transfer & here)",
        "outliers.o.ready.eq(transfer & here & ~outlier.last)",
    ), "an outlier word is taken once"),
    "steps are counted on in the next strip": ("join", Fault(
        "count", FILE, "step.eq(Mux(index.last, 0, step + 1))", "step.eq(step + 1)",
    ), "an outlier goes out with its step"),
    "a word is lost when the queue is full": ("ring", Fault(
        "lost", FILE, "replay.next.eq(replay.valid & queue.w_rdy)", "replay.next.eq(replay.valid)",
    ), "words go out in the order of reading"),
    "outliers are given once only": ("whole", Fault(
        "once", FILE, "wiring.connect(m, passes.o[1], outliers.i_pass)",
        "wiring.connect(m, passes.o[1], outliers.i_pass)\n"
        "        m.d.comb += outliers.i_pass.payload.release.eq(1)",
    ), "the next outlier goes out"),
}  # fmt: skip


class FreeRing(strip_buffer.Ring):
    """Stands for a ring: what it gives is chosen outside."""

    def elaborate(self, platform: object) -> Module:
        return Module()


def join_claims(source: ModuleType) -> Claims:
    """Return the claims for what joins the two rings' words."""
    config = CONFIG
    rings = [FreeRing(layout(config), 2) for layout in (IndexWordLayout, OutlierWordLayout)]
    dut = source.StripBuffer(config)
    claims = Claims(dut)
    elaborate, left = dut.elaborate, list(rings)

    def patched(platform: object) -> Module:
        with patch.object(source, "Ring", lambda *_: left.pop(0)):
            return elaborate(platform)

    dut.elaborate = patched
    m, reset, o = claims.m, claims.reset, dut.o
    indexes, outliers = (ring.o for ring in rings)

    # Strips: the step of the index word that is next, that of the outlier word that is next, and
    # whether this one is the strip's last; numbers of words.
    step, of, final = Signal(STEP), Signal(STEP), Signal()
    count, number, further = Signal(STEP), Signal(STEP), Signal()
    skipped, fresh_final = claims.free(STEP, "skipped"), claims.free(1, "fresh_final")
    more = claims.free(1, "more")
    index, outlier = Signal(IndexWordLayout(config)), Signal(OutlierWordLayout(config))
    m.d.comb += [
        index.planes[0].eq(count), index.last.eq((of == step) & final),
        outlier.step.eq(of), outlier.more.eq(more), outlier.last.eq(final & ~more),
        outlier.entries[0].valid.eq(claims.free(1, "entry")), outlier.entries[0].value.eq(number),
    ]  # fmt: skip
    claims.drive(indexes, "indexes", Value.cast(index))
    claims.drive(outliers, "outliers", Value.cast(outlier))
    m.d.comb += o.ready.eq(claims.free(1, "take"))
    took_index = indexes.valid & indexes.ready & ~reset
    took = outliers.valid & outliers.ready & ~reset
    done = took & ~outliers.payload.more
    after = Mux(reset | final, 0, of + 1) + skipped
    claims.assume(~done | (after < 1 << STEP))
    with m.If(reset | done):
        m.d.sync += [of.eq(after), final.eq(fresh_final | (after == (1 << STEP) - 1))]
    with m.If(took_index):
        m.d.sync += [step.eq(Mux(indexes.payload.last, 0, step + 1)), count.eq(count + 1)]
    with m.If(took):
        m.d.sync += number.eq(number + 1)
    with m.If(reset):
        m.d.sync += [step.eq(0), count.eq(0), number.eq(0), further.eq(0)]

    go, word, entry = o.valid & o.ready & ~reset, outliers.payload, o.payload.entries[0]
    with m.Elif(go):
        m.d.sync += further.eq(~o.payload.done)
    here = of == step
    there = o.valid & ~reset
    claims.claim("it gives what is there", there == (indexes.valid & outliers.valid & ~reset))
    claims.claim("an outlier goes out with its step",
                 ~there | (entry.valid == (here & word.entries[0].valid)))  # fmt: skip
    claims.claim("it is the next one", ~(there & entry.valid) | (entry.value == number))
    claims.claim("an outlier word is taken once", took == (go & here))
    claims.claim("it has the next index", ~there | (o.payload.planes[0] == count[: config.rows]))
    claims.claim("a step is done with its last outlier",
                 ~there | (o.payload.done == ~(here & word.more)))  # fmt: skip
    claims.claim("an index is taken when its step is done", took_index == (go & o.payload.done))
    claims.claim("plain with done", ~there | (o.payload.plain == o.payload.done))
    claims.claim("first with the first cycle", ~there | (
        o.payload.first == ((step == 0) & ~further)))  # fmt: skip
    claims.claim("last with the last cycle", ~there | (
        o.payload.last == (indexes.payload.last & o.payload.done)))  # fmt: skip
    claims.claim("no word stays behind", ~there | (of >= step))
    claims.event("a strip of one step after another", go & o.payload.first & o.payload.last
                 & claims.before(go & o.payload.last))  # fmt: skip
    claims.event("a step of three words", go & o.payload.done & here & claims.before(
        go & ~o.payload.done & claims.before(go & ~o.payload.done, "two"), "three"))
    claims.event("the last of all steps", go & (step == 7))
    return claims


def ring_claims(source: ModuleType, depth: int = 2) -> Claims:
    """Return the claims for a ring with its queue; ``last`` is any function of a word's number."""
    bits = depth.bit_length() + 2
    dut = source.Ring(StructLayout({"number": bits, "last": 1}), depth)
    ready = Elaborated()
    claims = Claims(ready)
    ready.design, (pointers,) = elaborated(dut, source.Replay)
    m, reset = claims.m, claims.reset
    names = ("written", "at", "mark", "tail")
    written, at, mark, tail = (Signal(bits, name=name) for name in names)
    begins, marked = Signal(), Signal()
    ends_at = claims.fixed(1 << bits, "ends_at")
    word = Cat(written, ends_at.bit_select(written, 1))
    claims.drive(dut.i, "i", word)
    claims.drive(dut.i_pass, "command")
    m.d.comb += dut.o.ready.eq(claims.free(1, "take"))
    wrote, went = (port.valid & port.ready & ~reset for port in (dut.i, dut.o))

    # What is read, by the commands; it goes out in that order.
    command = dut.i_pass.payload
    read, last = pointers.next & ~reset, ends_at.bit_select(at, 1)
    marks = begins & command.mark
    claims.assume(~(command.rewind & command.release))
    claims.assume(~command.rewind | marks | marked)
    m.d.sync += written.eq(written + wrote)
    with m.If(read):
        m.d.sync += [at.eq(at + 1), begins.eq(last)]
        with m.If(marks):
            m.d.sync += [mark.eq(at), marked.eq(1)]
        with m.If(last & command.rewind):
            m.d.sync += at.eq(Mux(marks, at, mark))
        with m.If(last & command.release):
            m.d.sync += [tail.eq(at + 1), marked.eq(0)]
    with m.If(reset):
        m.d.sync += [value.eq(0) for value in (written, at, mark, tail, marked)]
        m.d.sync += begins.eq(1)
    due, count = queue(claims, read, at, went, 3, "due")
    there, kept = dut.o.valid & ~reset, Signal(bits)
    m.d.comb += kept.eq(written - tail)
    claims.claim("words go out in the order of reading", ~there | (dut.o.payload.number == due))
    claims.claim("a unit ends where it ended",
                 ~there | (dut.o.payload.last == ends_at.bit_select(due, 1)))  # fmt: skip
    claims.claim("what is read goes out", reset | (there == (count != 0)))
    claims.claim("a command is taken with its unit",
                 reset | (dut.i_pass.ready == (read & last)))  # fmt: skip
    claims.claim("there is room for what is not kept", reset | (dut.i.ready == (kept != depth)))
    claims.keeps_rules(dut.o, "o")
    went_back = claims.before(read & last & command.rewind & ~marks, "went_back")
    claims.event("a full ring is read again", went_back & read & (kept == depth))
    return claims


def whole_claims(source: ModuleType) -> Claims:
    """Return the claims for the buffer with its rings."""
    config = resized(CONFIG, index_depth=4, outlier_depth=4)
    dut = source.StripBuffer(config)
    claims = Claims(dut)
    m, reset, o = claims.m, claims.reset, dut.o

    # What comes: words by numbers; an outlier has that of its index, too.
    written, number, step = Signal(STEP), Signal(STEP), Signal(1)
    extra = Signal()
    last, more = claims.free(1, "last_in") | step, claims.free(1, "more") & ~extra
    some = claims.free(1, "some") | last | extra
    offer = claims.free(1, "offer") & ~reset
    index, outlier = dut.i_indexes, dut.i_outliers
    # The words of a step are offered together, and stay.
    waits_index, waits_outlier = Signal(), Signal()
    fresh = offer & ~waits_index & ~waits_outlier
    kept = Signal(IndexWordLayout(config)), Signal(OutlierWordLayout(config))
    new = Signal(IndexWordLayout(config)), Signal(OutlierWordLayout(config))
    ends = some & more
    m.d.comb += [
        new[0].planes[0].eq(written), new[0].last.eq(last),
        new[1].step.eq(step), new[1].more.eq(ends), new[1].last.eq(last & ~ends),
        new[1].entries[0].valid.eq(1), new[1].entries[0].value.eq(Cat(number, written)),
        index.valid.eq((fresh & ~ends) | waits_index),
        outlier.valid.eq((fresh & some) | waits_outlier),
        Value.cast(index.payload).eq(Mux(waits_index, kept[0], new[0])),
        Value.cast(outlier.payload).eq(Mux(waits_outlier, kept[1], new[1])),
    ]  # fmt: skip
    m.d.sync += [
        waits_index.eq(index.valid & ~index.ready & ~reset),
        waits_outlier.eq(outlier.valid & ~outlier.ready & ~reset),
        kept[0].eq(index.payload), kept[1].eq(outlier.payload),
    ]  # fmt: skip
    with m.If(fresh):
        m.d.sync += [number.eq(number + some), extra.eq(ends)]
        with m.If(~ends):
            m.d.sync += [written.eq(written + 1), step.eq(~last)]
    with m.If(reset):
        m.d.sync += [value.eq(0) for value in (number, extra, written, step)]

    # Commands, as the schedule may give them.
    command = Signal(ReplayLayout())
    marked = Signal()
    m.d.comb += [
        command.release.eq(claims.free(1, "release")),
        command.rewind.eq(claims.free(1, "rewind") & ~command.release),
        command.mark.eq(claims.free(1, "mark") | (command.rewind & ~marked)),
    ]  # fmt: skip
    claims.drive(dut.i_pass, "pass", Value.cast(command))
    asked = dut.i_pass.valid & dut.i_pass.ready & ~reset
    with m.If(asked):
        m.d.sync += marked.eq(~dut.i_pass.payload.release & (marked | dut.i_pass.payload.mark))
    with m.If(reset):
        m.d.sync += marked.eq(0)
    go = o.valid & o.ready & ~reset
    ended = go & o.payload.last
    m.d.comb += o.ready.eq(claims.free(1, "take"))
    head, count = queue(claims, asked, Value.cast(dut.i_pass.payload), ended, 9, "commands")
    unit = Signal(ReplayLayout())
    m.d.comb += Value.cast(unit).eq(head)

    # What goes out.
    entry = o.payload.entries[0]
    places = []
    for name, moves in (("index", o.payload.done), ("outlier", entry.valid)):
        at, mark = Signal(STEP, name=f"{name}_at"), Signal(STEP, name=f"{name}_mark")
        back = Mux(unit.mark & o.payload.first, at, mark)
        with m.If(go):
            m.d.sync += [at.eq(at + moves), mark.eq(back)]
            with m.If(o.payload.last & unit.rewind):
                m.d.sync += at.eq(back)
        with m.If(reset):
            m.d.sync += [at.eq(0), mark.eq(0)]
        places.append(at)
    at, outlier_at = places
    there = o.valid & ~reset
    claims.claim("the next index goes out", ~there | (o.payload.planes[0] == at[: config.rows]))
    claims.claim("the next outlier goes out",
                 ~(there & entry.valid) | (entry.value[:STEP] == outlier_at))  # fmt: skip
    claims.claim("an outlier goes out with its step",
                 ~(there & entry.valid) | (entry.value[STEP : 2 * STEP] == at))  # fmt: skip
    claims.claim("every strip has a command", ~there | (count != 0))
    claims.keeps_rules(o, "o")
    again = Signal(name="again")
    with m.If(ended):
        m.d.sync += again.eq(unit.rewind)
    with m.If(reset):
        m.d.sync += again.eq(0)
    claims.event("a strip comes again", ended & again)
    claims.event("a strip of two steps with two outlier words goes", ended & ~o.payload.first
                 & unit.release & (outlier_at > 1))  # fmt: skip
    return claims


KINDS = {"join": join_claims, "ring": ring_claims, "whole": whole_claims}


def test_a_ring_gives_the_words_of_its_commands(tmp_path: Path) -> None:
    claims = ring_claims(strip_buffer)
    verdict = prove(claims, tmp_path)
    assert verdict.holds, verdict
    assert set(reach(claims, tmp_path, CYCLES)) == set(claims.events)


def test_indexes_and_outliers_are_joined(tmp_path: Path) -> None:
    claims = join_claims(strip_buffer)
    verdict = prove(claims, tmp_path)
    assert verdict.holds, verdict
    assert set(reach(claims, tmp_path, CYCLES)) == set(claims.events)


@pytest.mark.slow
def test_strips_come_whole_and_again(tmp_path: Path) -> None:
    claims = whole_claims(strip_buffer)
    verdict = bounded(claims, tmp_path, FIRST)
    assert verdict.holds, verdict
    assert set(reach(claims, tmp_path, CYCLES)) == set(claims.events)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    kind, fault, broken = FAULTS[name]
    source = import_module(f"{planted_package(fault, tmp_path)}.array.strip_buffer")
    verdict = bounded(KINDS[kind](source), tmp_path / "proof", CYCLES)
    assert verdict.holds is False and verdict.broken == broken, verdict
