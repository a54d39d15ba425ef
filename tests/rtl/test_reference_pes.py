# amaranth: UnusedElaboratable=no
"""The reference PEs against their golden models: order, interleaving, idle cycles and the end."""

import numpy as np
import pytest
from amaranth.hdl import Value

from gobo_rtl.pe.bins_fp16 import BinsFp16PE
from gobo_rtl.pe.int8 import Int8PE
from gobo_rtl.pe.mac import MacPE
from sim.golden import bins_fp16
from sim.golden.int8 import mac as mac8
from sim.golden.mac import mac
from sim.pysim import simulate

SEED = 2020
ONE, BIG = 0x3C00, 0x6C00  # 1 and 4096 in FP16


def drive(pe, steps, cycles):
    """Return what comes out while ``steps`` go in: (cycle of ``done``, bits of ``o``) each.

    ``steps`` has fields by cycle; there is no step in the other cycles, and rubbish on its ports.
    """
    found = []
    rubbish = np.random.default_rng(SEED)

    async def bench(ctx):
        for cycle in range(cycles):
            step = steps.get(cycle)
            shape = pe.step.shape()
            noise = int.from_bytes(rubbish.bytes(8), "little") & (1 << shape.size) - 1
            ctx.set(pe.valid, step is not None)
            ctx.set(Value.cast(pe.step), noise if step is None else shape.const(step).as_bits())
            if ctx.get(pe.done):
                found.append((cycle, ctx.get(Value.cast(pe.o))))
            await ctx.tick()

    simulate(pe, bench)
    return found


def mac_steps(pe, weights, acts, rounds):
    """Return steps by cycle for sums of weights (sums, k) and acts (sums, k), ``interleave`` sums
    in turn; step k of all of them is in round ``rounds[k]``."""
    steps = {}
    for number, (weight, act) in enumerate(zip(weights.tolist(), acts.tolist(), strict=True)):
        for k, at in enumerate(rounds):
            steps[at * pe.interleave + number] = {
                "weight": weight[k], "act": act[k], "first": k == 0, "last": k == len(rounds) - 1,
            }  # fmt: skip
    return steps


def pair_sums(weights, acts):
    """Return the golden sums of weights (sums, k) and acts (sums, k)."""
    return [int(mac(w[None], a[None])[0, 0]) for w, a in zip(weights, acts, strict=True)]


def test_a_mac_by_hand():
    pe = MacPE(2, 3)
    assert (pe.interleave, pe.latency) == (3, 5)
    weights = np.array([[BIG, ONE, ONE], [ONE, ONE, BIG]], np.uint16)
    found = drive(pe, mac_steps(pe, weights, weights, range(3)), 24)
    # 2^24 + 1 + 1 stays 2^24; 1 + 1 + 2^24 does not.  A sum is ready 2 + 3 cycles after its
    # last step, which is in cycle 6 and 7.
    assert found == [(11, 0x4B800000), (12, 0x4B800001)]


@pytest.mark.parametrize("latencies", [(0, 1), (1, 2), (2, 3), (3, 4), (3, 5), (4, 6)])
def test_interleaved_sums_are_those_of_the_golden_model(latencies):
    rng = np.random.default_rng([SEED, *latencies])
    pe = MacPE(*latencies)
    steps, expected = {}, []
    start = 0
    for length in (1, 2, 17, 60):  # sums right after one another, and idle rounds within
        weights, acts = rng.integers(0, 1 << 16, (2, pe.interleave, length), np.uint16)
        if length > 2:  # without NaN, of like exponents
            weights, acts = (bits & 0x8FFF | 0x3000 for bits in (weights, acts))
        rounds = start + np.cumsum(rng.integers(1, 3, length))
        steps |= mac_steps(pe, weights, acts, rounds.tolist())
        expected += [
            (int(rounds[-1]) * pe.interleave + number + pe.latency, total)
            for number, total in enumerate(pair_sums(weights, acts))
        ]
        start = int(rounds[-1])
    assert drive(pe, steps, max(steps) + pe.latency + 10) == expected


def test_a_sum_goes_round_through_idle_cycles_as_it_is():
    pe = MacPE(1, 2)
    for bits, total in ((0x8000, 0x0), (0x0001, 0x33800000), (0x7E01, 0x7FC00000)):
        steps = mac_steps(pe, np.array([[bits, 0x8000]], np.uint16),
                          np.array([[ONE, ONE]], np.uint16), [0, 9])  # fmt: skip
        assert drive(pe, steps, 40) == [(18 + pe.latency, total)]


def row_steps(index, outlier, act, cycles):
    """Return the steps of one row of K, by cycle."""
    return {
        cycle: {"act": a, "index": i, "outlier": o, "first": k == 0, "last": k == len(cycles) - 1}
        for k, (cycle, a, i, o) in enumerate(
            zip(cycles, act.tolist(), index.tolist(), outlier.tolist(), strict=True)
        )
    }


def bins_of(pe, bits):
    """Return the bins in the bits of ``o``."""
    return [bits >> 16 * n & 0xFFFF for n in range(pe.bins)]


def test_bins_by_hand():
    pe = BinsFp16PE(index_width=2)
    act = np.array([2048, 5, 1, 7, 1], np.float16).view(np.uint16)
    steps = row_steps(np.array([0, 3, 0, 1, 0]), np.array([0, 0, 0, 1, 0]), act, range(5))
    # 2048 + 1 is a tie and stays, twice; the outlier's 7 is in no bin.
    assert drive(pe, steps, 20) == [(6, 0x4500_0000_0000_6800)]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("index_width", [2, 3, 4])
def test_bins_and_their_end_are_those_of_the_golden_model(index_width, symmetric):
    rng = np.random.default_rng([SEED, index_width, symmetric])
    pe, end = BinsFp16PE(index_width, symmetric), MacPE(1, 2)
    count = 1 << index_width
    codebook = np.sort(rng.normal(0, 0.05, count).astype(np.float16))
    if symmetric:
        codebook[count // 2 :] = -codebook[: count // 2][::-1]
    codebook = codebook.view(np.uint16)
    steps, rows, start = {}, [], 0
    for length in (1, 30, 150):
        index = rng.integers(0, count, (1, length), np.uint8)
        outlier = rng.random((1, length)) < 0.05
        weights = rng.normal(0, 1, (1, length)).astype(np.float16).view(np.uint16)
        acts = rng.normal(0, 3, (1, length)).astype(np.float16).view(np.uint16)
        if length == 30:
            acts[0, :3] = [0x7BFF, 0x7BFF, 0x0001]  # near overflow, and a subnormal
        cycles = (start + np.cumsum(rng.integers(1, 3, length))).tolist()
        steps |= row_steps(index[0], outlier[0], acts[0], cycles)
        rows.append((index, outlier, weights, acts, cycles[-1] + pe.latency))
        start = cycles[-1]
    found = drive(pe, steps, start + 20)
    assert len(found) == len(rows)
    for (cycle, bits), (index, outlier, weights, acts, due) in zip(found, rows, strict=True):
        bins = bins_fp16.bins(count, symmetric, index, outlier, acts)
        assert (cycle, bins_of(pe, bits)) == (due, bins[0, 0].tolist())
        # The end: outliers, then bins, through the shared unit.
        factors = np.concatenate([weights[outlier], codebook[: pe.bins]])[None]
        terms = np.concatenate([acts[outlier], np.array(bins_of(pe, bits), np.uint16)])[None]
        ending = mac_steps(end, factors, terms, range(factors.size))
        ended = drive(end, ending, 2 * factors.size + end.latency)
        total = bins_fp16.sums(codebook, symmetric, index, outlier, weights, acts)
        assert [value for _, value in ended] == total.ravel().tolist()


def test_bins_stay_until_the_next_sum_begins():
    pe = BinsFp16PE(index_width=2)
    act = np.full(2, ONE, np.uint16)
    steps = row_steps(np.zeros(2, int), np.zeros(2, int), act, [0, 1])
    held = []

    async def bench(ctx):
        for cycle in range(30):
            step = steps.get(cycle if cycle < 20 else cycle - 20)
            ctx.set(pe.valid, step is not None)
            if step is not None:
                ctx.set(Value.cast(pe.step), pe.step.shape().const(step).as_bits())
            held.append(ctx.get(Value.cast(pe.o)))
            await ctx.tick()

    simulate(pe, bench)
    assert held[3 : 20 + pe.latency] == [0x4000] * (17 + pe.latency)
    assert held[20 + pe.latency] == ONE


def test_sizes_that_are_not_offered_are_refused():
    with pytest.raises(ValueError, match=r"index_width must be in 2..4 bits, not 5"):
        BinsFp16PE(5)
    with pytest.raises(ValueError, match=r"adder_latency must be in 1..6 cycles, not 0"):
        MacPE(1, 0)
    with pytest.raises(ValueError, match=r"multiplier_latency must be in 0..2 cycles, not 3"):
        Int8PE(3)


def int8_sums(pe, steps, cycles):
    """Return (cycle of ``done``, sum) for ``steps`` by cycle, with rubbish in the others."""
    found, lows = [], []
    rubbish = np.random.default_rng(SEED)

    async def bench(ctx):
        for cycle in range(cycles):
            step = steps.get(cycle)
            ctx.set(pe.valid, step is not None)
            noise = int(rubbish.integers(0, 1 << pe.step.shape().size))
            ctx.set(
                Value.cast(pe.step),
                noise if step is None else pe.step.shape().const(step).as_bits(),
            )
            if lows and lows[-1][0] == cycle - 1:
                found.append((cycle - 1, lows[-1][1] + (ctx.get(pe.o_high) << 16)))
            if ctx.get(pe.done):
                lows.append((cycle, ctx.get(pe.o_low)))
            await ctx.tick()

    simulate(pe, bench)
    assert len(lows) == len(found)
    return found


def int8_steps(weights, acts, cycles):
    """Return the steps of one sum of weights (k,) and acts (k,), by cycle."""
    return {
        cycle: {"weight": w, "act": a, "first": k == 0, "last": k == len(cycles) - 1}
        for k, (cycle, w, a) in enumerate(zip(cycles, weights.tolist(), acts.tolist(), strict=True))
    }


def test_an_int8_sum_by_hand():
    pe = Int8PE(2)
    steps = int8_steps(np.array([2, -3]), np.array([5, 4]), [0, 1])
    steps |= int8_steps(np.array([-1]), np.array([1]), [2])
    # A sum's low half is ready 3 cycles after its last step, in cycle 1 and 2.
    assert int8_sums(pe, steps, 20) == [(4, -2), (5, -1)]


@pytest.mark.parametrize("latency", [0, 1, 2])
def test_extreme_int8_products(latency):
    pe = Int8PE(latency)
    edges = np.array([-128, -127, -1, 0, 1, 2, 85, -86, 126, 127], np.int8)
    weights, acts = np.repeat(edges, len(edges)), np.tile(edges, len(edges))
    steps = {}
    for cycle, (w, a) in enumerate(zip(weights, acts, strict=True)):
        steps |= int8_steps(w[None], a[None], [cycle])
    expected = [
        (cycle + pe.latency, mac8(w[None, None], a[None, None]).item())
        for cycle, (w, a) in enumerate(zip(weights, acts, strict=True))
    ]
    assert int8_sums(pe, steps, len(steps) + 10) == expected


@pytest.mark.parametrize("latency", [0, 1, 2])
def test_int8_sums_are_those_of_the_golden_model(latency):
    rng = np.random.default_rng([SEED, latency])
    pe = Int8PE(latency)
    steps, expected, start = {}, [], 0
    for length, extreme in ((1, None), (3, -128), (40, -128), (40, 127), (300, None)):
        weights, acts = rng.integers(-128, 128, (2, length), np.int8)
        if extreme is not None:  # carries and borrows between the halves
            weights[:], acts[:] = -128, extreme
        cycles = (start + np.cumsum(rng.integers(1, 3, length))).tolist()
        steps |= int8_steps(weights, acts, cycles)
        expected.append((cycles[-1] + pe.latency, mac8(weights[None], acts[None]).item()))
        start = cycles[-1]
    assert int8_sums(pe, steps, start + 10) == expected
