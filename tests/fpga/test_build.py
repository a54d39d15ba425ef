# amaranth: UnusedElaboratable=no
"""From a plan to a bitstream and its figures; the plan's script writes what the tools would."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fpga import FpgaError, build, tools
from fpga.selftest import SelfTest
from fpga.stored import Stored
from fpga.usage import AFTER_ECP5, BEFORE_ECP5
from gobo_rtl.array_config import ARRAYS

STORED = Stored(
    config=ARRAYS["tiny"], memory=[0], codebook=0, index_width=3, indexes=(0, 1), outliers=(0, 1),
    groups=[0], results=0, result_beats=[0],
)  # fmt: skip

GOOD = """\
set -e
echo synthesised > top.rpt
cat > top.tim << END
Info: \t          DP16KD:     108/    208    51%
Info: \t      MULT18X18D:      36/    156    23%
Info: \t    TRELLIS_COMB:   23290/  83640    27%
END
echo '{"fmax": {"clk": {"achieved": 40.5}}}' > report.json
cat > top.json << END
{"modules": {"top": {"cells": {"a": {"type": "TRELLIS_FF"}, "b": {"type": "LUT4"}}}}}
END
echo bits > top.bit
"""
BAD = "echo synthesised > top.rpt; echo ERROR: it is raining > top.tim; exit 1"
ASTRAY = """\
echo synthesised > top.rpt
for n in $(seq 300); do echo "Info:     iter=$n wires=9 overused=2"; done > top.tim
exec sleep 600
"""
SLOW = "echo synthesised > top.rpt; exec sleep 600"


@dataclass(frozen=True)
class Plan:
    """Stands for a plan of Amaranth's."""

    text: str
    script: str = "build_top"

    def digest(self) -> bytes:
        return self.text.encode()

    def extract(self, folder: str) -> None:
        Path(folder).mkdir(parents=True)
        (Path(folder) / f"{self.script}.sh").write_text(self.text)


class Bench:
    """Builds with plans that are given, and counts how often tools begin."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder, self.patch, self.begun = folder, patch, 0
        patch.setattr(tools, "versions", lambda: {"nextpnr": "1"})

    def __call__(self, plan: Plan) -> dict:
        self.patch.setattr(build, "_plan", lambda selftest: plan)
        return build.build(SelfTest(STORED, ""), self.folder, self.begin)

    def begin(self, work: Path, seed: int) -> None:
        self.begun += 1

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("YOSYS", "NEXTPNR_ECP5", "ECPPACK", "OPENFPGALOADER")
    monkeypatch.setattr(tools, "environment", lambda: dict.fromkeys(names, "true"))
    for name in names:
        monkeypatch.setenv(name, "true")  # and as it was afterwards


class Stand(wiring.Component):
    """Has a self-test's pins, and passes when it has been asked ``turns`` times."""

    again: In(1)
    plant: In(1)
    running: Out(1)
    passed: Out(1)
    failed: Out(1)
    tx: Out(1)

    def __init__(self, turns: int = 5):
        self.turns = turns
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        asked = Signal(range(self.turns + 1))
        m.d.sync += asked.eq(asked + self.again)
        m.d.comb += [self.passed.eq(asked == self.turns), self.failed.eq(self.plant)]
        m.d.comb += [self.running.eq(~self.passed), self.tx.eq(asked[0])]
        return m


@pytest.mark.usefixtures("no_tools")
def test_the_boards_plan_is_that_of_its_design_with_the_seed_left_open(tmp_path: Path):
    plan = build._plan(Stand())
    assert plan.digest() == build._plan(Stand()).digest() != build._plan(Stand(6)).digest()
    plan.extract(str(tmp_path))
    script = (tmp_path / f"{plan.script}.sh").read_text().splitlines()
    (command,) = (line for line in script if "--lpf" in line)
    assert "--placer static --router router2 " in command and " --seed $SEED " in command
    flow = [line.strip() for line in (tmp_path / "top.ys").read_text().splitlines()]
    assert flow[-5:] == [
        "read_rtlil top.il", BEFORE_ECP5, "synth_ecp5  -top top", AFTER_ECP5, "write_json top.json",
    ]  # fmt: skip
    pins = (tmp_path / "top.lpf").read_text()
    assert re.findall(r"LOCATE COMP \"(\w+?)__io\"", pins) == [
        "led_0", "led_1", "led_2", "button_fire_0", "button_fire_1", "uart_0__tx", "clk25_0",
    ]  # fmt: skip
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in pins


WHOLE = {"top.bit", "top.json", "top.rpt", "top.tim"}


def test_a_bitstream_has_its_figures_and_is_built_once(bench: Bench):
    figures = bench(Plan(GOOD))
    assert (figures["mhz"], figures["clock_mhz"], figures["bytes"]) == (40.5, 25.0, 5)
    assert figures["flip_flops"] == 1
    assert build.usage_from(figures).used == {"logic": 23290, "bram": 108, "dsp": 36}
    assert bench.files() == WHOLE
    assert bench(Plan(GOOD)) == figures and bench.begun == 1
    bench(Plan(GOOD + "# another design"))
    (bench.folder / "top.bit").write_text("other bits")
    assert bench.begun == 2
    bench(Plan(GOOD + "# another design"))
    assert bench.begun == 3 and (bench.folder / "top.bit").read_text() == "bits\n"


def test_a_tool_that_fails_has_its_words_said_and_leaves_the_bitstream_before(bench: Bench):
    bench(Plan(GOOD))
    with pytest.raises(FpgaError, match=r"^nextpnr: ERROR: it is raining \(see .*failed\)$"):
        bench(Plan(BAD))
    assert bench.files() == {*WHOLE, "failed"}
    assert bench(Plan(GOOD)) and bench.begun == 2


def test_a_router_that_goes_astray_gets_another_placement(bench: Bench):
    assert bench(Plan(f"if [ $SEED = 1 ]; then\n{ASTRAY}fi\n{GOOD}"))["mhz"] == 40.5
    assert bench.files() == WHOLE and bench.begun == 2


def test_a_router_that_always_goes_astray_is_told(bench: Bench):
    with pytest.raises(FpgaError, match=r"^nextpnr: the router came to no end, with \d seeds"):
        bench(Plan(ASTRAY))
    assert bench.files() == {"failed"} and bench.begun == len(build.SEEDS)


def test_an_interrupt_leaves_nothing_half_written(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def interrupt(work: Path, seed: int) -> None:
        raise KeyboardInterrupt

    bench(Plan(GOOD))
    monkeypatch.setattr(bench, "begin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench(Plan(SLOW))
    assert bench.files() == WHOLE


def test_what_is_stored_says_how_many_words_are_due():
    more = replace(STORED, groups=[0] * 3, result_beats=[0] * 5)
    assert more.words == 3 * 4 + 5 * 2
