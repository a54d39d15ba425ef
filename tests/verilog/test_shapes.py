# amaranth: UnusedElaboratable=no
"""Every named array, whole, in Verilator: shapes by outliers by activations.

Every word is the golden model's, every counter and the cycles of every job are those of the
formulas of docs/accelerator.md, section 6.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.emit import emit
from quant.errors import QuantError
from sim.golden.cycles import stall_drain
from sim.golden.layer import compute
from sim.jobs import Run, block_tiles, lay_out
from sim.verilated.machine import Machine
from tests.accelerating import (
    ACTIVATIONS,
    Case,
    Shape,
    activations,
    expect_cycles,
    make_image,
    make_jobs,
    run_jobs,
)
from tests.sabotage.plant import Fault, planted_package

pytestmark = pytest.mark.verilator
SEED = 20261124
BUILD = Path(__file__).resolve().parents[2] / "build" / "verilated"
MEMORY = 1 << 24
OUTLIERS = ("none", "share:0.003", "share:0.02", "row", "step")
TOKENS = (1, 2, 17, 128)

# `make test` has the smallest array; a whole default one takes minutes to build.
ARRAY = [pytest.param(name, marks=[pytest.mark.slow] * (name != "tiny")) for name in ARRAYS]


class Row(NamedTuple):
    """A line of the tables: inputs are cut to the most that an array takes."""

    outputs: int
    inputs: int
    tokens: int
    outliers: str
    acts: str
    how: str  # tiles of a block: all that fit, one; or the layer stays on chip: resident


# Each of these with all patterns of outliers by all kinds of activations.
SMALL = ((1, 1, 1), (29, 53, 13))

LARGE = (
    Row(1, 4096, 128, "share:0.02", "extreme", "all"),
    Row(33, 4096, 17, "row:0.1", "normal", "one"),
    Row(7, 4096, 2, "share:0.003", "special", "resident"),
    Row(768, 3072, 16, "share:0.003", "normal", "all"),
    Row(768, 768, 17, "share:0.02", "wide", "one"),
    Row(3072, 768, 2, "share:0.02", "subnormal", "all"),
    Row(131, 257, 17, "step", "wide", "one"),
    Row(67, 509, 128, "row", "subnormal", "all"),
    Row(31, 199, 128, "share:0.02", "special", "resident"),
    Row(257, 131, 1, "none", "special", "all"),
    Row(17, 1021, 2, "share:0.02", "zero", "all"),
    Row(16, 1021, 128, "step", "extreme", "resident"),
)
# A million cycles: for the default array only.
LONGEST = Row(768, 3072, 128, "share:0.003", "wide", "all")
# For the array of 4 rows by 2 columns.
FEW = (
    Row(1, 512, 128, "share:0.02", "extreme", "all"),
    Row(13, 509, 17, "row:0.1", "normal", "one"),
    Row(3, 512, 2, "share:0.003", "special", "resident"),
    Row(29, 257, 17, "none", "wide", "all"),
    Row(131, 61, 2, "row", "subnormal", "one"),
    Row(67, 127, 1, "step", "zero", "all"),
)


@cache
def built(array: str) -> Machine:
    return Machine(ARRAYS[array], BUILD, MEMORY)


@pytest.fixture
def machine(array: str) -> Iterator[Machine]:
    with built(array) as each:
        yield each


def case(config: ArrayConfig, row: Row, number: int) -> Case:
    """Return a job; index widths and kinds of biases in turn, not in step with anything else."""
    inputs, widths = min(row.inputs, config.max_inputs), config.index_widths
    tiles = block_tiles(config, row.tokens, inputs) if row.how == "all" else 1
    shape = Shape(
        rows=row.outputs, columns=inputs, index_width=widths[(number + number // 6) % len(widths)],
        pattern=row.outliers, bias=("normal", "special", "none")[(number + number // 3) % 3],
        symmetric=config.symmetric,
    )  # fmt: skip
    return Case(shape=shape, tokens=row.tokens, acts=row.acts, block_tiles=tiles,
                resident=row.how == "resident")  # fmt: skip


def small(config: ArrayConfig, shape: tuple[int, int, int]) -> list[Case]:
    """Return jobs of a shape, outputs by inputs by tokens."""
    cases = []
    for n, (outliers, acts) in enumerate(product(OUTLIERS, ACTIVATIONS)):
        how = ("all", "one", "resident")[(n // 2 + n // 6) % 3]
        cases.append(case(config, Row(*shape, outliers, acts, how), n))
    return cases


def large(array: str) -> list[Case]:
    """Return the table's jobs."""
    rows = {"tiny": FEW, "default": (*LARGE, LONGEST)}.get(array, LARGE)
    return [case(ARRAYS[array], row, number) for number, row in enumerate(rows)]


def by_itself(machine: Machine, one: Case) -> None:
    """Run a job with a memory that never waits, and compare all it can be compared with."""
    jobs = make_jobs(machine.config, [one], SEED)
    finished = run_jobs(machine, jobs)
    (work,), (completion,), counters = jobs.works, finished.completions, finished.counters
    assert counters["stall_drain"] == stall_drain(machine.config, [work])
    assert completion.cycles == expect_cycles(machine.config, work, counters)


@pytest.mark.parametrize("array", ARRAYS)
def test_the_table_has_every_value_of_every_dimension(array: str) -> None:
    config, cases = ARRAYS[array], large(array)
    every = [*cases, *(one for shape in SMALL for one in small(config, shape))]
    assert {one.shape.pattern for one in every} >= {*OUTLIERS}
    assert {one.acts for one in every} == {*ACTIVATIONS}
    assert {one.tokens for one in cases} >= {*TOKENS}
    assert {one.shape.index_width for one in cases} == {*config.index_widths}
    assert {one.shape.bias for one in cases} == {"none", "normal", "special"}
    assert {one.resident for one in cases} == {True, False}
    assert max(one.shape.columns for one in cases) == config.max_inputs


@pytest.mark.parametrize("array", ARRAY)
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_small_layers_by_themselves(machine: Machine, shape: tuple[int, int, int]) -> None:
    for one in small(machine.config, shape):
        by_itself(machine, one)


@pytest.mark.parametrize(
    ("array", "number"),
    [
        pytest.param(name, number, marks=[pytest.mark.slow] * (name != "tiny"))
        for name in ARRAYS
        for number in range(len(large(name)))
    ],
)
def test_a_large_layer_by_itself(machine: Machine, array: str, number: int) -> None:
    by_itself(machine, large(array)[number])


@pytest.mark.parametrize("array", ARRAY)
def test_small_layers_back_to_back_from_a_memory_that_pauses(machine: Machine) -> None:
    cases = [one for shape in SMALL for one in small(machine.config, shape)]
    machine.memory_manners(pause=90, latency=5, seed=SEED)
    run_jobs(machine, make_jobs(machine.config, cases, SEED))


@pytest.mark.parametrize("array", ARRAY)
def test_large_layers_back_to_back_from_a_memory_that_all_share(
    machine: Machine, array: str
) -> None:
    cases = [one for one in large(array) if one.shape.rows < 768]
    machine.memory_manners(bandwidth=machine.config.beat_bytes, latency=30, pause=10)
    run_jobs(machine, make_jobs(machine.config, cases, SEED))


@pytest.mark.parametrize("array", ARRAY)
def test_a_layer_that_fills_its_buffer_stays_on_chip_and_a_strip_more_is_too_large(
    machine: Machine,
) -> None:
    config = machine.config
    strips = config.index_depth // config.max_inputs
    for more, error in ((0, "none"), (1, "too_large")):
        shape = Shape(rows=config.rows * (strips + more), columns=config.max_inputs,
                      pattern="share:0.003")  # fmt: skip
        one = Case(shape=shape, tokens=2 * config.columns + 1, resident=True)
        jobs = make_jobs(config, [one], SEED)
        finished = machine.run(lay_out(config, jobs.image, jobs.runs), limit=1_000_000)
        assert [end.error for end in finished.completions] == [error]
        assert more or np.array_equal(finished.results[0], jobs.due[0])


@pytest.mark.parametrize("array", ARRAY)
def test_what_an_array_cannot_hold_is_refused_and_the_queue_goes_on(machine: Machine) -> None:
    config = machine.config
    small = Shape(rows=1, columns=1, pattern="none", index_width=config.index_width)
    cases = {
        "too_large": replace(small, columns=config.max_inputs, pattern="row"),
        "layer": replace(small, rows=768, columns=3072),
    }  # fmt: skip
    if config.max_inputs >= 3072:
        del cases["layer"]
    shapes = [shape for bad in cases.values() for shape in (bad, small)]
    with pytest.raises(QuantError, match="has outliers in strip 0"):
        make_image(config, shapes[:1], SEED)
    # Packed for an array with more room, but otherwise alike.
    room = replace(config, max_inputs=4096, index_depth=4096, outlier_depth=8192, act_depth=8192)
    image, layers = make_image(room, shapes, SEED)
    rng = np.random.default_rng(SEED)
    runs = [Run(n, activations(config, rng, 2, shape.columns, "normal"), tag=n)
            for n, shape in enumerate(shapes)]  # fmt: skip
    finished = machine.run(lay_out(config, image, runs), limit=1_000_000)
    due = [error for bad in cases for error in (bad, "none")]
    assert [end.error for end in finished.completions] == due
    for number in range(1, len(runs), 2):
        words = compute(config, layers[number], runs[number].acts)
        assert np.array_equal(finished.results[number], words)


# -- outliers on the default array ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("array", ["default"])
@pytest.mark.parametrize("seed", range(3))
def test_no_stall_up_to_six_outliers_in_a_thousand(machine: Machine, seed: int) -> None:
    shape = Shape(rows=768, columns=768, pattern="share:0.006")
    jobs = make_jobs(machine.config, [Case(shape=shape, tokens=16)], seed)
    counters = run_jobs(machine, jobs).counters
    assert round(counters["outliers"] / 768**2, 3) == 0.006
    assert counters["stall_outliers"] == counters["stall_drain"] == 0
    # Before the first step the token tile must be there, 16 tokens of 96 beats; then none waits.
    assert counters["stall_weights"] + counters["stall_acts"] == 4 + 16 * 96
    assert counters["busy"] == 48 * 768


@pytest.mark.slow
@pytest.mark.parametrize("array", ["default"])
def test_bunched_outliers_stall_as_often_as_the_places_are_full(machine: Machine) -> None:
    shape = Shape(rows=768, columns=768, pattern="steps:0.02")
    jobs = make_jobs(machine.config, [Case(shape=shape, tokens=16)], SEED)
    counters = run_jobs(machine, jobs).counters
    assert counters["outliers"] == 768 * 15
    # In each of 48 strips 15 steps have 16 outliers, of which four are taken in a cycle.
    assert counters["stall_outliers"] == 48 * 15 * 3


# -- a fault ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_counter_that_is_a_bit_short_is_found_by_the_most_inputs(tmp_path: Path) -> None:
    fault = Fault(
        "steps are counted to a half", "gobo_rtl/array/act_buffer.py",
        "step = Signal(config.step_bits)", "step = Signal(config.step_bits - 1)",
    )  # fmt: skip
    planted = planted_package(fault, tmp_path)
    tiny = import_module(f"{planted}.array_config").ARRAYS["tiny"]
    text = emit(import_module(f"{planted}.top.accelerator").Accelerator(tiny), "accelerator")
    most, *_, fewer, fewest = large("tiny")
    with Machine(ARRAYS["tiny"], BUILD, MEMORY, text) as machine:
        by_itself(machine, fewest)
        by_itself(machine, fewer)
        with pytest.raises(AssertionError, match=r"too_large|wrong words"):
            by_itself(machine, most)
