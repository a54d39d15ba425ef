# amaranth: UnusedElaboratable=no
"""Arrays of PEs that compute in floating point, against their golden models: order and rounding."""

from dataclasses import replace

import numpy as np
import pytest

from gobo_rtl.array.array import Array
from gobo_rtl.array.finish import Finish
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.pe.add_bias import AddBias
from sim.golden.add_bias import add_bias
from sim.pysim import simulate

from .summing import Pass, expected, rtl_sums

SEED = 754
TINY = replace(ARRAYS["tiny"], index_widths=(2, 3))
ONE, BIG = 0x3C00, 0x6C00  # 1 and 4096 in FP16


def config_of(pe: str, symmetric: bool = False, **sizes: object) -> ArrayConfig:
    return replace(TINY, pe=pe, symmetric=symmetric, **sizes)


def numbers(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Return bits of FP16: ``near`` each other, ``subnormal`` or less than 2^-14 all, or ``any``,
    NaN and infinity among them."""
    bits = rng.integers(0, 1 << 16, shape).astype(np.uint16)
    if kind == "any":
        return bits
    return bits & 0x83FF if kind == "subnormal" else bits & 0x87FF | 0x3800


def make_pass(
    config: ArrayConfig, rng: np.random.Generator, outlier: np.ndarray, kind: str, index_width: int
) -> Pass:
    """Return a random pass with outliers at ``outlier`` (rows, K)."""
    codebook = numbers(rng, (1 << index_width,), kind)
    if config.symmetric:
        half = len(codebook) // 2
        codebook[half:] = codebook[:half][::-1] ^ 0x8000
    index = rng.integers(0, len(codebook), outlier.shape)
    return Pass(
        codebook.astype(np.int64), 0, index, outlier, numbers(rng, outlier.shape, kind),
        numbers(rng, (config.columns, outlier.shape[1]), kind),
    )  # fmt: skip


def outliers(config: ArrayConfig, rng: np.random.Generator, steps: int, where: str) -> np.ndarray:
    """Return where outliers are, a bool for each weight of a strip."""
    found = np.zeros((config.rows, steps), bool)
    if where == "some":
        found = rng.random(found.shape) < 0.1
    elif where == "row":
        found[rng.integers(config.rows)] = True
    elif where == "steps":  # all at once, in the first and in the last step too
        found[:, [0, steps // 2, -1]] = True
    return found


@pytest.mark.parametrize(
    ("pe", "symmetric", "slots"),
    [("mac", False, 1), ("mac", True, 2), ("bins_fp16", False, 2), ("bins_fp16", True, 1)],
)
def test_sums_are_those_of_the_golden_model(pe: str, symmetric: bool, slots: int) -> None:
    config = config_of(pe, symmetric, outliers_per_step=slots)
    rng = np.random.default_rng([SEED, len(pe), symmetric])
    passes = []
    for steps, where, kind in [
        (7, "none", "near"), (1, "none", "any"), (24, "some", "near"), (1, "steps", "near"),
        (9, "row", "near"), (11, "steps", "near"), (12, "some", "subnormal"), (9, "some", "any"),
    ]:  # fmt: skip
        places = outliers(config, rng, steps, where)
        passes.append(make_pass(config, rng, places, kind, 2 + len(passes) % 2))
    due = [transfer for work in passes for transfer in expected(config, work)]
    assert rtl_sums(config, passes, idle=0.3, stall=0.4, seed=slots).transfers == due


@pytest.mark.parametrize("pe", ["mac", "bins_fp16"])
def test_passes_of_special_numbers(pe: str) -> None:
    """An infinity, the difference of two, one times zero, NaN; and zeros."""
    config = config_of(pe, columns=1, index_widths=(2,))
    codebook = np.array([0, ONE, 0xBC00, 0x7BFF])  # 0, 1, -1, 65504
    index = np.array([[1, 1], [1, 2], [0, 0], [3, 3]])
    none = np.zeros(index.shape, bool)
    cases = [
        ([0x7C00, 0x7C00], [0x7F800000, 0x7FC00000, 0x7FC00000, 0x7F800000]),
        ([0xFC00, ONE], [0xFF800000, 0xFF800000, 0x7FC00000, 0xFF800000]),
        ([ONE, 0x7E01], [0x7FC00000] * 4),
        ([0x8000, 0x8000], [0, 0, 0, 0]),  # no sum is -0
    ]
    passes = [
        Pass(codebook, 0, index, none, index.astype(np.uint16), np.array([acts], np.uint16))
        for acts, _ in cases
    ]
    found = [bits for t in rtl_sums(config, passes).transfers for bits in t.sums or ()]
    assert found == [bits for _, due in cases for bits in due]


def test_the_order_of_a_mac_is_that_of_the_steps() -> None:
    config = config_of("mac", columns=1)
    index = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]])
    work = Pass(
        np.array([ONE, BIG, 0, 0]), 0, index, np.zeros(index.shape, bool),
        np.zeros(index.shape, np.uint16), np.array([[BIG, ONE, BIG]], np.uint16),
    )  # fmt: skip
    found = [bits for t in rtl_sums(config, [work]).transfers for bits in t.sums or ()]
    due = np.array([2**24, 4096 + 1 + 2**24, 3 * 4096, 2 * 4096 + 1], np.float32)
    due[0] = np.float32(np.float32(2**24 + 1) + np.float32(4096))
    assert found == due.view(np.uint32).tolist()


def test_outliers_come_before_bins_and_bins_in_the_order_of_indexes() -> None:
    config = config_of("bins_fp16", columns=1)
    index = np.array([[0, 0, 1], [0, 0, 0], [2, 0, 1], [0, 0, 1]])
    outlier = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]], bool)
    work = Pass(
        np.array([ONE, ONE, 0, 0]), 0, index, outlier, np.where(outlier, BIG, 0).astype(np.uint16),
        np.array([[BIG, ONE, ONE]], np.uint16),
    )  # fmt: skip
    found = [bits for t in rtl_sums(config, [work]).transfers for bits in t.sums or ()]
    # 2^24 + 1 stays 2^24, twice; an FP16 bin of 4096 stays so with 1 more, twice.
    assert found == np.array([2**24, 4096, 2, 4096 + 4096 + 1], np.float32).view(np.uint32).tolist()


@pytest.mark.parametrize("pe", ["mac", "bins_fp16"])
def test_sums_come_when_the_array_says_and_passes_follow_without_a_bubble(pe: str) -> None:
    config = config_of(pe)
    rng = np.random.default_rng(SEED)
    dut = Array(config)
    drain = config.columns * config.rows // config.drain_lanes
    steps = [3, dut.turnaround, dut.turnaround - 1, 1, 2]
    passes = [make_pass(config, rng, np.zeros((4, n), bool), "near", 3) for n in steps]
    seen = rtl_sums(config, passes)
    apart = [b - a for a, b in zip(seen.last, seen.last[1:], strict=False)]
    assert apart == [max(n, dut.turnaround) for n in steps[1:]]
    assert seen.cycle == [last + dut.latency + n for last in seen.last for n in range(drain)]


def test_biases_are_added_and_a_sum_without_one_stays() -> None:
    config = config_of("mac")
    rng = np.random.default_rng(SEED)
    corners = [0, 1, 0x007FFFFF, 0x3F800000, 0xBF800001, 0x7F7FFFFF, 0x7F800000, 0xFF800000,
               0x7FC00000, 0x80000001]  # fmt: skip
    table = np.array([*corners, *rng.integers(1, 1 << 31, 10)], np.uint32)
    biases = np.array([0, 0x80000000, *table, 0xFFFFFFFF, 0x7F800001], np.uint32)
    sums = np.repeat(table[:, None], len(biases), axis=1)
    due = add_bias(sums, biases).ravel().tolist()
    assert due[:: len(biases)] == add_bias(sums)[:, 0].tolist() == table.tolist()
    dut, got = AddBias(config), []

    async def run(ctx):
        before = 0
        pairs = [(int(s), int(b)) for s in table for b in biases]
        for total, bias in [*pairs, (0, 0), (0, 0)]:
            ctx.set(dut.sum, total)
            ctx.set(dut.bias, before)
            before = bias
            got.append(ctx.get(dut.o))
            ctx.set(dut.move, 0)
            if rng.random() < 0.2:
                await ctx.tick()
            ctx.set(dut.move, 1)
            await ctx.tick()

    simulate(dut, run)
    assert got[dut.latency :] == due
    assert Finish(config).latency == dut.latency + 1


@pytest.mark.parametrize("pe", ["mac", "bins_fp16"])
@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"act_format": "fp32"}, "takes act_format 'fp16', not 'fp32'"),
        ({"act_format": "int16"}, "takes act_format 'fp16', not 'int16'"),
        ({"value_format": "bf16"}, "takes value_format 'fp16', not 'bf16'"),
        ({"result_format": "fp16"}, "takes result_format 'fp32', not 'fp16'"),
        ({"align": "absolute", "act_width": 41}, "takes align 'token', not 'absolute'"),
        ({"act_width": 12}, "takes act_width 16, not 12"),
    ],
)
def test_other_formats_are_refused(pe: str, sizes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=f"pe '{pe}' computes in floating point and {words}"):
        config_of(pe, **sizes)
