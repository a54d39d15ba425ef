# amaranth: UnusedElaboratable=no
"""The accumulators of the host arrays."""

import numpy as np
import pytest

from gobo_rtl.hosts.accumulator import Accumulator
from sim.pysim import simulate

SEED = 1978


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
        found[:] = [word >> 32 * n & 0xFFFFFFFF for word in found for n in range(dut.lanes)]

    simulate(dut, run)
    return found


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("gap", [0, 1, 2])
def test_terms_are_added_to_their_sums_at_any_distance(gap, lanes):
    rng = np.random.default_rng([SEED, gap])
    order = rng.integers(0, 4, 200).tolist()  # many twice and three times in a row
    terms = rng.normal(0, 1, 200).astype(np.float32)
    sums, given = {}, []
    for place, term in zip(order, terms, strict=True):
        first = place not in sums or rng.random() < 0.02
        sums[place] = np.float32(0 if first else sums[place]) + term
        given.append((place, first, int(term.view(np.uint32))))
    due = [int(sums[place].view(np.uint32)) for place in range(4)]
    assert accumulate(Accumulator(4 // lanes, lanes), given, gap) == due


def test_accumulators_that_are_not_offered_are_refused():
    with pytest.raises(ValueError, match="depth must be at least 2 words, not 1"):
        Accumulator(1)
    with pytest.raises(ValueError, match="lanes must be a power of two, not 3"):
        Accumulator(4, 3)
