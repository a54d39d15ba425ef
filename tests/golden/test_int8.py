"""The golden model of INT8 sums."""

import numpy as np
import pytest

from sim.golden.int8 import mac


def test_sums_by_hand():
    weights = np.array([[2, -3], [-128, 127]], np.int8)
    acts = np.array([[5, 4], [-128, -128]], np.int8)
    assert mac(weights, acts).tolist() == [[-2, -132], [128, 128]]


def test_a_sum_wraps_at_32_bits():
    count = 1 << 17  # products of 2^14
    lowest = np.full((1, count), -128, np.int8)
    assert mac(lowest, lowest).item() == -(1 << 31)
    assert mac(lowest[:, 1:], lowest[:, 1:]).item() == (1 << 31) - (1 << 14)


def test_other_types_are_refused():
    with pytest.raises(TypeError, match=r"acts must be int8, not int64"):
        mac(np.zeros((1, 1), np.int8), np.zeros((1, 1), np.int64))
