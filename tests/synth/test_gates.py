"""Netlists at work on the invented library, whose activity can be told by hand."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gobo_rtl.array_config import ARRAYS
from gobo_rtl.cli import main as generate
from sim import workload
from sim.passes import record
from synth import SynthError, flow, gates, power
from synth.__main__ import main
from synth.gates import Trace
from synth.library import load
from tests.rtl.summing import make_pass

TOY = Path(__file__).parent / "toy.lib"
# Two cycles from a and b to o, which is bit 0 of a port of two.
NAND = """\
module column_nand (input clk, input rst, input [1:0] i, output [1:0] o);
  reg a_r, b_r, o_r;
  always @(posedge clk) begin
    a_r <= i[0];
    b_r <= i[1];
    o_r <= ~(a_r & b_r);
  end
  assign o = {b_r, o_r};
endmodule
"""
REPORT = """\
Group                    Internal    Switching      Leakage        Total
------------------------------------------------------------------------
Sequential           3.000000e-03 0.000000e+00 1.000000e-06 3.001000e-03  50.0%
Total                4.000000e-03 1.500000e-03 2.000000e-06 5.502000e-03 100.0%
"""

# Icarus is the system's and OpenSTA optional; where they are not, `-ra` says what was left out.
icarus = pytest.mark.skipif(
    not (shutil.which("iverilog") and shutil.which("vvp")),
    reason="Icarus is not installed: netlists were not run",
)


def nand_trace() -> Trace:
    """Return eight cycles of NAND: a is 1 in every other cycle, b in the second half."""
    a, b = np.tile([0, 1], 4), np.repeat([0, 1], 4)
    late_b = np.concatenate([[0], b[:-1]])
    late_nand = np.concatenate([[1, 1], 1 - (a & b)[:-2]])
    inputs = {"i": np.stack([a, b], axis=1).astype(np.uint8)}
    return Trace(inputs, {"o": np.stack([late_nand, late_b], axis=1).astype(np.uint8)}, 16)


def mapped(folder: Path) -> flow.Mapped:
    (folder / "column_nand.v").write_text(NAND)
    library = load(TOY, folder)
    return flow.synthesise(folder / "column_nand.v", "column_nand", library, 2.5, folder / "work")


@icarus
def test_activity_is_that_of_the_trace(tmp_path: Path) -> None:
    netlist = mapped(tmp_path).netlist
    vcd = gates.replay(netlist, "column_nand", load(TOY, tmp_path), nand_trace(), tmp_path / "a b")
    found = power.activity(vcd, 8)
    assert found["i_0_"] == power.Activity(7 / 8, 0.5)
    assert found["i_1_"] == power.Activity(1 / 8, 0.5)
    assert found["o_1_"].density == 1 / 8
    assert found["clk"] == power.Activity(2.0, 0.5)
    assert found["rst"] == power.Activity(0.0, 0.0)


@icarus
@pytest.mark.parametrize(("first", "end"), [(1, 8), (2, 6), (4, 8), (3, 4)])
def test_activity_is_that_of_the_cycles_that_count(tmp_path: Path, first: int, end: int) -> None:
    netlist, trace = mapped(tmp_path).netlist, replace(nand_trace(), window=(first, end))
    vcd = gates.replay(netlist, "column_nand", load(TOY, tmp_path), trace, tmp_path / "run")
    found = power.activity(vcd, trace.cycles)
    bits = trace.inputs["i"][first - 1 : end].astype(int)
    changes = np.abs(np.diff(bits, axis=0)).sum(axis=0) / trace.cycles
    assert [found[f"i_{n}_"].density for n in (0, 1)] == changes.tolist()
    assert found["clk"].density == 2.0


@icarus
@pytest.mark.parametrize("cycle", [0, 5, 7])
def test_an_output_that_differs_is_told(tmp_path: Path, cycle: int) -> None:
    netlist, trace = mapped(tmp_path).netlist, nand_trace()
    trace.outputs["o"][cycle, 0] ^= 1
    with pytest.raises(SynthError, match=f"column_nand: in cycle {cycle} the netlist's outputs"):
        gates.replay(netlist, "column_nand", load(TOY, tmp_path), trace, tmp_path / "run")
    assert not (tmp_path / "run" / "activity.vcd").exists()


@icarus
@pytest.mark.parametrize("unit", ["column", "array"])
def test_netlists_give_the_bits_of_the_rtl(tmp_path: Path, unit: str) -> None:
    """Every output in every cycle, of an array at work; the gates are the invented library's."""
    changes = ["--set", "rows=4", "--set", "index_widths=2", "--set", "symmetric=true"]
    name = "tiny_rows_4_index_widths_2_symmetric_true"
    command = ["verilog", "--config", "tiny", *changes, "--unit", unit, "-o", str(tmp_path)]
    assert generate(command) == 0
    (design,) = workload.designs("tiny", unit, changes[1::2])
    rng = np.random.default_rng(1)
    passes = [make_pass(design.config, rng, 20, index_width=2) for _ in range(2)]
    trace = record(design.config, passes)[unit]
    library = load(TOY, tmp_path)
    netlist = flow.synthesise(
        tmp_path / f"{unit}_{name}.v", f"{unit}_{name}", library, 2.5, tmp_path / "work"
    ).netlist
    assert trace.outputs
    given = Trace(trace.inputs, trace.outputs, 0)
    gates.replay(netlist, f"{unit}_{name}", library, given, tmp_path / "run")


def test_the_trace_of_a_column_has_all_its_ports() -> None:
    config = ARRAYS["tiny"]
    rng = np.random.default_rng(2)
    traces = record(config, [make_pass(config, rng, 12, index_width=3)])
    assert set(traces["column"].inputs) == {
        "a", "outliers", "codebook", "select", "read"}  # fmt: skip
    assert set(traces["array"].outputs) == {"o__valid", "o__payload", "last_ready"}
    due = config.columns * config.rows // config.drain_lanes
    assert traces["array"].outputs["o__valid"].sum() == due
    lengths = {len(bits) for trace in traces.values() for bits in trace.inputs.values()}
    assert len(lengths) == 1


def test_a_layer_of_a_trained_model_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "trace.npz"
    layer = "bert.encoder.layer.0.attention.self.key.weight"
    given = ["--config", "tiny", "--model", "bert-tiny", "--layer", layer, "-o", str(file)]
    assert workload.main([*given, "--passes", "2"]) == 0
    trace = gates.load_trace(file, "column")
    # The second of two passes counts, with a cycle for each column and for each stall.
    assert trace.macs == 4 * 128 and 128 <= trace.cycles < 140 < trace.length
    assert trace.counted[0] > 128
    assert trace.inputs["a"].any() and trace.outputs["o"].any()
    assert gates.load_trace(file, "array").macs == 2 * trace.macs
    with pytest.raises(SynthError, match="has no trace of steps"):
        gates.load_trace(file, "steps")
    capsys.readouterr()
    for more, words in (
        (["--layer", "nothing"], "bert-tiny has no layer nothing"),
        (["--passes", "33"], "the layer has 32 whole strips"),
        (["--passes", "0"], "--passes must be at least 1"),
        (["--set", "rows=3"], "rows must be"),
        (["-o", str(tmp_path)], "is a folder"),
    ):
        assert workload.main([*given, *more]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"hello", b"PK\x03\x04broken"])
def test_a_file_that_is_no_trace_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "trace.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SynthError, match="is not a file of `python -m sim"):
        gates.load_trace(path, "column")


@icarus
def test_energy_of_a_design_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "column_nand.v").write_text(NAND)
    (tmp_path / "column_nand.json").write_text('{"configuration": {"rows": 4}}')
    trace = nand_trace()
    np.savez(tmp_path / "trace.npz", **{
        "column:macs": 16, "column:window": (0, 8), "column:in:i": trace.inputs["i"],
        "column:out:o": trace.outputs["o"],
    })  # fmt: skip
    path = "Startpoint: a_r\nEndpoint: o_r\n 2.1000   slack (MET)"
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sta").write_text(
        f"#!/bin/sh\ncase $3 in\n  sta.tcl) /bin/cat <<'END'\n{path}\nEND\n;;\n"
        f"  *) /bin/cat <<'END'\n{REPORT}\nEND\n;;\nesac\n"
    )
    (tools / "sta").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    arguments = [
        "power", "--unit", "column", "--verilog", str(tmp_path), "--liberty", str(TOY),
        "-o", str(tmp_path / "out"), "--trace", str(tmp_path / "trace.npz"),
    ]  # fmt: skip
    assert main(arguments) == 0
    # 5.502 mW for 8 cycles of 2.5 ns are 110.04 pJ.
    assert "4.00 mW in cells, 1.50 mW on nets, 6.878 pJ each" in capsys.readouterr().out
    (table,) = (tmp_path / "out").rglob("activity.tcl")
    assert "{i_0_} {0.875 0.5}" in table.read_text()
    slow = (tools / "sta").read_text().replace(" 2.1000   slack (MET)", " -1.5000   slack")
    (tools / "sta").write_text(slow)
    assert main(arguments) == 0
    assert "column_nand is slower than the clock" in capsys.readouterr().err
    (tools / "sta").write_text("#!/bin/sh\necho Error: no such thing\n")
    assert main(arguments) == 2
    assert "OpenSTA failed: Error: no such thing" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tools))
    assert main(arguments) == 2
    assert "power needs iverilog: sudo apt-get install iverilog" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["macs", "length", "flat", "nothing", "window", "empty"])
def test_a_trace_that_does_not_fit_together_is_told(tmp_path: Path, broken: str) -> None:
    bits = np.zeros((8, 2), np.uint8)
    arrays = {"column:macs": np.array(16), "column:window": np.array([0, 8])}
    arrays |= {"column:in:i": bits, "column:out:o": bits}
    arrays |= {
        "macs": {"column:macs": np.array(0)}, "length": {"column:out:o": bits[:7]},
        "flat": {"column:out:o": bits[0]}, "nothing": {},
        "window": {"column:window": np.array([3, 9])}, "empty": {"column:window": np.array([3, 3])},
    }[broken]  # fmt: skip
    if broken == "nothing":
        del arrays["column:in:i"]
    np.savez(tmp_path / "trace.npz", **arrays)
    words = "the ports of column are not|column has 8 cycles, and none of 3 to"
    with pytest.raises(SynthError, match=words):
        gates.load_trace(tmp_path / "trace.npz", "column")
