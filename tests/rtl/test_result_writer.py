# amaranth: UnusedElaboratable=no
"""Results land where they belong, and completions after them."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gobo_rtl.array.result_writer import ResultWriter
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import (
    CompletionLayout,
    LayerLayout,
    ResultBeatLayout,
    ResultPassLayout,
)
from gobo_rtl.bus.axi import AxiWrite
from gobo_rtl.bus.write_master import WRITES, WriteMaster
from sim.pysim import idle, put, simulate
from tests.rtl.memory import Memory

SEED = 64
BASE = 0x2000_0000
TINY = ARRAYS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "default": ARRAYS["default"],
    "three columns": replace(TINY, columns=3),
    "results of 16 bits": replace(TINY, rows=8, result_format="fp16", columns=1),
    "wide beats": replace(ARRAYS["wide"], columns=2, beat_width=512, burst_beats=8),
}


@dataclass(frozen=True)
class Shape:
    """A layer: counts, how many token tiles a block has, and its place."""

    rows: int
    tokens: int
    block: int = 1
    address: int = BASE + 0x400
    gap: int = 0  # beats between the results of two tokens
    interrupt: int = 0

    def stride(self, config: ArrayConfig) -> int:
        """Return the bytes from a token's results to the next one's."""
        size = self.rows * config.result.width // 8
        return (-(-size // config.beat_bytes) + self.gap) * config.beat_bytes


SHAPES = [
    Shape(1, 1), Shape(13, 7, block=2, gap=1, interrupt=1), Shape(64, 5, block=3),
    Shape(31, 2), Shape(7, 9, interrupt=1), Shape(4, 2),
]  # fmt: skip


def passes(config: ArrayConfig, shape: Shape) -> list[dict[str, int]]:
    """Return the passes of a layer in their order: blocks, strips, token tiles."""
    strips, tiles = -(-shape.rows // config.rows), -(-shape.tokens // config.columns)
    found = []
    for start in range(0, tiles, shape.block):
        for strip in range(strips):
            for tile in range(start, min(start + shape.block, tiles)):
                found.append({
                    "strip": strip, "tile": tile,
                    "rows": min(config.rows, shape.rows - strip * config.rows),
                    "columns": min(config.columns, shape.tokens - tile * config.columns),
                    "new_strip": int(tile == start), "has_bias": 0,
                    "last": int(strip == strips - 1 and tile == tiles - 1),
                })  # fmt: skip
    return found


def beats(config: ArrayConfig, shape: Shape, results: np.ndarray) -> list[dict[str, int]]:
    """Return the beats of the passes; ``results`` is (tokens, bytes of a token)."""
    size, found = config.result.width // 8, []
    for one in passes(config, shape):
        for column in range(one["columns"]):
            token = one["tile"] * config.columns + column
            at = one["strip"] * config.rows * size
            data = results[token, at : at + one["rows"] * size].tobytes()
            for n in range(0, len(data), config.beat_bytes):
                part = data[n : n + config.beat_bytes]
                found.append({
                    "data": int.from_bytes(part, "little"), "keep": (1 << len(part)) - 1,
                    "last": int(n + config.beat_bytes >= len(data)),
                })  # fmt: skip
    return found


class Writing(wiring.Component):
    """A result writer with its master and a clock."""

    def __init__(self, config: ArrayConfig):
        self.config = config
        self.writer, self.master = ResultWriter(config), WriteMaster(config)
        self.now = Signal(48)
        super().__init__({
            "i_layer": In(stream.Signature(LayerLayout(config))),
            "i_pass": In(stream.Signature(ResultPassLayout(config))),
            "i": In(stream.Signature(ResultBeatLayout(config))),
            "i_failed": In(stream.Signature(CompletionLayout(config))),
            "axi": Out(AxiWrite(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.writer = writer = self.writer
        m.submodules.master = master = self.master
        for name in ("i_layer", "i_pass", "i", "i_failed"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(writer, name))
        wiring.connect(m, writer.o_write, master.i)
        wiring.connect(m, writer.o, master.i_data)
        wiring.connect(m, wiring.flipped(self.axi), master.axi)
        m.d.comb += [
            writer.pending.eq(master.pending), writer.hold.eq(master.error),
            writer.now.eq(self.now),
        ]  # fmt: skip
        m.d.sync += self.now.eq(self.now + 1)
        return m


def layer_bits(config: ArrayConfig, shape: Shape, number: int) -> int:
    return LayerLayout(config).const({
        "result_address": shape.address, "result_stride": shape.stride(config),
        "interrupt": shape.interrupt, "tag": 1000 + number, "slot": BASE + 128 * number,
        "start": 3,
    }).as_bits()  # fmt: skip


async def drive(ctx: Any, dut: Writing, layers: list[tuple[int, Shape]]) -> None:
    for number, shape in layers:
        await put(ctx, dut.i_layer, layer_bits(dut.config, shape, number))


async def drive_passes(ctx: Any, dut: Writing, shapes: list[Shape], most: int) -> None:
    rng = np.random.default_rng([SEED, 1])
    for shape in shapes:
        for one in passes(dut.config, shape):
            await idle(ctx, int(rng.integers(0, most + 1)))
            await put(ctx, dut.i_pass, ResultPassLayout(dut.config).const(one).as_bits())


async def drive_beats(ctx: Any, dut: Writing, words: list[dict[str, int]], most: int) -> None:
    rng = np.random.default_rng([SEED, 2])
    for word in words:
        await idle(ctx, int(rng.integers(0, most + 1)))
        await put(ctx, dut.i, ResultBeatLayout(dut.config).const(word).as_bits())


@pytest.mark.parametrize("pause", [0.0, 0.4])
@pytest.mark.parametrize("name", CONFIGS)
def test_results_and_completions(name: str, pause: float) -> None:
    config = CONFIGS[name]
    store = Memory(config, bytearray(0x4000), base=BASE, outstanding=WRITES, pause=pause, latency=3)
    rng, wanted = np.random.default_rng(SEED), bytearray(0x4000)
    dut, words, done, address = Writing(config), [], [], BASE + 0x400
    shapes = []
    for shape in SHAPES if pause == 0 else SHAPES[:3]:
        shape = replace(shape, address=address)
        shapes.append(shape)
        stride, size = shape.stride(config), shape.rows * config.result.width // 8
        address += (shape.tokens + 1) * stride
        results = rng.integers(0, 256, (shape.tokens, size), np.uint8)
        for token in range(shape.tokens):
            at = shape.address - BASE + token * stride
            wanted[at : at + size] = results[token].tobytes()
        words += beats(config, shape, results)

    async def watch(ctx):
        while len(done) < len(shapes):
            await ctx.tick()
            if ctx.get(dut.writer.done):
                n = len(done)
                cycles = int.from_bytes(store.data[128 * n + 72 : 128 * n + 78], "little")
                tag = 1000 + n
                wanted[128 * n + 64 : 128 * n + 80] = (
                    b"GOBC" + tag.to_bytes(4, "little") + cycles.to_bytes(6, "little") + bytes(2)
                )
                # All results of the layer are in memory, and the completion is.
                end = shapes[n + 1].address - BASE if n + 1 < len(shapes) else len(wanted)
                assert store.data[: min(end, len(wanted))] == wanted[: min(end, len(wanted))]
                assert ctx.get(dut.writer.tag) == tag and ctx.get(dut.writer.error) == 0
                assert ctx.get(dut.writer.interrupt) == shapes[n].interrupt
                done.append((cycles, ctx.get(dut.now)))
        await idle(ctx, 20)
        assert ctx.get(dut.writer.idle)

    most = 2 if pause else 0
    simulate(
        dut, partial(drive, dut=dut, layers=list(enumerate(shapes))),
        partial(drive_passes, dut=dut, shapes=shapes, most=most),
        partial(drive_beats, dut=dut, words=words, most=most), watch,
        background=[partial(store.serve_writes, axi=dut.axi)],
    )  # fmt: skip
    assert store.data == wanted
    assert all(0 < now - 3 - cycles < 40 + 200 * pause for cycles, now in done)


def test_the_cycles_of_a_layer_end_with_its_last_response() -> None:
    store = Memory(TINY, bytearray(0x4000), base=BASE, outstanding=WRITES, latency=9)
    dut, shape, ends = Writing(TINY), Shape(4, 2), []
    results = np.zeros((2, 16), np.uint8)

    async def watch(ctx):
        async for _, _, bvalid, now, done in ctx.tick().sample(
            dut.axi.bvalid, dut.now, dut.writer.done
        ):
            if bvalid:
                ends.append(now)
            if done:
                ends.append(now)
                return

    simulate(
        dut, partial(drive, dut=dut, layers=[(0, shape)]),
        partial(drive_passes, dut=dut, shapes=[shape], most=0),
        partial(drive_beats, dut=dut, words=beats(TINY, shape, results), most=0), watch,
        background=[partial(store.serve_writes, axi=dut.axi)],
    )  # fmt: skip
    first, second, completion, done = ends
    assert first < second < completion and done == completion + 1
    assert int.from_bytes(store.data[72:78], "little") == second + 1 - 3


def test_a_failed_job_gets_its_completion() -> None:
    store = Memory(TINY, bytearray(0x400), base=BASE, outstanding=WRITES)
    dut, seen = Writing(TINY), []
    failed = {"slot": BASE + 128, "tag": 0xABCD, "start": 1, "error": 13}

    async def bench(ctx):
        await put(ctx, dut.i_failed, CompletionLayout(TINY).const(failed).as_bits())
        for _ in range(60):
            await ctx.tick()
            if ctx.get(dut.writer.done):
                writer = dut.writer
                seen.append((ctx.get(writer.tag), ctx.get(writer.error), ctx.get(writer.interrupt)))

    simulate(dut, bench, background=[partial(store.serve_writes, axi=dut.axi)])
    assert seen == [(0xABCD, 13, 0)]
    record = store.data[192:208]
    assert record[:8] == b"GOBC\xcd\xab\0\0" and record[14:] == b"\x0d\0"
    assert not any(store.data[:192]) and not any(store.data[208:])


def test_nothing_is_done_after_a_write_error() -> None:
    store = Memory(TINY, bytearray(0x1000), base=BASE, outstanding=WRITES, bad={BASE + 0x408})
    dut, shape = Writing(TINY), Shape(4, 2)
    results = np.ones((2, 16), np.uint8)

    async def bench(ctx):
        for _ in range(100):
            await ctx.tick()
            assert not ctx.get(dut.writer.done)
        assert ctx.get(dut.master.error) and ctx.get(dut.master.idle)

    simulate(
        dut, partial(drive, dut=dut, layers=[(0, shape)]),
        partial(drive_passes, dut=dut, shapes=[shape], most=0),
        partial(drive_beats, dut=dut, words=beats(TINY, shape, results), most=0), bench,
        background=[partial(store.serve_writes, axi=dut.axi)],
    )  # fmt: skip
    assert not any(store.data[:0x400])
