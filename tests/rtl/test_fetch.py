# amaranth: UnusedElaboratable=no
"""Jobs, descriptors and codebooks are read and checked, with every way to be wrong."""

import struct
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import LayerLayout
from gobo_rtl.bus.axi import AxiRead
from gobo_rtl.bus.read_master import ReadMaster
from gobo_rtl.decode.crc import CRC32_INITIAL, CRC32_RESIDUE, crc32_next
from gobo_rtl.formats import ARRAY_ERRORS, JOB, JOB_SLOT, LAYER_DESCRIPTOR, Record
from gobo_rtl.top.codebook import CodebookReader
from gobo_rtl.top.divide import Divide
from gobo_rtl.top.fetch import Fetch
from sim.pysim import get, idle, put, quiet, simulate
from tests.rtl.memory import Memory

SEED = 911
BASE = 0x4000_0000
IMAGE = BASE + 0x1000
TINY = ARRAYS["tiny"]
CONFIGS = {
    **ARRAYS,
    "symmetric, of bf16": replace(TINY, symmetric=True, value_format="bf16", columns=3),
    "beats of a whole job": replace(ARRAYS["wide"], beat_width=512, burst_beats=8, columns=7),
    "one column": replace(TINY, columns=1, address_width=64),
}


def pack(record: Record, fields: dict[str, int]) -> bytes:
    """Return a record with its magic; fields that are not named are 0."""
    bits = int.from_bytes(record.magic, "little")
    for name, value in fields.items():
        field = record.field(name)
        bits &= ~(((1 << field.width) - 1) << field.offset)
        bits |= (value & (1 << field.width) - 1) << field.offset
    return bits.to_bytes(record.size, "little")


def good_job(config: ArrayConfig) -> dict[str, int]:
    return {
        "flags": 3, "act_format": config.act.code, "result_format": config.result.code,
        "tag": 0xCAFE_F00D, "tokens": 7 * config.columns - (config.columns > 1),
        "image_address": IMAGE, "layer_offset": 256, "block_tiles": 3, "act_exponent": -3,
        "act_address": BASE + 0x8040, "act_stride": 1024, "result_stride": 4096,
        "result_address": BASE + 0xA0C0,
    }  # fmt: skip


def good_layer(config: ArrayConfig) -> dict[str, int]:
    return {
        "index_width": config.index_widths[0], "value_format": config.value.code,
        "unit_exponent": -13, "rows": 5 * config.rows - 1, "columns": 3 * config.max_inputs // 4,
        "tile_count": 5, "outlier_count": 9, "codebook_offset": 0x1000, "tile_table_offset": 0x1040,
        "index_offset": 0x2000, "index_bytes": 0x400, "outlier_offset": 0x3000,
        "outlier_bytes": 0x80, "bias_offset": 0x4000, "bias_bytes": 0x100,
        "weight_sum": (1 << config.weight_sum_width) - 1, "flags": 3, "payload_crc32": 0x1234567,
    }  # fmt: skip


def value_bits(config: ArrayConfig, integer: int, unit: int) -> int:
    """Return the bits of ``integer * 2^unit``, which is to be exact in the value format."""
    if config.value_format == "bf16":
        return struct.unpack("<I", struct.pack("<f", integer * 2.0**unit))[0] >> 16
    return struct.unpack("<H", struct.pack("<e", integer * 2.0**unit))[0]


def centroids(config: ArrayConfig, index_width: int) -> list[int]:
    """Return a symmetric codebook with the greatest centroid there is."""
    top = (1 << (config.grid_width - 1)) - 1
    half = [1, 3, 6, 40, 99, 128, 201, top][8 - (1 << index_width - 1) :]
    return [-n for n in reversed(half)] + half


class Fetching(wiring.Component):
    """A fetch with its read master, and a reset."""

    def __init__(self, config: ArrayConfig, fetch: Fetch | None = None):
        self.config, self.fetch = config, fetch or Fetch(config)
        super().__init__({
            "reset": In(1),
            "o": Out(stream.Signature(LayerLayout(config))),
            "axi": Out(AxiRead(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.master = master = ReadMaster(self.config)
        m.submodules.fetch = ResetInserter(self.reset)(self.fetch)
        self.master = master
        wiring.connect(m, self.fetch.o_read, master.i)
        wiring.connect(m, master.o, self.fetch.i)
        wiring.connect(m, wiring.flipped(self.axi), master.axi)
        wiring.connect(m, self.fetch.o, wiring.flipped(self.o))
        now = Signal(48)
        m.d.sync += now.eq(now + 1)
        m.d.comb += [self.fetch.now.eq(now), master.excused.eq(self.fetch.excused)]
        return m


def store_of(
    config: ArrayConfig,
    jobs: list[dict[str, int]],
    layer: dict[str, int],
    values: list[int],
    **options: object,
) -> Memory:
    """Return a memory with a queue of 4 slots, and an image with a layer."""
    data = bytearray(np.random.default_rng(SEED).bytes(0x6000))
    for n, job in enumerate(jobs):
        at = n % 4 * JOB_SLOT
        data[at : at + JOB.size] = pack(JOB, job)
    descriptor = pack(LAYER_DESCRIPTOR, layer)
    if "crc32" not in layer:
        descriptor = descriptor[:-4] + crc32(descriptor[:-4]).to_bytes(4, "little")
    at = IMAGE - BASE + 256
    data[at : at + LAYER_DESCRIPTOR.size] = descriptor
    at = IMAGE - BASE + 0x1000
    data[at : at + 2 * len(values)] = struct.pack(f"<{len(values)}H", *values)
    return Memory(config, data, base=BASE, outstanding=config.reads, **options)


def run(
    config: ArrayConfig, store: Memory, layers: int = 1, fetch: Fetch | None = None
) -> tuple[list[Any], dict[str, int]]:
    """Return the layers that come, and besides the cycles to the first of them, the error code and
    the number of the job that is next."""
    dut, got, outcome = Fetching(config, fetch), [], {}
    fetch = dut.fetch

    async def bench(ctx):
        ctx.set(fetch.base, BASE)
        ctx.set(fetch.slots, 4)
        ctx.set(fetch.produced, layers)
        ctx.set(fetch.enable, 1)
        cycles = 0
        while not ctx.get(dut.o.valid):
            await ctx.tick()
            cycles += 1
            assert cycles < 5000, "no layer"
        outcome["cycles"] = cycles
        for _ in range(layers):
            got.append(LayerLayout(config).from_bits(await get(ctx, dut.o)))
        await quiet(ctx, dut.o)
        outcome["error"], outcome["job"] = ctx.get(fetch.error_code), ctx.get(fetch.job)

    simulate(dut, bench, background=[partial(store.serve_reads, axi=dut.axi)])
    return got, outcome


@pytest.mark.parametrize(("name", "pause"), [*((name, 0.0) for name in CONFIGS), ("tiny", 0.4)])
def test_a_job_becomes_a_layer(name: str, pause: float) -> None:
    config = CONFIGS[name]
    job, layer = good_job(config), good_layer(config)
    integers = centroids(config, layer["index_width"])
    values = [value_bits(config, n, -13) for n in integers]
    (got,), outcome = run(config, store_of(config, [job], layer, values, pause=pause))
    assert outcome["error"] == 0
    tiles = -(-job["tokens"] // config.columns)
    wanted = {
        "rows": layer["rows"], "inputs": layer["columns"], "tokens": job["tokens"],
        "strips": 5, "tiles": tiles, "block": 3, "index_width": layer["index_width"], "unit": -13,
        "act_exponent": -3, "index_address": IMAGE + 0x2000,
        "index_beats": 0x400 // config.beat_bytes, "outlier_address": IMAGE + 0x3000,
        "outlier_beats": 0x80 // config.beat_bytes, "bias_address": IMAGE + 0x4000, "has_bias": 1,
        "act_address": job["act_address"], "act_stride": 1024,
        "result_address": job["result_address"], "result_stride": 4096,
        "fence": 1, "resident": 0, "interrupt": 1, "tag": 0xCAFE_F00D, "slot": BASE, "start": 1,
    }  # fmt: skip
    assert {name: int(got[name]) for name in wanted} == wanted
    assert [int(n) for n in got.codebook] == integers + [0] * (config.bins - len(integers))
    assert set(LayerLayout(config).members) == {*wanted, "codebook"}


@pytest.mark.parametrize(("name", "latency"), [
    ("tiny", 5), ("default", 5), ("beats of a whole job", 5), ("symmetric, of bf16", 5),
    *((name, n) for name in ("default", "wide") for n in (30, 44, 45, 60)),
])  # fmt: skip
def test_the_cycles_of_a_job(name: str, latency: int) -> None:
    config = CONFIGS[name]
    layer, fetch = good_layer(config), Fetch(config)
    assert fetch.ahead == 47
    values = [value_bits(config, n, -13) for n in centroids(config, layer["index_width"])]
    store = store_of(config, [good_job(config)], layer, values, latency=latency)
    _, outcome = run(config, store)
    wait = 3 + latency  # a command, its burst, its address; the memory
    due = fetch.latency(layer["index_width"]) + 2 * wait + max(0, wait - fetch.ahead)
    assert outcome["cycles"] == due


@pytest.mark.parametrize(("pause", "latency", "reads"), [(0.0, 1, 2), (0.0, 30, 2), (0.9, 3, 8)])
def test_jobs_follow_each_other_around_the_queue(pause: float, latency: int, reads: int) -> None:
    config = replace(TINY, reads=reads)
    layer = good_layer(TINY) | {"index_width": 3}
    jobs = [good_job(TINY) | {"tag": 100 + n, "tokens": 1 + n, "block_tiles": 9} for n in range(4)]
    values = [value_bits(TINY, n, -13) for n in centroids(TINY, 3)]
    store = store_of(config, jobs, layer, values, pause=pause, latency=latency)
    got, outcome = run(config, store, layers=6)
    assert [int(layer.tag) for layer in got] == [100, 101, 102, 103, 100, 101]
    assert [int(layer.slot) for layer in got] == [BASE + n % 4 * JOB_SLOT for n in range(6)]
    assert [int(layer.tiles) for layer in got] == [1, 1, 2, 2, 1, 1]
    assert [int(layer.block) for layer in got] == [1, 1, 2, 2, 1, 1]
    periods = set(np.diff([int(layer.start) for layer in got]).tolist())
    assert 0 not in periods
    if latency == 1:  # one begins when the one before is taken
        assert periods == {Fetch(TINY).latency(3) + 2 * (3 + 1)}
    assert outcome["job"] == 6
    read = sum(burst.beats for burst in store.reads) * TINY.beat_bytes
    assert read == 6 * (JOB.size + LAYER_DESCRIPTOR.size + 2 * len(values))


def test_nothing_is_read_without_jobs_or_without_leave() -> None:
    dut = Fetching(TINY)

    async def bench(ctx):
        ctx.set(dut.fetch.completed, 5)
        ctx.set(dut.fetch.slots, 4)
        for enable, produced in ((1, 5), (0, 6)):
            ctx.set(dut.fetch.enable, enable)
            ctx.set(dut.fetch.produced, produced)
            for _ in range(8):
                await ctx.tick()
                assert not ctx.get(dut.axi.arvalid)
        assert ctx.get(dut.fetch.job) == 5
        ctx.set(dut.fetch.enable, 1)
        await idle(ctx, 5)
        assert ctx.get(dut.axi.arvalid) and ctx.get(dut.axi.araddr) == JOB_SLOT

    simulate(dut, bench)


def test_after_a_reset_it_goes_on_with_the_next_job() -> None:
    layer = good_layer(TINY) | {"index_width": 3}
    jobs = [good_job(TINY) | {"tag": n, "tokens": int(n != 1)} for n in range(3)]
    values = [value_bits(TINY, n, -13) for n in centroids(TINY, 3)]
    store = store_of(TINY, jobs, layer, values)
    dut, tags = Fetching(TINY), []

    async def bench(ctx):
        ctx.set(dut.fetch.base, BASE)
        ctx.set(dut.fetch.slots, 4)
        ctx.set(dut.fetch.produced, 3)
        ctx.set(dut.fetch.enable, 1)
        tags.append(LayerLayout(TINY).from_bits(await get(ctx, dut.o)).tag)
        await idle(ctx, 200)
        assert ctx.get(dut.fetch.error_code) == ARRAY_ERRORS["job"] and ctx.get(dut.fetch.tag) == 1
        assert ctx.get(dut.fetch.slot) == BASE + JOB_SLOT
        ctx.set(dut.fetch.completed, 2)
        ctx.set(dut.reset, 1)
        await ctx.tick()
        ctx.set(dut.reset, 0)
        tags.append(LayerLayout(TINY).from_bits(await get(ctx, dut.o)).tag)

    simulate(dut, bench, background=[partial(store.serve_reads, axi=dut.axi)])
    assert tags == [0, 2]


BIG = 1 << TINY.address_width
JOB_FAULTS: list[dict[str, int]] = [
    {"magic": 0x4A424F48}, {"act_format": 1}, {"result_format": 0}, {"flags": 8}, {"flags": 4},
    {"tokens": 0}, {"tokens": 65536}, {"block_tiles": 0}, {"act_exponent": 1024},
    {"act_exponent": -1025}, {"image_address": IMAGE + 8}, {"image_address": BIG},
    {"image_address": 1 << 63}, {"layer_offset": 264},
    {"layer_offset": 0x1000, "image_address": BIG - 0x1000},
    {"act_address": BASE + 4}, {"act_address": BIG}, {"act_stride": 1028}, {"result_stride": 2},
    {"result_address": BASE + 1}, {"result_address": BIG},
]  # fmt: skip
LAYER_FAULTS: list[dict[str, int]] = [
    {"index_width": 0}, {"index_width": 1}, {"index_width": 5}, {"index_width": 10},
    {"value_format": 1}, {"unit_exponent": 1024}, {"rows": 0}, {"rows": 1 << 20}, {"columns": 0},
    {"columns": TINY.max_inputs + 1}, {"columns": 2 * TINY.max_inputs}, {"tile_count": 4},
    {"tile_count": 6}, {"flags": 1}, {"flags": 7}, {"weight_sum": 0},
    {"weight_sum": 1 << TINY.weight_sum_width}, {"codebook_offset": 0x1004},
    {"codebook_offset": BIG}, {"codebook_offset": BIG - 0x1000}, {"index_offset": 0x2001},
    {"index_offset": BIG}, {"index_offset": BIG - 8}, {"index_bytes": 0}, {"index_bytes": 0x401},
    {"index_bytes": 1 << 35}, {"outlier_offset": 0x3002}, {"outlier_offset": BIG},
    {"outlier_bytes": 0}, {"outlier_bytes": 4}, {"outlier_bytes": 1 << 35}, {"bias_offset": 4},
    {"bias_offset": BIG}, {"bias_offset": BIG - 8},
]  # fmt: skip


Case = tuple[dict[str, int], dict[str, int], list[int] | None]  # job, layer, values


def outcomes(config: ArrayConfig, cases: list[Case]) -> list[str]:
    """Return the names of the errors that jobs end with, one after the other: fields of a job and
    of its layer that are not the good ones', and the codebook's values."""
    dut, found = Fetching(config), []
    names = {code: name for name, code in ARRAY_ERRORS.items()}
    stores = []
    for job, layer, values in cases:
        job, layer = good_job(config) | job, good_layer(config) | layer
        good = [value_bits(config, n, -13) for n in centroids(config, 2 if config.symmetric else 3)]
        stores.append(store_of(config, [job], layer, values or good))
    memory = store_of(config, [], good_layer(config), [])

    async def bench(ctx):
        ctx.set(dut.fetch.base, BASE)
        ctx.set(dut.fetch.slots, 4)
        ctx.set(dut.fetch.produced, 1)
        ctx.set(dut.fetch.enable, 1)
        for store in stores:
            memory.data = store.data
            ctx.set(dut.reset, 1)
            await idle(ctx, 2)
            ctx.set(dut.reset, 0)
            cycles = 0
            while not ctx.get(dut.fetch.error_code):
                await ctx.tick()
                cycles += 1
                assert cycles < 300 and not ctx.get(dut.o.valid), "no error"
            await quiet(ctx, dut.o, 5)
            assert ctx.get(dut.fetch.slot) == BASE and ctx.get(dut.fetch.tag) == 0xCAFE_F00D
            found.append(names[ctx.get(dut.fetch.error_code)])

    simulate(dut, bench, background=[partial(memory.serve_reads, axi=dut.axi)])
    return found


def test_a_wrong_job_is_refused() -> None:
    found = outcomes(TINY, [(fault, {}, None) for fault in JOB_FAULTS])
    assert list(zip(JOB_FAULTS, found, strict=True)) == [(fault, "job") for fault in JOB_FAULTS]


def test_a_wrong_layer_is_refused() -> None:
    found = outcomes(TINY, [({}, fault, None) for fault in LAYER_FAULTS])
    wanted = [(fault, "layer") for fault in LAYER_FAULTS]
    assert list(zip(LAYER_FAULTS, found, strict=True)) == wanted


def test_another_magic_comes_before_the_sum_and_the_sum_before_the_fields() -> None:
    faults = [{"magic": 0x44424F48, "crc32": 1}, {"crc32": 1}, {"rows": 0, "crc32": 1}]
    found = outcomes(TINY, [({}, fault, None) for fault in faults])
    assert found == ["layer", "layer_crc", "layer_crc"]


WILD = BIG - (1 << 20)  # nothing is there


@pytest.mark.parametrize(("pause", "latency"), [(0.0, 0), (0.0, 5), (0.0, 50), (0.4, 9)])
@pytest.mark.parametrize(("fault", "error"), [
    ({"crc32": 1}, "layer_crc"), ({"crc32": 1, "codebook_offset": WILD - IMAGE}, "layer_crc"),
    ({"rows": 0}, "layer"), ({"flags": 1, "codebook_offset": WILD - IMAGE}, "layer"),
    ({"bias_offset": 4, "codebook_offset": WILD - IMAGE}, "layer"), ({}, "read"),
    ({"codebook_offset": WILD - IMAGE}, "read"),
])  # fmt: skip
def test_a_codebook_that_cannot_be_read_is_an_error_of_good_descriptors_only(
    fault: dict[str, int], error: str, pause: float, latency: int
) -> None:
    store = store_of(
        TINY, [good_job(TINY)], good_layer(TINY) | fault, [], pause=pause, latency=latency,
        bad={*range(IMAGE + 0x1000, IMAGE + 0x1010, 8), *range(WILD, WILD + 0x10, 8)},
    )  # fmt: skip
    dut = Fetching(TINY)

    async def bench(ctx):
        for name, value in (("base", BASE), ("slots", 4), ("produced", 1), ("enable", 1)):
            ctx.set(getattr(dut.fetch, name), value)
        for _ in range(2000):
            await ctx.tick()
            assert not ctx.get(dut.o.valid)
        assert ctx.get(dut.fetch.error_code) == (ARRAY_ERRORS[error] if error != "read" else 0)
        assert bool(ctx.get(dut.master.error)) == (error == "read")
        assert ctx.get(dut.master.idle), "beats are left on the bus"

    simulate(dut, bench, background=[partial(store.serve_reads, axi=dut.axi)])
    assert store.reads[-1].address == IMAGE + fault.get("codebook_offset", 0x1000)


@pytest.mark.parametrize("fault", [
    {"magic": 0}, {"index_width": 1}, {"index_width": 5}, {"index_width": 0x13},
    {"value_format": 2}, {"unit_exponent": 0x7FFF, "rows": 1 << 20}, {"codebook_offset": 0x1004},
    {"codebook_offset": BIG + 0x1000}, {"codebook_offset": BIG - 0x1000},
])  # fmt: skip
def test_a_codebook_is_not_asked_for_when_the_descriptor_is_wrong_so_far(
    fault: dict[str, int],
) -> None:
    store = store_of(TINY, [good_job(TINY)], good_layer(TINY) | fault, [], latency=3)
    dut = Fetching(TINY)

    async def bench(ctx):
        for name, value in (("base", BASE), ("slots", 4), ("produced", 1), ("enable", 1)):
            ctx.set(getattr(dut.fetch, name), value)
        await idle(ctx, 400)
        assert ctx.get(dut.fetch.error_code) == ARRAY_ERRORS["layer"]

    simulate(dut, bench, background=[partial(store.serve_reads, axi=dut.axi)])
    read = sum(burst.beats for burst in store.reads) * TINY.beat_bytes
    assert read == JOB.size + LAYER_DESCRIPTOR.size


def test_a_symmetric_array_demands_symmetric_layers() -> None:
    config = CONFIGS["symmetric, of bf16"]
    values = [value_bits(config, n, -13) for n in centroids(config, 2)]
    cases: list[Case] = [({}, {"flags": 2}, values)]
    for n in range(4):
        other = [*values[:n], value_bits(config, 17, -13), *values[n + 1 :]]
        cases.append(({}, {}, other))
    assert outcomes(config, cases) == ["layer"] + ["codebook"] * 4


def test_pes_in_floating_point_get_the_bits_of_centroids_that_are_checked_all_the_same() -> None:
    config = replace(TINY, pe="mac", symmetric=True)
    low, least = value_bits(config, -2047, -13), value_bits(config, -1, -13)
    refused = [
        [low, least, least, low ^ 0x8000],  # signs
        [low, least, 0, low ^ 0x8000],
        [low, least, least ^ 0x8001, low ^ 0x8000],
        [0xBC00, least, least ^ 0x8000, 0x3C00],  # 1 is 8192 units
    ]
    assert outcomes(config, [({}, {}, values) for values in refused]) == ["codebook"] * 4
    for zeros in ([0, 0], [0, 0x8000], [0x8000, 0x8000]):
        values = [low, *zeros, low ^ 0x8000]
        (got,), outcome = run(config, store_of(config, [good_job(config)], good_layer(config),
                                               values))  # fmt: skip
        assert outcome["error"] == 0
        assert list(got.codebook) == values + [0] * (config.bins - 4)


INFINITE, NAN, LEAST = 0x7C00, 0x7E00, 0x0001
CODEBOOK_FAULTS = {
    "too great": value_bits(TINY, 1 << 11, -13),
    "far too great": 0x7BFF,
    "half a unit": value_bits(TINY, 1, -14),
    "a part of a unit": value_bits(TINY, 1025, -14),
    "subnormal": LEAST,
    "infinite": INFINITE,
    "negative infinite": INFINITE | 0x8000,
    "NaN": NAN,
}


def test_a_wrong_centroid_is_refused() -> None:
    good = [value_bits(TINY, n, -13) for n in centroids(TINY, 3)]
    names, cases = [], []
    for fault, value in CODEBOOK_FAULTS.items():
        for place in (0, 7):
            names.append((fault, place))
            values = [*good[:place], value, *good[place + 1 :]]
            cases.append(({}, {"index_width": 3}, values))
    found = outcomes(TINY, cases)
    assert dict(zip(names, found, strict=True)) == dict.fromkeys(names, "codebook")


@pytest.mark.parametrize("unit", [-24, -20, 4])
def test_centroids_in_other_units(unit: int) -> None:
    integers = [-2047, -1024, -1, 0, 0, 1, 3, 2047]
    if unit == 4:
        integers = [-2047, -1024, -512, 0, 0, 1, 3, 2047]
    values = [value_bits(TINY, n, unit) for n in integers]
    values[3] = 0x8000  # -0
    layer = good_layer(TINY) | {"index_width": 3, "unit_exponent": unit}
    (got,), outcome = run(TINY, store_of(TINY, [good_job(TINY)], layer, values))
    assert outcome["error"] == 0
    assert [int(n) for n in got.codebook][:8] == [*integers[:3], 0, *integers[4:]]


def test_a_layer_without_biases() -> None:
    values = [value_bits(TINY, n, -13) for n in centroids(TINY, 2)]
    layer = good_layer(TINY) | {"bias_offset": 0, "bias_bytes": 0}
    (got,), _ = run(TINY, store_of(TINY, [good_job(TINY)], layer, values))
    assert got.has_bias == 0


@pytest.mark.parametrize("name", ["tiny", "symmetric, of bf16"])
def test_any_value_in_any_unit(name: str) -> None:
    config, rng = replace(CONFIGS[name], symmetric=False), np.random.default_rng([SEED, 1])
    dut, value, right = CodebookReader(config), config.value, 0
    bias, ones = (1 << value.exponent_width - 1) - 1, (1 << value.exponent_width) - 1
    cases = []
    for _ in range(600):
        bits = int(rng.integers(1 << 16))
        if rng.random() < 0.8:  # few significant bits
            bits &= ~((1 << int(rng.integers(value.fraction_width + 1))) - 1)
        exponent = bits >> value.fraction_width & ones
        near = max(exponent, 1) - bias - value.fraction_width
        unit = int(rng.integers(-2048, 2048)) if rng.random() < 0.1 else near
        cases.append((bits, max(-2048, min(2047, unit + int(rng.integers(-6, 12))))))

    def integer(bits: int, unit: int) -> int | None:
        """Return the value in units, if it is a whole number of them that fits."""
        fraction = bits & (1 << value.fraction_width) - 1
        exponent = bits >> value.fraction_width & ones
        if exponent == ones:
            return None
        significand = fraction | (1 << value.fraction_width if exponent else 0)
        number = Fraction(significand) * Fraction(2) ** (
            max(exponent, 1) - bias - value.fraction_width - unit
        )
        if number.denominator != 1 or number >= 1 << config.grid_width - 1:
            return None
        return -int(number) if bits >> 15 else int(number)

    async def bench(ctx):
        nonlocal right
        ctx.set(dut.index_width, 2)
        for bits, unit in cases:
            ctx.set(dut.unit, unit)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for word in (0, 0, bits, 0):
                await put(ctx, dut.i, word)
            await idle(ctx, 4)
            wanted = integer(bits, unit)
            assert ctx.get(dut.done) and ctx.get(dut.bad) == (wanted is None), (bits, unit)
            if wanted is not None:
                right += wanted != 0
                assert [ctx.get(dut.codebook[n]) for n in range(4)] == [0, 0, wanted, 0]

    simulate(dut, bench)
    assert 100 < right < 500


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 16, 128])
def test_a_division_is_rounded_up(divisor: int) -> None:
    dut = Divide(16, divisor)
    rng = np.random.default_rng([SEED, divisor])

    async def bench(ctx):
        for n in [0, 1, divisor, divisor + 1, 65535, *rng.integers(0, 65536, 20).tolist()]:
            ctx.set(dut.i, n)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for _ in range(dut.latency - 1):
                await ctx.tick()
            assert ctx.get(dut.o) == -(-n // divisor)

    simulate(dut, bench)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_sum_of_32_bits(bits: int) -> None:
    m, remainder, word, after = Module(), Signal(32), Signal(bits), Signal(32)
    m.d.comb += after.eq(crc32_next(remainder, word))
    message = np.random.default_rng([SEED, bits]).bytes(60)
    message += crc32(message).to_bytes(4, "little")

    async def bench(ctx):
        for part in (message[:-4], message):
            ctx.set(remainder, CRC32_INITIAL)
            for at in range(0, len(part), bits // 8):
                ctx.set(word, int.from_bytes(part[at : at + bits // 8], "little"))
                await ctx.delay(1e-9)
                ctx.set(remainder, ctx.get(after))
            if part is message:
                assert ctx.get(remainder) == CRC32_RESIDUE
            else:
                assert ctx.get(remainder) ^ 0xFFFFFFFF == crc32(part)

    sim = Simulator(m)
    sim.add_testbench(bench)
    sim.run()
