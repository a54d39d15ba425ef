# amaranth: UnusedElaboratable=no
"""A sum in pieces, whose carries wait and whose bits above a product are a cycle behind, is the sum
of its terms: for ever, in sums of any length one after the other, whatever comes.

A row of `products` by itself, as the column has it, gets any terms: of products, negative ones
inverted with a carry, and of outliers of any width. Beside it runs a plain sum. Claimed is, in
every cycle, that what the pieces become with the carries that wait is the plain sum, also where it
ends and is given away. The bits above move only when a sign, a carry or an outlier
makes them; a carry that waits between their own pieces may wait on.
"""

from importlib import import_module
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tests.sabotage.plant import Fault, planted_package

from .prover import Claims, bounded, prove, reach

LOW, ABOVE = 5, 4  # bits as wide as a product, and above; pieces of 3 and 2, and of 2
PIECES = {"low": 3, "above": 2}
CYCLES = 8
FAULTS = {
    "a waiting carry is forgotten": Fault(
        "carry", "gobo_rtl/pe/split.py", "else total.carries[n - 1]", "else 0",
    ),
    "a sum is not cleared": Fault(
        "clear", "gobo_rtl/pe/split.py", "Mux(last, 0, after)", "after",
    ),
    "the bits above do not see a sign": Fault(
        "sign", "gobo_rtl/pe/products.py", "sign.eq(term[-1] & ~hit)", "sign.eq(0)",
    ),
    "an outlier's sign is taken twice": Fault(
        "twice", "gobo_rtl/pe/products.py", "sign.eq(term[-1] & ~hit)", "sign.eq(term[-1])",
    ),
    "the bits above stay when a carry comes": Fault(
        "stay", "gobo_rtl/pe/products.py", "(sign ^ carry)", "sign",
    ),
}  # fmt: skip


class Row(wiring.Component):
    """A row's sum, and what it becomes in each cycle."""

    def __init__(self, package: str) -> None:
        self.products = import_module(f"{package}.pe.products")
        self.split = import_module(f"{package}.pe.split")
        split = self.split.SplitLayout
        self.layout = data.StructLayout({
            "low": split(LOW, PIECES["low"]), "above": split(ABOVE, PIECES["above"]),
        })  # fmt: skip
        super().__init__({
            "term": In(LOW), "carry": In(1), "hit": In(1), "last": In(1),
            "outlier": In(ABOVE), "outlier_hit": In(1), "last_above": In(1),
            "after": Out(self.layout),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = Signal(self.layout, name="total")
        after = self.products.accumulated(
            m, total, self.term, self.carry, self.last, self.hit, self.outlier, self.outlier_hit,
            self.last_above, "",
        )  # fmt: skip
        m.d.comb += Value.cast(self.after).eq(after)
        return m


def piece_claims(package: str = "gobo_rtl") -> Claims:
    """Return the claims: each cycle has a term, or none, which is a term of 0."""
    dut = Row(package)
    claims = Claims(dut, cleared=True)
    m, width = claims.m, LOW + ABOVE
    term, hit, carry = claims.free(LOW, "term"), claims.free(1, "hit"), claims.free(1, "carry")
    above, last = claims.free(ABOVE, "above"), claims.free(1, "last")
    value, total, whole = (Signal(width, name=name) for name in ("value", "total", "whole"))
    m.d.comb += [
        value.eq(Mux(hit, Cat(term, above), term.as_signed() + Cat(carry, Const(0, 1)))),
        whole.eq(total + value),
        dut.term.eq(term), dut.hit.eq(hit), dut.carry.eq(carry & ~hit), dut.last.eq(last),
        dut.outlier.eq(claims.before(Mux(hit, above, 0), "outlier")),
        dut.outlier_hit.eq(claims.before(hit, "outlier_hit")),
        dut.last_above.eq(claims.before(last, "last_above")),
    ]  # fmt: skip
    m.d.sync += total.eq(Mux(last, 0, whole))

    # The lower part of what the sum becomes, and a cycle later the one above.
    low = data.View(dut.layout["low"].shape, claims.before(Value.cast(dut.after.low), "low"))
    made = Signal(signed(width), name="made")
    m.d.comb += made.eq(dut.split.joined(low, dut.after.above))
    due = claims.before(whole, "due")
    claims.claim("pieces and carries are the sum", made.as_unsigned() == due)
    ends = claims.before(last, "ends")
    claims.event("a sum ends with carries that wait in both parts",
                 ends & low.carries.any() & dut.after.above.carries.any())  # fmt: skip
    claims.event("an outlier and a sign follow each other",
                 claims.before(hit) & ~hit & term[-1] & (due != 0))  # fmt: skip
    return claims


def test_a_sum_in_pieces_is_the_sum_of_its_terms(tmp_path: Path) -> None:
    claims = piece_claims()
    assert prove(claims, tmp_path).holds
    assert set(reach(claims, tmp_path, CYCLES)) == set(claims.events)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    claims = piece_claims(planted_package(FAULTS[name], tmp_path))
    assert bounded(claims, tmp_path / "proof", CYCLES).holds is False
