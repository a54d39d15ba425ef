"""Values as bit patterns, against numpy's floats."""

from fractions import Fraction

import numpy as np
import pytest

from gobo_rtl.formats import VALUE_FORMATS
from sim.golden.values import finite, on_grid, order, row_sums, words

SEED = 20


def floats(name: str, bits: np.ndarray) -> np.ndarray:
    """The numbers that bit patterns stand for, as float64."""
    if name == "fp16":
        return bits.astype(np.uint16).view(np.float16).astype(np.float64)
    wide = bits.astype(np.uint32) << (16 if name == "bf16" else 0)
    with np.errstate(invalid="ignore"):  # signalling NaN
        return wide.view(np.float32).astype(np.float64)


def patterns(name: str) -> np.ndarray:
    """All patterns of 16 bits; of 32 some with every exponent."""
    if name != "fp32":
        return np.arange(1 << 16, dtype=np.uint16)
    rng = np.random.default_rng(SEED)
    return rng.integers(0, 1 << 32, 1 << 16, np.uint32)


@pytest.mark.parametrize("name", VALUE_FORMATS)
def test_finite_is_numpy_s(name):
    bits = patterns(name)
    assert np.array_equal(finite(VALUE_FORMATS[name], bits), np.isfinite(floats(name, bits)))


@pytest.mark.parametrize("name", VALUE_FORMATS)
def test_order_is_that_of_the_numbers(name):
    bits = patterns(name)
    bits = bits[finite(VALUE_FORMATS[name], bits)]
    rank, number = order(VALUE_FORMATS[name], bits), floats(name, bits)
    ascending = np.argsort(number, kind="stable")
    steps, rises = np.diff(rank[ascending]), np.diff(number[ascending])
    assert np.array_equal(np.sign(steps), np.sign(rises))


@pytest.mark.parametrize(("name", "limit"), [("fp16", 2047), ("bf16", 255), ("fp32", 2047)])
@pytest.mark.parametrize("unit", [-149, -133, -24, -20, -3, 0, 2, 5])
def test_grid_is_multiples_of_its_unit(name, limit, unit):
    value = VALUE_FORMATS[name]
    bits = patterns(name)[::7]
    bits = bits[finite(value, bits)]
    for pattern, number in zip(bits.tolist(), floats(name, bits).tolist(), strict=True):
        n = Fraction(number) / Fraction(2) ** unit
        assert on_grid(value, pattern, unit) == (n.denominator == 1 and abs(n) <= limit)


def test_words_are_little_endian():
    assert words(VALUE_FORMATS["bf16"], bytes.fromhex("0180 ff7f")).tolist() == [0x8001, 0x7FFF]
    assert words(VALUE_FORMATS["fp32"], bytes.fromhex("04030281")).tolist() == [0x81020304]


@pytest.mark.parametrize("name", VALUE_FORMATS)
def test_row_sums_are_those_of_the_numbers(name):
    value, bits = VALUE_FORMATS[name], patterns(name)[::29]
    bits = np.append(bits, [1, 2, 3]).astype(bits.dtype)  # the least there are
    bits = bits[finite(value, bits)]
    numbers, rows = [Fraction(x) for x in floats(name, bits)], bits[:, None]
    for unit in (-150, -24, -9, 0, 3, 100):
        whole = np.array([(x / Fraction(2) ** unit).denominator == 1 for x in numbers])
        want = [min(abs(x) / Fraction(2) ** unit, 1 << 32) for x in numbers]
        got = row_sums(value, rows[whole], unit)
        assert got.tolist() == [int(x) for x, there in zip(want, whole, strict=True) if there]
        for broken in np.flatnonzero(~whole)[:: max(1, (~whole).sum() // 50)]:
            assert row_sums(value, rows[[broken]], unit) is None


def test_row_sums_add_up_along_rows():
    bits = np.array([[0x3C00, 0xBC00, 0x4000], [0, 0x8000, 0xC200]], np.uint16)  # 1 -1 2, 0 -0 -3
    assert row_sums(VALUE_FORMATS["fp16"], bits, 0).tolist() == [4, 3]
    assert row_sums(VALUE_FORMATS["fp16"], bits, -1).tolist() == [8, 6]
    assert row_sums(VALUE_FORMATS["fp16"], bits, 1) is None
