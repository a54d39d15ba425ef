"""Verilator's lint of a file: clean ones pass, faulty ones do not."""

from pathlib import Path

import pytest

from tools.lint import main


def test_a_clean_file_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wire_through.v"
    path.write_text("module wire_through(input a, output b);\n  assign b = a;\nendmodule\n")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == "lint: Verilator: 1 files, 0 with warnings\n"


def test_a_fault_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "faulty.v"
    path.write_text("module faulty(input a, output b);\n  assign b = c;\nendmodule\n")
    assert main([str(path)]) == 1
    assert "faulty.v:2" in capsys.readouterr().err
