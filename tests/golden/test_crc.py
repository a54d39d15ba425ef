"""The CRC-16 of the tile header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import stimulus
from sim.golden.crc import crc16


def bit_by_bit(data: bytes, bits: int) -> int:
    """The definition of docs/formats.md, section 4.3."""
    r = 0xFFFF
    for i in range(bits):
        d = data[i // 8] >> i % 8 & 1
        r = (r >> 1) ^ (0x8408 if (r ^ d) & 1 else 0)
    return r


def test_check_value_is_the_catalogue_s():
    assert crc16(b"123456789", 72) == 0x6F91
    assert bit_by_bit(b"123456789", 72) == 0x6F91


def test_no_bits_leave_the_first_remainder():
    assert crc16(b"", 0) == 0xFFFF


def test_every_length_up_to_three_bytes_equals_the_definition():
    data = bytes([0xA7, 0x1C, 0xE5])
    assert [crc16(data, n) for n in range(25)] == [bit_by_bit(data, n) for n in range(25)]


@given(st.binary(max_size=40), st.data())
def test_any_bits_equal_the_definition(data, draw):
    bits = draw.draw(st.integers(0, 8 * len(data)))
    assert crc16(data, bits) == bit_by_bit(data, bits)


@given(st.lists(st.integers(0, 1), max_size=100))
def test_stimulus_computes_the_same(bits):
    assert stimulus.crc16(bits) == crc16(stimulus.bytes_of(bits, 1), len(bits))


@pytest.mark.parametrize("bits", [-1, 9])
def test_bits_that_are_not_there_are_refused(bits):
    with pytest.raises(ValueError, match=r"bits must be in 0\.\.8"):
        crc16(b"1", bits)
