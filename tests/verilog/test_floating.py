# amaranth: UnusedElaboratable=no
"""The whole accelerator with PEs that compute in floating point: every word and every cycle."""

from dataclasses import replace
from pathlib import Path

import pytest

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from sim.golden.cycles import stall_drain
from sim.verilated.machine import Machine
from tests.accelerating import STALLS, Case, Shape, expect_cycles, make_jobs, run_jobs

SEED = 20261124
BUILD = Path(__file__).resolve().parents[2] / "build" / "verilated"
TINY = ARRAYS["tiny"]
CONFIGS = {
    "mac": replace(TINY, pe="mac"),
    "bins_fp16": replace(TINY, pe="bins_fp16", outliers_per_step=2),
    "bins_fp16 symmetric": replace(TINY, pe="bins_fp16", symmetric=True),
}

# Edges of rows and tokens, every index width, every pattern of outliers and kind of activations.
CASES = [
    Case(shape=Shape(rows=1, columns=1, pattern="none"), tokens=1),
    Case(shape=Shape(rows=9, columns=40, index_width=4), tokens=5, block_tiles=2),
    Case(shape=Shape(rows=8, columns=33, pattern="none", bias="none"), tokens=4, acts="wide"),
    Case(shape=Shape(rows=7, columns=24, pattern="row", index_width=2), tokens=3, resident=True),
    Case(shape=Shape(rows=12, columns=30, pattern="step", bias="special"), tokens=4),
    Case(shape=Shape(rows=6, columns=21, pattern="share:0.3"), tokens=2, acts="subnormal"),
    Case(shape=Shape(rows=10, columns=50), tokens=6, acts="special", block_tiles=3),
    Case(shape=Shape(rows=5, columns=64, bias="none"), tokens=4, acts="extreme"),
    Case(shape=Shape(rows=4, columns=16, pattern="all"), tokens=3, acts="zero"),
]


def cases(config: ArrayConfig) -> list[Case]:
    """Return the cases, with the codebooks that the array takes."""
    return [
        replace(case, shape=replace(case.shape, symmetric=config.symmetric)) for case in CASES
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_word_and_cycle_is_that_of_the_golden_model(name: str) -> None:
    config = CONFIGS[name]
    built = Machine(config, BUILD, 1 << 20)
    for case in cases(config)[:3]:
        with built as machine:
            machine.memory_manners()
            jobs = make_jobs(config, [case], SEED)
            finished = run_jobs(machine, jobs)
            counters = finished.counters
            assert counters["stall_drain"] == stall_drain(config, jobs.works)
            cycles = expect_cycles(config, jobs.works[0], counters)
            assert finished.completions[0].cycles == cycles
            assert sum(counters[name] for name in STALLS)  # the first step waits for memory
    with built as machine:  # back to back, with a memory that pauses
        machine.memory_manners(pause=120, latency=3, bandwidth=config.beat_bytes)
        run_jobs(machine, make_jobs(config, cases(config), SEED))
