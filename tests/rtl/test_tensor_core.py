# amaranth: UnusedElaboratable=no
"""The dot-product units against their golden model."""

from dataclasses import replace

import numpy as np
import pytest

from gobo_rtl.host_config import HOSTS
from gobo_rtl.hosts.tensor_core import Dot, TensorCoreArray
from sim.golden.hosts import tensor_core
from sim.pysim import simulate

from .hosting import SHAPES, Kind, any_bits, batch, halves, run_array
from .streaming import FULL, PACES

SEED = 2017
CONFIG = HOSTS["tensor_core_tiny"]
CORE = Kind(TensorCoreArray, tensor_core.sums, CONFIG)


def test_dot_products_with_zeros_of_both_signs():
    rng = np.random.default_rng(SEED)
    weights, acts = any_bits(rng, 20, 4, 20, 2)[1]
    weights[:5] = [0, 0x8000, 0, 0x8000]
    due = [int(tensor_core.dot(w[None], a[None])[0, 0]) for w, a in zip(weights, acts, strict=True)]
    dut, found = Dot(), []

    async def run(ctx):
        for w, a in zip([*weights, *weights[: dut.latency]], [*acts, *acts[:3]], strict=True):
            ctx.set(dut.weights, sum(int(v) << 16 * n for n, v in enumerate(w)))
            ctx.set(dut.acts, sum(int(v) << 16 * n for n, v in enumerate(a)))
            found.append(ctx.get(dut.o))
            await ctx.tick()

    simulate(dut, run)
    assert found[dut.latency :] == due


@pytest.mark.parametrize("pace", [FULL, PACES[3]])
def test_sums_of_passes_in_a_row(pace):
    rng = np.random.default_rng([SEED, pace.seed])
    batches = [batch(rng, *shape) for shape in SHAPES]
    run_array(CORE, batches + any_bits(rng, 4, 7, 4, 4), pace)


def test_two_units_and_tiles_of_a_word():
    rng = np.random.default_rng(SEED)
    larger = replace(CORE, config=replace(CONFIG, units=2, beat_width=64))
    run_array(larger, [batch(rng, 8, 6, 5), batch(rng, 7, 9, 1)], PACES[3])


def test_a_sum_by_hand():
    """2^24 takes the second pair's 1 + 1 together, and the next word's 1 and 1 together."""
    weights = halves([[4096, 0, 1, 1, 1, 0, 1], [1] * 7, [0] * 7, [0, 0, 0, 0, 0, 0, -1]])
    seen = run_array(CORE, [(weights, halves([[4096, 0, 1, 1, 1, 0, 1]]))])
    due = np.array([2.0**24 + 4, 4100, 0, -1], np.float32).view(np.uint32).tolist()
    assert [bits >> 32 * n & 0xFFFFFFFF for bits in seen["o"].words for n in range(4)] == due


def test_the_timing():
    rng = np.random.default_rng(SEED)
    few, many = 12, 16  # words of each pass
    seen = run_array(CORE, [batch(rng, 4, 4 * words, tokens) for words, tokens in (
        (few, 1), (few, 4), (many, 6), (many, 6))])  # fmt: skip
    # With up to 4 tokens a word in every cycle. Both words of a tile are there in cycle 1, when it
    # is swapped.
    assert np.diff(seen["i_weights"].cycles[: 2 * few]).tolist() == [1] * (2 * few - 1)
    taken = seen["i"].cycles
    assert (taken[0], taken[1]) == (3, 5)
    assert seen["o"].cycles[0] - taken[few // 2 - 1] == TensorCoreArray(CONFIG).latency
    # With more, activations in every cycle, also from pass to pass.
    assert np.diff(taken).tolist() == [2] * (len(taken) - 1)
    assert sum(seen["busy"].words) == 2 * len(taken) == taken[-1] - taken[0] + 2
