"""The golden models of the host arrays: by hand, order by order, and near to float64."""

import dataclasses
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gobo_rtl.formats import VALUE_FORMATS
from gobo_rtl.host_config import (
    HOSTS,
    EyerissConfig,
    HostConfig,
    TensorCoreConfig,
    TpuConfig,
    named_host,
)
from sim.golden.hosts.engine import compute, narrow, words
from tests.golden.numbers import nearest, number

SEED = 1989
FP16, FP32 = VALUE_FORMATS["fp16"], VALUE_FORMATS["fp32"]
TINY = {name: config for name, config in HOSTS.items() if name.endswith("_tiny")}


def halves(values):
    """Return FP16 patterns."""
    return np.array(values, np.float16).view(np.uint16)


def plus(a, b):
    """Return a sum of two finite FP32 patterns, by exact fractions; +0 where it is zero."""
    return nearest(FP32, number(FP32, a) + number(FP32, b))


def times(a, b):
    """Return a product of two finite FP16 patterns in FP32."""
    return nearest(FP32, number(FP16, a) * number(FP16, b))


def run(config, products):
    """Return the sum over a list of products, by the page's words for each array."""
    total = 0
    for at in range(0, len(products), config.tile_inputs):
        tile = products[at : at + config.tile_inputs]
        if isinstance(config, TensorCoreConfig):
            for k in range(0, len(tile), 4):
                a, b, c, d = (tile[k : k + 4] + [0] * 3)[:4]
                total = plus(total, plus(plus(a, b), plus(c, d)))
            continue
        share = config.channels if isinstance(config, EyerissConfig) else len(tile)
        parts = []
        for k in range(0, len(tile), share):
            parts.append(0)
            for product in tile[k : k + share]:
                parts[-1] = plus(parts[-1], product)
        column = parts[0]
        for part in parts[1:]:
            column = plus(column, part)
        total = plus(total, column)
    return total


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("inputs", [1, 3, 4, 5, 8, 11, 27])
def test_results_are_those_of_the_definition(name, inputs):
    config, rng = TINY[name], np.random.default_rng([SEED, inputs])
    weights, acts = (
        halves(rng.normal(0, 1, (n, inputs)) * 2.0 ** rng.integers(-9, 9, (n, inputs)))
        for n in (5, 3)
    )
    bias = rng.normal(0, 1, 5).astype(np.float32).view(np.uint32)
    due = [
        [plus(run(config, [times(w, x) for w, x in zip(row, act, strict=True)]), int(b))
         for row, b in zip(weights.tolist(), bias, strict=True)]
        for act in acts.tolist()
    ]  # fmt: skip
    assert compute(config, weights, acts, bias).tolist() == due


# 4096 squared is 2^24: what is 1 or less is lost when it is added to it by itself.
BIG = 4096


@pytest.mark.parametrize(("name", "acts", "due"), [
    # A tile is 4 inputs: 2^24 takes 1 and 1 by themselves, the next tile's 1 + 1 together.
    ("tpu_tiny", [BIG, 1, 1, 0], 2.0**24),
    ("tpu_tiny", [BIG, 0, 0, 0, 1, 1], 2.0**24 + 2),
    ("tpu_tiny", [1, 1, BIG], 2.0**24 + 2),
    # PEs of two inputs each, four in a column: their sums are added one after the other.
    ("eyeriss_tiny", [BIG, 0, 1, 1], 2.0**24 + 2),
    ("eyeriss_tiny", [BIG, 1, 1, 0], 2.0**24),
    ("eyeriss_tiny", [BIG, 0, 1, 0, 1, 0, 0, 0], 2.0**24),
    ("eyeriss_tiny", [BIG, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0], 2.0**24 + 2),
    # Pairs, then both pairs, then the sum.
    ("tensor_core_tiny", [BIG, 0, 1, 1], 2.0**24 + 2),
    ("tensor_core_tiny", [BIG, 1, 1, 0], 2.0**24),
    ("tensor_core_tiny", [BIG, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], 2.0**24),
    ("tensor_core_tiny", [BIG, 0, 0, 0, 1, 0, 1, 0], 2.0**24 + 2),
])  # fmt: skip
def test_another_order_would_give_other_bits(name, acts, due):
    weights = [[BIG if act == BIG else 1 for act in acts]]
    found = compute(TINY[name], halves(weights), halves([acts]))
    assert found.view(np.float32).tolist() == [[due]]


@pytest.mark.parametrize("name", TINY)
def test_zeros_are_positive_and_special_values_stay_in_their_row_and_token(name):
    weights = halves([[-1.0, 1.0, 0.0], [-0.0, -0.0, -0.0], [np.inf, 1.0, 1.0]])
    acts = halves([[1.0, 1.0, 3.0], [np.nan, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    found = compute(TINY[name], weights, acts).tolist()
    assert found == [
        [0, 0, 0x7F800000], [0x7FC00000] * 3, [0x3F800000, 0, 0xFF800000],
    ]  # fmt: skip


@pytest.mark.parametrize("name", HOSTS)
def test_results_are_near_to_those_of_float64(name):
    config, rng = HOSTS[name], np.random.default_rng(SEED)
    inputs, rows, tokens = 300, 9, 4
    weights = halves(rng.normal(0, 0.05, (rows, inputs)))
    acts = halves(rng.normal(0, 2, (tokens, inputs)))
    bias = rng.normal(0, 1, rows).astype(np.float32)
    found = compute(config, weights, acts, bias.view(np.uint32)).view(np.float32)
    w, x = (bits.view(np.float16).astype(np.float64) for bits in (weights, acts))
    exact = x @ w.T + bias
    # No term goes through more additions than there are terms, the bias and the joins of a tile.
    additions = inputs + 1 + 3
    bound = (np.abs(x) @ np.abs(w).T + np.abs(bias)) * additions * 2.0**-24 * (1 + 2.0**-10)
    assert (np.abs(found - exact) <= bound).all()
    assert (found != exact).any()


def test_words_are_in_the_order_of_the_array():
    matrix = np.arange(5 * 5).reshape(5, 5).astype(np.uint16)
    found = words(TINY["tpu_tiny"], matrix)
    assert found[:5].tolist() == matrix[:4].T.tolist()
    assert found[5:].tolist() == [[20, 0, 0, 0], [21, 0, 0, 0], [22, 0, 0, 0], [23, 0, 0, 0],
                                  [24, 0, 0, 0]]  # fmt: skip
    found = words(TINY["tensor_core_tiny"], matrix)
    assert found.tolist() == [
        [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18],
        [4, 0, 0, 0, 9, 0, 0, 0, 14, 0, 0, 0, 19, 0, 0, 0],
        [20, 21, 22, 23] + [0] * 12, [24] + [0] * 15,
    ]  # fmt: skip


def test_plain_fp32_is_rounded_to_fp16():
    rng = np.random.default_rng(SEED)
    bits = rng.integers(0, 1 << 32, 3000, np.uint32)
    bits[:1000] = bits[:1000] & 0x8FFFFFFF | 0x30000000  # where FP16 is
    bits = bits[(bits >> 23 & 0xFF) != 0xFF]
    found = narrow(bits)
    assert found.tolist() == [nearest(FP16, number(FP32, n)) or (n >> 31) << 15 for n in
                              bits.tolist()]  # fmt: skip
    special = np.array([0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x80000000], np.uint32)
    assert narrow(special).tolist() == [0x7C00, 0xFC00, 0x7E00, 0x7E00, 0x8000]
    assert narrow(np.array([0x477FF000, 0x477FEFFF], np.uint32)).tolist() == [0x7C00, 0x7BFF]


def test_named_hosts_have_the_published_sizes():
    assert named_host("tpu_128").tile_inputs == named_host("tpu_128").rows == 128
    eyeriss = named_host("eyeriss")
    assert (eyeriss.pe_rows, eyeriss.pe_columns, eyeriss.tile_inputs) == (12, 14, 96)
    core = named_host("tensor_core")
    assert (core.lanes, core.rows, core.tile_words) == (64, 16, 2)
    for config in HOSTS.values():
        assert config.array.image.lanes == config.rows
        assert config.image.lane_columns == config.word_inputs
        assert config.as_dict()["kind"] == config.kind


def test_the_page_has_the_defaults():
    page = (Path(__file__).resolve().parents[2] / "docs" / "hosts.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| `?(\w+)`? \|", page, re.MULTILINE))
    fields = {field.name: field.default for field in dataclasses.fields(HostConfig)}
    for name in ("weights", "tokens", "act_depth", "prefetch"):
        assert told[name] == str(fields[name])
    for kind in (TpuConfig, EyerissConfig, TensorCoreConfig):
        own = [f"{f.name}={f.default}" for f in dataclasses.fields(kind) if f.name not in fields]
        assert f"`{kind.__name__}({', '.join(own)})`" in page


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda: TpuConfig(size=12), ValueError, "size must be a power of two, not 12"),
    (lambda: TpuConfig(size=256), ValueError, "size must be in 4..128 inputs and outputs, not 256"),
    (lambda: TpuConfig(tokens=0), ValueError, "tokens must be in 1..128 tokens, not 0"),
    (lambda: TpuConfig(weights="int8"), ValueError, "weights must be one of gobo, fp16, fp32"),
    (lambda: TpuConfig(act_depth=100), ValueError, "act_depth must be a power of two, not 100"),
    (lambda: TpuConfig(prefetch=1.5), TypeError, "prefetch must be an integer, not 1.5"),
    (lambda: TpuConfig(size=4, beat_width=128), ValueError, "4 weights of 16 bits must fill a"),
    (lambda: TensorCoreConfig(units=16), ValueError, "units must be in 1..8 units, not 16"),
    (lambda: EyerissConfig(filters=6), ValueError, "filters must be a power of two, not 6"),
    (lambda: EyerissConfig(pe_rows=18), ValueError, r"at most filters \(16\): .* not 18"),
    (lambda: EyerissConfig(pe_rows=3), ValueError, "must be a multiple of 16 inputs"),
    (lambda: named_host("gpu"), ValueError, "no host is called 'gpu'; there are tpu_tiny"),
    (lambda: compute(TINY["tpu_tiny"], halves([[1, 2]]), halves([[1]])), ValueError,
     r"acts must be of shape \(tokens, 2\), not \(1, 1\)"),
    (lambda: compute(HostConfig, halves([[1]]), halves([[1]])), TypeError, "must be of a host"),
])  # fmt: skip
def test_sizes_that_are_not_offered_are_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_the_numbers_of_these_tests_are_exact():
    assert number(FP16, 0x3C01) == Fraction(1025, 1024)
    assert times(0x0001, 0x0001) == nearest(FP32, Fraction(1, 1 << 48))
