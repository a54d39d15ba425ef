"""The accelerator behind its AXI4 ports, with memories and a host that are not ours."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiReadBus,
    AxiSlaveRead,
    AxiSlaveWrite,
    AxiWriteBus,
)

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.bus.registers import REGISTERS
from gobo_rtl.formats import ARRAY_ERRORS, JOB, LAYER_DESCRIPTOR
from sim.cosim import CLOCK, configuration, reset
from sim.golden.layer import compute
from sim.jobs import Layout, Run, lay_out, read_completion, read_results, writable
from tests.accelerating import ACTIVATIONS, PATTERNS, Shape, activations, make_image

SEED = 20201018
READS = ("index", "outlier", "act", "job")
OFFSETS = {register.name: register.offset for register in REGISTERS}
LIMIT = 500  # us of simulated time: fifty thousand cycles
BASE = 0x10_0000  # of the memory: addresses are not offsets


class Memory:
    """What the bus slaves read and write: some addresses answer with an error."""

    def __init__(self, layout: Layout) -> None:
        self.bytes, self.base = bytearray(layout.memory), layout.base
        self.bad: range = range(0)

    def place(self, address: int, length: int) -> slice:
        """Return where bytes are; an exception becomes a SLVERR."""
        at = address - self.base
        if at < 0 or at + length > len(self.bytes):
            raise ValueError(f"address {address:#x} is not in the memory")
        if address in self.bad or address + length - 1 in self.bad:
            raise ValueError(f"address {address:#x} is bad")
        return slice(at, at + length)

    async def read(self, address: int, length: int) -> bytes:
        """Return bytes."""
        return bytes(self.bytes[self.place(address, length)])

    async def write(self, address: int, data: bytes) -> None:
        """Keep bytes."""
        self.bytes[self.place(address, len(data))] = data


class Bench:
    """The design with its memory and its host."""

    def __init__(self, dut: Any, layout: Layout, pause: float, seed: int = SEED) -> None:
        self.dut, self.layout = dut, layout
        self.memory = Memory(layout)
        dut.aresetn.value = 0  # before anything looks at a port
        rng = np.random.default_rng(seed)
        ports = (dut.aclk, dut.aresetn)
        slaves: list[Any] = [
            AxiSlaveRead(AxiReadBus.from_prefix(dut, f"m_axi_{name}"), *ports, target=self.memory,
                         reset_active_level=False)
            for name in READS
        ]  # fmt: skip
        slaves.append(
            AxiSlaveWrite(AxiWriteBus.from_prefix(dut, "m_axi_result"), *ports, target=self.memory,
                          reset_active_level=False)
        )  # fmt: skip
        self.host = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), *ports, reset_active_level=False
        )
        if pause:
            names = ("ar_channel", "r_channel", "aw_channel", "w_channel", "b_channel")
            for slave, name in itertools.product(slaves, names):
                if hasattr(slave, name):
                    getattr(slave, name).set_pause_generator(pauses(rng, pause))

    async def start(self) -> None:
        """Reset the design and give it the queue."""
        Clock(self.dut.aclk, CLOCK, unit="ns").start(start_high=False)
        await reset(self.dut)
        await self.write("QUEUE_BASE", self.layout.queue)
        await self.host.write_dword(OFFSETS["QUEUE_BASE"] + 4, self.layout.queue >> 32)
        await self.write("QUEUE_SLOTS", self.layout.slots)
        await self.write("INTERRUPT_ENABLE", 0b11)
        await self.write("CONTROL", 0b1)

    async def write(self, name: str, value: int) -> None:
        """Write the (lower) word of a register."""
        await self.host.write_dword(OFFSETS[name], value & 0xFFFFFFFF)

    async def read(self, name: str) -> int:
        """Return the (lower) word of a register."""
        return int(await self.host.read_dword(OFFSETS[name]))

    async def interrupt(self) -> int:
        """Wait for the interrupt, clear it, and return its events."""
        while not self.dut.irq.value:
            await RisingEdge(self.dut.aclk)
        events = await self.read("INTERRUPT")
        await self.write("INTERRUPT", events)
        return events

    async def run(self, count: int) -> list[tuple[int, int]]:
        """Have the first ``count`` jobs done; return code and tag of each error on the way."""
        errors = []
        await self.write("QUEUE_PRODUCED", count)
        while await self.read("QUEUE_COMPLETED") != count or await self.read("STATUS") & 0b11:
            if await self.read("STATUS") & 0b10:
                errors.append((await self.read("ERROR"), await self.read("ERROR_TAG")))
                await self.write("CONTROL", 0b11)
            await ClockCycles(self.dut.aclk, 20)
        return errors


def pauses(rng: np.random.Generator, share: float) -> Iterator[bool]:
    """Yield whether a channel rests, cycle after cycle."""
    while True:
        yield bool(rng.random() < share)


def check(
    config: ArrayConfig, bench: Bench, layers: Sequence[Any], runs: Sequence[Run],
    errors: dict[int, str], golden: Callable[..., np.ndarray] = compute,
) -> None:  # fmt: skip
    """Compare completions and results of all runs, and that nothing else was written.

    ``errors`` are the names of those due, by number of the run; their results may be anything.
    ``golden`` gives the results of a layer.
    """
    layout, memory = bench.layout, np.frombuffer(bytes(bench.memory.bytes), np.uint8)
    due: list[np.ndarray] = []
    for slot, (job, run, rows) in enumerate(zip(layout.jobs, runs, layout.rows, strict=True)):
        completion = read_completion(memory, layout.queue, slot, layout.base)
        assert completion is not None, f"run {slot} has no completion"
        assert (completion.error, completion.tag) == (errors.get(slot, "none"), run.tag), slot
        acts = due[run.acts] if isinstance(run.acts, int) else run.acts
        due.append(golden(config, layers[run.layer], acts, run.act_exponent))
        if slot not in errors:
            results = read_results(config, memory, job, rows, layout.base)
            assert np.array_equal(results, due[-1]), f"run {slot}: {runs[slot]}"
    changed = memory != layout.memory
    assert not (changed & ~writable(config, layout)).any(), "something else was written"


def some_runs(
    config: ArrayConfig, rng: np.random.Generator, shapes: Sequence[Shape], most: int
) -> list[Run]:
    """Return a run of each layer: kinds of activations, blocks and residence in turn."""
    runs = []
    for n, shape in enumerate(shapes):
        tokens = int(rng.integers(1, most + 1))
        kind = ACTIVATIONS[n % len(ACTIVATIONS)]
        resident = n % 3 == 2
        runs.append(
            Run(
                n, activations(config, rng, tokens, shape.columns, kind), tag=1000 + n,
                block_tiles=1 if resident else 1 + n % 2, resident=resident,
                act_exponent=-7 if config.act.integer else 0, fence=n % 4 == 3,
                interrupt=n == len(shapes) - 1,
            )
        )  # fmt: skip
    return runs


def some_shapes(config: ArrayConfig) -> list[Shape]:
    """Return layers of odd sizes, a pattern of outliers each."""
    sizes = [(1, 1), (7, 13), (config.rows, 8), (config.rows + 1, 29), (3 * config.rows - 1, 31)]
    return [
        Shape(
            rows=rows, columns=columns,
            index_width=config.index_widths[n % len(config.index_widths)],
            pattern=pattern, bias=("normal", "none", "special")[n % 3], symmetric=config.symmetric,
        )
        for n, (pattern, (rows, columns)) in enumerate(zip(PATTERNS, itertools.cycle(sizes)))
    ]  # fmt: skip


async def go(dut: Any, pause: float, seed: int) -> Bench:
    """Run layers of all kinds back to back and compare everything."""
    config = configuration(ArrayConfig)
    rng = np.random.default_rng(seed)
    shapes = some_shapes(config)
    image, layers = make_image(config, shapes, seed)
    runs = some_runs(config, rng, shapes, 2 * config.columns + 1)
    layout = lay_out(config, image, runs, base=BASE, gap=1)
    bench = Bench(dut, layout, pause, seed)
    await bench.start()
    assert await bench.run(len(runs)) == []
    check(config, bench, layers, runs, {})
    assert await bench.read("COUNT_JOBS") == len(runs)
    return bench


@cocotb.test(timeout_time=LIMIT, timeout_unit="us")
async def layers_back_to_back_at_full_rate(dut: Any) -> None:
    """No channel pauses."""
    bench = await go(dut, 0.0, SEED)
    assert await with_timeout(bench.interrupt(), 1, "us") == 0b01


@cocotb.test(timeout_time=LIMIT, timeout_unit="us")
async def layers_back_to_back_under_random_pauses(dut: Any) -> None:
    """Every channel pauses as it likes."""
    await go(dut, 0.4, SEED + 1)


@cocotb.test(timeout_time=LIMIT, timeout_unit="us")
async def errors_stop_their_layer_and_the_queue_goes_on(dut: Any) -> None:
    """Bad responses on every channel, bad jobs and bad images, between good layers."""
    config = configuration(ArrayConfig)
    rng = np.random.default_rng(SEED)
    shape = Shape(rows=2 * config.rows, columns=11, index_width=config.index_width,
                  symmetric=config.symmetric)  # fmt: skip
    shapes = [shape] * 8
    image, layers = make_image(config, shapes, SEED)
    runs = [
        replace(run, resident=False, block_tiles=1, fence=False)
        for run in some_runs(config, rng, shapes, 2 * config.columns)
    ]
    layout = lay_out(config, image, runs, base=BASE)
    bench = Bench(dut, layout, 0.2)
    raw, start = bench.memory.bytes, layout.jobs[0].image_address - BASE
    due = {}

    def descriptor(layer: int) -> int:
        return start + layout.jobs[layer].layer_offset

    def section(layer: int, name: str) -> int:
        at = descriptor(layer) + LAYER_DESCRIPTOR.field(name).offset // 8
        return start + int.from_bytes(raw[at : at + 8], "little")

    raw[section(1, "index_offset")] ^= 0x10
    due[1] = "index_crc"
    raw[descriptor(3) + 8] ^= 1
    due[3] = "layer_crc"
    raw[4 * 128 + JOB.field("act_format").offset // 8] ^= 3
    due[4] = "job"
    raw[section(6, "codebook_offset") + 1] |= 0x7C  # nothing on the grid is so large
    due[6] = "codebook"
    bench.layout = replace(layout, memory=np.frombuffer(bytes(raw), np.uint8))
    await bench.start()
    errors = await bench.run(len(runs))
    assert errors == [(ARRAY_ERRORS[name], 1000 + n) for n, name in due.items()]
    check(config, bench, layers, runs, due)


@cocotb.test(timeout_time=LIMIT, timeout_unit="us")
async def bad_responses_stop_their_layer_and_leave_the_bus_usable(dut: Any) -> None:
    """An address of each kind of read and of the results answers with an error."""
    config = configuration(ArrayConfig)
    rng = np.random.default_rng(SEED)
    shape = Shape(rows=2 * config.rows, columns=11, index_width=config.index_width,
                  symmetric=config.symmetric)  # fmt: skip
    image, layers = make_image(config, [shape] * 2, SEED)
    runs = [
        Run(n % 2, activations(config, rng, 3, 11, "normal"), tag=n, fence=True) for n in range(12)
    ]
    layout = lay_out(config, image, runs, slots=16, base=BASE)
    bench = Bench(dut, layout, 0.2)
    await bench.start()
    raw, first = bench.memory.bytes, layout.jobs[0]

    def section(name: str) -> int:
        at = first.image_address - BASE + first.layer_offset
        at += LAYER_DESCRIPTOR.field(name).offset // 8
        return first.image_address + int.from_bytes(raw[at : at + 8], "little")

    beat = config.beat_bytes
    bad = [
        (section("index_offset"), "read"), (section("outlier_offset"), "read"),
        (section("bias_offset"), "read"), (None, "read"), (0, "write"),
    ]  # fmt: skip
    due: dict[int, str] = {}
    for n, (address, error) in enumerate(bad):
        job = layout.jobs[2 * n]
        if address is None:
            address = job.act_address + beat
        elif error == "write":
            address = job.result_address
        bench.memory.bad = range(address, address + 1)
        due[2 * n] = error
        errors = await bench.run(2 * n + 1)
        assert errors == [(ARRAY_ERRORS[error], 2 * n)], f"{error} at {address:#x}"
        bench.memory.bad = range(0)
        assert await bench.run(2 * n + 2) == []
    done = 2 * len(bad)
    bench.layout = replace(layout, jobs=layout.jobs[:done], rows=layout.rows[:done])
    check(config, bench, layers, runs[:done], due)
