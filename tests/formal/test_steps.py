# amaranth: UnusedElaboratable=no
"""Steps loses and doubles nothing: every cycle of weights is given once, with the activations of
its step and the codebook of its layer.

Proved for all time: layers of any number of passes, passes of any number of steps, steps of any
number of cycles, and every pace of the inputs and of the array. Cycles, steps and layers carry
their numbers, modulo 8, in the places of indexes, activations and units.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from amaranth.hdl import Mux, Signal, Value

from gobo_rtl.array import steps
from gobo_rtl.array_config import ARRAYS
from gobo_rtl.array_layout import ActStepLayout, LayerLayout, WeightStepLayout
from tests.sabotage.plant import Fault, planted_package

from .prover import Claims, bounded, prove, reach

CONFIG = ARRAYS["tiny"]
NUMBER = 3  # bits
CYCLES = 12  # in which events are seen
CAUSES = ("busy", "stall_outliers", "stall_weights", "stall_acts", "stall_drain")
FILE = "gobo_rtl/array/steps.py"
FAULTS: dict[str, tuple[Fault, str]] = {  # and the claim that is broken
    "an activation a cycle": (Fault(
        "acts", FILE, "eq(give & weights.done)", "eq(give)",
    ), "it has the activations of its step"),
    "a layer a pass": (Fault(
        "layer", FILE, "self.i_layer.ready.eq(give & begins)",
        "self.i_layer.ready.eq(give & weights.first)",
    ), "a layer is taken with the first of its passes"),
    "the first codebook stays": (Fault(
        "stale", FILE, "with m.If(give & begins):",
        "with m.If(give & begins & (o.payload.unit == 0)):",
    ), "it has the unit of its layer"),
    "a cycle is lost": (Fault(
        "lost", FILE, "o.valid.eq(give)", "o.valid.eq(give & ~weights.first)",
    ), "what is taken is given"),
    "a cycle is given twice": (Fault(
        "twice", FILE, "o.valid.eq(give)", "o.valid.eq(give | self.stall_outliers)",
    ), "what is given is taken"),
    "a last cycle too early": (Fault(
        "early", FILE, "(self.last_ready & ~(o.valid & o.payload.last))", "self.last_ready",
    ), "the array takes a last cycle"),
    "it waits for ever": (Fault(
        "waits", FILE, "give.eq(due & both & free)", "give.eq(due & both & free & self.last_ready)",
    ), "it waits for the array with the last cycle only"),
}  # fmt: skip


def counter(claims: Claims, name: str, event: Value) -> Signal:
    """Return how often ``event`` was in the cycles before, modulo 2^NUMBER."""
    count = Signal(NUMBER, name=name)
    claims.m.d.sync += count.eq(Mux(claims.reset, 0, count + event))
    return count


def step_claims(source: ModuleType) -> Claims:
    """Return the claims."""
    dut = source.Steps(CONFIG)
    claims = Claims(dut)
    m, reset, o = claims.m, claims.reset, dut.o
    weights, acts, layers, passes = dut.i_weights, dut.i_acts, dut.i_layer, dut.i_first
    took = {name: port.valid & port.ready & ~reset for name, port in
            (("cycles", weights), ("steps", acts), ("passes", passes), ("layers", layers))}

    # Numbered inputs. The first pass of all is the first of a layer.
    numbers = {name: counter(claims, name, event) for name, event in took.items()}
    begins, begun = Signal(), Signal()  # a pass; any layer
    with m.If(took["cycles"]):
        m.d.sync += begins.eq(weights.payload.last)
    with m.If(took["passes"]):
        m.d.sync += begun.eq(1)
    with m.If(reset):
        m.d.sync += [begins.eq(1), begun.eq(0)]
    cycle, act = Signal(WeightStepLayout(CONFIG)), Signal(ActStepLayout(CONFIG))
    layer = Signal(LayerLayout(CONFIG))
    done = claims.free(1, "done")
    m.d.comb += [
        cycle.planes[0].eq(numbers["cycles"]), cycle.done.eq(done), cycle.plain.eq(done),
        cycle.first.eq(begins), cycle.last.eq(done & claims.free(1, "last")),
        cycle.entries[0].valid.eq(claims.free(1, "outlier")),
        act.values[0].eq(numbers["steps"]), layer.unit.eq(numbers["layers"]),
    ]  # fmt: skip
    claims.drive(weights, "weights", Value.cast(cycle))
    claims.drive(acts, "acts", Value.cast(act))
    claims.drive(layers, "layer", Value.cast(layer))
    claims.drive(passes, "pass", claims.free(1, "first") | ~begun)
    last_ready = claims.free(1, "last_ready_in")
    m.d.comb += dut.last_ready.eq(last_ready)

    # What is given, in the order of what was taken.
    given, ended = o.valid & ~reset, Signal()
    m.d.comb += ended.eq(given & o.payload.plain)
    new = given & o.payload.first & claims.before(took["layers"], "new_layer")
    cycles, step = counter(claims, "given_cycles", given), counter(claims, "given_steps", ended)
    layers_given = counter(claims, "given_layers", new)
    ends = claims.before(weights.payload.last & took["cycles"], "ends")
    taken = claims.before(took["cycles"], "taken")
    claims.claim("what is given is taken", ~o.valid | taken)
    claims.claim("what is taken is given", o.valid | ~taken)
    claims.claim("it is the next cycle", ~o.valid | (o.payload.planes[0] == cycles[:CONFIG.rows]))
    claims.claim("it has the activations of its step", ~o.valid | (o.payload.values[0] == step))
    claims.claim("it has the unit of its layer",
                 ~o.valid | (o.payload.unit == (layers_given + new - 1)[:NUMBER]))
    claims.claim("a layer is taken with the first of its passes", took["layers"]
                 == (took["cycles"] & weights.payload.first & passes.payload))
    claims.claim("a pass is taken with its last cycle",
                 took["passes"] == (took["cycles"] & weights.payload.last))
    claims.claim("first and last are kept", ~o.valid | ((o.payload.last == ends) & (
        o.payload.first == claims.before(begins, "began"))))
    claims.claim("outliers are counted", dut.outliers == (o.valid & o.payload.entries[0].valid))

    # Pace.
    last = o.valid & o.payload.last
    claims.claim("the array takes a last cycle", ~last | (
        claims.before(last_ready, "was_ready") & ~claims.before(last & ~reset, "was_last")))
    there = weights.valid & acts.valid & layers.valid & passes.valid
    claims.claim("it gives what it can", ~(there & last_ready & ~last) | weights.ready)
    claims.claim("it waits for the array with the last cycle only",
                 ~there | weights.payload.last | weights.ready)
    causes = sum((getattr(dut, name) for name in CAUSES), start=Signal(3))
    due = claims.before(passes.valid & ~reset, "due")
    claims.claim("every cycle of a pass has one cause", causes == due)

    alone = o.valid & o.payload.first & o.payload.last
    claims.event("a pass of one cycle after another", alone & claims.before(alone, "alone") == 0)
    claims.event("a step of three cycles", o.valid & o.payload.plain & claims.before(
        claims.before(o.valid & ~o.payload.plain, "one") & o.valid & ~o.payload.plain, "two"))
    claims.event("a layer directly after another",
                 new & claims.before(last, "last_before") & (layers_given == 1))
    claims.event("the last cycle waits", dut.stall_drain & ~last_ready)
    return claims


def test_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    claims = step_claims(steps)
    verdict = prove(claims, tmp_path)
    assert verdict.holds, verdict
    assert set(reach(claims, tmp_path, CYCLES)) == set(claims.events)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    fault, broken = FAULTS[name]
    source = import_module(f"{planted_package(fault, tmp_path)}.array.steps")
    verdict = bounded(step_claims(source), tmp_path / "proof", 2 * CYCLES)
    assert verdict.holds is False and verdict.broken == broken, verdict
