"""A CRC over several bits a cycle, as a network of two-input XORs.

The remainder after n bits is linear in the remainder before and the bits, so each of its bits is
the XOR of a set of inputs.  The sets overlap: the pair of terms that most of them share is made
once, then the next (Paar's greedy rule), which halves the gates of separate trees.
"""

from collections import Counter
from itertools import combinations

from amaranth.hdl import Cat, Value, ValueLike

from ..formats import CRC16

__all__ = ["CRC32_INITIAL", "CRC32_RESIDUE", "CRC_WIDTH", "crc16_next", "crc32_next"]

CRC_WIDTH = 16
# CRC-32 of zlib: the remainder before the first bit; the remainder, not inverted, after a message
# that ends with its own CRC-32.
CRC32_POLYNOMIAL, CRC32_INITIAL, CRC32_RESIDUE = 0xEDB88320, 0xFFFFFFFF, 0xDEBB20E3
SEGMENT = 64  # inputs that share pairs; more would take long to elaborate and save little


def _sets(polynomial: int, width: int, bits: int) -> list[set[int]]:
    """Return which inputs each bit of the next remainder is the XOR of: 0.. are the ``width`` bits
    of the remainder, then come the data bits in stream order."""
    state = [{n} for n in range(width)]
    for bit in range(bits):
        feedback = state[0] ^ {width + bit}
        state = [*state[1:], set()]
        for n in range(width):
            if polynomial >> n & 1:
                state[n] = state[n] ^ feedback
    return state


def _share(outputs: list[set[int]], inputs: int) -> list[tuple[int, int]]:
    """Replace shared pairs in ``outputs`` by new terms, numbered from ``inputs`` on; return the
    pairs.  Of equally frequent pairs the shallowest is taken, to keep the network flat."""
    depth = [0] * inputs
    pairs: list[tuple[int, int]] = []
    while True:
        counts = Counter(pair for terms in outputs for pair in combinations(sorted(terms), 2))
        if not counts:
            return pairs
        pair = min(counts, key=lambda p: (-counts[p], max(depth[p[0]], depth[p[1]]), p))
        if counts[pair] == 1:
            return pairs
        depth.append(1 + max(depth[pair[0]], depth[pair[1]]))
        new = inputs + len(pairs)
        pairs.append(pair)
        for terms in outputs:
            if terms.issuperset(pair):
                terms -= set(pair)
                terms.add(new)


def crc16_next(remainder: ValueLike, bits: ValueLike) -> Value:
    """Return the 16-bit remainder after ``bits``, bit 0 first, of the CRC-16 of
    ``docs/formats.md`` section 4.3."""
    return _next(CRC16.polynomial, CRC_WIDTH, remainder, bits)


def crc32_next(remainder: ValueLike, bits: ValueLike) -> Value:
    """Return the 32-bit remainder after ``bits``, bit 0 first, of zlib's CRC-32: from
    ``CRC32_INITIAL`` on, and without its last inversion."""
    return _next(CRC32_POLYNOMIAL, 32, remainder, bits)


def _next(polynomial: int, width: int, remainder: ValueLike, bits: ValueLike) -> Value:
    inputs = [*Value.cast(remainder), *Value.cast(bits)]
    outputs = _sets(polynomial, width, len(inputs) - width)
    sums: list[list[Value]] = [[] for _ in outputs]
    for first in range(0, len(inputs), SEGMENT):
        terms = inputs[first : first + SEGMENT]
        part = [{n - first for n in wanted if 0 <= n - first < SEGMENT} for wanted in outputs]
        for left, right in _share(part, len(terms)):
            terms.append(terms[left] ^ terms[right])
        for total, wanted in zip(sums, part, strict=True):
            total += (terms[n] for n in sorted(wanted))
    return Cat(Cat(total).xor() for total in sums)
