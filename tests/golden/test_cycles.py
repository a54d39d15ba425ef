# amaranth: UnusedElaboratable=no
"""Cycles and beats of jobs, by hand, and against the blocks and images they are about."""

from dataclasses import replace

import numpy as np
import pytest

from gobo_rtl.array.array import Array
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.formats import LAYER_DESCRIPTOR
from sim.golden.cycles import Work, beats, cycles, pass_cycles, stall_drain, turnaround
from sim.jobs import layer_offset, unpack
from tests.accelerating import Shape, make_image

SEED = 20261122
TINY = ARRAYS["tiny"]

VARIANTS = {
    **ARRAYS,
    "int8": replace(TINY, act_format="int8", act_width=8),
    "absolute": replace(TINY, align="absolute", act_width=41),
    "mac": replace(TINY, pe="mac"),
    "bins_fp16": replace(TINY, pe="bins_fp16"),
    "fp32": replace(TINY, act_format="fp32", act_width=24, pe="bins", rows=8, columns=3),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_turnaround_is_that_of_the_array(name: str) -> None:
    config = VARIANTS[name]
    assert turnaround(config) == Array(config).turnaround + 1


def test_passes_by_hand() -> None:
    # 2 strips of 4 rows, 3 token tiles in blocks of 2; step 1 of strip 0 has 3 outliers.
    outlier = np.zeros((5, 20), bool)
    outlier[:3, 1] = outlier[4, 19] = True
    work = Work(outlier=outlier, index_width=3, tokens=5, block_tiles=2)
    assert pass_cycles(TINY, work).tolist() == [22, 22, 20, 20, 22, 20]
    assert stall_drain(TINY, [work]) == 0
    assert cycles(TINY, [work]) == 126


def test_short_passes_wait_for_the_drain_but_not_the_first() -> None:
    # A pass ends 14 cycles after the one before: 3 + 6 and 2 columns of 2 transfers, and one.
    work = Work(outlier=np.zeros((8, 10), bool), index_width=3, tokens=3)
    longer = replace(work, outlier=np.zeros((4, 14), bool), tokens=1)
    assert turnaround(TINY) == 14
    assert pass_cycles(TINY, work).tolist() == [10, 10, 10, 10]
    assert stall_drain(TINY, [work, longer, work]) == 3 * 4 + 0 + 4 * 4
    assert cycles(TINY, [work, longer]) == 10 + 14 * 3 + 14


def test_beats_by_hand() -> None:
    # Beats of 64 bits. A strip: 20 steps of 12 bits are 4 beats; a header and 3 or 1 records of 32
    # bits. A token: 20 FP16 are 5 beats. A job has 8 beats, a descriptor 16, a codebook 2, the
    # biases of a strip 2. A token's 5 results: 2 beats and 1. A completion has 2.
    outlier = np.zeros((5, 20), bool)
    outlier[:3, 1] = outlier[4, 19] = True
    work = Work(outlier=outlier, index_width=3, tokens=5, block_tiles=2)
    once = {"index": 8, "outlier": 3 + 2, "act": 25, "job": 26, "result": 17}
    assert beats(TINY, work) == once | {"index": 16, "outlier": 10, "job": 26 + 2 * 4}
    whole = replace(work, block_tiles=3, has_bias=False)
    assert beats(TINY, whole) == once
    # On chip for all blocks; the biases come again with each.
    resident = replace(work, block_tiles=1, resident=True)
    assert beats(TINY, resident) == once | {"job": 26 + 3 * 4}


def _streams(config: ArrayConfig, shapes: list[Shape]) -> None:
    image, layers = make_image(config, shapes, SEED)
    for number, (layer, shape) in enumerate(zip(layers, shapes, strict=True)):
        at = layer_offset(number)
        descriptor = unpack(LAYER_DESCRIPTOR, image[at : at + LAYER_DESCRIPTOR.size])
        work = Work(outlier=layer.outlier, index_width=shape.index_width, tokens=1)
        due = beats(config, work)
        assert due["index"] * config.beat_bytes == descriptor["index_bytes"]
        assert due["outlier"] * config.beat_bytes == descriptor["outlier_bytes"]


@pytest.mark.parametrize("name", ARRAYS)
def test_streams_have_the_beats_of_the_image(name: str) -> None:
    config = ARRAYS[name]
    patterns = ("none", "share:0.003", "share:0.1", "row", "step", "corners")
    _streams(config, [
        Shape(rows=1 + 13 * n, columns=7 + 9 * n, pattern=pattern,
              index_width=config.index_widths[n % len(config.index_widths)])
        for n, pattern in enumerate(patterns)
    ])  # fmt: skip


def test_escapes_are_records() -> None:
    # 64 rows leave 9 bits for a gap: the way from the first to the last step takes an escape.
    config = ARRAYS["wide"]
    _streams(config, [Shape(rows=64, columns=k, pattern="corners") for k in (511, 512, 513, 2000)])
