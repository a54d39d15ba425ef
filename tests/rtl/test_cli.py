# amaranth: UnusedElaboratable=no
"""The generator's command line."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gobo_rtl import __version__, cli
from gobo_rtl.array_config import ARRAYS, PES
from gobo_rtl.bus import registers
from gobo_rtl.bus.axi_stream import DecodeAxis
from gobo_rtl.cli import describe, main, ports
from gobo_rtl.config import CONFIGS
from gobo_rtl.emit import emit
from gobo_rtl.host_config import HOSTS, WEIGHTS
from gobo_rtl.hosts.host import HostTop
from gobo_rtl.top.accelerator import Accelerator
from gobo_rtl.units import BLOCKS, HOST_BLOCKS, designs


def test_list_shows_every_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    *lines, blocks, _, of_hosts = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines]
    assert shown == [
        "decode:", *CONFIGS, "accelerator:", *ARRAYS, "host:", *HOSTS, "blocks",
    ]  # fmt: skip
    assert blocks.strip().split(", ") == list(BLOCKS)
    assert of_hosts.strip().split(", ") == list(HOST_BLOCKS)


@pytest.mark.parametrize("pe", PES)
def test_no_register_of_a_column_or_an_aligner_has_a_reset(pe: str) -> None:
    (design,) = designs("tiny", "array", [f"pe={pe}"])
    text = emit(design.component(), "array")
    parts = re.split(r"^module ", text, flags=re.MULTILINE)[1:]
    found = [part for part in parts if re.match(r"\\array\.(column|align)\b", part)]
    assert len(found) > 1 and not any("if (rst)" in part for part in found)
    assert any("if (rst)" in part for part in parts)


def test_a_configuration_tells_what_becomes_of_activations() -> None:
    tiny = ARRAYS["tiny"]
    assert "products, 2/3/4-bit indexes, fp16 activations aligned to 16 bits" in describe(tiny)
    mac = describe(replace(tiny, pe="mac"))
    assert "mac, 2/3/4-bit indexes, fp16 activations as they are" in mac


def test_verilog_and_its_json_are_written(tmp_path: Path) -> None:
    assert main(["verilog", "--config", "tiny", "--unit", "decode", "-o", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "decode_tiny.core", "decode_tiny.json", "decode_tiny.v", "decode_tiny.xml",
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
    command = ["verilog", "--config", "tiny", "--unit", "decode", "-o", str(tmp_path)]
    assert main(command) == 0
    before = (tmp_path / "decode_tiny.v").stat().st_mtime_ns
    assert main(command) == 0
    assert (tmp_path / "decode_tiny.v").stat().st_mtime_ns == before
    assert capsys.readouterr().out.splitlines()[1].endswith("(unchanged)")
    (tmp_path / "decode_tiny.v").write_text("module decode_tiny(); endmodule\n")
    assert main(command) == 0
    assert "m_axis_weight_tdata" in (tmp_path / "decode_tiny.v").read_text()


def test_every_unit_of_a_name_is_written_and_equal_in_another_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gobo_rtl", "verilog", "--config", "tiny", "-o", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"{unit}_tiny.{end}" for unit in ("accelerator", "decode")
          for end in ("core", "json", "v", "xml")),
        "gobo_registers.h", "gobo_registers.json",
    ]  # fmt: skip
    array = Accelerator(ARRAYS["tiny"])
    text = (tmp_path / "accelerator_tiny.v").read_text()
    assert text == emit(array, "accelerator_tiny")
    assert "src =" not in text
    about = json.loads((tmp_path / "accelerator_tiny.json").read_text())
    assert (about["top"], about["name"]) == ("accelerator_tiny", "tiny")
    assert about["configuration"] == ARRAYS["tiny"].as_dict()
    assert about["ports"] == ports(array)
    for name in ("gobo_registers.h", "gobo_registers.json"):
        assert (tmp_path / name).read_text() == registers.files()[name]


class TwoMemories(wiring.Component):
    """A memory of zeros and one of other words, read together."""

    at: In(6)
    o: Out(4)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.zeros = zeros = Memory(shape=4, depth=64, init=[])
        m.submodules.ramp = ramp = Memory(shape=4, depth=4, init=[1, 2, 3, 4])
        reads = [zeros.read_port(), ramp.read_port()]
        for memory in (zeros, ramp):
            write = memory.write_port()
            m.d.comb += [write.addr.eq(self.at), write.data.eq(self.o), write.en.eq(1)]
        m.d.comb += [self.o.eq(reads[0].data ^ reads[1].data), *(r.en.eq(1) for r in reads)]
        return m


def test_a_memory_that_begins_with_zeros_is_a_loop_and_others_keep_their_words() -> None:
    text = emit(TwoMemories(), "both")
    assert "    for (n = 0; n < 64; n = n + 1)\n      zeros[n] = 4'h0;\n  end\n" in text
    assert "zeros[1] = " not in text
    assert all(f"    ramp[{n}] = 4'h{n + 1};\n" in text for n in range(4))


@pytest.mark.parametrize("unit", ["decode", "accelerator", "host"])
def test_no_wire_has_the_name_of_a_bit_of_another(unit: str) -> None:
    design = designs("tiny" if unit != "host" else "tpu_tiny", unit)[0]
    names = set(re.findall(r"\\(\S+) ", emit(design.component(), "top")))
    entries = {name for name in names if re.search(r"\.\d+(\.|\$|$)", name)}
    assert any("codebook" in name for name in entries)
    assert not {name for name in names if re.search(r"\[\d+\]", name)}


@pytest.mark.parametrize(
    ("name", "unit", "sentence"),
    [
        ("huge", [], "no configuration is called 'huge'; there are tiny, default, "),
        ("paper", ["--unit", "decode"], "no decode configuration is called 'paper'; there are "),
        ("fp32", ["--unit", "accelerator"], "no accelerator configuration is called 'fp32'; "),
        ("tiny", ["--set", "rows"], "a change is FIELD=VALUE, not 'rows'"),
        ("tiny", ["--set", "rows=a"], "rows must be in whole numbers, not 'a'"),
        ("tiny", ["--set", "rows=4,8"], "rows must be one number, not '4,8'"),
        ("tiny", ["--set", "rows=5"], "rows must be a power of two, not 5"),
        ("tiny", ["--set", "symmetric=1"], "symmetric must be true or false, not '1'"),
        ("tiny", ["--set", "rwos=4"], "accelerator tiny has no field 'rwos'; there are rows, "),
        ("tiny", ["--set", "lanes=4", "--unit", "column"], "column tiny has no field 'lanes'; "),
        ("tiny", ["--unit", "combine", "--set", "pe=mac"], "pe 'mac' has sums at once, "),
    ],
)  # fmt: skip
def test_an_unknown_configuration_is_a_sentence_and_status_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, unit: list[str], sentence: str
) -> None:
    assert main(["verilog", "--config", name, *unit, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gobo_rtl: {sentence}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_several_configurations_in_one_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["tpu_tiny", "eyeriss_tiny", "tpu_tiny"]  # one of them twice
    given = [word for name in names for word in ("--config", name)]
    assert main(["verilog", *given, "--unit", "plain_reader", "-o", str(tmp_path)]) == 0
    tops = ["plain_reader_tpu_tiny", "plain_reader_eyeriss_tiny"]
    assert [Path(line.split(":")[0]).stem for line in capsys.readouterr().out.splitlines()] == tops
    assert {path.stem for path in tmp_path.glob("*.v")} == set(tops)


def test_changes_make_a_configuration_of_ones_own(tmp_path: Path) -> None:
    changes = ["--set", "pe=bins", "--set", "index_widths=2,3", "--set", "symmetric=true"]
    assert main(["verilog", "--config", "tiny", *changes, "-o", str(tmp_path)]) == 0
    top = "accelerator_tiny_pe_bins_index_widths_23_symmetric_true"  # a decode unit has no PEs
    assert sorted(path.name for path in tmp_path.iterdir() if "registers" not in path.name) == [
        f"{top}.core", f"{top}.json", f"{top}.v", f"{top}.xml"]  # fmt: skip
    config = replace(ARRAYS["tiny"], pe="bins", index_widths=(2, 3), symmetric=True)
    assert (tmp_path / f"{top}.v").read_text() == emit(Accelerator(config), top)
    assert json.loads((tmp_path / f"{top}.json").read_text())["configuration"] == config.as_dict()
    assert main(["verilog", "--all", *changes, "-o", str(tmp_path / "all")]) == 2
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize("block", [*BLOCKS, *HOST_BLOCKS])
def test_a_block_is_written_by_itself(tmp_path: Path, block: str) -> None:
    change = ["--set", "pe=bins"] if block == "combine" else []
    name = "tpu_tiny" if block in HOST_BLOCKS else "tiny"
    command = ["verilog", "--config", name, "--unit", block, *change, "-o", str(tmp_path)]
    assert main(command) == 0
    (file,) = tmp_path.glob("*.v")
    assert file.stem == f"{block}_{name}{'_pe_bins' if change else ''}"
    text = file.read_text()
    header = text[text.index(f"module {file.stem}(") :].split(");", 1)[0]
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["unit"] == block and about["ports"]
    for port in about["ports"]:
        assert re.search(rf"\b{port['name']}\b", header), port["name"]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_host_is_written_with_its_registers(tmp_path: Path, weights: str) -> None:
    changes = ["--set", f"weights={weights}"]
    assert main(["verilog", "--config", "tpu_tiny", *changes, "-o", str(tmp_path)]) == 0
    top = f"host_tpu_tiny_weights_{weights}"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "gobo_registers.h", "gobo_registers.json",
        f"{top}.core", f"{top}.json", f"{top}.v", f"{top}.xml",
    ]  # fmt: skip
    config = replace(HOSTS["tpu_tiny"], weights=weights)
    assert (tmp_path / f"{top}.v").read_text() == emit(HostTop(config), top)
    about = json.loads((tmp_path / f"{top}.json").read_text())
    assert about["configuration"] == config.as_dict()
    wrong = ["--config", "tpu_tiny", "--set", "weights=fp8"]
    assert main(["verilog", *wrong, "-o", str(tmp_path)]) == 2


def test_an_emission_that_was_killed_is_a_sentence_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the system does to a process for which there is no memory.
    monkeypatch.setattr(cli, "_texts", killed)
    assert main(["verilog", "--config", "tiny", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("gobo_rtl: a process was stopped while")
    assert not list(tmp_path.iterdir())


def killed(design: object) -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


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
