"""Modules against synth/limits.toml.

Open areas always; a library with timing when the variable LIBERTY names one.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gobo_rtl.cli import main as generate
from gobo_rtl.units import BLOCKS, HOST_BLOCKS, designs
from synth import limits, report, sky130
from synth.__main__ import main
from synth.library import load

ROOT = Path(__file__).resolve().parents[2]
CLOCK_NS = {"decode": 2.5}
OTHERS_NS = 5.0  # of blocks, as in the Makefile: a clock that the first recipe meets
OPEN = sky130.NAME
BOUNDS = limits.read()
LIBERTY = os.environ.get("LIBERTY")
DESIGNS = {
    each.top: (each.unit, each.name) for unit in ("decode", "blocks") for each in designs(unit=unit)
}


def limited() -> list[tuple[str, str]]:
    """Return libraries that are at hand, as limits.toml starts their names, and their modules."""
    here = [OPEN, *([Path(LIBERTY).name] if LIBERTY else [])]
    for name in here:
        assert any(name.startswith(start) for start in BOUNDS), f"limits.toml has none for {name}"
    return [(start, top) for start, modules in BOUNDS.items() for top in modules
            if any(name.startswith(start) for name in here)]  # fmt: skip


@pytest.mark.parametrize(("start", "top"), limited())
def test_no_limit_is_exceeded(start: str, top: str, tmp_path: Path) -> None:
    unit, config = DESIGNS[top]
    command = ["verilog", "--config", config, "--unit", unit, "-o", str(tmp_path)]
    assert generate(command) == 0
    (design,) = report.find_designs(tmp_path, [], unit)
    assert design.top == top
    is_open = start == OPEN or not LIBERTY
    source = sky130.area_library(ROOT / "build/synth") if is_open else Path(str(LIBERTY))
    library = load(source, tmp_path)
    assert library.name.startswith(start)
    row = report.measure(design, library, CLOCK_NS.get(unit, OTHERS_NS), tmp_path)
    assert not limits.over(BOUNDS, library.name, row)


def test_a_library_without_limits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "LIBERTY", "a/other.lib")
    with pytest.raises(AssertionError, match=r"limits.toml has none for other.lib"):
        limited()


def test_limits_are_not_made_by_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--update", "--booth", "--verilog", str(tmp_path)]) == 2
    assert "--update goes without --booth" in capsys.readouterr().err


@pytest.mark.parametrize("start", [OPEN, "sg13g2"])
def test_every_block_has_a_limit(start: str) -> None:
    blocks = {f"{block}_tiny" for block in BLOCKS if block != "array"}
    blocks |= {f"{block}_tpu_tiny" for block in HOST_BLOCKS}
    assert {top for top in BOUNDS[start] if not top.startswith("decode")} == blocks
    assert {measure for top in blocks for measure in BOUNDS[start][top]} == (
        {"area_um2"} if start == OPEN else {"area_um2", "delay_ns"}
    )


def figures(top: str, area: float, delay: float | None) -> dict[str, Any]:
    """Return the figures of a module that limits are about."""
    return {"top": top, "area_um2": area, "delay_ns": delay}


def test_what_is_measured_becomes_the_limit_and_all_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("# What they are for.\n\n[toy.a]\narea_um2 = 10\n\n[other.a]\narea_um2 = 7\n")
    limits.update("toy_1p2V", [figures("a", 12.5, None), figures("b", 20.0, 1.25)], path)
    assert limits.read(path) == {
        "toy": {"a": {"area_um2": 12.5}, "b": {"area_um2": 20, "delay_ns": 1.25}},
        "other": {"a": {"area_um2": 7}},
    }
    assert path.read_text().startswith("# What they are for.\n\n[toy.a]\n")
    limits.update("new", [figures("a", 1.0, None)], path)
    assert limits.read(path)["new"] == {"a": {"area_um2": 1}}
    # What was the limit is none any more when it is exceeded by more than the slack.
    (sentence,) = limits.over(limits.read(path), "toy_1p2V", figures("b", 20.0, 1.3))
    assert "b: delay_ns is 1.3 ns, 4.0 % above the limit of 1.25 ns" in sentence
