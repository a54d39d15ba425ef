"""The example: the emitted decode unit before an array in plain Verilog, on every simulator."""

from pathlib import Path

import pytest

from examples.plug_in import __main__ as example


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
