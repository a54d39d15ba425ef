# amaranth: UnusedElaboratable=no
"""The host arrays and their parts, against the golden models."""

from dataclasses import replace

import numpy as np
import pytest

from gobo_rtl.host_config import HOSTS
from gobo_rtl.hosts.accumulator import Accumulator
from gobo_rtl.hosts.tpu import TpuArray
from gobo_rtl.layout import WeightLayout
from sim.golden.hosts import tpu
from sim.pysim import simulate

from .hosting import act_words, check_sums, halves, sum_words, weight_words
from .streaming import FULL, PACES, transfer

SEED = 1978
TPU = HOSTS["tpu_tiny"]
ARRAYS = {"tpu": (TpuArray, tpu.sums, TPU)}


# -- the accumulator --------------------------------------------------------------------------


def accumulate(dut, terms, gap=0):
    """Give (address, first, term) in turn, then read all; return the sums."""
    found = []

    async def run(ctx):
        term = 0
        for address, first, after in terms:
            ctx.set(dut.valid, 1)
            ctx.set(dut.address, address)
            ctx.set(dut.first, first)
            ctx.set(dut.term, term)
            term = after
            await ctx.tick()
            for _ in range(gap):
                ctx.set(dut.valid, 0)
                ctx.set(dut.term, term)
                await ctx.tick()
        ctx.set(dut.valid, 0)
        ctx.set(dut.term, term)
        await ctx.tick()
        await ctx.tick()
        for place in range(dut.depth):  # 3 cycles after the last
            ctx.set(dut.read, 1)
            ctx.set(dut.place, place)
            await ctx.tick()
            found.append(ctx.get(dut.o))
        ctx.set(dut.read, 0)
        ctx.set(dut.place, 0)
        await ctx.tick()
        assert ctx.get(dut.o) == found[-1]

    simulate(dut, run)
    return found


@pytest.mark.parametrize("gap", [0, 1, 2])
def test_terms_are_added_to_their_sums_at_any_distance(gap):
    rng = np.random.default_rng([SEED, gap])
    order = rng.integers(0, 3, 200).tolist()  # many twice and three times in a row
    terms = rng.normal(0, 1, 200).astype(np.float32)
    sums, given = {}, []
    for place, term in zip(order, terms, strict=True):
        first = place not in sums or rng.random() < 0.02
        sums[place] = np.float32(0 if first else sums[place]) + term
        given.append((place, first, int(term.view(np.uint32))))
    due = [int(sums[place].view(np.uint32)) for place in range(3)]
    assert accumulate(Accumulator(3), given, gap) == due


def test_accumulators_of_one_sum_are_refused():
    with pytest.raises(ValueError, match="depth must be at least 2 sums, not 1"):
        Accumulator(1)


# -- the arrays -------------------------------------------------------------------------------


def run_array(name, batches, pace=FULL, **sizes):
    """Run passes of (weights, acts) of one strip or more and compare their sums; return what the
    streams did."""
    kind, golden, config = ARRAYS[name]
    config = replace(config, **sizes)
    rubbish = np.random.default_rng(SEED)
    given, acts_given, due = [], [], []
    for weights, acts in batches:
        strips = -(-len(weights) // config.rows)
        given += weight_words(config, weights)
        for _ in range(strips):
            acts_given += act_words(config, acts, rubbish)
        due += sum_words(config, golden(config, weights, acts))
    seen = transfer(
        kind(config), {"i_weights": given, "i": acts_given}, {"o": len(due)}, pace,
        probes=("busy", "stall_weights", "stall_drain"), after=60,
    )  # fmt: skip
    check_sums(due, seen["o"].words)
    return seen


def batch(rng, rows, inputs, tokens):
    """Return random weights and activations whose sums depend on their order."""
    return tuple(
        halves(rng.normal(0, 1, (n, inputs)) * 2.0 ** rng.integers(-9, 9, (n, inputs)))
        for n in (rows, tokens)
    )


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("pace", PACES)
def test_sums_of_passes_in_a_row(name, pace):
    rng = np.random.default_rng([SEED, pace.seed])
    shapes = [(4, 11, 6), (3, 4, 1), (8, 5, 3), (4, 1, 2), (1, 17, 6), (4, 8, 4), (4, 2, 1)]
    run_array(name, [batch(rng, *shape) for shape in shapes], pace)


@pytest.mark.parametrize("name", ARRAYS)
def test_any_bits_and_infinities_and_nan_are_summed_as_ieee_says(name):
    rng = np.random.default_rng(SEED)
    batches = []
    for n in range(6):
        weights, acts = rng.integers(0, 1 << 16, (2, 4, 7), np.uint16)
        if n % 2:  # few that are not finite, zeros and subnormals
            weights, acts = (np.where(rng.random(x.shape) < 0.9, x & 0x83FF, x) for x in (
                weights, acts))  # fmt: skip
        batches.append((weights, acts))
    run_array(name, batches)


def test_a_larger_systolic_array():
    rng = np.random.default_rng(SEED)
    run_array("tpu", [batch(rng, 8, 20, 3), batch(rng, 8, 8, 6)], PACES[3], size=8, beat_width=128)


def test_a_sum_of_the_systolic_array_by_hand():
    """Two tiles: 2^24 + 1 + 1 stays 2^24 in the first, the second's 1 + 1 is added together."""
    weights = halves([[4096, 1, 1, 0, 1, 1], [2, 0, 0, 0, 0, 3], [0] * 6, [0, 0, 0, 0, -1, 0]])
    seen = run_array("tpu", [(weights, halves([[4096, 1, 1, 0, 1, 1]]))])
    due = np.array([2.0**24 + 2, 8192 + 3, 0, -1], np.float32).view(np.uint32).tolist()
    assert [bits >> 32 * n & 0xFFFFFFFF for bits in seen["o"].words for n in range(2)] == due


def test_the_timing_of_the_systolic_array():
    rng = np.random.default_rng(SEED)
    # As many tokens as inputs and outputs: an activation in every cycle, tiles and passes without
    # a bubble, when a pass is at least as long as its sums take to leave: 11 cycles and 8.
    tokens = TPU.size
    batches = [batch(rng, 4, 20, tokens) for _ in range(4)]
    seen = run_array("tpu", batches)
    taken = seen["i"].cycles
    assert np.diff(taken).tolist() == [1] * (len(taken) - 1)
    # The first word is taken in cycle 0, the last of a tile with the swap before activations.
    assert (seen["i_weights"].cycles[0], taken[0]) == (0, TPU.size)
    first = seen["o"].cycles[0]
    assert first - taken[5 * tokens - 1] == TpuArray(TPU).latency == 2 * TPU.size + 3
    assert sum(seen["busy"].words) == len(taken)


def test_a_word_in_every_cycle_with_one_token():
    rng = np.random.default_rng(SEED)
    seen = run_array("tpu", [batch(rng, 4, 64, 1), batch(rng, 4, 32, 1)])
    taken = seen["i_weights"].cycles
    # All but a tile that waits for the swap of the one before, a cycle each.
    assert taken[-1] - taken[0] == len(taken) - 1
    assert sum(seen["stall_drain"].words) == 0


def test_tiles_of_a_word_with_a_token():
    rng = np.random.default_rng(SEED)
    run_array("tpu", [batch(rng, 4, 5, 1), batch(rng, 12, 1, 1), batch(rng, 4, 9, 1)])


def test_passes_wait_for_a_free_bank():
    rng = np.random.default_rng(SEED)
    seen = run_array("tpu", [batch(rng, 4, 4, 6) for _ in range(5)])
    assert sum(seen["stall_drain"].words) > 0
    assert np.diff(seen["o"].cycles[12:24]).tolist() == [1] * 11


def test_a_word_with_an_error_is_the_last_that_is_taken():
    rng = np.random.default_rng(SEED)
    weights, acts = batch(rng, 8, 8, 2)
    given = weight_words(TPU, weights)
    layout = WeightLayout(TPU.image)
    given[7] |= 1 << layout["error"].offset
    one = act_words(TPU, acts, rng)
    seen = transfer(
        TpuArray(TPU), {"i_weights": given, "i": one + one}, {"o": 0}, after=100, all_taken=False,
    )  # fmt: skip
    assert seen["i_weights"].words == given[:8]
    assert seen["i"].words == one[:2]
