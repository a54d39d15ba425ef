# amaranth: UnusedElaboratable=no
"""The emitted Verilog of the accelerator, on every simulator there is."""

from dataclasses import replace
from pathlib import Path

import pytest

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.top.accelerator import Accelerator
from sim import cosim

BENCH, TESTS = "tests.verilog.bench_accelerator", 4
SHAPES = "tests.verilog.bench_shapes"

TINY = ARRAYS["tiny"]
CONFIGS: dict[str, ArrayConfig] = {
    "tiny": TINY,
    "bins": replace(TINY, pe="bins", outliers_per_step=2, beat_width=128, columns=3),
    "symmetric": replace(TINY, symmetric=True, act_format="int8", act_width=8,
                         result_format="fp16"),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "tiny")) for name in CONFIGS]
)
def test_accelerator_behind_axi(name: str, simulator: str, build_dir: Path):
    tests, environment = TESTS, {}
    if simulator == "icarus":
        # Icarus does some hundred cycles a second: it sees the layers under random pauses, and the
        # errors with all the time that they take to settle are left to Verilator.
        tests, environment = 1, {"COCOTB_TEST_FILTER": "layers_back_to_back_under_random_pauses"}
    cosim.run(Accelerator(CONFIGS[name]), BENCH, tests=tests, build_dir=build_dir,
              simulator=simulator, environment=environment)  # fmt: skip


@pytest.mark.slow
def test_the_smallest_and_prime_layers_behind_axi(simulator: str, build_dir: Path):
    environment = {"COCOTB_TEST_FILTER": "smallest_and_prime_layers"}
    cosim.run(Accelerator(TINY), SHAPES, tests=1, build_dir=build_dir, simulator=simulator,
              environment=environment)  # fmt: skip


@pytest.mark.slow
@pytest.mark.verilator
@pytest.mark.parametrize("name", ["default", "paper"])
def test_the_smallest_and_the_largest_layers_behind_axi(name: str, build_dir: Path):
    cosim.run(Accelerator(ARRAYS[name]), SHAPES, tests=2, build_dir=build_dir)
