"""Bit strings: packed indexes, and Golomb-Rice coded outlier positions.

Bit ``i`` of a string is bit ``i % 8`` of byte ``i // 8``; number ``j`` of ``width`` bits is bits
``[width * j, width * (j + 1))``; the last byte is filled with zeros.  ``docs/formats.md`` is the
contract.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Packer", "pack", "packed_size", "rice_decode", "rice_encode", "unpack"]

MAX_GAP_WIDTH = 31
_BLOCK = 1 << 16  # numbers folded at a time, a multiple of 8: they stay in the cache


def packed_size(count: int, width: int) -> int:
    """Return the bytes that ``count`` numbers of ``width`` bits take."""
    return -(-count * width // 8)


# Folding: eight numbers of `width` <= 4 bits, each in a byte of a 64-bit word, are brought together
# in pairs, then pairs of pairs, then halves, until they are the low `8 * width` bits of the word.
# Every level moves the upper of two fields down by the gap between them.


@cache
def _levels(width: int) -> list[tuple[np.uint64, np.uint64, np.uint64]]:
    """Return (shift, mask of the fields apart, mask of the fields joined) of each level."""
    levels = []
    for fields in (1, 2, 4):
        apart = sum(((1 << fields * width) - 1) << at for at in range(0, 64, 8 * fields))
        joined = sum(((1 << 2 * fields * width) - 1) << at for at in range(0, 64, 16 * fields))
        levels.append((np.uint64(fields * (8 - width)), np.uint64(apart), np.uint64(joined)))
    return levels


class Packer:
    """Packs numbers of 1 to 4 bits that come in pieces.

    Parameters
    ----------
    count : int
        How many will come.
    width : int
        Bits of each.
    """

    def __init__(self, count: int, width: int) -> None:
        self._size, self._width = packed_size(count, width), width
        self._packed = np.empty((-(-count // 8), width), np.uint8)
        self._rows = 0  # filled
        # Work space: fresh arrays would cost more than the arithmetic.  Numbers wait in it until
        # they are eight.
        space = min(count, _BLOCK) + 8
        self._space, self._moved = np.empty(space, np.uint8), np.empty(space // 8, "<u8")
        self._waiting = 0

    def add(self, numbers: NDArray[Any]) -> None:
        """Take ``numbers`` (n,), all below ``2**width``."""
        for at in range(0, numbers.size, _BLOCK):
            piece = numbers[at : at + _BLOCK]
            held = self._waiting + piece.size
            self._space[self._waiting : held] = piece
            self._waiting = held % 8
            whole = held - self._waiting
            spare = self._space[whole:held].copy()
            self._fold(self._space[:whole])
            self._space[: spare.size] = spare

    def _fold(self, numbers: NDArray[np.uint8]) -> None:
        words = numbers.view("<u8")
        moved = self._moved[: words.size]
        for shift, _, joined in _levels(self._width):
            np.right_shift(words, shift, out=moved)
            words |= moved
            words &= joined
        columns = words.view(np.uint8).reshape(-1, 8)
        rows = self._packed[self._rows : self._rows + words.size]
        for byte in range(self._width):  # a column at a time: rows of `width` bytes copy slowly
            rows[:, byte] = columns[:, byte]
        self._rows += words.size

    def packed(self) -> NDArray[np.uint8]:
        """Return all of them, packed; the last to be called."""
        if self._waiting:
            self._space[self._waiting : 8] = 0
            self._fold(self._space[:8])
        return self._packed.reshape(-1)[: self._size]


def pack(numbers: NDArray[Any], width: int) -> NDArray[np.uint8]:
    """Return ``numbers`` (n,), unsigned and below ``2**width``, as packed bytes.

    ``width`` is 0 to 31 bits; ``ValueError`` if a number does not fit.
    """
    if numbers.size and int(numbers.max()) >> width:
        raise ValueError(f"{int(numbers.max())} does not fit {width} bits")
    if width > 4:
        bits = (numbers[:, None] >> np.arange(width)) & 1
        return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little")
    if width == 0:
        return np.zeros(0, np.uint8)
    packer = Packer(numbers.size, width)
    packer.add(numbers)
    return packer.packed()


def unpack(packed: NDArray[np.uint8], width: int, count: int) -> NDArray[Any]:
    """Return the ``count`` numbers of ``width`` bits that :func:`pack` packed.

    They are uint8 up to 4 bits, int64 above.  ``ValueError`` if the bytes are not exactly those
    of ``count`` numbers, or the bits that fill the last byte are not zero.
    """
    if packed.size != packed_size(count, width):
        raise ValueError(
            f"{count} numbers of {width} bits take {packed_size(count, width)} bytes, "
            f"not {packed.size}"
        )
    spare = 8 * packed.size - count * width
    if spare and int(packed[-1]) >> (8 - spare):
        raise ValueError(f"the {spare} bits that fill the last byte are not zero")
    if width > 4:
        bits = np.unpackbits(packed, count=count * width, bitorder="little").reshape(-1, width)
        return bits @ (1 << np.arange(width))
    if width == 0:
        return np.zeros(count, np.uint8)
    groups = -(-count // 8)
    padded = np.zeros((groups, width), np.uint8)
    padded.reshape(-1)[: packed.size] = packed
    numbers = np.empty(8 * groups, np.uint8)
    for at in range(0, groups, _BLOCK // 8):
        rows = padded[at : at + _BLOCK // 8]
        words = np.zeros(len(rows), "<u8")
        columns = words.view(np.uint8).reshape(-1, 8)
        for byte in range(width):
            columns[:, byte] = rows[:, byte]
        for shift, apart, _ in reversed(_levels(width)):
            words |= words << shift
            words &= apart
        numbers[8 * at : 8 * (at + len(rows))] = words.view(np.uint8)
    return numbers[:count]


def rice_encode(
    positions: NDArray[np.int64],
) -> tuple[int, NDArray[np.uint8], NDArray[np.uint8]]:
    """Return gap width, packed remainders and packed quotients of ``positions`` (n,), ascending.

    A gap is the number of positions skipped; its low ``gap width`` bits are the remainder, the
    rest is the quotient ``q``, written as ``q`` zero bits and a one.  The gap width, 0 to 31, is
    the least of those that take the fewest bits; 0 for no positions.
    """
    if not positions.size:
        return 0, np.zeros(0, np.uint8), np.zeros(0, np.uint8)
    gaps = np.diff(positions, prepend=-1) - 1
    if gaps.min() < 0:
        raise ValueError("positions must be ascending, each at most once and none negative")

    def bits(width: int) -> int:
        return gaps.size * (width + 1) + int((gaps >> width).sum())

    # A convex function of the width, so its least value is found by walking downhill.
    gap_width = min((int(gaps.sum()) // gaps.size).bit_length(), MAX_GAP_WIDTH)
    fewest = bits(gap_width)
    while gap_width < MAX_GAP_WIDTH and (more := bits(gap_width + 1)) < fewest:
        gap_width, fewest = gap_width + 1, more
    while gap_width and (more := bits(gap_width - 1)) <= fewest:
        gap_width, fewest = gap_width - 1, more
    ends = np.cumsum((gaps >> gap_width) + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1, np.bool_)
    unary[ends] = True
    remainders = pack(gaps & ((1 << gap_width) - 1), gap_width)
    return gap_width, remainders, np.packbits(unary, bitorder="little")


def rice_decode(
    gap_width: int, remainders: NDArray[np.uint8], quotients: NDArray[np.uint8], count: int
) -> NDArray[np.int64]:
    """Return the ``count`` positions, ascending, that :func:`rice_encode` encoded.

    ``ValueError`` if the gap width is not 0 to 31, or either bit string is too short or too long.
    """
    if not 0 <= gap_width <= MAX_GAP_WIDTH:
        raise ValueError(f"gap width must be in 0..{MAX_GAP_WIDTH} bits, not {gap_width}")
    ends = np.flatnonzero(np.unpackbits(quotients, bitorder="little"))
    used = int(ends[-1]) + 1 if ends.size else 0
    if ends.size != count or packed_size(used, 1) != quotients.size:
        raise ValueError(
            f"the quotients hold {ends.size} numbers in {packed_size(used, 1)} of "
            f"{quotients.size} bytes, not {count} in all of them"
        )
    low = unpack(remainders, gap_width, count).astype(np.int64)
    gaps = ((np.diff(ends, prepend=-1) - 1) << gap_width) | low
    return np.cumsum(gaps + 1) - 1
