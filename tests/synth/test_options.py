"""Choices of the flow: what they do to a design, and that it computes the same."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from synth import SynthError, flow, gates
from synth.__main__ import main
from synth.library import load
from tests.synth.test_flow import NAND, TOY, emitted
from tests.synth.test_gates import icarus

# A product of 6 by 6 bits into a word that is kept while `en` is 0.
PRODUCT = """\
module column_product (input clk, input rst, input en, input [5:0] a, input [5:0] b,
                       output reg [11:0] o);
  always @(posedge clk)
    if (en) o <= $signed(a) * $signed(b);
endmodule
"""
CLOCK_GATE = """\
  cell (gate) {
    area : 9.0;
    clock_gating_integrated_cell : "latch_posedge";
    pin (E) {
      direction : input;
      capacitance : 0.002;
      clock_gate_enable_pin : true;
    }
    pin (CK) {
      direction : input;
      capacitance : 0.002;
      clock : true;
      clock_gate_clock_pin : true;
    }
    pin (O) {
      direction : output;
      clock_gate_out_pin : true;
      state_function : "CK * E";
    }
  }
"""


def gated(folder: Path) -> Path:
    """Write the invented library with a clock gate."""
    path = folder / "gated.lib"
    path.write_text(TOY.read_text().replace("  cell (buf)", f"{CLOCK_GATE}  cell (buf)"))
    return path


def product(folder: Path, library: Path, options: flow.Options) -> flow.Mapped:
    verilog = folder / "column_product.v"
    verilog.write_text(PRODUCT)
    work = folder / options.name
    return flow.synthesise(
        verilog, "column_product", load(library, work), 2.5, work, options=options
    )


def product_trace() -> gates.Trace:
    """Return 64 cycles of PRODUCT, in a quarter of which it stands still."""
    rng = np.random.default_rng(5)
    a, b = rng.integers(-32, 32, (2, 64))
    en = rng.random(64) < 0.75
    en[0] = False  # the cycle of reset has the first inputs, too
    seen, held = [], 0
    for x, y, takes in zip(a, b, en, strict=True):
        seen.append(held)
        held = int(x) * int(y) if takes else held

    def bits(numbers: object, width: int) -> gates.Bits:
        table: gates.Bits = (np.array(numbers)[:, None] >> np.arange(width) & 1).astype(np.uint8)
        return table

    return gates.Trace({"en": bits(en, 1), "a": bits(a, 6), "b": bits(b, 6)},
                       {"o": bits(seen, 12)}, 64)  # fmt: skip


def fan_out(mapped: flow.Mapped) -> list[int]:
    """Return how many flip-flops each clock gate of a netlist drives, the most first."""
    text = mapped.netlist.read_text()
    outputs = re.findall(r"gate \S+ +\((?:[^;]*)\.O\(([^)]*)\)", text)
    clocks = Counter(re.findall(r"dff \S+ +\([^;]*?\.CK\(([^)]*)\)", text))
    assert sum(clocks.values()) == mapped.flip_flops
    return sorted((clocks[wire] for wire in outputs), reverse=True)


@pytest.mark.parametrize(("fanout", "flip_flops"), [(0, [12]), (5, [5, 5, 2]), (12, [12])])
def test_a_clock_gate_drives_so_many_flip_flops_at_most(
    tmp_path: Path, fanout: int, flip_flops: list[int]
) -> None:
    mapped = product(tmp_path, gated(tmp_path), flow.Options(gate_fanout=fanout))
    assert fan_out(mapped) == flip_flops


@icarus
@pytest.mark.parametrize(
    "options",
    [
        flow.DEFAULT,
        *(flow.Options(adder=adder) for adder in flow.ADDERS[1:]),
        flow.Options(booth=True),
        flow.Options(gate_fanout=5),
        flow.Options(True, "han-carlson", 5),
    ],
    ids=lambda options: options.name,
)
def test_whatever_is_chosen_computes_the_same(tmp_path: Path, options: flow.Options) -> None:
    library = gated(tmp_path)
    netlist = product(tmp_path, library, options).netlist
    gates.replay(
        netlist, "column_product", load(library, tmp_path), product_trace(), tmp_path / "run"
    )


def test_what_is_chosen_reaches_yosys(tmp_path: Path) -> None:
    library = load(gated(tmp_path), tmp_path)
    names = set()
    for options in (flow.DEFAULT, flow.Options(booth=True), flow.Options(adder="sklansky")):
        files = flow.scripts("top", library, 2.5, "small", options)
        assert ("-booth" in files["gates.ys"]) == options.booth
        assert ("sklansky.v" in files["gates.ys"]) == (options.adder == "sklansky")
        names.add(options.name)
    assert names == {"plain", "booth", "sklansky"}
    assert (tmp_path / "gated.lib").exists()


def test_results_say_what_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--liberty", str(TOY), "--verilog", str(emitted(tmp_path / "v")),
                 "-o", str(tmp_path / "out")]  # fmt: skip
    chosen = ["--booth", "--adder", "kogge-stone", "--gate-fanout", "32"]
    assert main(["run", *arguments, *chosen]) == 0
    assert "booth+kogge-stone+gate32" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "out" / "decode-toy.json").read_text())["designs"]
    assert row["options"] == "booth+kogge-stone+gate32"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--adder", "ripple"],
            "--adder must be one of brent-kung, kogge-stone, han-carlson, sklansky, not 'ripple'",
        ),
        (["--gate-fanout", "-1"], "--gate-fanout must be 0 or more, not -1"),
    ],
)
def test_choices_that_there_are_not_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    base = ["--liberty", str(TOY), "--verilog", str(emitted(tmp_path / "v"))]
    assert main(["run", *base, *arguments]) == 2
    assert capsys.readouterr().err == f"synth: {words}\n"


def test_too_little_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "decode_nand.v").write_text(NAND)
    monkeypatch.setattr(flow, "LIMIT_GIGABYTES", 0)
    with pytest.raises(SynthError, match=r"decode_nand: yosys needs more than 0 GB of memory"):
        flow.synthesise(
            tmp_path / "decode_nand.v", "decode_nand", load(TOY, tmp_path), 2.5, tmp_path / "work"
        )
