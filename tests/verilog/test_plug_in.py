"""The example: the emitted decode unit before an array in plain Verilog, on every simulator."""

import subprocess
import sys
from pathlib import Path

import pytest

from examples.plug_in import __main__ as example
from gobo_rtl.cli import main as emit


def run(folder: Path, simulator: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the status of the command with the files that are in ``folder``."""
    monkeypatch.setattr(example, "prepare", lambda folder: None)
    return example.main(["--simulator", simulator, "-o", str(folder)])


def test_a_trained_layer_passes_and_a_wrong_word_does_not(
    tmp_path: Path, simulator: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = tmp_path
    example.prepare(folder)
    assert run(folder, simulator, monkeypatch) == 0
    # Two whole layers of 128 x 128 weights; of the one with an error the tiles before it.
    said = capsys.readouterr().out
    counted = "32768 words and 320 sums compared, 0 groups or tiles wrong, 0 rules broken\n"
    assert f"{simulator}: {counted}" in said
    assert f"{simulator}: PASS\n" in said

    # The word is in two layers, the sum in three.
    for name in ("words.hex", "sums.hex"):
        text = (folder / name).read_text()
        (folder / name).write_text(("0" if text[0] != "0" else "1") + text[1:])
    assert run(folder, simulator, monkeypatch) == 1
    said = capsys.readouterr().out
    assert "5 groups or tiles wrong, 0 rules broken\n" in said
    assert f"{simulator}: FAIL\n" in said


def test_a_design_that_cannot_be_built_is_told(
    tmp_path: Path, simulator: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(tmp_path, simulator, monkeypatch) == 2
    said = capsys.readouterr().err
    assert f"example: {simulator} does not build the example" in said and "Traceback" not in said


def test_a_machine_without_a_simulator_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert example.main(["-o", str(tmp_path)]) == 2
    assert "sudo apt-get install iverilog" in capsys.readouterr().err


# Ports that a port depends on in the same cycle: its cone of logic, up to registers.
PATHS = """
import sys
from pyosys import libyosys as ys
path, top, *ports = sys.argv[1:]
design = ys.Design()
for each in (f"read_verilog {path}", f"hierarchy -top {top}", "proc", "flatten", "opt_clean"):
    ys.run_pass(each, design)
for port in ports:
    cone = f"w:{port} %ci*:-$dff,$dffe,$sdff,$sdffe,$sdffce i:* %i w:{port} %d"
    ys.run_pass(f"tee -q -o {port}.txt select -list {cone}", design)
"""


def test_paths_through_the_unit_are_those_of_the_page(tmp_path: Path) -> None:
    assert emit(["verilog", "--config", "tiny", "--unit", "decode", "-o", str(tmp_path)]) == 0
    array, valid = "m_axis_weight_tready", "s_axis_{}_tvalid".format
    outlier = {valid("outlier"), "s_axis_outlier_tdata"}
    due = {
        **{f"m_axis_weight_{name}": set() for name in ("tvalid", "tdata", "tlast", "tuser")},
        "error_code": set(),
        "s_axis_outlier_tready": {array, *outlier},
        "s_axis_index_tready": {array, *outlier, valid("codebook")},
        "s_axis_codebook_tready": {array, *map(valid, ("codebook", "index", "outlier"))},
    }
    subprocess.run(
        [sys.executable, "-c", PATHS, "decode_tiny.v", "decode_tiny", *due], cwd=tmp_path,
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for port, others in due.items():
        lines = (tmp_path / f"{port}.txt").read_text().splitlines()
        assert {line.rpartition("/")[2] for line in lines} == others, port
