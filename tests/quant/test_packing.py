"""Bit strings by hand, and back again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.packing import Packer, pack, packed_size, rice_decode, rice_encode, unpack

SEED = 20


def plain(numbers: list[int], width: int) -> bytes:
    """Return the packed bytes by one big integer."""
    total = sum(number << (width * at) for at, number in enumerate(numbers))
    return total.to_bytes(-(-len(numbers) * width // 8), "little")


def test_nine_indexes_by_hand() -> None:
    # The 3 is two bits of the first byte and one of the second, so is the 6 of the next two.
    packed = pack(np.array([1, 2, 3, 4, 5, 6, 7, 0, 5], np.uint8), 3)
    assert packed.tolist() == [0b11_010_001, 0b0_101_100_0, 0b000_111_11, 0b101]


@pytest.mark.parametrize("width", range(32))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 1000])
def test_packing_equals_one_big_integer_and_unpacks(width: int, count: int) -> None:
    numbers = np.random.default_rng(SEED).integers(0, 1 << width, count)
    packed = pack(numbers, width)
    assert packed.tobytes() == plain(numbers.tolist(), width)
    assert packed.size == packed_size(count, width)
    assert np.array_equal(unpack(packed, width, count), numbers)


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("count", [65535, 65536, 65537, 200_003])
def test_indexes_of_several_blocks(width: int, count: int) -> None:
    numbers = np.random.default_rng(SEED).integers(0, 1 << width, count).astype(np.uint8)
    packed = pack(numbers, width)
    bits = (numbers[:, None] >> np.arange(width)) & 1
    assert np.array_equal(packed, np.packbits(bits.reshape(-1), bitorder="little"))
    assert np.array_equal(unpack(packed, width, count), numbers)


@given(
    st.lists(st.one_of(st.integers(0, 20), st.sampled_from([65528, 65536, 70_000])), max_size=6),
    st.integers(1, 4),
)
def test_pieces_of_any_size_pack_as_the_whole(sizes: list[int], width: int) -> None:
    rng = np.random.default_rng(SEED)
    pieces = [rng.integers(0, 1 << width, size).astype(np.uint8) for size in sizes]
    packer = Packer(sum(sizes), width)
    for piece in pieces:
        packer.add(piece)
    bits = (np.concatenate([*pieces, []]).astype(np.uint8)[:, None] >> np.arange(width)) & 1
    assert packer.packed().tobytes() == np.packbits(bits, bitorder="little").tobytes()


def test_a_number_too_wide_is_refused() -> None:
    with pytest.raises(ValueError, match="8 does not fit 3 bits"):
        pack(np.array([1, 8], np.uint8), 3)


@pytest.mark.parametrize(
    ("data", "count", "message"),
    [
        ([0, 0], 1, "1 numbers of 3 bits take 1 bytes, not 2"),
        ([], 1, "take 1 bytes, not 0"),
        ([8], 1, "the 5 bits that fill the last byte are not zero"),
    ],
)
def test_wrong_bit_strings_are_refused(data: list[int], count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack(np.array(data, np.uint8), 3, count)


def test_rice_code_by_hand() -> None:
    # Gaps 2, 0, 9, 6: with 2 bits 12 and 3 more, and no other width takes fewer.
    gap_width, remainders, quotients = rice_encode(np.array([2, 3, 13, 20]))
    assert gap_width == 2
    assert remainders.tolist() == [0b10_01_00_10]
    assert quotients.tolist() == [0b1010011]  # 1, 1, 001, 01 from bit 0


@given(st.sets(st.integers(0, 1 << 40), max_size=50).map(sorted))
def test_rice_code_is_lossless_and_its_gap_width_the_best(positions: list[int]) -> None:
    if positions and positions[-1] > 1 << 36:
        positions = [place >> 8 for place in positions[:1]]
    gap_width, remainders, quotients = rice_encode(np.array(positions, np.int64))
    back = rice_decode(gap_width, remainders, quotients, len(positions))
    assert back.tolist() == positions
    gaps = [b - a - 1 for a, b in zip([-1, *positions], positions, strict=False)]
    bits = [sum(width + 1 + (gap >> width) for gap in gaps) for width in range(32)]
    assert gap_width == bits.index(min(bits))


def test_no_positions_take_no_bytes() -> None:
    gap_width, remainders, quotients = rice_encode(np.zeros(0, np.int64))
    assert (gap_width, remainders.size, quotients.size) == (0, 0, 0)
    assert rice_decode(0, remainders, quotients, 0).size == 0


@pytest.mark.parametrize("positions", [[3, 3], [3, 2], [-1, 4]])
def test_positions_out_of_order_are_refused(positions: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        rice_encode(np.array(positions))


@pytest.mark.parametrize(
    ("gap_width", "remainders", "quotients", "count"),
    [
        (32, [], [], 0),
        (2, [0x92], [0x53], 3),  # a number too many
        (2, [0x92], [0x53], 5),  # one too few
        (2, [0x92], [0x53, 0], 4),  # a byte too many
        (2, [0x92, 0], [0x53], 4),
        (2, [], [0x53], 4),
    ],
)
def test_wrong_rice_codes_are_refused(
    gap_width: int, remainders: list[int], quotients: list[int], count: int
) -> None:
    with pytest.raises(ValueError, match=r"bits|quotients"):
        rice_decode(gap_width, np.array(remainders, np.uint8), np.array(quotients, np.uint8), count)
