# amaranth: UnusedElaboratable=no
"""What the accelerator counts, against the formulas of docs/accelerator.md, section 6."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gobo_rtl.array_config import ARRAYS
from gobo_rtl.emit import emit
from gobo_rtl.top.accelerator import Accelerator
from sim.golden.cycles import Work, cycles, stall_drain
from sim.verilated.machine import Finished, Machine
from tests.accelerating import STALLS, Case, Shape, expect_cycles, make_jobs, run_jobs

SEED = 20261123
TINY = ARRAYS["tiny"]
BUILD = Path(__file__).resolve().parents[2] / "build" / "verilated"


@pytest.fixture(scope="module")
def verilog() -> str:
    return emit(Accelerator(TINY), "accelerator")


@pytest.fixture
def machine(verilog: str) -> Iterator[Machine]:
    with Machine(TINY, BUILD, 1 << 20, verilog) as built:
        yield built


def run(machine: Machine, cases: list[Case]) -> tuple[Finished, list[Work]]:
    """Run jobs, words and counters compared; return what they left, and what they were."""
    jobs = make_jobs(TINY, cases, SEED)
    return run_jobs(machine, jobs), jobs.works


FED = {
    "the drain limits": Case(
        shape=Shape(rows=30, columns=4, pattern="share:0.3"), tokens=7, block_tiles=4
    ),
    "the drain limits some": Case(
        shape=Shape(rows=30, columns=11, pattern="share:0.3"), tokens=8, block_tiles=4
    ),
    "a step a pass": Case(
        shape=Shape(rows=12, columns=1, pattern="none"), tokens=2
    ),
    "a step": Case(shape=Shape(rows=1, columns=1, pattern="none"), tokens=1),
    "edges": Case(shape=Shape(rows=30, columns=64), tokens=7, block_tiles=4),
    "2 bits, no biases": Case(
        shape=Shape(rows=8, columns=64, index_width=2, bias="none"), tokens=6, block_tiles=3
    ),
    "4 bits": Case(shape=Shape(rows=9, columns=33, index_width=4), tokens=8, block_tiles=4),
    "resident": Case(shape=Shape(rows=16, columns=64), tokens=8, resident=True),
    "many outliers": Case(
        shape=Shape(rows=32, columns=64, pattern="share:0.1"), tokens=8, block_tiles=4
    ),
    "all in a step": Case(
        shape=Shape(rows=12, columns=24, pattern="step"), tokens=6, block_tiles=3
    ),
    "no outliers": Case(shape=Shape(rows=12, columns=40, pattern="none"), tokens=2),
}


@pytest.mark.parametrize("name", FED)
def test_a_job_takes_the_cycles_of_the_page_and_moves_its_beats(
    machine: Machine, name: str
) -> None:
    machine.memory_manners()
    finished, works = run(machine, [FED[name]])
    (work,), counters = works, finished.counters
    assert counters["stall_drain"] == stall_drain(TINY, works)
    # Only the first step waits: for its token tile, or to know of the first outliers.
    words = np.flatnonzero(work.outlier[: TINY.rows].any(axis=0))
    first = int(words[0]) + 1 if words.size else work.inputs
    per_token = -(-work.inputs // TINY.acts_per_beat)
    fill = counters["stall_weights"] + counters["stall_acts"]
    assert fill >= max(4 + min(work.tokens, TINY.columns) * per_token, 6 + first)
    if not words.size:
        assert fill == 6 + work.inputs
    due = counters["busy"] + sum(counters[stall] for stall in STALLS)
    assert due == fill + cycles(TINY, works)
    assert finished.completions[0].cycles == expect_cycles(TINY, work, counters)


@pytest.mark.parametrize(
    ("pause", "latency", "bandwidth"), [(0, 1, 0), (0, 30, 0), (120, 3, 8), (0, 9, 3)]
)
def test_layers_back_to_back_move_the_same_under_any_memory(
    machine: Machine, pause: int, latency: int, bandwidth: int
) -> None:
    machine.memory_manners(pause=pause, latency=latency, bandwidth=bandwidth)
    names = ("edges", "many outliers", "resident", "4 bits")
    run(machine, [FED[name] for name in names])


def test_long_layers_follow_each_other_without_a_bubble(machine: Machine) -> None:
    machine.memory_manners()
    case = Case(shape=Shape(rows=40, columns=100), tokens=8, block_tiles=4)
    fills = []
    for count in (2, 1):
        finished, works = run(machine, [case] * count)
        assert finished.counters["stall_drain"] == stall_drain(TINY, works) == 0
        fills.append(sum(finished.counters[name] for name in ("stall_weights", "stall_acts")))
    assert fills[0] == fills[1]
