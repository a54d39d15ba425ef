"""Rounding to value formats, and the shipping grid."""

import math
from fractions import Fraction

import numpy as np
import pytest

from gobo_rtl.formats import VALUE_FORMATS
from quant.values import largest, on_grid, round_values, unit_floor

SEED = 21
FP16, BF16, FP32 = (VALUE_FORMATS[name] for name in ("fp16", "bf16", "fp32"))


def rounded(values: list[float], name: str) -> list[float]:
    array = np.array(values, np.float32)
    return round_values(array, VALUE_FORMATS[name], np.arange(array.size)).tolist()


def plain(value: float, name: str) -> float:
    """Round in fractions: to nearest, ties to even."""
    form = VALUE_FORMATS[name]
    exponent = math.frexp(value)[1] - form.fraction_width - 1
    unit = Fraction(2) ** max(exponent, unit_floor(form))
    return float(round(Fraction(value) / unit) * unit)


def test_floors_and_largest_by_hand() -> None:
    assert [unit_floor(f) for f in (FP16, BF16, FP32)] == [-24, -133, -149]
    assert largest(FP16) == 65504.0
    assert largest(FP32) == float(np.finfo(np.float32).max)
    assert largest(BF16) == 255 * 2.0**120


def test_ties_go_to_even() -> None:
    assert rounded([1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-11], "fp16") == [1, 1 + 2**-9, -1]
    assert rounded([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], "bf16") == [
        1, 1 + 2**-6, 1 + 2**-7,
    ]  # fmt: skip
    assert rounded([3 * 2**-25, 2**-24], "fp16") == [2**-23, 2**-24]


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp32"])
def test_rounding_equals_fractions(name: str) -> None:
    rng = np.random.default_rng(SEED)
    values = (rng.standard_normal(2000) * 2.0 ** rng.integers(-20, 12, 2000)).astype(np.float32)
    values = values[np.abs(values) > 2.0**-24]
    assert rounded(values.tolist(), name) == [plain(value, name) for value in values.tolist()]


@pytest.mark.parametrize(
    ("value", "name", "message"),
    [
        (70000.0, "fp16", "70000.0 at flat position 5 is too large for fp16; bf16 holds it"),
        (-1e-9, "fp16", "flat position 5 vanishes in fp16; bf16 holds it"),
        (3.4e38, "bf16", "flat position 5 is too large for bf16; fp32 holds it"),
        (3.4e38, "fp16", "is too large for fp16; fp32 holds it"),
        (1e-40, "bf16", None),
        (1e-45, "bf16", "vanishes in bf16; fp32 holds it"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(value: float, name: str, message: str | None) -> None:
    array, form = np.array([1.0, value], np.float32), VALUE_FORMATS[name]
    if message is None:
        assert round_values(array, form, np.array([3, 5]))[1] > 0
        return
    with pytest.raises(ValueError, match=message):
        round_values(array, form, np.array([3, 5]))


def test_grid_by_hand() -> None:
    # 0.1 in units of 2^-14 is 1638.4, within 2047; of 2^-15 it is 3276.8, beyond.
    codebook, unit = on_grid(np.array([-0.1, 0.0001, 0.05]), FP16, 12)
    assert unit == -14
    assert codebook.tolist() == [-1638 * 2.0**-14, 2 * 2.0**-14, 819 * 2.0**-14]


def test_grid_moves_up_when_the_largest_rounds_past_its_width() -> None:
    assert on_grid(np.array([2047.4]), FP16, 12) == (np.float32(2047), 0)
    assert on_grid(np.array([2047.5]), FP16, 12) == (np.float32(2048), 1)


def test_ties_on_the_grid_go_to_even() -> None:
    assert on_grid(np.array([0.5, 1.5, 2.5, 2000.0]), FP16, 12)[0].tolist() == [0, 2, 2, 2000]


def test_all_zero_centroids_have_unit_zero() -> None:
    codebook, unit = on_grid(np.zeros(8), FP16, 12)
    assert (codebook.tolist(), unit) == ([0.0] * 8, 0)
    assert not np.signbit(on_grid(np.array([-1e-9, 1.0]), FP16, 12)[0]).any()


@pytest.mark.parametrize(("name", "width"), [("fp16", 12), ("bf16", 9), ("fp32", 12), ("fp32", 25)])
def test_every_grid_value_is_exact_in_its_format_and_near(name: str, width: int) -> None:
    rng, form = np.random.default_rng(SEED), VALUE_FORMATS[name]
    for _ in range(300):
        centroids = np.sort(rng.standard_normal(8) * 2.0 ** rng.integers(-9, 9))
        codebook, unit = on_grid(centroids, form, width)
        assert np.array_equal(round_values(codebook, form, np.arange(8)), codebook)
        numbers = np.ldexp(codebook.astype(np.float64), -unit)
        assert np.array_equal(numbers, np.rint(numbers))
        limit = 2 ** (width - 1) - 1
        assert limit / 2 <= np.abs(numbers).max() <= limit
        assert np.abs(codebook - centroids).max() <= 2.0 ** (unit - 1)


@pytest.mark.parametrize("scale", [2.0**-30, 2.0**-24])
def test_centroids_below_the_format_are_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"is lost on the grid of fp16.*fp32 holds it"):
        on_grid(scale * np.array([-3, -1.4, -1.2, 3]), FP16, 12)


def test_small_centroids_that_stay_apart_are_kept() -> None:
    codebook, unit = on_grid(2.0**-24 * np.array([-3, -1.0, 1.0, 3]), FP16, 12)
    assert unit == -24
    assert codebook.tolist() == [c * 2.0**-24 for c in (-3, -1, 1, 3)]


def test_a_centroid_above_the_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1e\+06 is too large for fp16; bf16 or fp32 holds it"):
        on_grid(np.array([-1.0, 1e6]), FP16, 12)
