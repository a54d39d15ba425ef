"""Sums in pieces, so that no addition is longer than a piece: carries wait in registers."""

from itertools import accumulate, pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data

__all__ = ["SplitLayout", "add_split", "cuts", "joined"]

PIECE = 8
"""Most bits of a piece: an addition of so many is about as long as the choice of a term."""


def cuts(width: int, most: int = PIECE) -> list[int]:
    """Return the places where a sum of ``width`` bits is cut, 0 and ``width`` among them: pieces of
    at most ``most`` bits and nearly equal sizes, the greater ones first."""
    pieces = max(1, -(-width // most))
    sizes = [width // pieces + (n < width % pieces) for n in range(pieces)]
    return [0, *accumulate(sizes)]


class SplitLayout(data.StructLayout):
    """A sum modulo ``2^width``: its ``bits``, and a carry into each piece but the first that is
    still to be added; ``cuts`` are the places of the pieces."""

    def __init__(self, width: int, most: int = PIECE):
        self.cuts = cuts(width, most)
        super().__init__({"bits": width, "carries": len(self.cuts) - 2})


def add_split(
    m: Module, total: data.View, term: Value, carry: ValueLike, last: ValueLike, name: str
) -> tuple[Value, Value]:
    """Add ``term`` and ``carry`` to the signal ``total``, of a :class:`SplitLayout`; with ``last``
    it is 0 afterwards. Return what it becomes without ``last``, and a register with the carry out
    of all bits."""
    out = Signal(name=f"{name}_carry", reset_less=True)
    bits, carries, places = [], [], total.shape().cuts
    for n, (low, high) in enumerate(pairwise(places)):
        into = carry if n == 0 else total.carries[n - 1]
        # One adder: a place below the lowest makes the carry.
        whole = Cat(Const(1, 1), total.bits[low:high]) + Cat(into, term[low:high])
        bits.append(whole[1 : high - low + 1])
        carries.append(whole[high - low + 1])
    after = Cat(*bits, *carries[:-1])
    m.d.sync += [Value.cast(total).eq(Mux(last, 0, after)), out.eq(carries[-1])]
    return after, out


def joined(*parts: data.View) -> Value:
    """Return a sum, signed, of parts of :class:`SplitLayout`, the lowest first: its carries are
    added."""
    at, carries = 0, Const(0, sum(len(part.bits) for part in parts))
    for part in parts:
        for carry, place in zip(part.carries, part.shape().cuts[1:-1], strict=True):
            carries = carries | carry << at + place
        at += len(part.bits)
    return (Cat(part.bits for part in parts) + carries)[:at].as_signed()
