# amaranth: UnusedElaboratable=no
"""Activations to integers, against the golden model."""

from dataclasses import replace

import numpy as np
import pytest

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.pe.align import Aligner
from sim.golden.align import align_to
from sim.pysim import simulate

SEED = 1016
TINY = ARRAYS["tiny"]
SIZES = [
    {}, {"act_width": 8}, {"act_width": 11}, {"act_width": 12}, {"act_width": 24},
    {"align": "absolute", "act_width": 41}, {"act_format": "fp32"},
    {"act_format": "fp32", "act_width": 24}, {"act_format": "fp32", "act_width": 9},
    {"act_format": "int8", "act_width": 8}, {"act_format": "int16"},
]  # fmt: skip


def rtl_align(config: ArrayConfig, bits: list[int], exponent: list[int]) -> list[int]:
    """Return the integers of activations, one a cycle."""
    dut, got = Aligner(config), []

    async def run(ctx):
        for pattern, unit in zip(
            bits + [0] * dut.latency, exponent + [1] * dut.latency, strict=True
        ):
            ctx.set(dut.i, pattern)
            ctx.set(dut.scale.exponent, unit)
            got.append(ctx.get(dut.o))
            await ctx.tick()

    simulate(dut, run)
    return got[dut.latency :]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: " ".join(map(str, size.values())))
def test_activations_are_those_of_the_golden_model(size: dict[str, object]) -> None:
    config = replace(TINY, **size)
    rng = np.random.default_rng([SEED, SIZES.index(size)])
    act = config.act
    word = {8: np.uint8, 16: np.uint16, 32: np.uint32}[act.width]
    bits = rng.integers(0, 1 << act.width, 1200).astype(word)
    unit = np.zeros(len(bits), np.int64)
    if not act.integer:
        # Significands of all ones, of a single one, of zeros and of any bits; exponents near.
        top = (1 << act.exponent_width) - 2
        fraction = act.width - 1 - act.exponent_width
        some = [0, (1 << fraction) - 1, 1 << fraction - 1, 1]
        tail = np.where(rng.integers(2, size=len(bits)), rng.choice(some, len(bits)),
                        bits & (1 << fraction) - 1)  # fmt: skip
        field = rng.integers(0, top + 1, len(bits)) * (rng.random(len(bits)) > 0.1)
        near = rng.integers(0, config.act_width + 4, len(bits))
        near = np.where(rng.random(len(bits)) < 0.1, top, near)
        unit = np.minimum(np.maximum(field, 1) + near, top)
        sign = rng.integers(2, size=len(bits))
        bits = (sign << act.width - 1 | field << fraction | tail).astype(word)
    due = align_to(config, bits, unit)
    assert rtl_align(config, bits.tolist(), unit.tolist()) == due.tolist()
    assert len(np.unique(due)) > 100


def test_alignment_by_hand() -> None:
    config = replace(TINY, act_width=8)  # a significand of 11 bits to 7, at the token's exponent
    bits = [0x3C00, 0xBC00, 0x3FFF, 0xBFFF, 0x3C08, 0x3C18, 0x3C09, 0x0001, 0x8000, 0x2400]
    exact = [64, -64, 127, -127, 64, 66, 65, 0, 0, 1]  # half to even, clamped
    assert rtl_align(config, bits, [15] * len(bits)) == exact
    assert rtl_align(config, [0x7BFF, 0x0400, 0x03FF], [30, 1, 1]) == [127, 64, 64]
    absolute = replace(TINY, align="absolute", act_width=41)
    assert rtl_align(absolute, [0x7BFF, 0x8001], [0, 0]) == [2047 << 29, -1]
