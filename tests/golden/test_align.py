"""The aligner against exact fractions: FP16 in full, FP32 and integers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.formats import VALUE_FORMATS
from sim.golden.align import align, align_to, scale

from .numbers import number

ABSOLUTE = ArrayConfig(align="absolute", act_width=41)
FP16 = np.arange(1 << 16, dtype=np.uint16)
FINITE = FP16[np.isfinite(FP16.view(np.float16))]


def config(act_format: str, act_width: int) -> ArrayConfig:
    return ArrayConfig(act_format=act_format, act_width=act_width)


def expected(act_format: str, width: int, bits: list[int]) -> tuple[list[int], int]:
    """A token's integers and the exponent of their unit, as docs/accelerator.md defines them."""
    value = VALUE_FORMATS[act_format]
    precision = value.fraction_width + 1
    ones = (1 << value.exponent_width) - 1
    exponent = max(max(b >> value.fraction_width & ones, 1) for b in bits)
    unit = exponent - {"fp16": 25, "fp32": 150}[act_format] - (width - 1 - precision)
    limit = 2 ** (width - 1) - 1
    values = [round(number(value, b) / Fraction(2) ** unit) for b in bits]
    return [min(max(v, -limit), limit) for v in values], unit


def test_a_token_by_hand():
    # 1.5, -0.25, 2^-24, 0: the exponent field of 1.5 is 15, a unit of 2^(15 - 25 - 4).
    got = align(config("fp16", 16), np.array([[0x3E00, 0xB400, 0x0001, 0x8000]], np.uint16))
    assert got.values.tolist() == [[3 << 13, -(1 << 12), 0, 0]]
    assert got.exponent.tolist() == [-14] and got.special.tolist() == [False]


@pytest.mark.parametrize("width", range(8, 25))
def test_every_fp16_beside_every_exponent(width):
    x = FINITE.view(np.float16).astype(np.float64)
    for leader in range(0, 31, 3):
        bits = np.stack([FINITE, np.full_like(FINITE, leader << 10)], axis=1)
        got = align(config("fp16", width), bits)
        limit = 2 ** (width - 1) - 1
        exact = np.ldexp(x, -got.exponent.astype(int))  # and rint rounds ties to even
        assert np.array_equal(got.values[:, 0], np.clip(np.rint(exact), -limit, limit))
        field = np.maximum(np.maximum(FINITE >> 10 & 31, leader), 1)
        assert np.array_equal(got.exponent, field - 25.0 - (width - 12))
        assert not got.special.any()


@pytest.mark.parametrize("act_format", ["fp16", "fp32"])
@given(data=st.data(), width=st.integers(8, 24))
def test_any_token_equals_the_fractions(act_format, data, width):
    value = VALUE_FORMATS[act_format]
    infinite = ((1 << value.exponent_width) - 1) << value.fraction_width
    finite = st.integers(0, infinite - 1)
    near = st.integers(max(0, infinite // 2 - (3 << value.fraction_width)), infinite // 2)
    magnitudes = data.draw(st.lists(finite | near, min_size=1, max_size=6))
    bits = [m | data.draw(st.booleans()) << (value.width - 1) for m in magnitudes]
    dtype = np.uint16 if value.width == 16 else np.uint32
    got = align(config(act_format, width), np.array([bits], dtype))
    assert (got.values[0].tolist(), int(got.exponent[0])) == expected(act_format, width, bits)


@pytest.mark.parametrize(
    ("act_format", "width", "bits", "due"),
    [
        ("fp16", 8, 0x7BFF, 127),  # 2047 / 16 is 127.9, 128 does not fit
        ("fp16", 8, 0xFBFF, -127),
        ("fp16", 8, 0x3FF0, 127),  # 2032 / 16 is 127
        ("fp16", 8, 0x3FE8, 126),  # 126.5 to the even one
        ("fp16", 11, 0x7BFF, 1023),  # 2047 / 2 is a tie, to 1024
        ("fp16", 12, 0x7BFF, 2047),
        ("fp16", 24, 0x7BFF, 2047 << 12),
        ("fp16", 16, 0x0001, 16),  # a subnormal: the exponent field counts as 1
        ("fp32", 24, 0x7F7FFFFF, (1 << 23) - 1),
        ("fp32", 24, 0xFF7FFFFE, -(1 << 23) + 1),
        ("fp32", 8, 0x3F800000, 64),
        ("fp32", 24, 0x00000001, 0),  # a tie, to 0
        ("fp32", 24, 0x00000003, 2),  # a tie, to 2
    ],
)
def test_extremes(act_format, width, bits, due):
    dtype = np.uint16 if act_format == "fp16" else np.uint32
    got = align(config(act_format, width), np.array([[bits, 0]], dtype))
    assert got.values.tolist() == [[due, 0]]


def test_zero_tokens_have_the_least_unit():
    got = align(config("fp16", 16), np.array([[0, 0x8000]], np.uint16))
    assert got.values.tolist() == [[0, 0]] and got.exponent.tolist() == [1 - 25 - 4]


@pytest.mark.parametrize("bad", [0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF])
@pytest.mark.parametrize("array", [config("fp16", 16), ABSOLUTE], ids=["token", "absolute"])
def test_what_is_not_finite_marks_its_token_alone(bad, array):
    bits = np.array([[0x3C00, 0x4000], [0x3C00, bad], [0x4000, 0x3C00]], np.uint16)
    got, fine = align(array, bits), align(array, bits[[0, 2]])
    assert got.special.tolist() == [False, True, False]
    assert np.array_equal(got.values[[0, 2]], fine.values) and not got.values[1].any()
    assert np.array_equal(got.exponent[[0, 2]], fine.exponent)


def test_fp32_infinities_and_nans_are_special():
    bits = np.array([[0x7F800000], [0xFF800000], [0x7F800001], [0x7F7FFFFF]], np.uint32)
    assert align(config("fp32", 16), bits).special.tolist() == [True, True, True, False]


def test_absolute_is_exact_for_every_fp16():
    got = align(ABSOLUTE, FINITE[None])
    assert np.array_equal(np.ldexp(got.values[0].astype(np.float64), -24),
                          FINITE.view(np.float16).astype(np.float64))  # fmt: skip
    assert got.exponent.tolist() == [-24] and np.abs(got.values).max() < 1 << 40


@pytest.mark.parametrize("width", [8, 16])
def test_integers_pass_through_with_the_exponent_of_the_job(width):
    integers = np.arange(-(1 << (width - 1)), 1 << (width - 1)).astype(f"i{width // 8}")
    got = align(config(f"int{width}", width), integers.view(f"u{width // 8}")[None], -9)
    assert np.array_equal(got.values[0], integers)
    assert got.exponent.tolist() == [-9] and got.special.tolist() == [False]


def test_tokens_do_not_depend_on_each_other():
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 1 << 16, (400, 96)).astype(np.uint16)
    whole = align(config("fp16", 10), bits)
    for token in range(0, 400, 37):
        alone = align(config("fp16", 10), bits[token : token + 1])
        assert np.array_equal(whole.values[token], alone.values[0])
        assert whole.exponent[token] == alone.exponent[0]


def test_scale_and_alignment_are_what_the_hardware_does_apart():
    bits = np.array([[0x3C00, 0x0400, 0x0001], [0x7C00, 0, 0]], np.uint16)
    array = config("fp16", 16)
    got = scale(array, bits)
    assert got.exponent.tolist() == [15, 31] and got.special.tolist() == [False, True]
    assert np.array_equal(align_to(array, bits[0], got.exponent[:1]), align(array, bits).values[0])


def test_other_patterns_are_refused():
    with pytest.raises(TypeError, match="unsigned bit patterns, not float16"):
        align(config("fp16", 16), np.zeros((1, 2), np.float16))
    with pytest.raises(OverflowError, match="must fit 8 bits, not be 0x100"):
        align(config("int8", 8), np.array([[256]], np.uint16))
