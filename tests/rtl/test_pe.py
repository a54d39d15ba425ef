# amaranth: UnusedElaboratable=no
"""The pieces of the processing elements."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import SumsLayout
from gobo_rtl.pe.arith import delayed, leading_zeros, shift_right_jam
from gobo_rtl.pe.combine import BinSumsLayout, Combine, Resolve
from gobo_rtl.pe.holding import Holding
from gobo_rtl.pe.multiply import (
    MULTIPLES_LATENCY,
    PRODUCT_LATENCY,
    Blocks,
    Digits,
    Multiplier,
    multiplier,
)  # fmt: skip
from gobo_rtl.pe.outlier import OutlierDecode, OutlierProduct
from gobo_rtl.pe.products import Products, ProductsRowLayout
from gobo_rtl.pe.select import Select
from gobo_rtl.pe.split import SplitLayout, cuts
from sim.golden.outlier import integers
from sim.pysim import get, put, quiet, simulate

from .summing import value_bits

SEED = 60
TINY = ARRAYS["tiny"]


class Bits(wiring.Component):
    """Counting zeros and shifting as a block."""

    def __init__(self, width: int):
        super().__init__({
            "i": In(width), "amount": In(5), "zeros": Out(8), "jammed": Out(width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.zeros.eq(leading_zeros(m, self.i, "zeros")),
            self.jammed.eq(shift_right_jam(m, self.i, self.amount, "jam")),
        ]
        return m


@pytest.mark.parametrize("width", [1, 2, 7, 16, 21])
def test_zeros_are_counted_and_lost_ones_are_kept_in_the_lowest_bit(width: int) -> None:
    rng = np.random.default_rng([SEED, width])
    dut = Bits(width)

    async def run(ctx):
        for n in [0, 1, (1 << width) - 1, *(rng.integers(1 << width, size=60) >> 3).tolist()]:
            amount = int(rng.integers(32))
            ctx.set(dut.i, n)
            ctx.set(dut.amount, amount)
            assert ctx.get(dut.zeros) == width - n.bit_length()
            lost = n & (1 << min(amount, width)) - 1
            assert ctx.get(dut.jammed) == n >> amount | (lost != 0)

    sim = Simulator(dut)
    sim.add_testbench(run)
    sim.run()


class Product(wiring.Component):
    """A product, as a block."""

    latency = MULTIPLES_LATENCY + PRODUCT_LATENCY

    def __init__(self, unit: type[Multiplier], width: int, other: int):
        self.unit, self.sizes = unit, (width, other)
        super().__init__({
            "a": In(signed(width)), "b": In(signed(other)), "o": Out(signed(width + other)),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, other = self.sizes
        factor = delayed(m, self.unit.coded(self.b), MULTIPLES_LATENCY, "factor")
        multiples = self.unit.multiples(m, self.a, "a")
        m.d.comb += self.o.eq(self.unit.product(m, multiples, factor, width + other, "product"))
        return m


@pytest.mark.parametrize("unit", [Digits, Blocks])
@pytest.mark.parametrize(("width", "other"), [(8, 9), (16, 12), (41, 12), (5, 3), (24, 4), (9, 7)])
def test_products_are_exact(width: int, other: int, unit: type[Multiplier]) -> None:
    dut, got = Product(unit, width, other), []
    rng = np.random.default_rng([SEED, width, other])
    ends = [(a, b) for a in (-(1 << width - 1), (1 << width - 1) - 1, 0, -1)
            for b in (-(1 << other - 1), (1 << other - 1) - 1, 0, -1)]  # fmt: skip
    # Every number in digits, so every digit at every place, too.
    every = range(-(1 << other - 1), 1 << other - 1)
    pairs = ends + [(int(rng.integers(-(1 << width - 1), 1 << width - 1)), b) for b in every]

    async def run(ctx):
        for a, b in [*pairs, *[(0, 0)] * dut.latency]:
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            got.append(ctx.get(dut.o))
            await ctx.tick()

    simulate(dut, run)
    assert got[dut.latency :] == [a * b for a, b in pairs]


# -- outliers -----------------------------------------------------------------------------------


class Outlier(wiring.Component):
    """An outlier's decoder and a product, in a row."""

    latency = OutlierDecode.latency + MULTIPLES_LATENCY + OutlierProduct.latency

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i": In(config.value.width), "unit": In(signed(12)),
            "a": In(signed(config.act_width)), "o": Out(signed(config.acc_width)),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decode = decode = OutlierDecode(self.config)
        m.submodules.product = product = OutlierProduct(self.config)
        multiples = multiplier(self.config).multiples(m, self.a, "a")
        m.d.comb += [
            decode.i.eq(self.i), decode.unit.eq(self.unit), self.o.eq(product.o),
            product.w.eq(delayed(m, decode.o, MULTIPLES_LATENCY, "weight")),
            *(one.eq(times) for one, times in zip(product.multiples, multiples, strict=True)),
        ]  # fmt: skip
        return m


def rtl_outliers(config: ArrayConfig, cases: list[tuple[int, int, int]]) -> list[int]:
    """Return the products of (value, unit, activation), one a cycle."""
    dut, got = Outlier(config), []
    late = [0] * OutlierDecode.latency
    acts = late + [a for _, _, a in cases]

    async def run(ctx):
        for n in range(len(cases) + dut.latency):
            value, unit, _ = cases[min(n, len(cases) - 1)]
            ctx.set(dut.i, value)
            ctx.set(dut.unit, unit)
            ctx.set(dut.a, acts[min(n, len(acts) - 1)])
            got.append(ctx.get(dut.o))
            await ctx.tick()

    simulate(dut, run)
    return got[dut.latency :]


@pytest.mark.parametrize("multipliers", ["digits", "blocks"])
@pytest.mark.parametrize("value_format", ["fp16", "bf16"])
@pytest.mark.parametrize("width", [12, 24])
def test_products_of_outliers_are_exact(value_format: str, width: int, multipliers: str) -> None:
    config = replace(
        TINY, value_format=value_format, weight_sum_width=width, multipliers=multipliers
    )
    rng = np.random.default_rng([SEED, width])
    precision = config.value.fraction_width + 1
    cases, due = [], []
    for _ in range(600):
        # Any place of the significand above the unit; a few that end in zeros or are small.
        low = -24 if value_format == "fp16" else -133  # where there are subnormals
        unit = int(rng.choice([low, rng.integers(low, -8)]))
        significand = int(rng.integers(1 << precision)) >> int(rng.integers(precision + 1))
        number = significand << int(rng.integers(width - precision + 1))
        act = int(rng.choice([32767, -32767, rng.integers(-32767, 32768)]))
        scaled = np.array([number * float(rng.choice([-1, 1])) * 2.0**unit])
        bits = value_bits(config, scaled)
        cases.append((int(bits[0]), unit, act))
        due.append(act * int(integers(config.value, bits, unit)[0]))
    assert rtl_outliers(config, cases) == due


def test_an_outlier_by_hand() -> None:
    cases = [
        (0x4600, -10, 3),  # 6 is 6 x 1024 units
        (0xC600, -10, -32768),
        (0x0003, -24, 5),  # the smallest units
        (0x3C00, 0, 7),  # all of the significand is below the unit
        (0x8000, -5, 9),
        (0x6BFF, -12, 32767),  # 4094 = 2047 x 2^13 units
    ]
    products = [3 * 6144, 32768 * 6144, 15, 7, 0, 32767 * (2047 << 13)]
    assert rtl_outliers(TINY, cases) == products


# -- what the rows take -------------------------------------------------------------------------


def test_rows_take_centroids_and_outliers_once_a_step() -> None:
    config = replace(TINY, symmetric=True)
    dut, got = Select(config), []
    # (plain, (row of an entry), indexes of the rows, index width)
    cycles = [
        (1, None, [0, 1, 2, 3], 2), (0, 2, [0, 5, 2, 7], 3), (1, 0, [0, 5, 2, 7], 3),
        (1, None, [0, 9, 15, 7], 4),
    ]  # fmt: skip

    async def run(ctx):
        for plain, row, index, width in [*cycles, (0, None, [0] * 4, 2), (0, None, [0] * 4, 2)]:
            step = dut.i.payload
            ctx.set(dut.i.valid, 1)
            ctx.set(step.plain, plain)
            ctx.set(step.entries[0].valid, row is not None)
            ctx.set(step.entries[0].row, row or 0)
            ctx.set(step.index_width, width)
            for n in range(4):
                ctx.set(step.planes[n], sum((i >> n & 1) << r for r, i in enumerate(index)))
            rows = ctx.get(dut.o).rows
            got.append(["outlier" if row.hits else (int(row.picks).bit_length() - 1, row.negate)
                        if row.picks else None for row in rows])  # fmt: skip
            for row in rows:
                assert int(row.picks).bit_count() + int(row.hits).bit_count() <= 1
                assert row.reads == (0 if ctx.get(dut.o.first) else row.picks)
            await ctx.tick()

    simulate(dut, run)
    assert got[dut.latency :] == [
        [(0, 0), (1, 0), (1, 1), (0, 1)],  # 3 is -0, 2 is -1
        [None, None, "outlier", None],
        ["outlier", (2, 1), None, (0, 1)],  # 5 is -2, 7 is -0; row 2 has had its outlier
        [(0, 0), (6, 1), (0, 1), (7, 0)],
    ]


# -- the end of a sum ---------------------------------------------------------------------------


def test_held_sums_are_read_some_rows_at_a_time_and_stay() -> None:
    dut, got = Holding(9, 6, 2), []

    async def run(ctx):
        for n in range(6):
            ctx.set(dut.sums[n], 100 + n)
        ctx.set(dut.load, 1)
        await ctx.tick()
        ctx.set(dut.load, 0)
        for n in range(6):
            ctx.set(dut.sums[n], 200 + n)
        await ctx.tick()
        for read in (1, 0, 2, 4, 1):
            ctx.set(dut.read, read)
            await ctx.tick()
            got.append(list(ctx.get(dut.o)))

    simulate(dut, run)
    assert got == [[100, 101], [0, 0], [102, 103], [104, 105], [100, 101]]


def split(total: int, parts: list[SplitLayout], rng: np.random.Generator) -> list[dict[str, int]]:
    """Return a sum in parts, the lowest first, with carries that wait at random."""
    waiting, at = [], 0
    for part in parts:
        waiting.append([int(rng.integers(2)) for _ in part.cuts[1:-1]])
        total -= sum(c << at + p for c, p in zip(waiting[-1], part.cuts[1:-1], strict=True))
        at += part.cuts[-1]
    made = []
    for part, carries in zip(parts, waiting, strict=True):
        made.append({"bits": total % (1 << part.cuts[-1]),
                     "carries": sum(c << n for n, c in enumerate(carries))})  # fmt: skip
        total >>= part.cuts[-1]
    return made


def held_row(config: ArrayConfig, bins: np.ndarray, beside: int) -> dict[str, object]:
    """Return what a row of bins holds, with carries that wait."""
    pieces = {f"piece{n}": [int(b) >> low & (1 << high - low) - 1 for b in bins]
              for n, (low, high) in enumerate(pairwise(cuts(config.bin_width)))}  # fmt: skip
    rng = np.random.default_rng([SEED, abs(beside)])
    (outliers,) = split(beside, [SplitLayout(config.acc_width)], rng)
    return {"outliers": outliers, **pieces}


def test_sums_of_products_get_their_carries() -> None:
    dut, got = Resolve(TINY), []
    rng = np.random.default_rng(SEED)
    parts = [field.shape for _, field in ProductsRowLayout(TINY)]
    assert all(len(part.cuts) > 3 for part in parts)  # carries wait in both
    sums = rng.integers(-(1 << TINY.acc_width - 1), 1 << TINY.acc_width - 1, (40, 2)).tolist()
    layout = BinSumsLayout(TINY, Products)

    def row(total: int) -> dict[str, object]:
        return dict(zip(("low", "above"), split(total, parts, rng), strict=True))

    async def drive(ctx):
        for pair in sums:
            word = layout.const({"rows": [row(total) for total in pair]}).as_bits()
            await put(ctx, dut.i, word)

    async def collect(ctx):
        for _ in sums:
            got.append(list(SumsLayout(TINY).from_bits(await get(ctx, dut.o)).sums))
        await quiet(ctx, dut.o)

    simulate(dut, drive, collect)
    assert got == sums


@pytest.mark.parametrize("symmetric", [False, True])
def test_bins_are_multiplied_and_added_up(symmetric: bool) -> None:
    config = replace(TINY, pe="bins", symmetric=symmetric, index_widths=(2,))
    dut, got = Combine(config), []
    rng = np.random.default_rng(SEED)
    codebook = rng.integers(-2047, 2048, config.shared)
    bins = rng.integers(-(1 << 22), 1 << 22, (20, config.drain_lanes, config.shared))
    beside = rng.integers(-(1 << 35), 1 << 35, (20, config.drain_lanes))
    words = [
        BinSumsLayout(config).const({
            "rows": [held_row(config, row, int(x)) for row, x in zip(*pair, strict=True)],
            "exponent": n - 9, "special": n % 2, "last": n % 3 == 0,
        }).as_bits()
        for n, pair in enumerate(zip(bins, beside, strict=True))
    ]  # fmt: skip

    async def drive(ctx):
        for n, centroid in enumerate(codebook.tolist()):
            ctx.set(dut.codebook[n], centroid)
        for word in words:
            await put(ctx, dut.i, word)

    async def collect(ctx):
        for n in range(len(words)):
            for _ in range(n % 4):
                await ctx.tick()
            payload = SumsLayout(config).from_bits(await get(ctx, dut.o))
            got.append((list(payload.sums), payload.exponent, payload.special, payload.last))
        await quiet(ctx, dut.o)

    simulate(dut, drive, collect)
    due = (bins * codebook).sum(axis=2) + beside
    assert got == [(row, n - 9, n % 2, n % 3 == 0) for n, row in enumerate(due.tolist())]
