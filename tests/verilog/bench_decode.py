"""The decode unit behind its AXI4-Stream ports, with sources and a sink that are not ours."""

import re
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from cocotb.types import LogicArray
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from gobo_rtl.config import GoboConfig
from gobo_rtl.decode import DecodeUnit
from sim.corruption import CORRUPTIONS, Corruption, corrupt
from sim.cosim import CLOCK, codebook_word, configuration, reset
from sim.golden.decode import Streams, decode_unit
from sim.stimulus import Layer, columns_for, layer, order

SEED = 20201017
PATTERNS = (
    "share:0.1", "none", "full-rate", "stall", "all", "corners", "burst", "tile-first",
    "tile-last", "share:0.003", "lane-first", "lane-last", "first", "last",
)  # fmt: skip
INPUTS = ("codebook", "index", "outlier")
LIMIT = 50_000
"""Cycles in which a bench that waits must see the end."""


class Watch:
    """Samples the ports at every rising edge: the rules of AXI4-Stream, and what was given.

    ``tvalid`` and ``tready`` and ``error_code`` are never X, nor is a payload that is offered; what
    is offered stays until it is taken; nothing is offered in reset.
    """

    def __init__(self, dut: Any, config: GoboConfig) -> None:
        self.dut, self.config = dut, config
        self.now = self.moved = 0
        self.words: list[int] = []
        self.last: list[bool] = []
        self.error: list[bool] = []
        self.cycle: list[int] = []
        self.came: dict[str, int] = {}
        cocotb.start_soon(self.run())

    @property
    def values(self) -> np.ndarray:
        """The (transfers, lanes) bit patterns given so far."""
        width, lanes = self.config.value_width, self.config.lanes
        size = lanes * width // 8
        data = b"".join(word.to_bytes(size, "little") for word in self.words)
        return np.frombuffer(data, f"<u{width // 8}").reshape(-1, lanes)

    def forget(self) -> None:
        """Begin a new record."""
        for seen in (self.words, self.last, self.error, self.cycle, self.came):
            seen.clear()

    async def run(self) -> None:
        dut, edge = self.dut, RisingEdge(self.dut.aclk)
        inputs = {
            name: (getattr(dut, f"s_axis_{name}_tvalid"), getattr(dut, f"s_axis_{name}_tready"))
            for name in INPUTS
        }
        valid, ready = dut.m_axis_weight_tvalid, dut.m_axis_weight_tready
        payload = (dut.m_axis_weight_tdata, dut.m_axis_weight_tlast, dut.m_axis_weight_tuser)
        waiting: list[Any] | None = None
        in_reset = 0
        while True:
            await edge
            self.now += 1
            if not dut.aresetn.value:
                in_reset, waiting = in_reset + 1, None
                # The first edge is the one that resets.
                assert in_reset < 2 or not valid.value, "tvalid is set in reset"
                continue
            in_reset = 0
            for name, (offered, taken) in inputs.items():
                assert taken.value.is_resolvable, f"s_axis_{name}_tready is {taken.value}"
                if offered.value:
                    self.came.setdefault(name, self.now)
                    if taken.value:
                        self.moved = self.now
            assert valid.value.is_resolvable, f"m_axis_weight_tvalid is {valid.value}"
            assert dut.error_code.value.is_resolvable, f"error_code is {dut.error_code.value}"
            if not valid.value:
                assert waiting is None, "tvalid fell before the transfer"
                continue
            data = [port.value for port in payload]
            assert all(part.is_resolvable for part in data), f"the payload is {data}"
            assert waiting in (None, data), "the payload changed while it waits"
            waiting = data
            if ready.value:
                waiting, self.moved = None, self.now
                self.words.append(int(data[0]))
                self.last.append(bool(data[1]))
                self.error.append(bool(data[2]))
                self.cycle.append(self.now)


class Bench:
    """A decode unit with sources, a sink and a watch; pauses are shares of the cycles."""

    def __init__(self, dut: Any, send_pause: float = 0.0, take_pause: float = 0.0) -> None:
        self.dut, self.config = dut, configuration()
        self.rng = np.random.default_rng(SEED)
        dut.clear.value = 0
        dut.aresetn.value = 0
        self.sources = {name: self._port(AxiStreamSource, f"s_axis_{name}") for name in INPUTS}
        self.sink = self._port(AxiStreamSink, "m_axis_weight")
        for source in self.sources.values():
            source.set_pause_generator(self._pauses(send_pause))
            cocotb.start_soon(self._scribble(source.bus))
        self.sink.set_pause_generator(self._pauses(take_pause))
        Clock(dut.aclk, CLOCK, unit="ns").start(start_high=False)
        self.watch = Watch(dut, self.config)

    def _port(self, kind: Any, prefix: str) -> Any:
        """Attach a source or a sink; a beat is one of its words."""
        bus = AxiStreamBus.from_prefix(self.dut, prefix)
        port = kind(bus, self.dut.aclk, self.dut.aresetn, False, byte_lanes=1)
        port.log.setLevel("WARNING")
        return port

    def _pauses(self, share: float) -> Iterator[bool]:
        rng = np.random.default_rng(self.rng.integers(1 << 32))
        return (bool(rng.random() < share) for _ in count())

    async def _scribble(self, bus: Any) -> None:
        """Make the payload unknown while it is not valid."""
        names = ("tdata", "tlast", "tuser")
        ports = [getattr(bus, name) for name in names if hasattr(bus, name)]
        known = True
        while True:
            await FallingEdge(self.dut.aclk)
            if bus.tvalid.value:
                known = True
            elif known:
                known = False
                for port in ports:
                    port.value = LogicArray("X" * len(port)) if len(port) > 1 else "X"

    def send(self, layers: Sequence[Streams]) -> None:
        """Queue the streams of layers; their ``last`` make the frames."""
        for y in layers:
            word = codebook_word(self.config, y)
            self.sources["codebook"].send_nowait(AxiStreamFrame([word], tuser=y.index_width))
        for name, beats, lasts in (
            ("index", [y.indexes for y in layers], [y.indexes_last for y in layers]),
            ("outlier", [y.outliers for y in layers], [y.outliers_last for y in layers]),
        ):
            frame: list[int] = []
            for beat, last in zip(np.concatenate(beats), np.concatenate(lasts), strict=True):
                frame.append(int.from_bytes(beat.tobytes(), "little"))
                if last:
                    self.sources[name].send_nowait(AxiStreamFrame(frame))
                    frame = []
            assert not frame, "a source sends whole frames only"

    async def settle(self) -> None:
        """Wait until nothing moves any more."""
        self.watch.moved = self.watch.now
        for _ in range(LIMIT):
            await RisingEdge(self.dut.aclk)
            if self.watch.now - self.watch.moved > 100 + self.config.lanes:
                return
        raise AssertionError(f"transfers go on after {LIMIT} cycles")

    async def until(self, transfers: int) -> None:
        """Wait for a number of transfers."""
        for _ in range(LIMIT):
            if len(self.watch.words) >= transfers:
                return
            await RisingEdge(self.dut.aclk)
        raise AssertionError(f"{len(self.watch.words)} transfers came, {transfers} are awaited")

    async def restart(self) -> None:
        """Reset the unit and drop what is queued and recorded."""
        for source in self.sources.values():
            source.clear()
        await reset(self.dut)
        self.sink.clear()
        self.watch.forget()

    def mismatch(self, layers: Sequence[Streams]) -> str | None:
        """Compare what came with what is due for ``layers``."""
        watch = self.watch
        return decode_unit(self.config, layers).mismatch(
            watch.values, watch.last, watch.error, int(self.dut.error_code.value)
        )

    def all_taken(self) -> bool:
        """Whether the sources have nothing left to send."""
        return all(source.idle() for source in self.sources.values())

    async def check(self, layers: Sequence[Streams]) -> None:
        """Decode good layers from a fresh record."""
        self.watch.forget()
        self.sink.clear()
        self.send(layers)
        await self.settle()
        assert self.mismatch(layers) is None, self.mismatch(layers)
        assert self.all_taken(), "beats are left"
        assert self.tiles() == [len(tile.groups) for y in layers for tile in y.tiles]

    def tiles(self) -> list[int]:
        """Return the lengths of the frames that the sink took."""
        frames = []
        while not self.sink.empty():
            frames.append(len(self.sink.recv_nowait(compact=False).tdata))
        return frames


def some(config: GoboConfig, rng: np.random.Generator, pattern: str, number: int) -> Layer:
    """Return layer ``number`` of a few tiles, its edges anywhere, the index widths in turn."""
    width = config.index_widths[number % len(config.index_widths)]
    rows = int(rng.integers(1, 2 * config.tile_rows, endpoint=True))
    blocks = config.tile_rows // config.lane_rows
    columns = columns_for(config, max(2, 12 // blocks)) + int(rng.integers(config.lane_columns))
    return layer(config, rng, rows, columns, width, pattern, scribble=True)


def cycles(config: GoboConfig, y: Layer) -> list[int]:
    """Return the cycles that each group of a layer takes."""
    return [
        max(1, -(-sum(y.outlier[p] for p in group if p is not None) // config.outliers_per_cycle))
        for tile in order(config, y.rows, y.columns)
        for group in tile
    ]


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def layers_back_to_back_under_random_pauses(dut: Any) -> None:
    bench = Bench(dut, *np.random.default_rng(SEED).uniform(0.1, 0.5, 2))
    await bench.restart()
    layers = [some(bench.config, bench.rng, name, n) for n, name in enumerate(PATTERNS)]
    await bench.check(layers)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def layers_back_to_back_without_pauses(dut: Any) -> None:
    bench = Bench(dut)
    await bench.restart()
    layers = [some(bench.config, bench.rng, name, n) for n, name in enumerate(PATTERNS[::-1])]
    await bench.check(layers)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def gaps_beyond_the_escape(dut: Any) -> None:
    bench = Bench(dut, send_pause=0.05, take_pause=0.05)
    config, rng = bench.config, bench.rng
    await bench.restart()
    blocks = config.tile_rows // config.lane_rows
    columns = columns_for(config, -(-(config.gap_escape + 2) // blocks))
    layers = [
        layer(config, rng, config.tile_rows, columns, config.index_widths[0], name)
        for name in ("escape", "escape+1")[: 1 if config.gap_escape > 4000 else 2]
    ]
    await bench.check(layers)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def documented_latency_and_no_bubbles(dut: Any) -> None:
    bench = Bench(dut)
    config, rng = bench.config, bench.rng
    told = re.search(r"first group leaves (\d+) cycles after", DecodeUnit.__doc__ or "")
    assert told, "DecodeUnit no longer tells its latency"
    for late in (None, "index", "outlier"):
        await bench.restart()
        layers = [
            some(config, rng, name, n)
            for n, name in enumerate(("none", "full-rate", "stall", "none", "all", "share:0.1"))
        ]
        if late:
            bench.sources[late].clear_pause_generator()
            bench.sources[late].pause = True
        bench.send(layers)
        for _ in range(12):
            await RisingEdge(dut.aclk)
        if late:
            assert not bench.watch.words, "a group came before its beats"
            bench.sources[late].pause = False
        await bench.settle()
        assert bench.mismatch(layers) is None, bench.mismatch(layers)
        there = max(bench.watch.came[name] for name in ("index", "outlier"))
        assert bench.watch.cycle[0] - there == int(told[1])
        due = [c for y in layers for c in cycles(config, y)]
        spent = 1 + bench.watch.cycle[-1] - bench.watch.cycle[0]
        # A header alone in a beat of 64 bits may show where outliers are on both sides of it.
        headers = sum(len(y.tiles) for y in layers) - 1 if config.beat_width == 64 else 0
        # The cycles of the first group begin before it leaves.
        least = sum(due[1:]) + 1
        assert least <= spent <= least + headers, f"{spent} cycles, {least} are due"


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def broken_tiles_end_with_error_until_clear(dut: Any) -> None:
    bench = Bench(dut, send_pause=0.2, take_pause=0.2)
    config, rng = bench.config, bench.rng
    await bench.restart()
    missing = {name for name in CORRUPTIONS if not await _one_corruption(bench, name)}
    # Where the hardware takes one index width, nobody tells it another.
    assert missing == ({"index-width"} if len(config.index_widths) == 1 else set())
    await bench.check([some(config, rng, "share:0.1", 0)])


def _corrupted(bench: Bench, name: str) -> Corruption | None:
    """Return three layers, of which the second is corrupted."""
    config, rng = bench.config, bench.rng
    layers = [some(config, rng, "share:0.1", n) for n in range(3)]
    blocks = config.tile_rows // config.lane_rows
    columns = columns_for(config, max(2, 24 // blocks))
    layers[1] = layer(config, rng, 2 * config.tile_rows, columns, config.index_widths[0], "stall")
    for tile in rng.permutation(len(layers[1].tiles)).tolist():
        broken = corrupt(rng, name, layers, (1, tile))
        if broken is not None:
            return broken
    return None


async def _one_corruption(bench: Bench, name: str) -> bool:
    """Decode layers with a corruption, then clear the error; return whether there was one."""
    broken = _corrupted(bench, name)
    if broken is None:
        return False
    bench.watch.forget()
    bench.send(broken.layers)
    await bench.settle()
    mismatch = bench.mismatch(broken.layers)
    assert mismatch is None, f"{name}: {mismatch}"
    if int(bench.dut.error_code.value):
        assert bench.all_taken(), f"{name}: a bus is held after the error"
        assert bench.tiles(), f"{name}: no frame was closed"
        bench.dut.clear.value = 1
        await RisingEdge(bench.dut.aclk)
        bench.dut.clear.value = 0
        await RisingEdge(bench.dut.aclk)
        await RisingEdge(bench.dut.aclk)
        assert int(bench.dut.error_code.value) == 0, f"{name}: clear does not clear"
    else:  # it waits for beats that do not come
        await bench.restart()
    good = [some(bench.config, bench.rng, "share:0.1", 1)]
    bench.watch.forget()
    bench.send(good)
    await bench.settle()
    mismatch = bench.mismatch(good)
    assert mismatch is None, f"after {name}: {mismatch}"
    return True


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_in_the_middle_of_a_layer(dut: Any) -> None:
    bench = Bench(dut, send_pause=0.3, take_pause=0.3)
    config, rng = bench.config, bench.rng
    await bench.restart()
    for n, transfers in enumerate((1, 2, 7, 13, 20)):
        bench.watch.forget()
        bench.send([some(config, rng, name, n) for name in ("stall", "all", "none", "share:0.1")])
        await bench.until(transfers)
        assert len(bench.watch.words) == transfers and not bench.all_taken()
        await bench.restart()
        await bench.check([some(config, rng, "share:0.1", n + 1)])


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def clear_without_an_error_does_nothing(dut: Any) -> None:
    bench = Bench(dut, send_pause=0.2, take_pause=0.2)
    await bench.restart()
    dut.clear.value = 1
    layers = [some(bench.config, bench.rng, name, n) for n, name in enumerate(PATTERNS[:4])]
    await bench.check(layers)
