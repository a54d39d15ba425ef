# amaranth: UnusedElaboratable=no
"""The two kinds of PEs give the same sums: ``products`` and ``bins``, with free and with symmetric
codebooks.

An array of each, 4 rows by 1 column, get the same cycles of steps. Checked for every pass of one
or two of them, whatever the registers of data held before: every index, every place of an outlier,
cycles of a step that carry an outlier alone. Registers and adders have their full width; but since
sums of products are what a solver is bad at, activations and centroids have 2 bits, and outliers
are powers of two.
"""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import StepLayout, SumsLayout
from gobo_rtl.pe.arith import delayed
from tests.sabotage.plant import Fault, planted_package

from .prover import Claims, bounded, reach

FREE = replace(
    ARRAYS["tiny"], columns=1, index_widths=(2,), value_format="bf16", act_format="int8",
    act_width=8, weight_sum_width=12, max_inputs=8, index_depth=8, act_depth=8,
)  # fmt: skip
SYMMETRIC = replace(FREE, symmetric=True)
ONE = 127  # the exponent field of 1 in bf16
CYCLES = 26  # from reset until the last sum of a pass has left


WIDTH = 2  # bits of an activation, and of a centroid
KINDS = {"free": FREE, "symmetric": SYMMETRIC}
FAULTS = {
    "an activation goes to a neighbour of its bin": (FREE, Fault(
        "bin", "gobo_rtl/pe/bins.py", "zip(bins, row.picks, strict=True):",
        "zip(bins, row.picks[::-1], strict=True):",
    )),
    "the last term is not in the bins": (FREE, Fault(
        "last", "gobo_rtl/pe/column.py", "self.select[0].last, since,",
        "self.select[0].last, since - 1,",
    )),
    "what a bin held before is added": (FREE, Fault(
        "first", "gobo_rtl/pe/bins.py", "with m.If(Value.cast(pick) | first):",
        "with m.If(pick):",
    )),
    "a negative term lacks its carry": (SYMMETRIC, Fault(
        "carry", "gobo_rtl/pe/products.py", ", row.negate\n", ", Const(0)\n",
    )),
    "an outlier is halved": (SYMMETRIC, Fault(
        "outlier", "gobo_rtl/pe/combine.py", 'stage(joined(row.outliers), "joined")',
        'stage(joined(row.outliers) >> 1, "joined")',
    )),
}  # fmt: skip


class Pair(wiring.Component):
    """An array of each kind; their sums in the same cycle."""

    def __init__(self, config: ArrayConfig, package: str) -> None:
        array = import_module(f"{package}.array.array").Array
        self.products = array(replace(config, pe="products"))
        self.bins = array(replace(config, pe="bins"))
        sums = stream.Signature(SumsLayout(config), always_ready=True)
        super().__init__({
            "i": In(stream.Signature(StepLayout(config), always_ready=True)),
            "o_products": Out(sums), "o_bins": Out(sums),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.products, m.submodules.bins = products, bins = self.products, self.bins
        for array in (products, bins):
            m.d.comb += [
                Value.cast(array.i.payload).eq(Value.cast(self.i.payload)),
                array.i.valid.eq(self.i.valid), array.o.ready.eq(1),
            ]  # fmt: skip
        late = bins.latency - products.latency
        for o, array, cycles in ((self.o_products, products, late), (self.o_bins, bins, 0)):
            word = Cat(array.o.valid, Value.cast(array.o.payload))
            m.d.comb += Cat(o.valid, Value.cast(o.payload)).eq(delayed(
                m, word, cycles, "late", reset=True
            ))
        return m


def pair_claims(config: ArrayConfig, most: int, package: str = "gobo_rtl") -> Claims:
    """Return the claims for a pass of at most so many cycles, that begins in cycle 1."""
    dut = Pair(config, package)
    claims = Claims(dut)
    m, step = claims.m, dut.i.payload

    def narrow(value: Value) -> Value:
        number = Signal(signed(len(value)))
        m.d.comb += number.eq(value)
        return number

    # The pass.
    number = Signal(range(most + 1))
    length = claims.fixed(range(most + 1), "length")
    claims.assume((length != 0) & (length <= most))
    with m.If(claims.reset):
        m.d.sync += number.eq(0)
    with m.Elif(number != most):
        m.d.sync += number.eq(number + 1)
    m.d.comb += [
        dut.i.valid.eq(~claims.reset & (number < length)),
        step.first.eq(number == 0),
        step.last.eq(number + 1 == length),
        step.plain.eq(claims.free(1, "plain") | step.last),
        *(plane.eq(claims.free(config.rows, f"plane{n}")) for n, plane in enumerate(step.planes)),
        step.values[0].eq(narrow(claims.free(WIDTH, "act"))),
    ]

    # Its layer, in units of 1.
    codebook = [narrow(claims.fixed(WIDTH, f"centroid{n}")) for n in range(config.shared)]
    m.d.comb += step.index_width.eq(config.index_width)
    m.d.comb += [centroid.eq(w) for centroid, w in zip(step.codebook, codebook, strict=False)]

    # Outliers of 1, 2, 4 and 8, of both signs.
    for n, entry in enumerate(step.entries):
        power, sign = claims.free(2, f"power{n}"), claims.free(1, f"sign{n}")
        m.d.comb += [
            entry.valid.eq(claims.free(1, f"outlier{n}")),
            entry.row.eq(claims.free(config.row_bits, f"row{n}")),
            entry.value.eq(Cat(Const(0, config.value.fraction_width), (ONE + power)[:8], sign)),
        ]

    products, bins = dut.o_products, dut.o_bins
    claims.claim("sums come together", products.valid == bins.valid)
    for n in range(config.drain_lanes):
        one, other = products.payload.sums[n], bins.payload.sums[n]
        claims.claim(f"sums of lane {n} are equal", ~bins.valid | (one == other))
    for name in ("exponent", "special", "last"):
        one, other = products.payload[name], bins.payload[name]
        claims.claim(f"{name} is equal", ~bins.valid | (one == other))
    greatest = most * (8 << WIDTH - 1)
    claims.event("the last sums of the longest pass", bins.valid & bins.payload.last
                 & (length == most))  # fmt: skip
    claims.event("a sum of outliers alone", bins.valid & (bins.payload.sums[0] == greatest))
    return claims


@pytest.mark.parametrize("most", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_both_give_the_same_sums(kind: str, most: int, tmp_path: Path) -> None:
    claims = pair_claims(KINDS[kind], most)
    assert bounded(claims, tmp_path, CYCLES).holds
    assert set(reach(claims, tmp_path, CYCLES)) == set(claims.events)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    config, fault = FAULTS[name]
    claims = pair_claims(config, 1, planted_package(fault, tmp_path))
    assert bounded(claims, tmp_path / "proof", CYCLES).holds is False
