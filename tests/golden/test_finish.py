"""The one rounding: against exact fractions, and at every boundary of FP16."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.formats import VALUE_FORMATS
from sim.golden.array import INT64_SUM_WIDTH
from sim.golden.finish import finish, round_number
from sim.golden.values import quiet_nan

from .numbers import nearest, number

SEED = 3
FP32 = VALUE_FORMATS["fp32"]
ARRAYS = {name: ArrayConfig(result_format=name) for name in ("fp16", "fp32")}
INFINITY = {"fp16": 0x7C00, "fp32": 0x7F800000}


def one(result_format: str, total: int, exponent: int, bias: int = 0) -> int:
    """The result of one sum and one bias."""
    wide = abs(total).bit_length() > 62
    sums = np.array([[total]], object if wide else np.int64)
    got = finish(ARRAYS[result_format], sums, np.array([exponent]), np.zeros(1, bool),
                 np.array([bias], np.uint32))  # fmt: skip
    return int(got[0, 0])


def due(result_format: str, total: int, exponent: int, bias: int) -> int:
    """The same by fractions."""
    value = VALUE_FORMATS[result_format]
    exact = total * Fraction(2) ** exponent + number(FP32, bias)
    return nearest(value, exact) if exact else 0


# -- every boundary of FP16 ---------------------------------------------------------------------

FINITE = np.arange(0x7C00)  # magnitudes; the next one is infinity
STEP = 2.0**-30


def units(patterns: np.ndarray) -> np.ndarray:
    """FP16 magnitudes as integers in units of 2^-30; infinity counts as 2^16."""
    field, fraction = patterns >> 10, patterns & 1023
    return np.where(field, fraction + 1024, fraction) << np.maximum(field, 1) + 5


@pytest.mark.parametrize("sign", [1, -1])
def test_every_fp16_midpoint_and_its_neighbours(sign):
    low, high = units(FINITE), units(FINITE + 1)
    middle = (low + high) // 2
    assert np.array_equal(2 * middle, low + high)
    even = FINITE + FINITE % 2
    cases = [
        (low, FINITE), (low + 1, FINITE), (middle - 1, FINITE), (middle, even),
        (middle + 1, FINITE + 1), (high - 1, FINITE + 1), (high, FINITE + 1),
    ]  # fmt: skip
    sums = sign * np.stack([total for total, _ in cases])
    want = np.stack([bits for _, bits in cases]) | (0x8000 if sign < 0 else 0)
    want[sums == 0] = 0
    none = np.zeros(len(cases), bool)
    got = finish(ARRAYS["fp16"], sums, np.full(len(cases), -30), none)
    assert got.dtype == np.uint16 and np.array_equal(got, want)


@pytest.mark.parametrize("tiny", [0x00000001, 0x80000001])
def test_the_least_bias_decides_every_fp16_tie(tiny):
    """A bias of +-2^-149 is far below the sum's last bit, and still counts."""
    middle = (units(FINITE) + units(FINITE + 1)) // 2
    bias = np.full(len(FINITE), tiny, np.uint32)
    got = finish(ARRAYS["fp16"], np.stack([middle, -middle]), np.array([-30, -30]),
                 np.zeros(2, bool), bias)  # fmt: skip
    above = tiny < 0x80000000
    assert np.array_equal(got[0], FINITE + above)
    assert np.array_equal(got[1], (FINITE + (not above)) | 0x8000)


def test_every_fp16_midpoint_from_a_bias_alone_and_with_the_least_sum():
    middle = ((units(FINITE) + units(FINITE + 1)) // 2 * STEP).astype(np.float32)
    sums = np.outer([0, 1, -1, 1 << 40, -(1 << 40)], np.ones(len(FINITE), np.int64))
    exponent = np.full(5, -300)
    got = finish(ARRAYS["fp16"], sums, exponent, np.zeros(5, bool), middle.view(np.uint32))
    for row, want in zip(got, [FINITE + FINITE % 2, FINITE + 1, FINITE, FINITE + 1, FINITE],
                         strict=True):  # fmt: skip
        assert np.array_equal(row, want)


# -- FP32 and everything else -------------------------------------------------------------------


@pytest.mark.parametrize("result_format", ARRAYS)
@settings(max_examples=400)
@given(
    total=st.integers(-(1 << 64), 1 << 64) | st.integers(-70, 70),
    exponent=st.integers(-320, 320) | st.integers(-60, 20),
    bias=st.integers(0, (1 << 32) - 1),
)
@example(total=0, exponent=0, bias=0x80000000)
def test_any_sum_equals_the_fractions(result_format, total, exponent, bias):
    if bias & 0x7F800000 == 0x7F800000:
        bias &= 0x807FFFFF
    assert one(result_format, total, exponent, bias) == due(result_format, total, exponent, bias)


@pytest.mark.parametrize("result_format", ARRAYS)
@settings(max_examples=400)
@given(
    bias=st.integers(0, 0x7F7FFFFF), sign=st.booleans(), down=st.integers(-3, 64),
    rest=st.integers(-40, 40) | st.integers(-(1 << 40), 1 << 40),
)  # fmt: skip
def test_sums_that_cancel_the_bias_equal_the_fractions(result_format, bias, sign, down, rest):
    """The sum is minus the bias in units 2^down below its last place, and a rest."""
    exact = number(FP32, bias)
    place = max(bias >> 23, 1) - 150
    total = -int(exact / Fraction(2) ** place * Fraction(2) ** down) + rest
    bits = bias
    if sign:
        total, bits = -total, bias | 1 << 31
    if abs(total) < 1 << 65:
        got = one(result_format, total, place - down, bits)
        assert got == due(result_format, total, place - down, bits)


def test_both_ways_to_add_agree_wherever_the_bias_lies():
    """int64 sums at the edge of what they may be, beside Python's integers."""
    top = (1 << INT64_SUM_WIDTH) - 1
    totals = [0, 1, top, top - 1, top >> 1, 1 << 58, (1 << 58) + 1, (1 << 53) + 1, 3]
    totals = np.array([sign * total for total in totals for sign in (1, -1)], np.int64)
    biases = np.array([s | f << 23 | m for s in (0, 1 << 31) for f in range(0, 255, 2)
                       for m in (0, 1, 0x7FFFFF)], np.uint32)  # fmt: skip
    sums = np.broadcast_to(totals[:, None], (len(totals), len(biases)))
    none = np.zeros(len(totals), bool)
    for exponent in (-40, -2, 0, 29):
        units = np.full(len(totals), exponent)
        for array in ARRAYS.values():
            narrow = finish(array, sums, units, none, biases)
            wide = finish(array, sums.astype(object), units, none, biases)
            assert np.array_equal(narrow, wide)


@pytest.mark.parametrize("result_format", ARRAYS)
@pytest.mark.parametrize(
    ("total", "exponent", "bias", "sign", "magnitude"),
    [
        (0, 0, 0x80000000, 0, 0),  # -0 + 0
        (-5, 0, 0x40A00000, 0, 0),  # -5 + 5
        (1, -400, 0, 0, 0), (-1, -400, 0, 1, 0),  # to zero, with their sign
        (0, 0, 0x80000001, 1, None),
        (1, 400, 0xFF7FFFFF, 0, "infinity"), (-1, 400, 0x7F7FFFFF, 1, "infinity"),
        (-1, 400, 0x7F800000, 0, "infinity"), (1, 400, 0xFF800000, 1, "infinity"),
        (3, 0, 0x7FC00000, 0, "nan"), (3, 0, 0xFF800001, 0, "nan"), (0, 0, 0x7F800001, 0, "nan"),
    ],
)  # fmt: skip
def test_zeros_infinities_and_nans(result_format, total, exponent, bias, sign, magnitude):
    value = VALUE_FORMATS[result_format]
    got = one(result_format, total, exponent, bias)
    least = {"fp16": 0, "fp32": 1}[result_format]
    known = {"infinity": INFINITY[result_format], "nan": quiet_nan(value), None: least}
    assert got == sign << (value.width - 1) | known.get(magnitude, magnitude)


@pytest.mark.parametrize(("result_format", "nan"), [("fp16", 0x7E00), ("fp32", 0x7FC00000)])
def test_a_special_token_gives_nan_whatever_the_bias(result_format, nan):
    biases = np.array([0, 0x7F800000, 0xFF800000, 0x3F800000], np.uint32)
    got = finish(ARRAYS[result_format], np.ones((2, 4), np.int64), np.zeros(2, np.int64),
                 np.array([True, False]), biases)  # fmt: skip
    assert got[0].tolist() == [nan] * 4
    infinity = INFINITY[result_format]
    sign = 1 << (VALUE_FORMATS[result_format].width - 1)
    assert got[1, 1:3].tolist() == [infinity, infinity | sign] and nan not in got[1]


def test_no_bias_is_a_bias_of_zero():
    rng = np.random.default_rng(SEED)
    sums = rng.integers(-(1 << 47), 1 << 47, (40, 30))
    units, none = rng.integers(-60, 10, 40), np.zeros(40, bool)
    for array in ARRAYS.values():
        zeros = finish(array, sums, units, none, np.zeros(30, np.uint32))
        assert np.array_equal(finish(array, sums, units, none), zeros)
    assert np.array_equal(  # 47 bits are exact in float64, which numpy rounds once
        finish(ARRAYS["fp32"], sums, units, none),
        np.ldexp(sums.astype(np.float64), units[:, None]).astype(np.float32).view(np.uint32),
    )


@given(st.sampled_from(["fp16", "fp32", "bf16"]), st.integers(-(1 << 70), 1 << 70),
       st.integers(-400, 300))  # fmt: skip
def test_rounding_of_an_integer_equals_the_fractions(result_format, integer, exponent):
    value = VALUE_FORMATS[result_format]
    assert round_number(value, integer, exponent) == nearest(
        value, integer * Fraction(2) ** exponent
    )
