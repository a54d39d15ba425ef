"""Processes that build the same thing take turns, and what workers leave out is told."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sim.verilator import in_turn

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_there_is_not_built_again(tmp_path: Path) -> None:
    built = []

    def build(name: str) -> None:
        with in_turn(tmp_path / "builds" / name):
            if name not in built:
                time.sleep(0.1)
                built.append(name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(build, ["a", "b"] * 4))
    assert sorted(built) == ["a", "b"]


@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_is_left_out_is_told_with_and_without_workers(processes: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", processes]
    command += ["tests/verilog/test_building.py", "-k", "not_built_again"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "Icarus Verilog is not installed" in done.stdout
    assert "1 passed" in done.stdout
    assert "2 deselected" in done.stdout or "2 tests were deselected" in done.stdout
