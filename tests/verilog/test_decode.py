"""The emitted Verilog of the decode unit, on every simulator there is."""

import re
from pathlib import Path

import numpy as np
import pytest

from gobo_rtl.config import named
from sim import cosim
from sim.corruption import corrupt
from sim.golden.decode import decode_unit
from sim.stimulus import columns_for, layer

BENCH, TESTS = "tests.verilog.bench_decode", 7


@pytest.mark.parametrize("name", ["tiny", "default", "rows", "fp32", "bf16"])
def test_decode_unit_behind_axi_streams(name: str, simulator: str, build_dir: Path):
    tests, environment = TESTS, {}
    if (name, simulator) == ("bf16", "icarus"):
        # Icarus takes many minutes for 64 lanes: there it sees the layers under random pauses only.
        tests, environment = 1, {"COCOTB_TEST_FILTER": "layers_back_to_back_under_random_pauses"}
    cosim.run(
        named(name), BENCH, tests=tests, build_dir=build_dir, simulator=simulator,
        environment=environment,
    )  # fmt: skip


def without_initial_values(verilog: str) -> str:
    """Return Verilog whose registers start as anything, as in silicon."""
    bare, found = re.subn(r"^(\s*reg [^=;]*?) = \d+'[hb][0-9a-f]+;$", r"\1;", verilog, flags=re.M)
    assert found, "no register has an initial value: nothing is left to take away"
    return bare


@pytest.mark.parametrize("name", ["tiny"])
def test_reset_alone_brings_up_the_unit(name: str, simulator: str, build_dir: Path):
    cosim.run(
        named(name), BENCH, tests=TESTS, build_dir=build_dir, simulator=simulator,
        edit=without_initial_values,
    )  # fmt: skip


def test_whole_layers_pass_through_files(simulator: str, build_dir: Path):
    config, rng = named("rows"), np.random.default_rng(7)
    columns = columns_for(config, 5)
    layers = [
        layer(config, rng, 40, columns, width, pattern)
        for width, pattern in ((3, "share:0.1"), (2, "all"), (4, "none"))
    ]
    seen = cosim.decode_layers(config, layers, build_dir, simulator)
    due = decode_unit(config, layers)
    assert due.mismatch(seen.values, seen.last, seen.error, seen.error_code) is None
    assert seen.values.dtype == np.uint16
    assert seen.cycles > len(seen.values)

    broken = corrupt(rng, "flip-index", layers, (1, 0))
    assert broken is not None
    seen = cosim.decode_layers(config, broken.layers, build_dir, simulator)
    due = decode_unit(config, broken.layers)
    assert seen.error_code == 1
    assert due.mismatch(seen.values, seen.last, seen.error, seen.error_code) is None


def test_a_bench_without_tests_fails(simulator: str, build_dir: Path):
    with pytest.raises(RuntimeError, match="0 of 0 tests passed, 0 must"):
        cosim.run(named("tiny"), "sim.stimulus", tests=0, build_dir=build_dir, simulator=simulator)


def test_a_bench_with_another_number_of_tests_fails(simulator: str, build_dir: Path):
    with pytest.raises(RuntimeError, match="tests passed, 2 must"):
        cosim.run(named("tiny"), "sim.cosim", tests=2, build_dir=build_dir, simulator=simulator)
