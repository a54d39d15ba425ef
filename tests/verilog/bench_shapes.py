"""The accelerator behind its AXI4 ports: layers from the smallest to the largest, under pauses."""

from typing import Any

import cocotb

from gobo_rtl.array_config import ArrayConfig
from sim.cosim import configuration
from sim.jobs import lay_out
from tests.accelerating import Case, Shape, make_jobs
from tests.verilog.bench_accelerator import BASE, Bench, check

SEED = 20201019
PAUSE = 0.3


async def go(dut: Any, cases: list[Case]) -> None:
    """Run jobs back to back, every channel with pauses, and compare everything."""
    config = configuration(ArrayConfig)
    jobs = make_jobs(config, cases, SEED)
    bench = Bench(dut, lay_out(config, jobs.image, jobs.runs, base=BASE, gap=1), PAUSE)
    await bench.start()
    assert await bench.run(len(cases)) == []
    check(config, bench, jobs.layers, jobs.runs, {})


def one(rows: int, columns: int, tokens: int, pattern: str, acts: str, **how: Any) -> Case:
    """Return a job of the widest indexes."""
    width = configuration(ArrayConfig).index_width
    shape = Shape(rows=rows, columns=columns, index_width=width, pattern=pattern)
    return Case(shape=shape, tokens=tokens, acts=acts, **how)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def smallest_and_prime_layers(dut: Any) -> None:
    """A single weight, and edges that do not fill the array."""
    await go(dut, [
        one(1, 1, 1, "none", "normal"),
        one(1, 1, 1, "all", "extreme"),
        one(13, 29, 3, "share:0.02", "wide"),
        one(1, 1, 1, "none", "zero"),
        one(5, 31, 7, "step", "special", block_tiles=2),
        one(7, 11, 5, "row", "subnormal", resident=True),
    ])  # fmt: skip


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def large_layers(dut: Any) -> None:
    """The most inputs, many outputs, many tokens."""
    await go(dut, [
        one(17, 4096, 3, "share:0.003", "normal"),
        one(1, 1, 1, "none", "normal"),
        one(33, 257, 128, "share:0.02", "wide", block_tiles=8),
        one(16, 509, 128, "row", "extreme", resident=True),
        one(64, 3072, 16, "share:0.02", "special"),
    ])  # fmt: skip
