"""The benches run on the simulators that SIM asks for, and a plain word when one is not there.

What is marked `verilator` runs on no other. A run without Icarus says what was left out.
"""

import os
from pathlib import Path

import pytest

from tests.conftest import left_out
from tests.simulators import chosen, has_icarus


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "verilator: runs on Verilator only")
    if "icarus" in chosen() and not has_icarus():
        left_out(config).append(
            "Icarus Verilog is not installed: the benches in tests/verilog ran on Verilator only, "
            "so nothing of them was checked on Icarus. To run them there too: "
            "sudo apt-get install iverilog"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the chosen simulator is not for."""
    if "verilator" not in chosen():
        out = [item for item in items if item.get_closest_marker("verilator")]
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``simulator`` once on each simulator."""
    if "simulator" in metafunc.fixturenames:
        here = [name for name in chosen() if name != "icarus" or has_icarus()]
        metafunc.parametrize("simulator", here, scope="session")


@pytest.fixture(scope="session")
def build_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the builds are that the tests share, also those of other workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return folder / "cosim"
