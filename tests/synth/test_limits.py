"""The decode unit against synth/limits.toml.

Open areas always; a library with timing when the variable LIBERTY names one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synth import limits, report, sky130
from synth.library import load

ROOT = Path(__file__).resolve().parents[2]
CLOCK_NS = 2.5
LIBRARIES = ["open areas", *([os.environ["LIBERTY"]] if os.environ.get("LIBERTY") else [])]


@pytest.fixture(scope="module")
def verilog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the Verilog of all configurations, as it is emitted now."""
    folder = tmp_path_factory.mktemp("verilog")
    command = [
        sys.executable, "-m", "gobo_rtl", "verilog", "--all", "--unit", "decode", "-o", str(folder)
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", LIBRARIES)
def test_no_limit_is_exceeded(name: str, verilog: Path, tmp_path: Path) -> None:
    source = sky130.area_library(ROOT / "build/synth") if name == "open areas" else Path(name)
    library = load(source, tmp_path)
    bounds = limits.read()
    limited = {top for start in bounds if library.name.startswith(start) for top in bounds[start]}
    assert limited, f"synth/limits.toml has no limit for {library.name}"
    for design in report.find_designs(verilog, []):
        if design.top in limited:
            row = report.measure(design, library, CLOCK_NS, tmp_path)
            assert not limits.over(bounds, library.name, row)


def test_every_limit_is_of_a_module_that_is_emitted(verilog: Path) -> None:
    emitted = {design.top for design in report.find_designs(verilog, [])}
    assert {top for tops in limits.read().values() for top in tops} <= emitted
