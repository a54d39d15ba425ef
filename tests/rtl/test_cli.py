# amaranth: UnusedElaboratable=no
"""The generator's command line."""

import json
from pathlib import Path

import pytest

from gobo_rtl import __version__
from gobo_rtl.bus.axi_stream import DecodeAxis
from gobo_rtl.cli import emit, main, ports
from gobo_rtl.config import CONFIGS


def test_list_shows_every_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CONFIGS)


def test_verilog_and_its_json_are_written(tmp_path: Path) -> None:
    assert main(["verilog", "--config", "tiny", "-o", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "decode_tiny.json", "decode_tiny.v",
    ]  # fmt: skip
    about = json.loads((tmp_path / "decode_tiny.json").read_text())
    assert (about["top"], about["version"], about["name"]) == ("decode_tiny", __version__, "tiny")
    assert about["configuration"] == CONFIGS["tiny"].as_dict()
    assert {"name": "m_axis_weight_tdata", "direction": "output", "width": 64} in about["ports"]
    text = (tmp_path / "decode_tiny.v").read_text()
    header = text[text.index("module decode_tiny(") :].split(");", 1)[0]
    for port in about["ports"]:
        assert port["name"] in header


def test_equal_configurations_give_equal_verilog() -> None:
    first, second = (emit(DecodeAxis(CONFIGS["rows"]), "decode_rows") for _ in range(2))
    assert first == second
    assert "src =" not in first and "/" + "work" not in first


def test_a_file_is_written_only_if_it_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verilog", "--config", "tiny", "-o", str(tmp_path)]
    assert main(command) == 0
    before = (tmp_path / "decode_tiny.v").stat().st_mtime_ns
    assert main(command) == 0
    assert (tmp_path / "decode_tiny.v").stat().st_mtime_ns == before
    assert capsys.readouterr().out.splitlines()[1].endswith("(unchanged)")
    (tmp_path / "decode_tiny.v").write_text("module decode_tiny(); endmodule\n")
    assert main(command) == 0
    assert "m_axis_weight_tdata" in (tmp_path / "decode_tiny.v").read_text()


def test_an_unknown_configuration_is_a_sentence_and_status_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verilog", "--config", "huge", "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gobo_rtl: no configuration is called 'huge'; there are tiny, ")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_a_sentence_and_status_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["verilog", "--config", "tiny", "-o", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == ""


def test_ports_are_those_of_the_component() -> None:
    widths = {port["name"]: port["width"] for port in ports(DecodeAxis(CONFIGS["rows"]))}
    assert widths["s_axis_codebook_tdata"] == 256 and widths["s_axis_codebook_tuser"] == 3
    assert "s_axis_codebook_tuser" not in {p["name"] for p in ports(DecodeAxis(CONFIGS["tiny"]))}
