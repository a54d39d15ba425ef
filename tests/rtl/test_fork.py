# amaranth: UnusedElaboratable=no
"""The fork: every output gets every word once, in order, whatever the others do."""

import numpy as np
import pytest
from amaranth.lib import data

from gobo_rtl.array.fork import Fork
from sim.pysim import get, idle, put, quiet, simulate

SEED = 7


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("gap", "stall"), [(0, 0), (3, 0), (0, 3), (2, 2)])
def test_every_output_gets_every_word_in_order(count, gap, stall):
    rng = np.random.default_rng(SEED)
    words = rng.integers(0, 1 << 16, 60).tolist()
    dut, got = Fork(16, count), [[] for _ in range(count)]

    async def drive(ctx):
        for word in words:
            await idle(ctx, int(rng.integers(0, gap + 1)))
            await put(ctx, dut.i, word)

    def collect(n):
        async def bench(ctx):
            for _ in words:
                await idle(ctx, int(rng.integers(0, stall + 1)))
                got[n].append(await get(ctx, dut.o[n]))
            await quiet(ctx, dut.o[n])

        return bench

    simulate(dut, drive, *(collect(n) for n in range(count)))
    assert got == [words] * count


def test_an_output_may_be_behind_by_the_depth():
    dut = Fork(8, 2, depth=3)
    ahead = []

    async def drive(ctx):
        for word in range(3):
            await put(ctx, dut.i, word)

    async def first(ctx):
        for _ in range(3):
            ahead.append(await get(ctx, dut.o[0]))

    async def second(ctx):
        await idle(ctx, 40)
        assert ahead == [0, 1, 2]
        assert [await get(ctx, dut.o[1]) for _ in range(3)] == [0, 1, 2]

    simulate(dut, drive, first, second)


def test_an_output_gives_its_fields_only():
    shape = data.StructLayout({"a": 4, "b": 4, "c": 8})
    dut = Fork(shape, 2, fields=[("c", "a"), ("b",)])

    async def bench(ctx):
        await put(ctx, dut.i, 0xABCD)
        assert [await get(ctx, o) for o in dut.o] == [0xAB0D, 0x00C0]

    simulate(dut, bench)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="those of 2 outputs, not of 1"):
        Fork(data.StructLayout({"a": 1}), 2, fields=[("a",)])
    with pytest.raises(ValueError, match="depth 2, not 1 and 1"):
        Fork(8, 1, depth=1)
