# amaranth: UnusedElaboratable=no
"""The array against the golden model, with the passes of ``summing``."""

from dataclasses import replace

import numpy as np
import pytest

from gobo_rtl.array.array import Array
from gobo_rtl.array_config import ARRAYS, ArrayConfig

from .summing import Pass, Transfer, expected, make_pass, rtl_sums, value_bits

SEED = 3005
TINY = ARRAYS["tiny"]
WIDE = replace(TINY, rows=8, columns=3, beat_width=128, outliers_per_step=4)
SIZES = {
    "default": {},
    "fp32": {"act_format": "fp32", "act_width": 24, "value_format": "bf16"},
    "fp32 narrow": {"act_format": "fp32", "act_width": 10, "index_widths": (3,)},
    "absolute": {"align": "absolute", "act_width": 41},
    "narrow": {"act_width": 8, "weight_sum_width": 12, "index_widths": (2,),
               "multipliers": "blocks"},
    "int8": {"act_format": "int8", "act_width": 8, "value_format": "bf16"},
    "int16": {"act_format": "int16", "index_widths": (2, 4)},
}
PES = [("products", False), ("products", True), ("bins", False), ("bins", True)]


def check(config: ArrayConfig, passes: list[Pass], **pace: float) -> None:
    seen = rtl_sums(config, passes, **pace)
    assert seen.transfers == [due for work in passes for due in expected(config, work)]


def cases() -> list[object]:
    """Return sizes, PEs and whether they are symmetric; the longest in `make sim` only."""
    quick = ("default", "narrow")
    return [
        pytest.param(
            name, *pe, marks=[pytest.mark.slow] * (pe == ("bins", False) and name not in quick)
        )
        for name in SIZES for pe in PES
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "pe", "symmetric"), cases())
def test_sums_are_those_of_the_golden_model(name: str, pe: str, symmetric: bool) -> None:
    seed = [SEED, list(SIZES).index(name), PES.index((pe, symmetric))]
    rng = np.random.default_rng(seed)
    size = WIDE if rng.integers(2) else TINY
    config = replace(size, pe=pe, symmetric=symmetric, **SIZES[name])
    widths, passes = config.index_widths, []
    for steps, share, spread in [(7, 0, 3), (1, 0, 0), (24, 0.1, 40), (1, 1, 9), (9, 0.6, 9)]:
        passes.append(make_pass(
            config, rng, steps, index_width=widths[len(passes) % len(widths)], share=share,
            spread=spread,
        ))  # fmt: skip
    check(config, passes, idle=0.3, stall=0.4, seed=seed[1])


@pytest.mark.parametrize("pe", ["products", "bins"])
@pytest.mark.parametrize(("rows", "columns", "slots"), [(4, 1, 2), (8, 1, 1), (4, 3, 4), (8, 2, 2)])
def test_shapes_of_the_array(rows: int, columns: int, slots: int, pe: str) -> None:
    beat = 128 if slots == 4 else 64
    config = replace(TINY, rows=rows, columns=columns, outliers_per_step=slots, pe=pe,
                     beat_width=beat)  # fmt: skip
    rng = np.random.default_rng([SEED, rows, columns])
    passes = [make_pass(config, rng, steps, index_width=3, share=0.5) for steps in (3, 12, 1)]
    check(config, passes, stall=0.2)


@pytest.mark.parametrize("pe", ["products", "bins"])
def test_a_step_by_hand(pe: str) -> None:
    config = replace(TINY, pe=pe)
    work = Pass(
        codebook=np.array([-3, -1, 0, 1, 2, 3, 5, 7]), unit=-10,
        index=np.array([[0], [3], [6], [7]]), outlier=np.array([[0], [0], [1], [0]], bool),
        value=np.array([[0], [0], [0xCC00], [0]], np.uint16),  # -16
        acts=np.array([[0x3C00], [0xC000]], np.uint16),  # 1 and -2: 16384 x 2^-14, -16384 x 2^-13
    )  # fmt: skip
    assert rtl_sums(config, [work]).transfers == [
        Transfer((-3 << 14, 1 << 14), -24, False, False),
        Transfer((-(1 << 28), 7 << 14), -24, False, False),  # -16 is -2^14 units
        Transfer((3 << 14, -1 << 14), -23, False, False),
        Transfer((1 << 28, -7 << 14), -23, False, True),
    ]


@pytest.mark.parametrize(("pe", "symmetric"), PES)
def test_the_greatest_sum_fits(pe: str, symmetric: bool) -> None:
    """Rows of |weight| that add up to 2^24 - 1, times the lowest activation."""
    config = replace(TINY, pe=pe, symmetric=symmetric, act_format="int16", columns=1)
    sign = np.array([1, -1, 1, -1])
    numbers = sign[:, None] * np.array([2047 << 13, 2047, 2047, 2047, 2047, 3])
    codebook = np.array([-2047, -3, 3, 2047])
    index = np.select([numbers == n for n in codebook], range(4))
    work = Pass(
        codebook=codebook, unit=-13, index=index, outlier=np.abs(numbers) > 2047,
        value=value_bits(config, numbers * 2.0**-13), acts=np.full((1, 6), 0x8000, np.uint16),
    )  # fmt: skip
    total = -(1 << 15) * ((1 << 24) - 1)
    found = [n for t in rtl_sums(config, [work]).transfers for n in t.sums]
    assert found == (sign * total).tolist()


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_greatest_bin_fits(symmetric: bool) -> None:
    config = replace(TINY, pe="bins", symmetric=symmetric, act_format="int8", act_width=8,
                     columns=1, max_inputs=64)  # fmt: skip
    index = np.repeat([[0], [3], [1], [2]], 64, axis=1)
    work = Pass(
        codebook=np.array([-2047, -1, 1, 2047]), unit=0, index=index, outlier=index < 0,
        value=index.astype(np.uint16), acts=np.full((1, 64), 0x80, np.uint8),
    )  # fmt: skip
    found = [n for t in rtl_sums(config, [work]).transfers for n in t.sums]
    assert found == [2047 << 13, -2047 << 13, 1 << 13, -1 << 13]


def test_tokens_of_nothing_of_subnormals_and_of_nan() -> None:
    config = replace(TINY, columns=3)
    rng = np.random.default_rng(SEED)
    acts = [np.array(token, np.uint16) for token in (
        [[0, 0x8000, 0], [1, 0x83FF, 0], [0x7C00, 0x3C00, 1]],  # zeros; subnormals; infinity
        [[0x7BFF, 0xFBFF, 1], [0xFE00, 0, 0], [0x0400, 0x8001, 0x03FF]],  # NaN in the middle
    )]  # fmt: skip
    passes = [replace(make_pass(config, rng, 3, index_width=3), acts=a) for a in acts]
    check(config, passes)
    special = [[t.special for t in expected(config, work)[::2]] for work in passes]
    assert special == [[False, False, True], [False, True, False]]


@pytest.mark.parametrize("pe", ["products", "bins"])
def test_sums_come_when_the_array_says_and_passes_follow_without_a_bubble(pe: str) -> None:
    config = replace(TINY, pe=pe)
    rng = np.random.default_rng(SEED)
    dut = Array(config)
    drain = config.columns * config.rows // config.drain_lanes
    steps = [3, dut.turnaround, dut.turnaround + 5, dut.turnaround - 1, 1, 2]
    passes = [make_pass(config, rng, n, index_width=3, share=0) for n in steps]
    seen = rtl_sums(config, passes)
    apart = [b - a for a, b in zip(seen.last, seen.last[1:], strict=False)]
    assert seen.last[0] == 2
    assert apart == [max(n, dut.turnaround) for n in steps[1:]]
    assert seen.cycle == [last + dut.latency + n for last in seen.last for n in range(drain)]


def test_outliers_of_a_step_take_a_cycle_each_time_the_places_are_full() -> None:
    config = replace(TINY, rows=8, outliers_per_step=2)
    rng = np.random.default_rng(SEED)
    work = make_pass(config, rng, 4, index_width=4, share=0)
    outlier = np.zeros((8, 4), bool)
    outlier[:5, 1] = outlier[7, 2] = True  # 3 cycles and 1
    work = replace(work, outlier=outlier, value=np.full((8, 4), 0x2400, np.uint16), unit=-13)
    seen = rtl_sums(config, [work])
    assert seen.last == [5]
    assert seen.transfers == expected(config, work)
