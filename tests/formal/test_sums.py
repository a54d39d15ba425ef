# amaranth: UnusedElaboratable=no
"""The two kinds of PEs give the same sums, those of the steps, in passes of any length.

An array of each kind, 4 rows by 1 column, gets the same passes, one after the other, at any pace:
steps of any number of cycles, up to `max_inputs` of them. A reference counts the activations of
each centroid, and sums outliers, and sums all. The proof is by induction over cycles: at every
place in a pass

- what the accumulator of ``products`` becomes, its parts and carries joined, is the reference's
  sum, and that is the one of its counts times the centroids and its outliers,
- the pieces of every bin are the reference's count, which is no greater than the steps so far
  allow, so that none overflows, and the outliers' accumulator is their sum;

at the end the registers of finished sums are loaded with these, and they are what is read, part by
part, in the cycles that are due. As the invariant is over as many cycles as a step is on its way,
what the pipelines hold need not be said: it came in these cycles. Registers of data hold anything
at first. Activations and centroids have 2 bits, outliers are 1, 2, 4 and 8, of both signs; the
codebook is the same in all passes. Registers and adders have their full width. With a symmetric
codebook all rows are looked at, with a free one the first.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, Fragment, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.array_layout import StepLayout
from gobo_rtl.pe.bins import BinRowLayout
from gobo_rtl.pe.products import ProductsRowLayout
from gobo_rtl.pe.split import cuts, joined
from tests.sabotage.plant import Fault, planted_package

from .inside import elaborated, register, resized
from .prover import Claims, Verdict, bounded, induction, reach
from .test_pes import FREE, ONE, WIDTH

# Sums of products in two parts of two pieces, bins in two pieces; two reads of two rows.
SYMMETRIC = replace(FREE, symmetric=True, weight_sum_width=14)
KINDS: dict[str, tuple[ArrayConfig, Sequence[int]]] = {  # and the rows whose sums are looked at
    "symmetric": (SYMMETRIC, range(SYMMETRIC.rows)),
    "free": (replace(SYMMETRIC, symmetric=False), [0]),
}
DEPTH = 12  # cycles of the invariant: those until the last rows of a step are read
LONGEST = 26  # cycles in which events and faults are seen
# Cycles from a step to what has it in it: the last part of its sums in each kind of PE.
SUMMED = {"products": 8, "bins": 8}
FAULTS: dict[str, tuple[str, Fault, str]] = {  # and what the claim that is broken begins with
    "a bin forgets when another one is meant": ("free", Fault(
        "forgets", "gobo_rtl/pe/bins.py", "pick, select.first)",
        "pick, select.first | select.last)",
    ), "bin"),
    "a bin's upper piece lacks its carry": ("symmetric", Fault(
        "carry", "gobo_rtl/pe/bins.py", "carry.eq(whole[size + 1])", "carry.eq(0)",
    ), "bin"),
    "an activation is taken at an outlier's place": ("free", Fault(
        "place", "gobo_rtl/pe/select.py", "plain & ~seen & ~hits.any()", "plain & ~seen",
    ), "products of row"),
    "a waiting carry is forgotten": ("symmetric", Fault(
        "forgotten", "gobo_rtl/pe/split.py", "else total.carries[n - 1]", "else 0",
    ), "products of row"),
    "the bits above stay when a carry comes": ("symmetric", Fault(
        "above", "gobo_rtl/pe/products.py", "(sign ^ carry)", "sign",
    ), "products of row"),
    "a sum goes on in the next pass": ("symmetric", Fault(
        "goes on", "gobo_rtl/pe/products.py",
        "last, last_above = (select.last for select in self.select)",
        "last, last_above = self.select[0].last, Const(0)",
    ), "products of row"),
    "outliers of the pass before stay": ("symmetric", Fault(
        "stay", "gobo_rtl/pe/bins.py", "with m.If(last | row.hits.any()):",
        "with m.If(row.hits.any()):",
    ), "outliers of row"),
    "sums are loaded a cycle early": ("free", Fault(
        "early", "gobo_rtl/pe/column.py", "self.select[0].last, since,",
        "self.select[0].last, since - 1,",
    ), "bins: sums are loaded"),
    "the first rows are read twice": ("symmetric", Fault(
        "twice", "gobo_rtl/array/array.py", "place.eq(place << 1)", "place.eq(place)",
    ), "products: sums are read"),
}  # fmt: skip
LATE = max(SUMMED.values())  # where the reference is


class Pair(wiring.Component):
    """An array of each kind, and the registers of finished sums in them."""

    def __init__(self, config: ArrayConfig, package: str) -> None:
        array = import_module(f"{package}.array.array").Array
        holding = import_module(f"{package}.pe.holding").Holding
        self.arrays = {pe: array(resized(config, pe=pe)) for pe in ("products", "bins")}
        self.parts: dict[str, Fragment] = {}
        self.ends: dict[str, list[Any]] = {}
        for pe, part in self.arrays.items():
            self.parts[pe], self.ends[pe] = elaborated(part, holding)
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


def steps_in(claims: Claims, config: ArrayConfig) -> dict[str, Value]:
    """Drive the arrays; return what goes in, and what each row is to take of it."""
    m, dut, step = claims.m, claims.dut, claims.dut.i.payload

    # Passes of up to `max_inputs` steps, each of any number of cycles, at any pace.
    begins, done = Signal(init=1), Signal(range(config.max_inputs + 1), name="done")
    before, plain = Mux(begins, 0, done), claims.free(1, "plain_in")
    last = plain & (claims.free(1, "last_in") | (before == config.max_inputs - 1))
    ready = Cat(array.last_ready for array in dut.arrays.values()).all()
    go = ~claims.reset & claims.free(1, "offer") & (~last | ready)
    after = Signal.like(done, name="done_after")
    m.d.comb += after.eq(Mux(go, before + plain, done))
    m.d.sync += done.eq(after)
    with m.If(go):
        m.d.sync += begins.eq(last)
    claims.claim("a pass that goes on has room", begins | (done < config.max_inputs))

    codebook = [claims.fixed(signed(WIDTH), f"w{n}") for n in range(config.shared)]
    act = claims.free(signed(WIDTH), "act")
    planes = [claims.free(config.rows, f"plane{n}") for n in range(config.index_width)]
    entry, power, sign = step.entries[0], claims.free(2, "power"), claims.free(1, "sign")
    m.d.comb += [
        dut.i.valid.eq(go), step.first.eq(begins), step.last.eq(last), step.plain.eq(plain),
        *(plane.eq(new) for plane, new in zip(step.planes, planes, strict=True)),
        step.values[0].eq(number(m, act, config.act.width, "wide_act")),
        step.index_width.eq(config.index_width),
        *(centroid.eq(w) for centroid, w in zip(step.codebook, codebook, strict=False)),
        entry.valid.eq(claims.free(1, "outlier")),
        entry.row.eq(claims.free(config.row_bits, "row")),
        entry.value.eq(Cat(Const(0, config.value.fraction_width), (ONE + power)[:8], sign)),
    ]  # fmt: skip
    chosen: dict[str, Value] = {
        "inside": go | ~begins, "last": go & last, "done": after, "act": act,
        "weight": number(m, Mux(sign, -(1 << power), 1 << power), 5, "weight"),
        **{f"w{j}": w for j, w in enumerate(codebook)},
    }  # fmt: skip
    for row in range(config.rows):
        hit, seen = go & entry.valid & (entry.row == row), Signal(name=f"ref_seen{row}")
        with m.If(go):
            m.d.sync += seen.eq(~plain & (seen | hit))
        index = Cat(plane[row] for plane in planes)
        negate = index[-1] & int(config.symmetric)
        shared = (index ^ negate.replicate(len(index)))[: (config.shared - 1).bit_length()]
        take = go & plain & ~hit & ~seen
        chosen |= {f"hit{row}": hit, f"seen{row}": seen, f"negate{row}": negate}
        chosen |= {f"take{row}_{j}": take & (shared == j) for j in range(config.shared)}
    return chosen


def sum_claims(
    config: ArrayConfig, rows: Sequence[int], package: str = "gobo_rtl", depth: int = DEPTH
) -> Claims:
    """Return the claims for the sums of ``rows``."""
    dut = Pair(config, package)
    claims = Claims(dut, depth=depth)
    m, width = claims.m, config.acc_width

    def late(value: Value, cycles: int, name: str) -> Value:
        for n in range(cycles):
            value = claims.before(value, f"{name}_late{n}")
        return value

    # The steps as they go along; registers are only what is looked at there.
    groups = config.rows // config.drain_lanes
    stages = [steps_in(claims, config)]
    for n in range(1, LATE + 1 + groups):
        before = stages[-1]
        kept = before if n <= LATE else {"last": before["last"]}
        stages.append({name: claims.before(before[name], f"{name}_{n}") for name in kept})
    lasts = [stage["last"] for stage in stages]
    at = stages[LATE]
    settled = late(~claims.reset, 3, "settled")

    # When sums are finished, read and let go.
    for pe, array in dut.arrays.items():
        ends, since = dut.ends[pe], SUMMED[pe]
        loads = [lasts[since - len(ends) + 1 + n] for n in range(len(ends))]
        calm = late(~claims.reset, len(ends) + 1, f"calm_{pe}")  # after reset sums are cleared
        claims.claim(f"{pe}: sums are loaded with a last",
                     ~calm | (Cat(end.load for end in ends) == Cat(loads)))  # fmt: skip
        reads = Cat(lasts[since + 1 : since + 1 + groups])
        claims.claim(f"{pe}: sums are read in their turn",
                     Cat(end.read == reads for end in ends).all())  # fmt: skip
        claims.claim(f"{pe}: a last is taken when the one before has left",
                     array.last_ready == ~Cat(lasts[1 : since + 1 + groups]).any())  # fmt: skip
        for row in range(config.rows):
            seen = register(dut.parts[pe], f"seen{row}")
            early = array.start + array.column.select_delay - 1
            claims.claim(f"{pe}: the outliers of row {row} are seen",
                         seen == stages[early][f"seen{row}"])  # fmt: skip

    act, done, few = at["act"], at["done"], WIDTH + config.step_bits + 1
    value = number(m, act * at["weight"], width, "value")
    wide = ProductsRowLayout(config)
    shape = BinRowLayout(config)
    pieces = list(pairwise(cuts(config.bin_width)))

    def total(value: Value, size: int, name: str) -> tuple[Signal, Signal]:
        """Return the sum with a value of this step, and the last one that was finished."""
        old, new, left = (Signal(signed(size), name=f"{name}_{n}") for n in ("old", "new", "left"))
        m.d.comb += new.eq(old + value)
        m.d.sync += old.eq(Mux(at["last"], 0, new))
        with m.If(at["last"]):
            m.d.sync += left.eq(new)
        return new, left

    def bin_parts(low: Value, *above: Value) -> tuple[Value, list[Value]]:
        """Return the outliers' sum and the bins of a row, whose parts are given."""
        row = data.View(shape, Cat(low, *above))
        words = [row[f"piece{n}"] for n in range(len(pieces))]
        return joined(row.outliers), [Cat(*bits).as_signed() for bits in zip(*words, strict=True)]

    for row in rows:
        lane, group = row % config.drain_lanes, row // config.drain_lanes
        counts, made = [], []
        for j in range(config.shared):
            term = Mux(at[f"take{row}_{j}"], Mux(at[f"negate{row}"], -act, act), 0)
            new, left = total(term, few, f"count{row}_{j}")
            counts.append((new, left))
            made.append([number(m, n * at[f"w{j}"], width, f"made{row}_{j}{name}")
                         for n, name in ((new, ""), (left, "_left"))])  # fmt: skip
            claims.claim(f"count {j} of row {row} is as small as its steps",
                         (new <= (done << 1)) & (new >= -(done << 1)))  # fmt: skip
        outliers = total(Mux(at[f"hit{row}"], value, 0), width, f"outliers{row}")
        chosen: Value = Mux(at[f"hit{row}"], value, 0)
        for j in range(config.shared):
            product = number(m, act * at[f"w{j}"], 2 * WIDTH, f"product{row}_{j}")
            signed_one = Mux(at[f"negate{row}"], -product, product)
            chosen = Mux(at[f"take{row}_{j}"], signed_one, chosen)
        whole = total(chosen, width, f"whole{row}")
        nothing = Cat(whole[0], outliers[0], *(count[0] for count in counts)) == 0
        claims.claim(f"row {row} has nothing between passes", at["inside"] | nothing)
        for n, name in enumerate(("so far", "at its end")):
            sums = sum((one[n] for one in made), outliers[n])
            claims.claim(f"row {row} is its counts and outliers {name}",
                         whole[n] == number(m, sums, width, f"sums{row}_{n}"))  # fmt: skip

        ends = dut.ends["products"]
        parts = [late(end.sums[row], len(ends) - 1 - n, f"part{row}_{n}")
                 for n, end in enumerate(ends)]  # fmt: skip
        row_sum = data.View(wide, Cat(*parts))
        claims.claim(f"products of row {row} are those of its steps",
                     ~settled | (joined(row_sum.low, row_sum.above) == whole[0]))  # fmt: skip
        leaves = data.View(wide, Cat(end.o[lane] for end in ends))
        read = ends[0].read[group]
        claims.claim(f"products of row {row} leave",
                     ~read | (joined(leaves.low, leaves.above) == whole[1]))  # fmt: skip

        ends = dut.ends["bins"]
        behind = LATE - SUMMED["bins"]
        parts = [late(end.sums[row], behind + len(ends) - 1 - n, f"bins{row}_{n}")
                 for n, end in enumerate(ends)]  # fmt: skip
        beside, bins = bin_parts(*parts)
        claims.claim(f"outliers of row {row} are those of its steps",
                     ~settled | (beside == outliers[0]))  # fmt: skip
        for j, (held, count) in enumerate(zip(bins, counts, strict=True)):
            claims.claim(f"bin {j} of row {row} is that of its steps",
                         ~at["inside"] | (held == count[0]))  # fmt: skip
        beside, bins = bin_parts(*(late(end.o[lane], behind, f"left{row}_{n}")
                                   for n, end in enumerate(ends)))  # fmt: skip
        claims.claim(f"outliers of row {row} leave", ~read | (beside == outliers[1]))
        for j, (held, count) in enumerate(zip(bins, counts, strict=True)):
            claims.claim(f"bin {j} of row {row} leaves", ~read | (held == count[1]))
    claims.event("a pass as long as may be", at["last"] & (done == config.max_inputs))
    finished = late(at["last"], 1, "finished")
    again = Signal(name="again")
    m.d.sync += again.eq(~claims.reset & (again | finished))
    claims.event("sums leave a second time", again & finished)
    return claims


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_those_of_the_steps(kind: str, tmp_path: Path) -> None:
    claims = sum_claims(*KINDS[kind])
    assert induction(claims, tmp_path) == Verdict(True)
    assert set(reach(claims, tmp_path, LONGEST)) == set(claims.events)


@pytest.mark.slow
def test_an_induction_refutes_what_breaks_after_its_first_cycles(tmp_path: Path) -> None:
    claims = sum_claims(SYMMETRIC, [0])
    longest = "a pass as long as may be"
    claims.claim("never", ~claims.events[longest])
    assert reach(claims, tmp_path, LONGEST)[longest] > DEPTH
    assert induction(claims, tmp_path) == Verdict(False, 0, "never")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    kind, fault, broken = FAULTS[name]
    claims = sum_claims(KINDS[kind][0], [0], planted_package(fault, tmp_path))
    verdict = bounded(claims, tmp_path / "proof", LONGEST)
    assert verdict.holds is False and verdict.broken.startswith(broken), verdict
