"""Wires whose names look like bits of others stay what they are in cells of an ECP5."""

import subprocess
import sys
from pathlib import Path

import pytest

from fpga.usage import AFTER_ECP5, BEFORE_ECP5, DEVICES
from fpga.utilisation import YOSYS

# Registers of their own, one of which is called as bit 1 of the other.
VERILOG = r"""
module top(input clk, input [5:0] a, input [11:0] b, output [11:0] o, output [5:0] p);
  reg [11:0] word = 0;
  reg [5:0] \word[1] = 0;
  always @(posedge clk) begin
    word <= (word ^ b) & {a, a};
    \word[1] <= \word[1] ^ (a & word[5:0]);
  end
  assign o = word;
  assign p = \word[1] ;
endmodule
"""

# The cells as what they do, beside the design itself, from reset on.
EQUAL = """
rename top cells
techmap -autoproc -map +/lattice/cells_sim_ecp5.v
read_verilog design.v
proc
async2sync
dffunmap
opt_clean
miter -equiv -flatten top cells both
sat -verify -prove trigger 0 -seq 1 -set-init-zero -tempinduct both
"""


def yosys(folder: Path, script: str) -> str:
    """Run a script on the design; return what yosys said, and its exit status as a last line."""
    (folder / "design.v").write_text(VERILOG)
    (folder / "flow.ys").write_text(f"read_verilog design.v\n{script}\n")
    done = subprocess.run(
        [sys.executable, "-c", YOSYS], cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return f"{done.stdout}{done.stderr}\n{done.returncode}"


def test_wires_called_as_bits_of_others_stay_apart(tmp_path: Path):
    synth = DEVICES["ecp5-85k"].synth.format(top="top")
    said = yosys(tmp_path, f"{BEFORE_ECP5}\n{synth}{EQUAL}")
    assert said.endswith("\n0") and "Induction step proven: SUCCESS!" in said, said[-2000:]


@pytest.mark.parametrize("before, after", [("", AFTER_ECP5), ("", ""), (BEFORE_ECP5, "")])
def test_yosys_joins_them_when_it_knows_their_names_and_is_stopped(
    tmp_path: Path, before: str, after: str
):
    said = yosys(tmp_path, f"{before}\nsynth_ecp5 -noiopad -top top\n{after}")
    joined = "multiple conflicting drivers" in said
    assert joined == (not before)
    assert said.endswith("\n0") == (not (joined and after)), said[-2000:]
