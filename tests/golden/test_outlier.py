"""Weights as integers in the unit of their layer."""

from fractions import Fraction

import numpy as np
import pytest

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.formats import VALUE_FORMATS
from sim.golden.outlier import decode, integers, product

from .numbers import number, words


def test_every_fp16_is_an_integer_of_the_least_unit():
    bits = np.arange(1 << 16, dtype=np.uint16)
    finite = bits[np.isfinite(bits.view(np.float16))]
    got = integers(VALUE_FORMATS["fp16"], finite, -24)
    assert np.array_equal(np.ldexp(got.astype(np.float64), -24),
                          finite.view(np.float16).astype(np.float64))  # fmt: skip


@pytest.mark.parametrize(
    ("value_format", "bits", "unit"),
    [
        ("fp16", 0x3C00, 0), ("fp16", 0xBC00, -10), ("fp16", 0x7BFF, 5), ("fp16", 0x4200, 0),
        ("fp16", 0x8000, 40), ("fp16", 0x0001, -24), ("bf16", 0x0001, -133),
        ("bf16", 0x7F7F, 120), ("bf16", 0xC0A0, -3), ("fp32", 0x40490FDB, -22),
    ],
)  # fmt: skip
def test_parts_are_the_number(value_format, bits, unit):
    value = VALUE_FORMATS[value_format]
    pattern = words(value, [bits])
    due = number(value, bits) / Fraction(2) ** unit
    assert integers(value, pattern, unit).tolist() == [due]
    got = decode(value, pattern, unit)
    sign = -1 if got.negative[0] else 1
    assert sign * int(got.significand[0]) * Fraction(2) ** int(got.shift[0]) == due


@pytest.mark.parametrize(
    ("bits", "unit", "kind", "text"),
    [
        (0x3C00, 1, ValueError, r"0x3c00 at \(1,\) is not an integer in units of 2\^1"),
        (0x7BFF, 6, ValueError, "not an integer"),
        (0x0001, 300, ValueError, "not an integer"),
        (0x7C00, -24, ValueError, "not finite"),
        (0xFE00, -24, ValueError, "not finite"),
        (0x3C00, -62, OverflowError, r"0x3c00 at \(1,\) is too large for 2\^-62"),
        (0x3C00, -400, OverflowError, "too large"),
    ],
)
def test_what_is_no_integer_is_named(bits, unit, kind, text):
    with pytest.raises(kind, match=text):
        integers(VALUE_FORMATS["fp16"], np.array([0, bits], np.uint16), unit)


def test_products_are_checked():
    array = ArrayConfig(act_width=8, weight_sum_width=12)
    assert product(array, -127, 4095) == -127 * 4095
    with pytest.raises(OverflowError, match="an outlier must fit 13 bits"):
        product(array, 1, 4096)
    with pytest.raises(OverflowError, match="an activation must fit 8 bits"):
        product(array, 128, 1)
