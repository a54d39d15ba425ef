"""Designs mapped part by part, with buffers left out, on the invented library."""

import json
from collections import Counter
from pathlib import Path

import pytest

from gobo_rtl.units import BLOCKS
from synth import flow, points, report, sta, whole
from synth.buffers import DENSITY, Buffer, area, buffers
from synth.library import load

TOY = Path(__file__).parent / "toy.lib"
# Three columns of a flip-flop and an inverter, and a NAND and a flip-flop around them.
ARRAY = """\
module array_toy (input clk, input rst, input [1:0] i, output reg o);
  wire [2:0] w;
  \\array_toy.column  column0 (
    .clk(clk), .rst(rst), .i(i[0]), .o(w[0])
  );
  \\array_toy.column  column1 (
    .clk(clk), .rst(rst), .i(w[0]), .o(w[1])
  );
  \\array_toy.column  column2 (
    .clk(clk), .rst(rst), .i(w[1]), .o(w[2])
  );
  always @(posedge clk) o <= ~(w[2] & i[1]);
endmodule

module \\array_toy.column (input clk, input rst, input i, output o);
  reg r;
  always @(posedge clk) r <= i;
  assign o = ~r;
endmodule
"""
MEMORIES = """\
module top (clk);
  \\top.bank  bank0 (
    .clk(clk)
  );
  \\top.bank  bank1 (
    .clk(clk)
  );
  reg [15:0] small [3:0];
endmodule

module \\top.bank (clk);
  reg [64:0] large [511:0];
endmodule
"""


def test_a_design_is_composed_of_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def path(*given: object) -> sta.CriticalPath:
        asked.append(tuple(given[4]))  # type: ignore[arg-type]
        return sta.CriticalPath(1.0, "a", "b")

    monkeypatch.setattr(sta, "critical_path", path)
    (tmp_path / "array_toy.v").write_text(ARRAY)
    sizes = {"configuration": {"rows": 1, "columns": 3}}
    (tmp_path / "array_toy.json").write_text(json.dumps(sizes))
    (design,) = report.find_designs(tmp_path, [], "array")
    library = load(TOY, tmp_path)
    monkeypatch.setattr(whole, "TRIED", ("small",))
    monkeypatch.setattr(whole, "CHOICES", flow.DEFAULT)
    row = whole._composed(design, "small", library, tmp_path / "work")
    column = flow.synthesise(design.verilog, "array_toy.column", library, 2.0, tmp_path / "column")
    around = flow.synthesise(
        design.verilog, "array_toy", library, 2.0, tmp_path / "rest", boxes=["array_toy.column"]
    )
    assert (column.flip_flops, around.flip_flops, row["flip_flops"]) == (1, 1, 4)
    assert row["area_um2"] == 3 * column.area + around.area
    assert asked == [("column",)]
    # The parts' ports are as in their instances, so that they can be put together.
    netlist = (tmp_path / "work" / "small" / "column" / "netlist.v").read_text()
    assert "module \\array_toy.column (" in netlist and "input i;" in netlist
    # What is known is not mapped again.
    assert whole._composed(design, "small", library, tmp_path / "work") == row
    assert len(asked) == 1


# OpenSTA is optional; what is done with its answer is tested without it in test_flow.py.
@pytest.mark.skipif(not sta.is_installed(), reason="OpenSTA, which is optional, is not installed")
def test_a_path_goes_through_the_parts(tmp_path: Path) -> None:
    (tmp_path / "array_toy.v").write_text(ARRAY)
    library = load(TOY, tmp_path)
    work = tmp_path / "work"
    flow.synthesise(tmp_path / "array_toy.v", "array_toy", library, 2.0, work,
                    boxes=["array_toy.column"])  # fmt: skip
    flow.synthesise(tmp_path / "array_toy.v", "array_toy.column", library, 2.0, work / "column")
    # A flip-flop of the last column, its inverter, the NAND outside, setup.
    found = sta.critical_path("array_toy", library, 2.0, work, ["column"])
    assert found.start.startswith("column") and found.end == "o"
    alone = sta.critical_path("array_toy.column", library, 2.0, work / "column")
    assert found.delay_ns > alone.delay_ns


def test_buffers_are_found_and_counted_where_they_are() -> None:
    assert buffers(MEMORIES) == Counter({Buffer("top.bank", "large", 512, 65): 2})
    assert buffers("module top (clk);\nendmodule\n") == Counter()
    assert buffers("") == Counter()


def test_a_buffer_takes_the_macros_that_are_least() -> None:
    one = Buffer("top", "m", 512, 64)
    assert area(one, "sg13g2_stdcell", 7.0) == 150102.4
    assert area(Buffer("top", "m", 512, 65), "sg13g2_stdcell", 7.0) == 2 * 150102.4
    # 576 words are 512 and 64, not 1,024.
    assert area(Buffer("top", "m", 570, 64), "sg13g2_stdcell", 7.0) == 150102.4 + 50489.1
    assert area(Buffer("top", "m", 4096, 64), "sg13g2_stdcell", 7.0) == 2 * 491633.6
    assert area(one, "other", 2.0) == DENSITY * 2.0 * 512 * 64


def test_a_buffer_is_no_flip_flops(tmp_path: Path) -> None:
    verilog = tmp_path / "memory.v"
    verilog.write_text("""\
module memory (input clk, input we, input [8:0] at, input [15:0] d, output reg [15:0] o);
  reg [15:0] large [511:0];
  reg [15:0] q;
  always @(posedge clk) if (we) large[at] <= d;
  always @(posedge clk) q <= large[at];
  always @(posedge clk) o <= ~q;
endmodule
""")
    mapped = flow.synthesise(verilog, "memory", load(TOY, tmp_path), 2.0, tmp_path / "work")
    assert mapped.flip_flops == 16 and "sram" in mapped.netlist.read_text()


def test_every_block_is_measured_once() -> None:
    elsewhere = {"column", "array", *points.SINGLE}
    assert len(set(whole.BLOCKS)) == len(whole.BLOCKS)
    assert set(whole.BLOCKS) == BLOCKS.keys() - elsewhere
