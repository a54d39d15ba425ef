"""Lint of Verilog: what is emitted passes everywhere, faulty files nowhere."""

from pathlib import Path

import pytest

from gobo_rtl.cli import main as emit
from tests.simulators import has_icarus
from tools.lint import TOOLS, lint, main

HERE = [tool for tool in TOOLS if tool != "icarus" or has_icarus()]
EXAMPLE = Path(__file__).parents[2] / "examples" / "plug_in"


def test_a_clean_file_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wire_through.v"
    path.write_text("module wire_through(input a, output b);\n  assign b = a;\nendmodule\n")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == "lint: Verilator: 1 files, 0 with warnings\n"
    assert main(["--tool", "all", str(path)]) == 0
    assert capsys.readouterr().out.count("1 files, 0 with warnings\n") == len(HERE)


@pytest.mark.parametrize("tool", HERE)
def test_a_fault_is_told_with_its_line(
    tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "faulty.v"
    path.write_text("module faulty(input a, output b);\n  assign b = c;\nendmodule\n")
    assert main(["--tool", tool, str(path)]) == 1
    # yosys takes the wire and finds that nothing drives it.
    assert ("faulty.\\c is used" if tool == "yosys" else "faulty.v:2") in capsys.readouterr().err


@pytest.mark.parametrize("tool", HERE)
@pytest.mark.parametrize("config", ["tiny", "default"])
def test_the_emitted_decode_unit_has_no_warnings(config: str, tool: str, tmp_path: Path) -> None:
    assert emit(["verilog", "--config", config, "--unit", "decode", "-o", str(tmp_path)]) == 0
    assert lint(tmp_path / f"decode_{config}.v", tool) == ""


@pytest.mark.parametrize("tool", HERE)
def test_the_example_around_it_has_no_warnings(tool: str, tmp_path: Path) -> None:
    assert emit(["verilog", "--config", "default", "--unit", "decode", "-o", str(tmp_path)]) == 0
    parts = [EXAMPLE / "plug_in.v", EXAMPLE / "dot_array.v", tmp_path / "decode_default.v"]
    whole = tmp_path / "plug_in.v"
    whole.write_text("".join(part.read_text() for part in parts))
    assert lint(whole, tool) == ""


def test_what_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.v")]) == 2
    assert "none.v: not there" in capsys.readouterr().err
    path = tmp_path / "wire_through.v"
    path.write_text("module wire_through(input a, output b);\n  assign b = a;\nendmodule\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--tool", "icarus", str(path)]) == 2
    assert "Icarus is missing; sudo apt-get install iverilog" in capsys.readouterr().err
