# amaranth: UnusedElaboratable=no
"""The two kinds of PEs give the same sums, those of the steps, in passes of any length.

An array of each kind, 4 rows by 1 column, gets the same passes, one after the other, at any pace.
The sums of a reference go along, by centroid, and the proof is by induction over cycles: at every
place in a pass

- the accumulator of ``products`` is the sum of the reference's,
- every bin times its centroid is that centroid's sum, and the outliers' accumulator that of theirs,
- no bin is greater than the steps so far allow, so that none overflows in ``max_inputs`` steps,

and so the same holds of what the columns give away at the end. Activations and centroids have 2
bits, outliers are 1, 2, 4 and 8, of both signs; the codebook is the same in all passes. With a
symmetric codebook all rows are looked at, and registers and adders have their full width; with a
free one the first row, and sums of 12 bits instead of 20. Registers are 0 at first; what else they
hold before a pass, passes before it have left there. What is claimed of the stages on the way only
shows the solver what the pipelines hold.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from importlib import import_module
from operator import or_
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, Fragment, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.array_layout import StepLayout
from tests.sabotage.plant import Fault, planted_package

from .inside import elaborated, resized
from .prover import Claims, bounded, prove, reach
from .test_pes import FREE, ONE, WIDTH

SYMMETRIC = replace(FREE, symmetric=True, beat_width=128)
KINDS: dict[str, tuple[ArrayConfig, Sequence[int]]] = {  # and the rows whose sums are looked at
    "symmetric": (SYMMETRIC, range(SYMMETRIC.rows)),
    "free": (resized(SYMMETRIC, symmetric=False, weight_sum_width=4), [0]),
}
LATE = 5  # the stage whose terms are in the sums a cycle later
LONGEST = 24  # cycles in which events and faults are seen
FAULTS: dict[str, tuple[str, Fault, str]] = {  # and what the claim that is broken begins with
    "a bin forgets when another one is meant": ("free", Fault(
        "forgets", "gobo_rtl/pe/bins.py", "with m.If(here | select.first):",
        "with m.If(here | select.first | select.last):",
    ), "bin"),
    "an activation is taken at an outlier's place": ("free", Fault(
        "place", "gobo_rtl/pe/bins.py", "here = row.take & (row.index == n)",
        "here = (row.take | row.hits.any()) & (row.index == n)",
    ), "bin"),
    "a sum goes on in the next pass": ("symmetric", Fault(
        "goes on", "gobo_rtl/pe/products.py", "before = Mux(first, 0, total)", "before = total",
    ), "products of row"),
    "outliers of the pass before stay": ("symmetric", Fault(
        "stay", "gobo_rtl/pe/bins.py", "Mux(select.first, 0, sums.outliers)", "sums.outliers",
    ), "outliers of row"),
    "sums are loaded a cycle early": ("free", Fault(
        "early", "gobo_rtl/pe/column.py", "self.select.last, since,",
        "self.select.last, since - 1,",
    ), "sums are loaded"),
}  # fmt: skip


class Pair(wiring.Component):
    """An array of each kind, and the registers of finished sums in them."""

    def __init__(self, config: ArrayConfig, package: str) -> None:
        array = import_module(f"{package}.array.array").Array
        holding = import_module(f"{package}.pe.holding").Holding
        self.arrays = {pe: array(resized(config, pe=pe)) for pe in ("products", "bins")}
        self.parts: dict[str, Fragment] = {}
        self.ends: dict[str, Any] = {}
        for pe, part in self.arrays.items():
            self.parts[pe], (self.ends[pe],) = elaborated(part, holding)
        super().__init__({"i": In(stream.Signature(StepLayout(config), always_ready=True))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for pe, array in self.arrays.items():
            m.submodules[pe] = self.parts[pe]
            m.d.comb += [
                Value.cast(array.i.payload).eq(Value.cast(self.i.payload)),
                array.i.valid.eq(self.i.valid), array.o.ready.eq(1),
            ]  # fmt: skip
        return m


def number(m: Module, value: Value, width: int, name: str) -> Signal:
    """Return ``value`` as a signed number of ``width`` bits."""
    made = Signal(signed(width), name=name)
    m.d.comb += made.eq(value)
    return made


def steps_in(claims: Claims, config: ArrayConfig, codebook: list[Signal]) -> dict[str, Value]:
    """Drive the arrays; return what goes in, and what each row is to take of it."""
    m, dut, step = claims.m, claims.dut, claims.dut.i.payload

    # Passes of up to `max_inputs` steps, each of any number of cycles, at any pace.
    begins, count = Signal(init=1), Signal(range(config.max_inputs), name="count")
    done, begun = Signal(range(config.max_inputs + 1), name="done"), Signal(name="begun")
    last = claims.free(1, "last_in") | (count == config.max_inputs - 1)
    plain = claims.free(1, "plain_in") | last
    go = claims.free(1, "offer") & (~last | dut.arrays["bins"].last_ready)
    with m.If(go):
        m.d.sync += [
            begins.eq(last), count.eq(Mux(last, 0, count + plain)), begun.eq(1),
            done.eq(Mux(begins, 0, done) + plain),
        ]  # fmt: skip
    claims.claim("the first pass begins with a first", begun | begins)
    claims.claim("steps are counted", begins | (done == count))

    with m.If(~begun & ~go):
        m.d.sync += [w.eq(claims.free(WIDTH, f"centroid{n}")) for n, w in enumerate(codebook)]
    act = number(m, claims.free(WIDTH, "act").as_signed(), WIDTH, "a")
    planes = [claims.free(config.rows, f"plane{n}") for n in range(config.index_width)]
    entry, power, sign = step.entries[0], claims.free(2, "power"), claims.free(1, "sign")
    m.d.comb += [
        dut.i.valid.eq(go), step.first.eq(begins), step.last.eq(last), step.plain.eq(plain),
        *(plane.eq(new) for plane, new in zip(step.planes, planes, strict=True)),
        step.values[0].eq(act), step.index_width.eq(config.index_width),
        *(centroid.eq(w) for centroid, w in zip(step.codebook, codebook, strict=False)),
        entry.valid.eq(claims.free(1, "outlier")),
        entry.row.eq(claims.free(config.row_bits, "row")),
        entry.value.eq(Cat(Const(0, config.value.fraction_width), (ONE + power)[:8], sign)),
    ]  # fmt: skip
    chosen: dict[str, Value] = {
        "go": go, "first": go & begins, "plain": go & plain, "last": go & last, "begun": begun,
        "done": done, "act": act, "power": power,
        "weight": number(m, Mux(sign, -(1 << power), 1 << power), 5, "weight"),
        **{f"w{j}": w for j, w in enumerate(codebook)},
    }  # fmt: skip
    for row in range(config.rows):
        hit, seen = go & entry.valid & (entry.row == row), Signal(name=f"seen{row}")
        with m.If(go):
            m.d.sync += seen.eq(~plain & (seen | hit))
        index = Cat(plane[row] for plane in planes)
        negate = index[-1] & int(config.symmetric)
        shared = (index ^ negate.replicate(len(index)))[: (config.shared - 1).bit_length()]
        chosen |= {f"hit{row}": hit, f"take{row}": go & plain & ~hit & ~seen,
                   f"seen{row}": seen, f"shared{row}": shared, f"negate{row}": negate}  # fmt: skip
    return chosen


class Term:
    """What a row adds in a stage: the product of a centroid, inverted and with a ``carry`` if it is
    negative, or an outlier's."""

    def __init__(self, at: dict[str, Value], row: int, products: list[Signal], value: Signal):
        width = len(value)
        self.outlier = Mux(at[f"hit{row}"], value, 0)[:width]
        self.carry = at[f"take{row}"] & at[f"negate{row}"]
        self.parts: list[tuple[Value, Value]] = []
        for j, product in enumerate(products):
            here = at[f"take{row}"] & (at[f"shared{row}"] == j)
            carry = here & at[f"negate{row}"]
            self.parts.append((Mux(here, Mux(carry, ~product, product), 0)[:width], carry))
        self.whole = reduce(or_, [self.outlier, *(part for part, _ in self.parts)])


def sum_claims(config: ArrayConfig, rows: Sequence[int], package: str = "gobo_rtl") -> Claims:
    """Return the claims for the sums of ``rows``."""
    dut = Pair(config, package)
    claims = Claims(dut, cleared=True)
    m, width = claims.m, config.acc_width
    codebook = [Signal(signed(WIDTH), name=f"w{n}") for n in range(config.shared)]

    # The stages of the pipelines.
    at = steps_in(claims, config, codebook)
    before: dict[str, Value] = {}
    shown: list[Value] = []
    old = Signal(name="not_first_cycle")
    m.d.sync += old.eq(1)
    for n in range(LATE + 1):
        if n:
            before = at
            at = {name: claims.before(value, f"{name}_{n}") for name, value in at.items()}
        begun = at["begun"] | at["go"]
        done = Mux(at["go"], Mux(at["first"], 0, at["done"]) + at["plain"], at["done"])
        same = Cat(at[f"w{j}"] == w for j, w in enumerate(codebook)).all()
        used = Cat(at[name] for name in at if name.startswith(("first", "plain", "last", "hit")))
        claims.claim(f"stage {n} has the codebook", ~at["go"] | same)
        claims.claim(f"stage {n} has a first", ~at["go"] | begun & (at["begun"] | at["first"]))
        claims.claim(f"stage {n} has few steps", at["done"] <= config.max_inputs)
        claims.claim(f"stage {n} takes what goes", at["go"] | ~used.any())
        if n:
            claims.claim(f"stage {n} follows",
                         (before["begun"] == begun) & (before["done"] == done))  # fmt: skip
        a = number(m, at["act"], WIDTH, f"a_{n}")
        value = number(m, a * at["weight"], width, f"value_{n}")
        products = [number(m, a * at[f"w{j}"], width, f"product_{n}_{j}")
                    for j in range(config.shared)]  # fmt: skip
        places = number(m, at["power"] - config.value.fraction_width, 5, f"places_{n}")
        terms = [Term(at, row, products, value) for row in rows]
        for row in rows:
            plain = at["plain"] & ~at[f"hit{row}"]
            claims.claim(f"stage {n} has one term for row {row}", ~at[f"take{row}"] | plain)
        shows = Cat(value, places, products, *((t.whole, t.outlier, t.carry) for t in terms))
        if n:
            same = claims.before(Cat(shown), f"shown_{n}") == shows
            claims.claim(f"stage {n} shows what the one before did", ~old | same)
        shown = [shows]

    # Sums, by centroid.
    ends, bins = dut.ends, dut.ends["bins"]
    begun, steps = claims.before(begun, "sums_begun"), claims.before(done, "steps")
    loaded = Signal(name="loaded")
    m.d.sync += loaded.eq(loaded | bins.load)
    claims.claim("sums are loaded with a last", (bins.load == claims.before(at["last"]))
                 & (ends["products"].load == bins.load))  # fmt: skip
    claims.claim("sums are loaded when there are any", begun | ~(loaded | bins.load))

    def kept(value: Value, there: Value, name: str) -> Signal:
        return number(m, Mux(there, value, 0), len(value), name)

    def taken(row: Any, there: Value, name: str) -> tuple[list[Signal], list[Signal], Signal]:
        """Return the bins of a row that is ``there``, their products and the outliers' sum."""
        held = [kept(b, there, f"{name}_bin{j}") for j, b in enumerate(row.bins)]
        made = [number(m, b * w, width, f"{name}_made{j}")
                for j, (b, w) in enumerate(zip(held, codebook, strict=True))]  # fmt: skip
        return held, made, kept(row.outliers, there, f"{name}_outliers")

    for row, term in zip(rows, terms, strict=True):
        def total(value: Value, name: str, row: int = row) -> Signal:
            made = Signal(signed(width), name=f"{name}{row}")
            m.d.sync += made.eq(Mux(at["first"], 0, made) + value)
            return made

        parts = [total(part.as_signed() + carry, f"part{j}_")
                 for j, (part, carry) in enumerate(term.parts)]  # fmt: skip
        outliers = total(term.outlier.as_signed(), "outliers")
        whole = total(term.whole.as_signed() + term.carry, "whole")
        sums = number(m, sum(parts, outliers), width, f"sums{row}")
        held, made, other = taken(bins.sums[row], begun, f"now{row}")
        for j, (b, product, part) in enumerate(zip(held, made, parts, strict=True)):
            few = (b <= (steps << 1)) & (b >= -(steps << 1))
            claims.claim(f"bin {j} of row {row} is that of its steps", product == part)
            claims.claim(f"bin {j} of row {row} is as small as its steps", few)
        claims.claim(f"outliers of row {row} are those of its steps", other == outliers)
        claims.claim(f"products of row {row} are those of its steps",
                     kept(ends["products"].sums[row], begun, f"total{row}") == whole)  # fmt: skip
        claims.claim(f"parts of row {row} are the whole", whole == sums)
        _, made, other = taken(bins.o[row], loaded, f"end{row}")
        left = number(m, sum(made, other), width, f"left{row}")
        claims.claim(f"row {row} leaves both the same",
                     kept(ends["products"].o[row], loaded, f"end{row}") == left)  # fmt: skip
    one, other = dut.arrays.values()
    claims.claim("both give and wait together",
                 (one.last_ready == other.last_ready) & (ends["products"].shift == bins.shift))
    claims.event("a pass as long as may be",
                 claims.before(at["last"]) & (steps == config.max_inputs))  # fmt: skip
    claims.event("sums leave a second time", claims.before(loaded) & bins.load)
    return claims


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_those_of_the_steps(kind: str, tmp_path: Path) -> None:
    claims = sum_claims(*KINDS[kind])
    assert prove(claims, tmp_path, sweep=True).holds
    assert set(reach(claims, tmp_path, LONGEST)) == set(claims.events)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    kind, fault, broken = FAULTS[name]
    claims = sum_claims(*KINDS[kind], planted_package(fault, tmp_path))
    verdict = bounded(claims, tmp_path / "proof", LONGEST)
    assert verdict.holds is False and verdict.broken.startswith(broken), verdict
