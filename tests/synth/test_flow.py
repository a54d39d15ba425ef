"""Mapping and timing on an invented library, whose results can be told by hand."""

import gzip
import json
from pathlib import Path

import pytest

from synth import SynthError, flow, limits, pdk, reference, report, sta
from synth.__main__ import main
from synth.library import load

TOY = Path(__file__).parent / "toy.lib"
# Two registers, a NAND, a register: 3 x 20 + 4 um2; 0.2 + 0.1 + 0.1 (setup) ns.
NAND = """\
module decode_nand (input clk, input a, input b, output reg o);
  reg a_r, b_r;
  always @(posedge clk) begin
    a_r <= a;
    b_r <= b;
    o <= ~(a_r & b_r);
  end
endmodule
"""
STA_REPORT = r"""
Startpoint: b_r\\dff (rising edge-triggered flip-flop clocked by clock)
Endpoint: o\\dff (rising edge-triggered flip-flop clocked by clock)
                       0.0000    2.5000   clock clock (rise edge)
                      -0.1000    2.4000   library setup time
                                 2.4000   data required time
                                -0.3000   data arrival time
                                 2.1000   slack (MET)
"""


def emitted(folder: Path, config: str = "nand", verilog: str = NAND) -> Path:
    """Write a design and its JSON as `make verilog` would; return their folder."""
    folder.mkdir(exist_ok=True)
    (folder / f"decode_{config}.v").write_text(verilog, encoding="utf-8")
    sizes = {"lanes": 2, "index_widths": [1], "value_format": "fp16"}
    (folder / f"decode_{config}.json").write_text(json.dumps({"configuration": sizes}))
    return folder


def fake_sta(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Put an `sta` that gives ``answer`` on PATH, and nothing else."""
    folder.mkdir()
    (folder / "sta").write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{answer}\nEND\n")
    (folder / "sta").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_area_flip_flops_and_cells_are_those_of_the_library(tmp_path: Path) -> None:
    library = load(TOY, tmp_path)
    (tmp_path / "nand.v").write_text(NAND)
    mapped = flow.synthesise(tmp_path / "nand.v", "decode_nand", library, 2.5, tmp_path / "a b")
    assert (mapped.area, mapped.sequential_area) == (64.0, 60.0)
    assert (mapped.cells, mapped.flip_flops) == (4, 3)
    assert mapped.abc_ns == 0.1


def test_opensta_is_asked_for_the_critical_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sta(tmp_path / "bin", monkeypatch, STA_REPORT)
    path = sta.critical_path("decode_nand", load(TOY, tmp_path), 2.5, tmp_path)
    assert path == sta.CriticalPath(0.4, "b_r", "o")
    script = (tmp_path / "sta.tcl").read_text()
    assert "set_driving_cell -lib_cell buf $port" in script
    assert "set_load 8.0 [all_outputs]" in script  # four inverters of 2 fF


def test_an_error_of_opensta_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_sta(tmp_path / "bin", monkeypatch, "Error: netlist.v line 3, syntax error")
    with pytest.raises(SynthError, match=r"line 3, syntax error \(see .*sta.log\)"):
        sta.critical_path("decode_nand", load(TOY, tmp_path), 2.5, tmp_path)


# OpenSTA is optional and only some systems have it; what the flow does with its answer is above.
@pytest.mark.skipif(not sta.is_installed(), reason="OpenSTA, which is optional, is not installed")
def test_the_installed_opensta_agrees_with_the_sum_by_hand(tmp_path: Path) -> None:
    library = load(TOY, tmp_path)
    (tmp_path / "nand.v").write_text(NAND)
    flow.synthesise(tmp_path / "nand.v", "decode_nand", library, 2.5, tmp_path / "work")
    path = sta.critical_path("decode_nand", library, 2.5, tmp_path / "work")
    assert (path.delay_ns, path.end) == (0.4, "o")
    assert path.start in ("a_r", "b_r")


def test_run_writes_table_json_and_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sta(tmp_path / "bin", monkeypatch, STA_REPORT)
    compressed = tmp_path / "toy.lib.gz"
    compressed.write_bytes(gzip.compress(TOY.read_bytes()))
    arguments = ["--verilog", str(emitted(tmp_path / "v")), "-o", str(tmp_path / "out")]
    assert main(["run", "--liberty", str(compressed), *arguments]) == 0
    assert "nand" in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "decode-toy.json").read_text())
    (row,) = document["designs"]
    assert tuple(row) == report.COLUMNS
    assert (row["area_um2"], row["area_per_lane_um2"], row["flip_flops"]) == (64.0, 32.0, 3)
    assert (row["delay_ns"], row["delay_tool"], row["path"]) == (0.4, "OpenSTA", "b_r -> o")
    assert row["mux_area_um2"] > 0
    assert document["library"]["name"] == "toy"
    table = (tmp_path / "out" / "decode-toy.csv").read_text().splitlines()
    assert table[0] == ",".join(report.COLUMNS)
    assert not [*(tmp_path / "out").rglob(".*")]  # no drafts are left


def test_recipes_are_tried_until_one_meets_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = load(TOY, tmp_path)
    (design,) = report.find_designs(emitted(tmp_path / "v"), [])

    def recipe_for(*delays: float) -> str:
        answers = iter(delays)
        monkeypatch.setattr(report, "_delay", lambda *_: (next(answers), "toy", "a -> b"))
        recipe = report.measure(design, library, 2.5, tmp_path / "out")["recipe"]
        assert next(answers, None) is None
        return str(recipe)

    assert recipe_for(2.5) == "small"
    assert recipe_for(2.6, 2.4) == "quick"
    assert recipe_for(2.9, 2.6, 2.8, 2.7, 3.0, 2.9, 2.7) == "quick"


def test_area_prints_a_line_for_each_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = emitted(tmp_path / "v")
    arguments = ["--liberty", str(TOY), "--verilog", str(folder), "-o", str(tmp_path / "out")]
    assert main(["area", *arguments]) == 0
    assert capsys.readouterr().out.split() == ["nand", "64.0", "um2", "in", "toy"]


def test_the_reference_is_the_look_up_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mux.v").write_text(reference.mux_verilog(2, 1, 3))
    mapped = flow.synthesise(tmp_path / "mux.v", "mux", load(TOY, tmp_path), 2.5, tmp_path / "mux")
    assert mapped.flip_flops == 0
    # A 2:1 multiplexer takes three NANDs; an inverted select at most for each lane.
    assert 6 * 3 * 4.0 <= mapped.area <= 6 * 3 * 4.0 + 2 * 2 * 5.0


@pytest.mark.parametrize(
    ("verilog", "words"),
    [
        ("module decode_bad (input a output b); endmodule", "syntax error"),
        ("module other (input a, output b); assign b = a; endmodule", "decode_bad"),
        (
            "module decode_bad (input a, output b); wire x; assign b = a & x; endmodule",
            "check -assert",
        ),
    ],
)
def test_a_design_with_an_error_ends_in_yosys_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verilog: str, words: str
) -> None:
    folder = emitted(tmp_path / "v", "bad", verilog)
    arguments = ["--liberty", str(TOY), "--verilog", str(folder), "-o", str(tmp_path / "out")]
    assert main(["run", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("synth: decode_bad: ")
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"hello", "is not a Liberty cell library"),
        (b"library (empty) { }", "is not a Liberty cell library"),
        (b"\x1f\x8b\x08broken", "cannot read the cell library"),
        (gzip.compress(b"library (x) {" * 99, mtime=0)[:-9], "cannot read the cell library"),
    ],
)
def test_a_library_that_is_none_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    path = tmp_path / "some.lib"
    if content is not None:
        path.write_bytes(content)
    folder = emitted(tmp_path / "v")
    arguments = ["--verilog", str(folder), "-o", str(tmp_path / "out")]
    assert main(["run", "--liberty", str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "some.lib" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "huge"], "no configuration is called 'huge'; there is nand"),
        (["--clock", "0"], "--clock must be in 0.01..1000 ns, not 0"),
        (["--clock", "nan"], "--clock must be in 0.01..1000 ns, not nan"),
        (["--verilog", "nowhere"], "no decode_*.v in nowhere; `make verilog` writes those of whole "
         "units, `python -m gobo_rtl verilog --unit` those of blocks"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    folder = emitted(tmp_path / "v")
    base = ["--verilog", str(folder), "--liberty", str(TOY), "-o", str(tmp_path / "out")]
    assert main(["run", *base, *arguments]) == 2
    assert capsys.readouterr().err == f"synth: {words}\n"


def test_an_unwritable_output_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    folder = emitted(tmp_path / "v")
    arguments = ["--liberty", str(TOY), "--verilog", str(folder), "-o", str(tmp_path / "file/out")]
    assert main(["run", *arguments]) == 2
    assert "Not a directory" in capsys.readouterr().err


def test_a_block_has_pes_and_no_bare_look_ups(tmp_path: Path) -> None:
    (tmp_path / "column_nand.v").write_text(NAND.replace("decode_nand", "column_nand"))
    (tmp_path / "column_nand.json").write_text('{"configuration": {"rows": 4}}')
    (design,) = report.find_designs(tmp_path, ["nand"], "column")
    row = report.measure(design, load(TOY, tmp_path), 2.5, tmp_path)
    assert (row["lanes"], row["area_um2"], row["area_per_lane_um2"]) == (4, 64.0, 16.0)
    assert row["mux_area_um2"] is None and row["area_to_mux"] is None
    report.table([row], load(TOY, tmp_path), 2.5)


@pytest.mark.parametrize(
    ("unit", "lanes"), [("array", 8), ("accelerator", 8), ("column", 4), ("steps", 1)]
)
def test_what_works_beside_each_other(unit: str, lanes: int) -> None:
    sizes = {"rows": 4, "columns": 2}
    assert report.Design(unit, "tiny", Path("x.v"), sizes).lanes == lanes


def test_a_result_above_its_limit_says_by_how_much() -> None:
    bounds: limits.Limits = {"toy": {"decode_nand": {"area_um2": 50.0, "delay_ns": 0.5}}}
    row = {"top": "decode_nand", "area_um2": 64.0, "delay_ns": 0.5}
    (sentence,) = limits.over(bounds, "toy", row)
    assert sentence == (
        "decode_nand: area_um2 is 64 um2, 28.0 % above the limit of 50 um2 for toy (2 % allowed)"
    )
    assert limits.over(bounds, "another", row) == []
    assert limits.over(bounds, "toy", {**row, "area_um2": 51.0}) == []
    assert len(limits.over(bounds, "toy", {**row, "area_um2": 51.01})) == 1
    assert limits.over(bounds, "toy", {**row, "area_um2": 1.0, "delay_ns": None}) == []


@pytest.mark.parametrize("line", ["area = 3", "area_um2 = 0", 'area_um2 = "big"'])
def test_a_limit_that_says_nothing_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(f"[toy.nand]\n{line}\n")
    with pytest.raises(SynthError, match=r"\[toy.nand\] area.* is not a limit"):
        limits.read(path)


def test_libraries_get_the_driving_cell_that_is_known_or_the_smallest_buffer(
    tmp_path: Path,
) -> None:
    text = TOY.read_text()
    assert load(TOY, tmp_path).driving_cell == "buf"
    known = tmp_path / "known.lib"
    bigger = text.replace("cell (nand2)", "cell (sg13g2_buf_2)").replace('"!(A & B)"', '"A"')
    known.write_text(bigger.replace("library (toy)", "library (sg13g2_stdcell_fast)"))
    # Two inputs make no buffer, whatever the function says.
    assert load(known, tmp_path).driving_cell == "buf"
    renamed = text.replace("cell (buf)", "cell (sg13g2_buf_2)")
    known.write_text(renamed.replace("library (toy)", "library (sg13g2_stdcell_fast)"))
    assert load(known, tmp_path).driving_cell == "sg13g2_buf_2"
    only_inverter = tmp_path / "inverter.lib"
    only_inverter.write_text(text.replace('function : "A"', 'function : "A & A"'))
    assert load(only_inverter, tmp_path).driving_cell == "inv"


def test_delay_cells_are_kept_from_the_mapper(tmp_path: Path) -> None:
    path = tmp_path / "delays.lib"
    path.write_text(TOY.read_text().replace("cell (buf)", "cell (dlygate_1)"))
    library = load(path, tmp_path)
    assert library.unused == ("dlygate_1",)
    assert library.driving_cell == "inv"


def in_two(folder: Path) -> tuple[Path, Path]:
    """Write the invented library as two files, the flip-flop and its tables in the second."""
    text = TOY.read_text()
    head, gates = text.split("  cell (buf)")
    gates, flip_flop = gates.split("  cell (dff)")
    table = '  lu_table_template (delay) {\n    index_1 ("1, 2");\n  }\n'
    paths = folder / "toy_gates.lib", folder / "toy_registers.lib"
    paths[0].write_text(head.replace("(toy)", "(toy_gates)") + "  cell (buf)" + gates + "}\n")
    head = head.replace("(toy)", "(toy_registers)") + table
    paths[1].write_text(head + "  cell (dff)" + flip_flop)
    return paths


def test_a_library_in_parts_is_the_library(tmp_path: Path) -> None:
    gates, registers = in_two(tmp_path)
    library = load(gates, tmp_path / "work", registers)
    assert (library.name, library.driving_cell, library.load) == ("toy", "buf", 8.0)
    assert "lu_table_template (delay)" in library.path.read_text()
    (tmp_path / "nand.v").write_text(NAND)
    mapped = flow.synthesise(tmp_path / "nand.v", "decode_nand", library, 2.5, tmp_path / "nand")
    assert (mapped.area, mapped.sequential_area, mapped.flip_flops) == (64.0, 60.0, 3)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    gates, registers = in_two(tmp_path)
    with pytest.raises(SynthError, match=r"have two cells dff"):
        load(TOY, tmp_path / "work", registers)
    text = registers.read_text()
    for old, new in (('"1ns"', '"1ps"'), ("(1,pf)", "(1,ff)")):
        registers.write_text(text.replace(old, new))
        with pytest.raises(SynthError, match=r"toy_registers.lib has other units or tables"):
            load(gates, tmp_path / "work", registers)
    table = '  lu_table_template (delay) {\n    index_1 ("1, 3");\n  }\n'
    gates.write_text(gates.read_text().replace("  cell (buf)", f"{table}  cell (buf)"))
    registers.write_text(text)
    with pytest.raises(SynthError, match=r"toy_registers.lib has other units or tables"):
        load(gates, tmp_path / "work", registers)


def test_a_process_kit_is_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gates, registers = in_two(tmp_path)
    kit = pdk.Kit(("toy_gates", "toy_reg*"), tmp_path / "package", "toy-package")
    monkeypatch.setitem(pdk.KITS, "sg13g2", kit)
    deep = tmp_path / "kit" / "libs" / "lib"
    deep.mkdir(parents=True)
    (deep / "toy_gates.lib.gz").write_bytes(gzip.compress(gates.read_bytes()))
    arguments = ["--verilog", str(emitted(tmp_path / "v")), "-o", str(tmp_path / "out")]
    named = ["area", "--pdk", "sg13g2", *arguments]
    assert main(named) == 2
    told = f"sg13g2: no toy_gates.lib or .lib.gz in {tmp_path / 'package'}; sudo apt-get install "
    assert f"{told}toy-package" in capsys.readouterr().err
    assert main([*named, "--pdk-dir", str(tmp_path / "kit")]) == 2
    assert "no toy_reg*.lib or .lib.gz in" in capsys.readouterr().err
    registers.rename(deep / registers.name)
    assert main([*named, "--pdk-dir", str(tmp_path / "kit")]) == 0
    assert "64.0 um2 in toy" in capsys.readouterr().out
    monkeypatch.setitem(pdk.KITS, "sg13g2", pdk.Kit(("toy_gates",)))
    assert main(named) == 2
    assert "sg13g2 needs --pdk-dir" in capsys.readouterr().err
    assert main(["area", "--pdk-dir", "kit", *arguments]) == 2
    assert "--pdk-dir is for --pdk" in capsys.readouterr().err


def test_blocks_are_all_that_is_no_array(tmp_path: Path) -> None:
    with pytest.raises(SynthError, match=r"no blocks in .*; `python -m gobo_rtl verilog --unit"):
        report.find_designs(tmp_path, [], "blocks")
    for unit in ("steps", "array", "column"):
        (tmp_path / f"{unit}_toy.v").write_text(NAND)
        about = {"unit": unit, "name": "toy", "configuration": {"rows": 4, "columns": 2}}
        (tmp_path / f"{unit}_toy.json").write_text(json.dumps(about))
    found = report.find_designs(tmp_path, [], "blocks")
    assert [(each.top, each.lanes) for each in found] == [("column_toy", 4), ("steps_toy", 1)]
    assert report.find_designs(tmp_path, ["toy"], "blocks") == found
    with pytest.raises(SynthError, match="no blocks of tiny in"):
        report.find_designs(tmp_path, ["tiny"], "blocks")
