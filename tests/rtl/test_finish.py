# amaranth: UnusedElaboratable=no
"""The rounding and the end of a pass, against the golden model."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from gobo_rtl.array.finish import Finish
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import ResultBeatLayout, ResultPassLayout, SumsLayout
from gobo_rtl.pe.round import Round
from sim.golden.add_bias import add_bias
from sim.golden.finish import finish
from sim.pysim import idle, put, quiet, simulate

SEED = 754
TINY = ARRAYS["tiny"]
SIZES = {
    "fp32": TINY,
    "fp16": replace(TINY, result_format="fp16"),
    "absolute": replace(TINY, align="absolute", act_width=41),
    "narrow fp16": replace(TINY, act_width=8, weight_sum_width=12, result_format="fp16"),
}
BIASES = [
    0, 0x80000000, 1, 0x80000001, 0x007FFFFF, 0x00800000, 0x80800000,  # zeros and subnormals
    0x3F800000, 0xBF800000, 0x3F800001, 0xBFFFFFFF, 0x33000000, 0xB3000001, 0x477FE000, 0x477FF000,
    0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F800001,
]  # fmt: skip


def rtl_round(
    config: ArrayConfig, vectors: list[tuple[int, int, bool, int]], still: float = 0.0
) -> list[int]:
    """Return the results of (sum, exponent, special, bias); a share of the cycles stand still."""
    dut, got = Round(config), []
    rng = np.random.default_rng(SEED)

    async def run(ctx):
        before = 0
        for total, exponent, special, bias in vectors + [(0, 0, False, 0)] * dut.latency:
            ctx.set(dut.sum, total)
            ctx.set(dut.exponent, exponent)
            ctx.set(dut.special, special)
            ctx.set(dut.bias, before)
            before = bias
            got.append(ctx.get(dut.o))
            ctx.set(dut.move, 0)
            while rng.random() < still:
                await ctx.tick()
            ctx.set(dut.move, 1)
            await ctx.tick()

    simulate(dut, run)
    return got[dut.latency :]


def check_round(
    config: ArrayConfig, sums: list[int], exponent: np.ndarray, special: np.ndarray,
    biases: list[int], still: float = 0.0,
) -> None:  # fmt: skip
    """Hold every sum with every bias against the golden model."""
    vectors = [
        (total, int(x), bool(s), bias)
        for total, x, s in zip(sums, exponent, special, strict=True) for bias in biases
    ]  # fmt: skip
    table = np.repeat(np.array(sums, object)[:, None], len(biases), axis=1)
    if config.acc_width < 60:
        table = table.astype(np.int64)
    due = finish(config, table, exponent, special, np.array(biases, np.uint32)).ravel().tolist()
    for vector, found, right in zip(vectors, rtl_round(config, vectors, still), due, strict=True):
        assert found == right, f"{vector}: {found:#x}, not {right:#x}"


@pytest.mark.parametrize("name", SIZES)
def test_rounding_of_corner_cases_and_over_the_range_of_exponents(name: str) -> None:
    config = SIZES[name]
    rng = np.random.default_rng([SEED, list(SIZES).index(name)])
    size = config.acc_width - 1
    tie = (1 << config.result.fraction_width + 1) + 1  # halfway between two values
    near = [tie, tie + 2, -2 * tie, 2 * tie - 1, 2 * tie + 1, -4 * tie - 4]
    corners = [0, 1, -1, 3, (1 << size) - 1, 1 - (1 << size), 1 << size - 1]
    corners += [n for n in near if abs(n) < 1 << size]
    lengths = rng.integers(1, min(size, 62), 40).tolist()
    spread = [int(rng.integers(1 << k)) - (1 << k - 1) for k in lengths]
    places = {"fp16": [-40, -26, -25, -24, -11, 5, 16], "fp32": [-175, -151, -150, -127, 80, 104]}
    low = places[config.result_format] + rng.integers(-size - 30, 10, 2).tolist()
    every = np.repeat(low, len(corners))
    check_round(config, corners * len(low), every, rng.random(len(every)) < 0.02, BIASES)
    random = rng.integers(0, 1 << 32, 20).tolist()
    wide = rng.integers(-220, 130, len(spread))
    check_round(config, spread, wide, rng.random(len(wide)) < 0.02, random)


def test_sum_and_bias_may_cancel() -> None:
    """Sums a little more or less than the negative of a bias, down to nothing."""
    rng = np.random.default_rng(SEED)
    bias = int(rng.integers(1 << 23)) | 120 << 23
    number = bias & 0x7FFFFF | 1 << 23
    sums = [-(number << up) + more for up in (0, 3, 15) for more in (-3, -1, 0, 1, 2)]
    exponents = np.repeat(120 - 150 - np.array([0, 3, 15]), 5)
    none = np.zeros(len(sums), bool)
    check_round(TINY, sums, exponents, none, [bias, bias + 1, bias ^ 1 << 31])


def test_rounding_stands_still_without_move() -> None:
    rng = np.random.default_rng(SEED)
    sums = rng.integers(-(1 << 38), 1 << 38, 10).tolist()
    check_round(TINY, sums, np.full(10, -40), np.zeros(10, bool), BIASES, still=0.4)


def test_rounding_by_hand() -> None:
    vectors = [
        (3, -1, False, 0xBF800000),  # 1.5 - 1
        ((1 << 24) + 1, 0, False, 0),  # a tie, to even
        ((1 << 24) + 1, 0, False, 1),  # and a little more
        (-1, -200, False, 0x80000000),  # too small: keeps its sign
        (0, 0, False, 0x80000000),  # +0
        (1, 200, False, 0),  # too large
        (1, 0, True, 0x7F800000),  # NaN first
    ]  # fmt: skip
    assert rtl_round(TINY, vectors) == [
        0x3F000000, 0x4B800000, 0x4B800001, 0x80000000, 0, 0x7F800000, 0x7FC00000,
    ]  # fmt: skip


# -- passes -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pass:
    """Sums (columns, rows) of the array, integers or bits of FP32, and how much of them is in the
    matrix."""

    sums: np.ndarray
    exponent: np.ndarray
    special: np.ndarray
    rows: int
    columns: int
    bias: np.ndarray | None = None  # (rows of the array,); comes with `new_strip`
    new_strip: bool = False


def some_passes(config: ArrayConfig, seed: int, strips: int = 5) -> list[Pass]:
    """Return passes of strips with and without biases, whole and at the edges."""
    rng = np.random.default_rng([SEED, seed])
    shape, passes = (config.columns, config.rows), []
    for _ in range(strips):
        bias = rng.normal(0, 1, config.rows).astype(np.float32).view(np.uint32)
        bias = bias if rng.integers(4) else None
        rows = int(rng.choice([config.rows, rng.integers(1, config.rows + 1)]))
        for n in range(int(rng.integers(1, 4))):
            columns = int(rng.choice([config.columns, rng.integers(1, config.columns + 1)]))
            sums = rng.integers(-(1 << 30), 1 << 30, shape)
            if config.floating:
                sums = (sums * 2.0**-30).astype(np.float32).view(np.uint32)
            passes.append(Pass(
                sums, rng.integers(-38, -26, config.columns),
                rng.random(config.columns) < 0.1, rows, columns, bias, n == 0,
            ))  # fmt: skip
    return passes


def expected(config: ArrayConfig, passes: list[Pass]) -> list[tuple[int, int, bool]]:
    """Return the beats, (data where it counts, keep, last)."""
    beats, size = [], config.result.width // 8
    for work in passes:
        if config.floating:
            bits = add_bias(work.sums, work.bias)
        else:
            bits = finish(config, work.sums, work.exponent, work.special, work.bias)
        for column in bits[: work.columns, : work.rows]:
            burst = column.tobytes()
            for at in range(0, len(burst), config.beat_bytes):
                part = burst[at : at + config.beat_bytes]
                last = at + config.beat_bytes >= work.rows * size
                beats.append((int.from_bytes(part, "little"), (1 << len(part)) - 1, last))
    return beats


@dataclass
class Seen:
    """Beats and their cycles, and the cycles of the transfers of ``i``."""

    beats: list[tuple[int, int, bool]]
    cycle: list[int]
    taken: list[int]


def rtl_finish(
    config: ArrayConfig, passes: list[Pass], *, rest: float = 0.0, stall: float = 0.0, late: int = 0
) -> Seen:
    """Drive passes; each input rests and the output waits in shares of the cycles; the biases come
    ``late`` cycles late."""
    dut, seen, due = Finish(config), Seen([], [], []), len(expected(config, passes))
    lanes, groups = config.drain_lanes, config.rows // config.drain_lanes
    sums_of, pass_of = SumsLayout(config), ResultPassLayout(config)
    beat_of = ResultBeatLayout(config)
    sums, controls, biases = [], [], []
    for work in passes:
        for n, row in enumerate(work.sums.reshape(-1, lanes).tolist()):
            unit = {"exponent": int(work.exponent[n // groups]),
                    "special": int(work.special[n // groups])}  # fmt: skip
            sums.append(sums_of.const({
                "sums": row, "last": n == config.columns * groups - 1,
                **({} if config.floating else unit),
            }).as_bits())  # fmt: skip
        controls.append(pass_of.const({
            "rows": work.rows, "columns": work.columns, "new_strip": int(work.new_strip),
            "has_bias": int(work.bias is not None),
        }).as_bits())  # fmt: skip
        if work.new_strip and work.bias is not None:
            data = work.bias.tobytes()
            biases += [int.from_bytes(data[n : n + config.beat_bytes], "little")
                       for n in range(0, len(data), config.beat_bytes)]  # fmt: skip

    def driver(number: int, port: str, payloads: list[int]):
        async def drive(ctx):
            rng = np.random.default_rng([SEED, number])
            await idle(ctx, late if port == "i_bias" else 0)
            for payload in payloads:
                while rng.random() < rest:
                    await idle(ctx, int(rng.integers(1, 8)))
                await put(ctx, getattr(dut, port), payload)

        return drive

    async def count(ctx):
        cycle = 0
        async for _, _, valid, ready in ctx.tick().sample(dut.i.valid, dut.i.ready):
            if valid and ready:
                seen.taken.append(cycle)
            cycle += 1

    async def collect(ctx):
        rng = np.random.default_rng([SEED, 9])
        for cycle in range(1000 + 200 * len(sums)):
            if len(seen.beats) == due:
                break
            ready = rng.random() >= stall
            ctx.set(dut.o.ready, ready)
            _, _, valid, bits = await ctx.tick().sample(dut.o.valid, dut.o.payload.as_value())
            if valid and ready:
                beat = beat_of.from_bits(int(bits))
                mask = sum(0xFF << 8 * n for n in range(config.beat_bytes) if beat.keep >> n & 1)
                seen.beats.append((beat.data & mask, beat.keep, bool(beat.last)))
                seen.cycle.append(cycle)
        await quiet(ctx, dut.o)

    drivers = [driver(0, "i", sums), driver(1, "i_pass", controls), driver(2, "i_bias", biases)]
    simulate(dut, collect, *drivers, background=[count])
    return seen


SHAPES = {
    "tiny": TINY,
    "fp16": replace(TINY, result_format="fp16", rows=8, columns=3),
    "two beats of fp16": replace(TINY, result_format="fp16", rows=16, beat_width=128, columns=1),
    "a beat a column": replace(TINY, rows=4, beat_width=128, columns=3),
    "fp16, a beat a column": replace(TINY, rows=8, beat_width=128, result_format="fp16"),
    "mac": replace(TINY, pe="mac", rows=8, columns=3),
}


@pytest.mark.parametrize("name", SHAPES)
def test_results_are_those_of_the_golden_model(name: str) -> None:
    config = SHAPES[name]
    for seed, rest, stall in [(1, 0.0, 0.0), (2, 0.3, 0.0), (3, 0.0, 0.5), (4, 0.2, 0.4)]:
        passes = some_passes(config, seed)
        assert rtl_finish(config, passes, rest=rest, stall=stall).beats == expected(config, passes)


def test_a_pass_by_hand() -> None:
    work = Pass(
        np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([0, 0]), np.array([False, True]), 3, 2,
        np.array([0x3F800000, 0, 0, 0x7FC00000], np.uint32), True,
    )  # fmt: skip
    assert rtl_finish(TINY, [work]).beats == [
        (0x40000000_40000000, 0xFF, False),  # 1 + 1, 2
        (0x40400000, 0x0F, True),  # 3
        (0x7FC00000_7FC00000, 0xFF, False),
        (0x7FC00000, 0x0F, True),
    ]


@pytest.mark.parametrize("name", ["tiny", "fp16", "mac"])
def test_results_come_at_the_full_rate(name: str) -> None:
    """Passes with a new strip each: after the first, nothing waits for biases."""
    config = SHAPES[name]
    passes = [
        replace(work, rows=config.rows, columns=config.columns, new_strip=True,
                bias=np.arange(config.rows, dtype=np.uint32))
        for work in some_passes(config, 5)
    ]  # fmt: skip
    seen = rtl_finish(config, passes)
    first, latency = config.rows // config.drain_lanes, Finish(config).latency
    assert seen.beats == expected(config, passes)
    assert seen.taken[first:] == list(range(seen.taken[first], seen.taken[-1] + 1))
    cycles = config.beat_width // (config.drain_lanes * config.result.width)  # a beat
    assert seen.cycle[first:] == [n + latency for n in seen.taken[cycles - 1 :: cycles]][first:]


def test_sums_wait_for_late_biases() -> None:
    passes = some_passes(TINY, 6)
    ones = np.full(4, 0x3F800000, np.uint32)
    passes = [replace(work, bias=ones) for work in passes]
    seen = rtl_finish(TINY, passes, late=50)
    assert seen.beats == expected(TINY, passes)
    assert seen.cycle[0] > 50
