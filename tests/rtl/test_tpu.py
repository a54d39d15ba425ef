# amaranth: UnusedElaboratable=no
"""The systolic array against its golden model."""

from dataclasses import replace

import numpy as np
import pytest

from gobo_rtl.host_config import HOSTS
from gobo_rtl.hosts.tpu import TpuArray
from gobo_rtl.layout import WeightLayout
from sim.golden.hosts import tpu

from .hosting import SHAPES, Kind, act_words, any_bits, batch, halves, run_array, weight_words
from .streaming import PACES, transfer

SEED = 1978
CONFIG = HOSTS["tpu_tiny"]
TPU = Kind(TpuArray, tpu.sums, CONFIG)


@pytest.mark.parametrize("pace", PACES)
def test_sums_of_passes_in_a_row(pace):
    rng = np.random.default_rng([SEED, pace.seed])
    run_array(TPU, [batch(rng, *shape) for shape in SHAPES], pace)


def test_any_bits_and_infinities_and_nan_are_summed_as_ieee_says():
    run_array(TPU, any_bits(np.random.default_rng(SEED), 4, 7, 4, 6))


def test_a_larger_array():
    rng = np.random.default_rng(SEED)
    larger = replace(TPU, config=replace(CONFIG, size=8, beat_width=128))
    run_array(larger, [batch(rng, 8, 20, 3), batch(rng, 8, 8, 6)], PACES[3])


def test_a_sum_by_hand():
    """Two tiles: 2^24 + 1 + 1 stays 2^24 in the first, the second's 1 + 1 is added together."""
    weights = halves([[4096, 1, 1, 0, 1, 1], [2, 0, 0, 0, 0, 3], [0] * 6, [0, 0, 0, 0, -1, 0]])
    seen = run_array(TPU, [(weights, halves([[4096, 1, 1, 0, 1, 1]]))])
    due = np.array([2.0**24 + 2, 8192 + 3, 0, -1], np.float32).view(np.uint32).tolist()
    assert [bits >> 32 * n & 0xFFFFFFFF for bits in seen["o"].words for n in range(2)] == due


def test_the_timing():
    rng = np.random.default_rng(SEED)
    # As many tokens as inputs and outputs: an activation in every cycle, tiles and passes without
    # a bubble, when a pass is at least as long as its sums take to leave: 11 cycles and 8.
    tokens = CONFIG.size
    seen = run_array(TPU, [batch(rng, 4, 20, tokens) for _ in range(4)])
    taken = seen["i"].cycles
    assert np.diff(taken).tolist() == [1] * (len(taken) - 1)
    # The first word is taken in cycle 0, the last of a tile with the swap before activations.
    assert (seen["i_weights"].cycles[0], taken[0]) == (0, CONFIG.size)
    first = seen["o"].cycles[0]
    assert first - taken[5 * tokens - 1] == TpuArray(CONFIG).latency == 2 * CONFIG.size + 3
    assert sum(seen["busy"].words) == len(taken)


def test_a_word_in_every_cycle_with_one_token():
    rng = np.random.default_rng(SEED)
    seen = run_array(TPU, [batch(rng, 4, 64, 1), batch(rng, 4, 32, 1)])
    taken = seen["i_weights"].cycles
    assert taken[-1] - taken[0] == len(taken) - 1
    assert sum(seen["stall_drain"].words) == 0


def test_tiles_of_a_word_with_a_token():
    rng = np.random.default_rng(SEED)
    run_array(TPU, [batch(rng, 4, 5, 1), batch(rng, 12, 1, 1), batch(rng, 4, 9, 1)])


def test_passes_wait_for_a_free_bank():
    rng = np.random.default_rng(SEED)
    seen = run_array(TPU, [batch(rng, 4, 4, 6) for _ in range(5)])
    assert sum(seen["stall_drain"].words) > 0
    assert np.diff(seen["o"].cycles[12:24]).tolist() == [1] * 11


def test_a_word_with_an_error_is_the_last_that_is_taken():
    rng = np.random.default_rng(SEED)
    weights, acts = batch(rng, 8, 8, 2)
    given = weight_words(CONFIG, weights)
    given[7] |= 1 << WeightLayout(CONFIG.image)["error"].offset
    one = act_words(CONFIG, acts, rng)
    seen = transfer(
        TpuArray(CONFIG), {"i_weights": given, "i": one + one}, {"o": 0}, after=100,
        all_taken=False,
    )  # fmt: skip
    assert seen["i_weights"].words == given[:8]
    assert seen["i"].words == one[:2]
