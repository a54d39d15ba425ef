# amaranth: UnusedElaboratable=no
"""The row-stationary array against its golden model."""

from dataclasses import replace

import numpy as np
import pytest

from gobo_rtl.host_config import HOSTS
from gobo_rtl.hosts.eyeriss import EyerissArray
from sim.golden.hosts import eyeriss

from .hosting import SHAPES, Kind, any_bits, batch, halves, run_array
from .streaming import FULL, PACES

SEED = 2016
CONFIG = HOSTS["eyeriss_tiny"]  # 4 x 4 PEs of 4 filters and 2 channels
EYERISS = Kind(EyerissArray, eyeriss.sums, CONFIG)


@pytest.mark.parametrize("pace", [FULL, PACES[3]])
def test_sums_of_passes_in_a_row(pace):
    rng = np.random.default_rng([SEED, pace.seed])
    batches = [batch(rng, *shape) for shape in SHAPES]
    run_array(EYERISS, batches + any_bits(rng, 4, 13, 5, 4), pace)


def test_words_of_a_row_and_columns_that_do_not_divide_the_tokens():
    rng = np.random.default_rng(SEED)
    other = replace(CONFIG, pe_rows=6, pe_columns=5, channels=4, filters=8, beat_width=64)
    kind = replace(EYERISS, config=other)
    run_array(kind, [batch(rng, 8, 30, 6), batch(rng, 6, 24, 1), batch(rng, 8, 9, 5)], PACES[3])


def test_a_sum_by_hand():
    """A PE's 2^24 + 1 stays 2^24; the next PE's 1 + 1 is added together, and so is its next tile's
    1 + 1 of two PEs."""
    weights = halves([[4096, 1, 1, 1, 0, 0, 0, 0, 1, 0, 1], [1] * 11, [0] * 11, [0] * 10 + [-1]])
    seen = run_array(EYERISS, [(weights, halves([[4096, 1, 1, 1, 0, 0, 0, 0, 1, 0, 1]]))])
    due = np.array([2.0**24 + 4, 4101, 0, -1], np.float32).view(np.uint32).tolist()
    assert [bits >> 32 * n & 0xFFFFFFFF for bits in seen["o"].words for n in range(2)] == due


def test_the_timing():
    rng = np.random.default_rng(SEED)
    # A group of 4 tokens takes 4 filters x (2 channels + 1) cycles, as many as its 8 words of
    # activations or the tile's 8 weight words and more: the array works in every cycle.
    seen = run_array(EYERISS, [batch(rng, 4, 32, 6) for _ in range(3)])
    busy = np.flatnonzero(seen["busy"].words)
    assert len(busy) == 3 * 4 * 2 * 12
    # The inputs of the first group are there after 8 cycles.
    assert busy[0] == 8 and busy[-1] - busy[0] == len(busy) - 1
    first = seen["o"].cycles[0]
    assert first - busy[len(busy) // 3 - 1] == EyerissArray(CONFIG).latency == CONFIG.pe_rows + 5
