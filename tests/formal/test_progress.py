# amaranth: UnusedElaboratable=no
"""The engine does not stop: while a layer is at hand something moves, within ``STILL`` cycles.

Bounded: every run of the first cycles after the reset, as many as ``PACES`` says. Of the whole
engine, with layers of up to 2 strips by 2 token tiles of up to 2 steps one after the other: in
blocks or resident, with fences, biases and edges. With pauses memory, writes and results each wait
a cycle whenever they like; at full pace none does, and strips have no outliers. Only the reader of
the weights' streams is stood for, by what it promises: the words of the layer's strips, in order,
with any outliers. Buffers are as small as the layers allow, so that a strip, a block and a resident
layer fill them.
"""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
from amaranth.hdl import Cat, Const, Fragment, Module, Mux, Signal, Value

from gobo_rtl.array.weight_loader import WeightLoader
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import LayerLayout
from tests.sabotage.plant import Fault, planted_package

from .inside import Elaborated, resized
from .prover import Claims, bounded, reach

STILL = 24
"""Most cycles in which nothing moves, with a layer at hand."""
PACES = {"with pauses": (True, 45), "at full pace": (False, 72)}
"""Whether there are any, and the cycles for which it is checked."""
FAULTS = {
    "biases that are there are not noticed": Fault(
        "biases", "gobo_rtl/array/finish.py", "full.bit_select(fill, 1).eq(1)",
        "full.bit_select(fill, 1).eq(0)",
    ),
    "the array takes no second pass": Fault(
        "second", "gobo_rtl/array/array.py", "m.d.sync += self.last_ready.eq(1)",
        "m.d.sync += self.last_ready.eq(0)",
    ),
    "a fence is never open": Fault(
        "fence", "gobo_rtl/top/engine.py", "fence_open.eq(ahead == 0)", "fence_open.eq(0)",
    ),
}  # fmt: skip


FITS = resized(
    replace(ARRAYS["tiny"], columns=1, index_widths=(2,), value_format="bf16", act_format="int8",
            act_width=8, weight_sum_width=12, max_inputs=8, index_depth=8, act_depth=8),
    index_depth=4, outlier_depth=8, act_depth=16, tile_slots=2,
)  # fmt: skip


class Words(WeightLoader):
    """Stands for the reader of weights: words of the strips as they are needed, at any pace."""

    def choose(self, claims: Claims, pauses: bool) -> None:
        """Choose when a step comes, and which outliers; without ``pauses`` always, and only those
        of the strips' ends."""
        self.offer, self.outlier, self.further = (
            claims.free(1, f"words_{name}") if pauses else Const(name == "offer")
            for name in ("offer", "outlier", "further")
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer, o, outliers = self.i_layer.payload, self.o_indexes, self.o_outliers
        step, strip, tile, extra = Signal(2), Signal(2), Signal(3), Signal()
        late, go = Signal(), Signal()
        free = Cat(~port.valid | port.ready for port in (o, outliers)).all()
        done = ~self.further | extra
        last = step + 1 == layer.inputs
        ends, closes = done & last, strip + 1 == layer.strips
        final = layer.resident | (tile + layer.block >= layer.tiles)
        may = free & self.i_layer.valid
        m.d.comb += [
            go.eq(may & (self.offer | late)),
            self.i_layer.ready.eq(go & ends & closes & final),
        ]
        for port in (o, outliers):
            with m.If(port.ready):
                m.d.sync += port.valid.eq(0)
        m.d.sync += late.eq(may & ~go)
        with m.If(go):
            m.d.sync += [
                o.valid.eq(done), o.payload.last.eq(last),
                outliers.valid.eq(self.outlier | ~done | ends),
                outliers.payload.step.eq(step), outliers.payload.more.eq(~done),
                outliers.payload.last.eq(ends),
                extra.eq(~done),
            ]  # fmt: skip
            with m.If(done):
                m.d.sync += step.eq(Mux(last, 0, step + 1))
            with m.If(ends):
                m.d.sync += strip.eq(Mux(closes, 0, strip + 1))
            with m.If(ends & closes):
                m.d.sync += tile.eq(Mux(final, 0, tile + layer.block))
        return m


def soon(claims: Claims, name: str, due: Value, pauses: bool) -> Value:
    """Return ``due``, with ``pauses`` in any cycle or in the one after."""
    if not pauses:
        return due
    late, now = Signal(name=f"{name}_late"), Signal(name=f"{name}_now")
    claims.m.d.comb += now.eq(due & (claims.free(1, f"{name}_now_in") | late))
    claims.m.d.sync += late.eq(due & ~now & ~claims.reset)
    return now


def progress_claims(config: ArrayConfig, pauses: bool, package: str = "gobo_rtl") -> Claims:
    """Return the claims."""
    source = import_module(f"{package}.top.engine")
    dut = source.Engine(config)
    words = Words(config)
    ready = Elaborated()
    claims = Claims(ready, cleared=True)
    words.choose(claims, pauses)
    with patch.object(source, "WeightLoader", lambda _: words):
        ready.design = Fragment.get(dut, None)
    m, reset = claims.m, claims.reset

    # Layers.
    layer = Signal(LayerLayout(config))
    strips, tiles = claims.free(1, "two_strips") + 1, claims.free(1, "two_tiles") + 1
    resident = claims.free(1, "resident_in")
    m.d.comb += [
        layer.strips.eq(strips), layer.tiles.eq(tiles), layer.tokens.eq(tiles),
        layer.block.eq(Mux(resident | claims.free(1, "single"), 1, tiles)),
        layer.inputs.eq(claims.free(1, "two_steps") + 1), layer.resident.eq(resident),
        layer.rows.eq(config.rows * strips - claims.free(2, "edge")),
        layer.fence.eq(claims.free(1, "fence")), layer.has_bias.eq(claims.free(1, "bias")),
        layer.index_width.eq(config.index_width),
    ]  # fmt: skip
    claims.drive(dut.i_layer, "layer", Value.cast(layer), pauses=pauses)

    # Memory: a beat for each that is owed, of activations and of biases.
    def memory(name: str, beats: int) -> None:
        read, port = getattr(dut, f"o_read_{name}"), getattr(dut, f"i_{name}")
        owed, place = Signal(4, name=f"{name}_owed"), Signal(2, name=f"{name}_place")
        waits = Signal(name=f"{name}_waits")
        come = soon(claims, f"{name}_beat", (owed != 0) & ~waits, pauses)
        asked, given = read.valid & read.ready, port.valid & port.ready
        m.d.comb += [
            read.ready.eq(soon(claims, f"{name}_read", read.valid, pauses)),
            port.valid.eq(come | waits), port.payload.last.eq(place == beats - 1),
        ]
        m.d.sync += [
            waits.eq(port.valid & ~port.ready), owed.eq(owed + Mux(asked, beats, 0) - given),
        ]
        with m.If(given):
            m.d.sync += place.eq(Mux(port.payload.last, 0, place + 1))

    memory("acts", 1)
    memory("biases", config.rows * 4 // config.beat_bytes)

    # Writes: a response for each command, when its beats are written.
    write, results = dut.o_write, dut.o_results
    open_, written = Signal(5, name="open_writes"), Signal(5, name="written")
    ends = results.valid & results.ready & results.payload.last
    answer = soon(claims, "answer", (written != 0) & (open_ != 0), pauses)
    m.d.comb += [
        write.ready.eq(soon(claims, "write", write.valid, pauses)),
        results.ready.eq(soon(claims, "result", results.valid, pauses)),
        dut.pending.eq(open_ != 0), dut.o_job.ready.eq(dut.done),
    ]
    m.d.sync += [
        open_.eq(open_ + (write.valid & write.ready) - answer), written.eq(written + ends - answer),
    ]

    # Something moves, and what is done is done.
    still, jobs = Signal(range(STILL + 2), name="still"), Signal(3, name="jobs")
    at_hand = dut.o_job.valid | dut.i_layer.valid
    m.d.sync += [
        still.eq(Mux(reset | dut.moving | ~at_hand, 0, Mux(still > STILL, still, still + 1))),
        jobs.eq(jobs + dut.done),
    ]
    claims.claim("something moves", still <= STILL)
    claims.claim("a job is done that is there", ~dut.done | dut.o_job.valid)
    claims.event("nothing moves for nine cycles", still == 9)
    claims.event("two layers end", jobs == 2)
    claims.event("so do three", jobs == 3)
    return claims


@pytest.mark.slow
@pytest.mark.parametrize("pace", PACES)
def test_something_moves(pace: str, tmp_path: Path) -> None:
    pauses, cycles = PACES[pace]
    claims = progress_claims(FITS, pauses)
    verdict = bounded(claims, tmp_path, cycles)
    assert verdict.holds, verdict
    assert set(reach(claims, tmp_path, cycles + 10)) == set(claims.events)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    claims = progress_claims(FITS, pauses=False, package=planted_package(FAULTS[name], tmp_path))
    verdict = bounded(claims, tmp_path / "proof", PACES["at full pace"][1])
    assert verdict.holds is False and verdict.broken == "something moves", verdict
