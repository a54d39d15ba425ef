"""Sums: exact whatever their width, and the same from every PE."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gobo_rtl.array_config import ArrayConfig
from sim.golden.array import array_pass, drain, row_sums, sums
from sim.golden.bins import bins, multiply
from sim.golden.products import products

SEED = 11


def exact(acts: np.ndarray, weights: np.ndarray) -> list[list[int]]:
    """The sums in Python's integers."""
    return [
        [sum(int(a) * int(w) for a, w in zip(act, row, strict=True)) for row in weights]
        for act in acts
    ]


def array(pe: str, *, symmetric: bool = False, act_width: int = 16, **sizes) -> ArrayConfig:
    return ArrayConfig(pe=pe, symmetric=symmetric, act_width=act_width,
                       **{"rows": 4, "columns": 2, **sizes})  # fmt: skip


# -- whole layers -------------------------------------------------------------------------------


@given(
    act_bits=st.integers(1, 41), weight_bits=st.integers(1, 24), columns=st.integers(1, 40),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_sums_equal_pythons_integers(act_bits, weight_bits, columns, seed):
    rng = np.random.default_rng(seed)
    acts = rng.integers(-(1 << act_bits - 1), 1 << act_bits - 1, (3, columns), endpoint=True)
    weights = rng.integers(-(1 << weight_bits - 1), 1 << weight_bits - 1, (4, columns))
    assert sums(acts, weights).tolist() == exact(acts, weights)


@pytest.mark.parametrize("act", [(1 << 23) - 1, -(1 << 23), (1 << 40) - 1, -(1 << 40), -128])
def test_the_greatest_row_and_activation_of_every_width(act):
    """Rows whose magnitudes add up to 2^24 - 1, every term of one sign: the bound is reached."""
    columns = 4096
    weights = np.full((2, columns), 4096, np.int64)
    weights[0, -1] = 4095
    weights[1] = -weights[0]
    assert row_sums(weights).tolist() == [(1 << 24) - 1] * 2
    acts = np.full((1, columns), act, np.int64)
    top = act * ((1 << 24) - 1)
    assert sums(acts, weights).tolist() == [[top, -top]]
    acts[0, ::2] = -act
    mixed = sums(acts, weights)
    assert mixed.tolist() == exact(acts, weights)


def test_odd_units_survive_beside_the_greatest_terms():
    """2^46 + 1 - 2^46 in every order that a product of matrices might take."""
    weights = np.array([[1 << 23, 1, -(1 << 23)] * 5], np.int64)[:, :9]
    acts = np.array([[1 << 23, 1, 1 << 23] * 3], np.int64)
    assert sums(acts, weights).tolist() == [[3]]


def test_sums_that_int64_cannot_hold_are_pythons_integers():
    acts = np.array([[(1 << 40) - 1]], np.int64)
    narrow = sums(acts, np.array([[(1 << 19) - 1]], np.int64))
    wide = sums(acts, np.array([[(1 << 24) - 1]], np.int64))
    assert narrow.dtype == np.int64 and wide.dtype == object
    assert narrow[0, 0] == ((1 << 40) - 1) * ((1 << 19) - 1)
    assert wide[0, 0] == ((1 << 40) - 1) * ((1 << 24) - 1)


def test_rows_that_are_too_great_are_refused():
    with pytest.raises(OverflowError, match=r"add up to 4503599627370496, 2\^52 or more"):
        sums(np.ones((1, 1), np.int64), np.array([[1 << 52]]))
    with pytest.raises(OverflowError, match=r"2 weights of up to .* too many to add up"):
        row_sums(np.full((1, 2), 1 << 61))


# -- what the PEs do ----------------------------------------------------------------------------


def strip(rng: np.random.Generator, config: ArrayConfig, columns: int, index_width: int,
          share: float) -> tuple[np.ndarray, ...]:  # fmt: skip
    """A codebook of full range, indexes, an outlier mask and the weights."""
    bins = 1 << index_width
    limit = (1 << (config.grid_width - 1)) - 1
    codebook = np.sort(rng.integers(-limit, limit, bins, endpoint=True))
    if config.symmetric:
        half = np.sort(rng.integers(0, limit, bins // 2, endpoint=True))
        codebook = np.concatenate([-half[::-1], half])
    index = rng.integers(0, bins, (config.rows, columns)).astype(np.uint8)
    outlier = rng.random(index.shape) < share
    weights = codebook[index]
    weights[outlier] = rng.integers(-(1 << 16), 1 << 16, int(outlier.sum()))
    index[outlier] = 0
    return codebook, index, outlier, weights


@settings(max_examples=60)
@given(
    pe=st.sampled_from(["products", "bins"]), symmetric=st.booleans(),
    act_width=st.integers(8, 24), index_width=st.integers(2, 4), columns=st.integers(1, 20),
    share=st.sampled_from([0, 0.1, 1]), seed=st.integers(0, 999),
)  # fmt: skip
def test_every_pe_gives_the_exact_sums(
    pe, symmetric, act_width, index_width, columns, share, seed
):
    config = array(pe, symmetric=symmetric, act_width=act_width)
    rng = np.random.default_rng(seed)
    layer = strip(rng, config, columns, index_width, share)
    limit = (1 << (act_width - 1)) - 1
    acts = rng.integers(-limit, limit, (2, columns), endpoint=True)
    got = array_pass(config, *layer, acts)
    assert got.tolist() == exact(acts, layer[3]) == sums(acts, layer[3]).tolist()


def test_bins_by_hand():
    config = array("bins")
    index, outlier = np.array([0, 3, 3, 0], np.uint8), np.array([False, False, False, True])
    weights, acts = np.array([-7, 9, 9, 1000]), np.array([10, 20, -5, 3])
    got = bins(config, 4, index, outlier, weights, acts)
    assert got == ([10, 0, 0, 15], 3000)
    assert multiply(config, np.array([-7, -1, 1, 9]), *got) == -70 + 135 + 3000
    # Sign-symmetric: index 3 is the mirror image of 0.
    assert bins(array("bins", symmetric=True), 4, index, outlier, weights, acts) == (
        [10 - 15, 0], 3000,
    )  # fmt: skip


def test_products_by_hand():
    codebook = np.array([-9, -1, 1, 9])
    assert products(array("products"), codebook, -3) == [27, 3, -3, -27]
    assert products(array("products", symmetric=True), codebook, -3) == [27, 3]


@pytest.mark.parametrize("pe", ["products", "bins"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("act_format", "width"), [("int8", 8), ("fp16", 8), ("fp16", 24)])
def test_no_register_overflows_at_the_bounds(pe, symmetric, act_format, width):
    """K columns of the lowest activation and of the greatest, all in one bin; and the row whose
    magnitudes reach the bound by outliers."""
    config = array(pe, symmetric=symmetric, act_width=width, act_format=act_format,
                   max_inputs=64, weight_sum_width=17)  # fmt: skip
    columns = config.max_inputs
    codebook = np.array([-2047, -1, 1, 2047])
    index = np.repeat(np.array([[0], [1], [2], [3]], np.uint8), columns, axis=1)
    outlier = np.zeros(index.shape, bool)
    weights = codebook[index]
    outlier[1], weights[1] = True, 2047
    weights[1, 0] = (1 << 17) - 1 - 2047 * (columns - 1)
    index[1] = 0
    assert row_sums(weights).max() == (1 << 17) - 1
    low = -(1 << (width - 1)) + (act_format != "int8")
    acts = np.stack([np.full(columns, low), np.full(columns, (1 << (width - 1)) - 1)])
    assert array_pass(config, codebook, index, outlier, weights, acts).tolist() == exact(
        acts, weights
    )


def test_a_register_that_would_overflow_is_told():
    config = array("bins", max_inputs=8)
    one = np.ones((1, 9), np.int64)
    with pytest.raises(OverflowError, match="a bin must fit 19 bits"):
        array_pass(config, np.array([-2, -1, 1, 2]), np.full((1, 9), 3, np.uint8), one < 0, 2 * one,
                   32767 * one)  # fmt: skip
    for pe in ("products", "bins"):
        config = array(pe, weight_sum_width=12)
        with pytest.raises(OverflowError, match="must fit 28 bits"):
            array_pass(config, np.array([-2, -1, 1, 2]), np.zeros((1, 9), np.uint8), one > 0,
                       4095 * one, 32767 * one)  # fmt: skip


def test_sums_leave_by_columns_and_then_by_neighbouring_rows():
    config = ArrayConfig(rows=8, columns=2, beat_width=128)
    assert config.drain_lanes == 4
    left = drain(config, np.arange(16).reshape(2, 8))
    assert left.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
