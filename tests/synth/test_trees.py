"""Trees of buffers: what drives much does it through few levels, and means the same."""

import json
import re
from pathlib import Path

import pytest

from synth import SynthError, flow
from synth.library import load

TOY = Path(__file__).parent / "toy.lib"
SINKS = 100
# A register that a hundred others look at, each with a bit of its own.
WIDE = f"""\
module wide (input clk, input a, input [{SINKS - 1}:0] b, output reg [{SINKS - 1}:0] o);
  reg a_r;
  reg [{SINKS - 1}:0] b_r;
  always @(posedge clk) begin
    a_r <= a;
    b_r <= b;
    o <= ~({{{SINKS}{{a_r}}}} & b_r);
  end
endmodule
"""


def mapped(tmp_path: Path, fanout: int) -> tuple[flow.Mapped, str]:
    """Return the design in cells, and its netlist."""
    (tmp_path / "wide.v").write_text(WIDE)
    library = load(TOY, tmp_path)
    assert library.buffer == "buf A:Y"
    found = flow.synthesise(
        tmp_path / "wide.v", "wide", library, 2.5, tmp_path / str(fanout), "plain",
        flow.Options(fanout=fanout),
    )  # fmt: skip
    return found, found.netlist.read_text(encoding="utf-8")


def inputs_of(netlist: str, kind: str) -> list[dict[str, str]]:
    """Return the nets at the pins of every cell of a kind."""
    # A buffer's name is a word of Verilog, and so written with a backslash.
    head = rf"^  \\?{kind} +\S+ +\("
    bodies = re.findall(head + r"(.*?)\n  \);", netlist, re.MULTILINE | re.DOTALL)
    return [dict(re.findall(r"\.(\w+)\(\s*([^)]*?)\s*\)", body)) for body in bodies]


@pytest.mark.parametrize("fanout", [2, 8, 24])
def test_a_tree_is_balanced_and_every_sink_is_at_it(tmp_path: Path, fanout: int) -> None:
    _, netlist = mapped(tmp_path, fanout)
    above = {cell["Y"]: cell["A"] for cell in inputs_of(netlist, "buf")}

    def depth(net: str) -> tuple[int, str]:
        levels = 0
        while net in above:
            net, levels = above[net], levels + 1
        return levels, net

    gates = inputs_of(netlist, "nand2")
    ends = [depth(pin) for gate in gates for name, pin in gate.items() if name != "Y"]
    shared = [end for end in ends if "a_r" in end[1]]
    assert len(shared) == SINKS
    least, most = min(shared)[0], max(shared)[0]
    assert least == most
    assert fanout ** (most + 1) >= SINKS > fanout ** (most - 1)  # ABC may add a level
    # No net has more sinks than it may.
    loads: dict[str, int] = {}
    for cell in [*gates, *inputs_of(netlist, "buf")]:
        for name, net in cell.items():
            if name != "Y":
                loads[net] = loads.get(net, 0) + 1
    assert max(loads.values()) <= fanout


def test_without_a_limit_no_buffer_is_planted(tmp_path: Path) -> None:
    found, _ = mapped(tmp_path, 0)
    log = (found.netlist.parent / "stat.json").read_text(encoding="utf-8")
    assert "_tree" not in found.netlist.read_text(encoding="utf-8")
    assert json.loads(log)["design"]["num_cells"] == found.cells


def test_a_limit_of_one_is_refused() -> None:
    with pytest.raises(SynthError, match="--fanout must be 0 or at least 2, not 1"):
        flow.Options(fanout=1)


def test_recipes_that_share_their_gates_give_what_each_gives_alone(tmp_path: Path) -> None:
    (tmp_path / "wide.v").write_text(WIDE)
    library, options = load(TOY, tmp_path), flow.Options(fanout=4)
    given = (tmp_path / "wide.v", "wide", library, 2.5)
    folders = {recipe: tmp_path / "all" / recipe for recipe in flow.STRAIGHT}
    found = flow.synthesise_all(*given, folders, options)
    for recipe, together in found.items():
        alone = flow.synthesise(*given, tmp_path / recipe, recipe, options)
        assert together.netlist.read_text() == alone.netlist.read_text()
        assert together.abc_ns == alone.abc_ns and together.abc_ns is not None
    scripts = {(folder / "abc.script").read_text() for folder in folders.values()}
    assert len(scripts) == len(folders)
    with pytest.raises(ValueError, match="small, plain do not start from the same gates"):
        flow.synthesise_all(*given, dict.fromkeys(("small", "plain"), tmp_path / "no"), options)
