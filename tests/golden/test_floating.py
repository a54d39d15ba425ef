"""The golden models of the number units and of the reference PEs, against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from gobo_rtl.formats import VALUE_FORMATS
from sim.golden import bins_fp16
from sim.golden.finish import round_number
from sim.golden.floating import add, canonical, multiply
from sim.golden.mac import mac
from sim.layer_error import Pe, errors_of
from tests.exhaustive.cases import pairs, special, terms

SEED = 1985
FP16, FP32 = VALUE_FORMATS["fp16"], VALUE_FORMATS["fp32"]


def exact(value, bits):
    """Return the number that finite bits stand for, by the definition of IEEE 754."""
    fraction = bits & ((1 << value.fraction_width) - 1)
    exponent = bits >> value.fraction_width & ((1 << value.exponent_width) - 1)
    significand = fraction + (1 << value.fraction_width if exponent else 0)
    bias = (1 << (value.exponent_width - 1)) - 1
    unit = Fraction(2) ** (max(exponent, 1) - bias - value.fraction_width)
    return (-1) ** (bits >> (value.width - 1)) * significand * unit


def kind(value, bits):
    """Return ``nan``, ``infinite`` or ``finite``."""
    magnitude = bits & ((1 << (value.width - 1)) - 1)
    infinity = ((1 << value.exponent_width) - 1) << value.fraction_width
    return "nan" if magnitude > infinity else "infinite" if magnitude == infinity else "finite"


def nearest(value, number, zero_sign):
    """Return the bits of a fraction rounded to nearest even; its denominator is a power of two."""
    if not number:
        return zero_sign << (value.width - 1)
    return round_number(value, number.numerator, 1 - number.denominator.bit_length())


def exact_sum(value, a, b):
    """Return the bits of the sum of two numbers by the rules of IEEE 754."""
    nan = {"fp16": 0x7E00, "fp32": 0x7FC00000}[value.name]
    kinds = kind(value, a), kind(value, b)
    if "nan" in kinds or (kinds == ("infinite", "infinite") and a != b):
        return nan
    if "infinite" in kinds:
        return a if kinds[0] == "infinite" else b
    both_negative = (a >> (value.width - 1)) & (b >> (value.width - 1))
    return nearest(value, exact(value, a) + exact(value, b), both_negative)


def exact_product(a, b):
    """Return the FP32 bits of the product of two FP16 numbers by the rules of IEEE 754."""
    sign = (a ^ b) >> 15
    kinds = kind(FP16, a), kind(FP16, b)
    if "nan" in kinds or ("infinite" in kinds and 0 in (a & 0x7FFF, b & 0x7FFF)):
        return 0x7FC00000
    if "infinite" in kinds:
        return 0x7F800000 | sign << 31
    return nearest(FP32, exact(FP16, a) * exact(FP16, b), sign)


def test_sums_by_hand():
    def sum32(a, b):
        return int(add(FP32, np.array([a], np.uint32), np.array([b], np.uint32))[0])

    assert sum32(0x3F800000, 0x3F800000) == 0x40000000  # 1 + 1
    assert sum32(0x3F800000, 0x33800000) == 0x3F800000  # 1 + 2^-24: a tie, to even
    assert sum32(0x3F800001, 0x33800000) == 0x3F800002  # the next: a tie, to even
    assert sum32(0x3F800000, 0xBF800000) == 0x00000000  # 1 - 1 is +0
    assert sum32(0x80000000, 0x80000000) == 0x80000000  # -0 - 0
    assert sum32(0x7F7FFFFF, 0x73000000) == 0x7F800000  # half a place above the largest
    assert sum32(0x00800000, 0x80000001) == 0x007FFFFF  # out of the normal numbers
    assert sum32(0x7F800000, 0xFF800000) == 0x7FC00000  # of infinities
    assert sum32(0xFFA00000, 0x3F800000) == 0x7FC00000  # a signalling NaN, negative


@pytest.mark.parametrize("value", [FP16, FP32], ids=lambda value: value.name)
def test_a_sum_is_the_exact_one_rounded_once(value):
    a, b = terms(value, np.random.default_rng(SEED), 20_000)
    found = add(value, a, b).tolist()
    for n, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        assert found[n] == exact_sum(value, x, y), f"{x:#x} + {y:#x}"


def test_all_fp16_have_their_value_in_fp32():
    one = np.array([0x3C00], np.uint16)
    found = multiply(np.arange(1 << 16, dtype=np.uint16), one).tolist()
    assert found == [exact_product(bits, 0x3C00) for bits in range(1 << 16)]


def test_a_product_is_exact_and_has_the_rules_of_ieee_754():
    rng = np.random.default_rng(SEED)
    a, b = (np.concatenate(part) for part in zip(
        pairs(special(FP16)[::3]), rng.integers(0, 1 << 16, (2, 10_000), np.uint16),
        strict=True))  # fmt: skip
    found = multiply(a, b).tolist()
    for n, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        assert found[n] == exact_product(x, y), f"{x:#x} * {y:#x}"
        if kind(FP16, x) == kind(FP16, y) == "finite":
            assert exact(FP32, found[n]) == exact(FP16, x) * exact(FP16, y)


def test_there_is_one_nan():
    bits = np.array([0x7F800001, 0xFFC00000, 0x7F800000, 0x80000000], np.uint32)
    assert canonical(FP32, bits).tolist() == [0x7FC00000, 0x7FC00000, 0x7F800000, 0x80000000]


def test_bits_of_another_width_are_refused():
    with pytest.raises(TypeError, match="bits of fp16 must be uint16, not uint32"):
        multiply(np.zeros(1, np.uint32), np.zeros(1, np.uint16))


def test_a_mac_adds_from_the_first_on():
    # 2^24 + 1 is a tie and goes down, twice; the other way round both ones count.
    big, one = 0x6C00, 0x3C00  # 4096, 1
    weights = np.array([[big, one, one], [one, one, big]], np.uint16)
    acts = np.array([[big, one, one], [one, one, big]], np.uint16)
    assert mac(weights[:1], acts[:1]).view(np.float32).tolist() == [[2.0**24]]
    assert mac(weights[1:], acts[1:]).view(np.float32).tolist() == [[2.0**24 + 2]]
    # An empty sum, and one of -0 only, is +0.
    assert mac(weights[:, :0], acts[:, :0]).tolist() == [[0, 0], [0, 0]]
    minus = np.array([[0x8000]], np.uint16)
    assert mac(minus, np.array([[one]], np.uint16)).tolist() == [[0]]


def halves(*numbers):
    """Return the bits of numbers as FP16."""
    return np.array(numbers, np.float16).view(np.uint16)


def test_bins_add_by_index_and_lose_what_fp16_cannot_hold():
    index = np.array([[0, 3, 0, 1, 0]], np.uint8)
    outlier = np.array([[0, 0, 0, 1, 0]], bool)
    acts = halves(2048, 5, 1, 7, 1)[None]
    free = bins_fp16.bins(4, False, index, outlier, acts)
    assert free.view(np.float16).tolist() == [[[2048, 0, 0, 5]]]  # 2048 + 1 is a tie, twice
    mirrored = bins_fp16.bins(4, True, index, outlier, acts)
    # 2048 - 5 is 2043; two ones fit.
    assert mirrored.view(np.float16).tolist() == [[[2045, 0]]]


def test_the_end_of_bins_takes_outliers_then_centroids():
    codebook = halves(-2, -1, 1, 2)
    index = np.array([[0, 3, 1, 0]], np.uint8)
    outlier = np.array([[0, 0, 0, 1]], bool)
    weights = halves(0, 0, 0, 100)[None]
    acts = halves(1, 10, 3, 0.5)[None]
    for symmetric in (False, True):
        found = bins_fp16.sums(codebook, symmetric, index, outlier, weights, acts)
        assert found.view(np.float32).tolist() == [[50 - 2 + 20 - 3]]


def test_sums_in_fp16_are_the_worst_and_24_bits_the_best():
    rng = np.random.default_rng(SEED)
    weight = rng.normal(0, 0.05, (32, 512)).astype(np.float32)
    acts = rng.normal(0.2, 1, (8, 512)).astype(np.float32)
    found = {pe: errors.arithmetic.max() for pe, errors in errors_of(weight, acts)}
    for symmetric in (False, True):
        wide, short = (found[Pe("products", width, symmetric)] for width in (24, 16))
        mac, halves = (found[Pe(pe, 16, symmetric)] for pe in ("mac", "bins_fp16"))
        assert wide < mac < short < halves
        assert wide < 2.0**-23  # activations are exact in 24 bits, or nearly; FP32 is rounded
