"""Weights and activations of the same step reach the array, and every cycle is accounted for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from gobo_rtl.array.steps import Steps
from gobo_rtl.array_config import ARRAYS
from gobo_rtl.array_layout import ActStepLayout, LayerLayout, StepLayout, WeightStepLayout
from sim.pysim import idle, simulate

from .decoding import Pace
from .streaming import FULL, PACES, transfer

SEED = 20201014
TINY = ARRAYS["tiny"]
CAUSES = ("busy", "stall_outliers", "stall_weights", "stall_acts", "stall_drain")


@dataclass
class Traffic:
    """What the inputs are given, and what is due at ``o`` and of the counters."""

    weights: list[int]
    acts: list[int]
    layers: list[int]
    first: list[int]
    due: list[int]
    outliers: list[int]


def random_traffic(shapes: list[tuple[int, int]], seed: int) -> Traffic:
    """Return layers of (passes, steps); a third of the steps take two cycles or three."""
    rng, all_of = np.random.default_rng([SEED, seed]), Traffic([], [], [], [], [], [])

    def bits(width: int) -> int:
        return int.from_bytes(rng.bytes(-(-width // 8)), "little") & ((1 << width) - 1)

    for passes, steps in shapes:
        codebook = [int(rng.integers(-2048, 2048)) for _ in range(TINY.bins)]
        unit, exponent = int(rng.integers(-40, 10)), int(rng.integers(-40, 10))
        all_of.layers.append(LayerLayout(TINY).const({
            "codebook": codebook, "unit": unit, "act_exponent": exponent,
            "index_width": 2 + passes % 3, "rows": int(rng.integers(1, 99)),
        }).as_bits())  # fmt: skip
        for n in range(passes):
            all_of.first.append(int(n == 0))
            for step in range(steps):
                values = [bits(TINY.act.width) for _ in range(TINY.columns)]
                scales = [
                    {"exponent": bits(TINY.act.exponent_width), "special": bits(1)}
                    for _ in range(TINY.columns)
                ]
                all_of.acts.append(ActStepLayout(TINY).const({
                    "values": values, "scales": scales, "last": step + 1 == steps,
                }).as_bits())  # fmt: skip
                planes = [bits(TINY.rows) for _ in range(TINY.index_width)]
                cycles = int(rng.choice([1, 1, 2, 3]))
                for cycle in range(cycles):
                    done = cycle + 1 == cycles
                    valid = 1 if cycle else bits(1)
                    entries = [{"valid": valid, "row": bits(2), "value": bits(16)}]
                    common = {
                        "planes": planes, "plain": done, "entries": entries,
                        "first": step == 0 and cycle == 0, "last": step + 1 == steps and done,
                    }  # fmt: skip
                    all_of.weights.append(
                        WeightStepLayout(TINY).const({**common, "done": done}).as_bits()
                    )
                    all_of.due.append(StepLayout(TINY).const({
                        **common, "values": values, "scales": scales, "codebook": codebook,
                        "unit": unit, "act_exponent": exponent, "index_width": 2 + passes % 3,
                    }).as_bits())  # fmt: skip
                    all_of.outliers.append(valid)
    return all_of


def given_out(traffic: Traffic, pace: Pace) -> dict[str, Any]:
    """Drive the traffic; ``last_ready`` comes and goes with the stalls of ``pace``."""
    dut, rest = Steps(TINY), pace.rests(9, pace.stall)
    ready_seen: list[int] = []

    async def array(ctx: Any) -> None:
        while True:
            ready = not next(rest)
            ctx.set(dut.last_ready, ready)
            await ctx.tick()
            ready_seen.append(ready)

    given = {"i_weights": traffic.weights, "i_acts": traffic.acts, "i_layer": traffic.layers,
             "i_first": traffic.first}  # fmt: skip
    seen: dict[str, Any] = transfer(
        dut, given, {"o": len(traffic.due)}, pace, probes=[*CAUSES, "outliers"], feeds=[array]
    )
    seen["ready"] = ready_seen
    return seen


SHAPES = [(2, 3), (3, 1), (1, 1), (1, 5), (2, 2)]


@pytest.mark.parametrize("pace", PACES)
def test_steps_of_layers_in_a_row(pace: Pace) -> None:
    traffic = random_traffic(SHAPES, pace.seed)
    seen = given_out(traffic, pace)
    assert seen["o"].words == traffic.due


@pytest.mark.parametrize("pace", PACES)
def test_a_last_cycle_is_given_only_when_the_array_takes_it(pace: Pace) -> None:
    seen = given_out(random_traffic(SHAPES, pace.seed), pace)
    lasts = [
        when
        for word, when in zip(seen["o"].words, seen["o"].cycles, strict=True)
        if StepLayout(TINY).from_bits(word).last
    ]
    assert len(lasts) == sum(passes for passes, _ in SHAPES)
    assert all(seen["ready"][when - 1] for when in lasts)
    assert min(np.diff(lasts)) > 1


@pytest.mark.parametrize("pace", PACES)
def test_every_cycle_of_a_pass_has_one_cause(pace: Pace) -> None:
    traffic = random_traffic(SHAPES, pace.seed)
    seen = given_out(traffic, pace)
    causes = np.array([seen[name].words for name in CAUSES])
    plain = [StepLayout(TINY).from_bits(word).plain for word in traffic.due]
    assert causes[0].sum() == sum(plain)
    assert causes[1].sum() == len(plain) - sum(plain)
    given = np.flatnonzero(causes[:2].any(axis=0))
    assert given.tolist() == seen["o"].cycles
    assert [seen["outliers"].words[n] for n in given] == traffic.outliers
    assert sum(seen["outliers"].words) == sum(traffic.outliers)
    assert causes.sum(axis=0).max() == 1
    # From the first offer of a pass to its last cycle, nothing but the time between is idle.
    total = causes.sum(axis=0)
    taken = seen["i_first"].cycles
    assert (total[: taken[0]] == 1).any()
    for n in range(given[0], taken[0] + 1):
        assert total[n] == 1


def test_a_cycle_of_a_step_in_every_cycle() -> None:
    traffic = random_traffic([(1, 4), (3, 2), (1, 9)], 5)
    when = given_out(traffic, FULL)["o"].cycles
    lasts = [StepLayout(TINY).from_bits(word).last for word in traffic.due]
    assert when[0] == 1
    assert np.diff(when).tolist() == [1] * (len(when) - 1)
    assert sum(lasts) == 5


@pytest.mark.parametrize("missing, cause", [
    ("i_weights", "stall_weights"), ("i_layer", "stall_weights"), ("i_acts", "stall_acts"),
    ("last_ready", "stall_drain"), ("i_first", None),
])  # fmt: skip
def test_what_is_waited_for_is_told(missing: str, cause: str | None) -> None:
    """A pass of one step, all there but one input."""
    dut = Steps(TINY)

    async def watch(ctx: Any) -> None:
        ctx.set(dut.i_weights.payload.plain, 1)
        for name in ("first", "last", "done"):
            ctx.set(getattr(dut.i_weights.payload, name), 1)
        ctx.set(dut.i_first.payload, 1)
        for name in ("i_weights", "i_acts", "i_layer", "i_first"):
            ctx.set(getattr(dut, name).valid, name != missing)
        ctx.set(dut.last_ready, missing != "last_ready")
        await idle(ctx, 5)
        assert {name for name in CAUSES if ctx.get(getattr(dut, name))} == ({cause} - {None})
        assert not ctx.get(dut.o.valid)
        if missing == "last_ready":
            ctx.set(dut.last_ready, 1)
        else:
            ctx.set(getattr(dut, missing).valid, 1)
        await ctx.tick()
        assert ctx.get(dut.o.valid) and ctx.get(dut.busy)

    simulate(dut, watch)
