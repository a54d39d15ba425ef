# amaranth: UnusedElaboratable=no
"""What is read of nextpnr, and what the command line says to bad input; no FPGA tool runs."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fpga import FpgaError, tools, utilisation
from fpga.__main__ import cells_of, main, words_of
from fpga.usage import DEVICES, SEEDS, Usage, usage_of
from fpga.utilisation import JOBS, Job, measure, named_jobs
from gobo_rtl.array_config import ARRAYS
from gobo_rtl.config import CONFIGS
from gobo_rtl.units import designs

LOG = """\
Info: Packing carries..
Info: Device utilisation:
Info: \t         ICESTORM_LC:    {logic}/   7680    18%
Info: \t        ICESTORM_RAM:       4/     32    12%
Info: \t               SB_IO:       2/    206     0%
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "nextpnr.log"
    path.write_text(LOG.format(logic=1445))
    return path


def test_usage_is_that_of_the_log_and_of_the_slowest_clock(log: Path):
    report = log.with_name("report.json")
    clocks = {"a": {"achieved": 90.5}, "b": {"achieved": 61.25}}
    report.write_text(json.dumps({"fmax": clocks}))
    usage = usage_of("ice40-hx8k", log, report)
    assert usage == Usage({"logic": 1445, "bram": 4}, {"logic": 7680, "bram": 32}, 61.25)
    assert (cells_of("logic", usage), words_of(usage)) == ("1,445 (18.8 %)", "61.2 MHz")


def test_what_does_not_fit_says_by_how_much(log: Path):
    log.write_text(LOG.format(logic=11520))
    usage = usage_of("ice40-hx8k", log, log.with_name("report.json"))
    assert words_of(usage) == "does not fit: 1.50 times the logic cells that there are"


def test_a_log_without_figures_and_a_report_without_a_clock_are_told(log: Path):
    log.with_name("report.json").write_text('{"fmax": {}}')
    with pytest.raises(FpgaError, match="nextpnr found no clock"):
        usage_of("ice40-hx8k", log, log.with_name("report.json"))
    log.write_text("ERROR: no such package\n")
    with pytest.raises(FpgaError, match="does not tell of ICESTORM_LC, ICESTORM_RAM"):
        usage_of("ice40-hx8k", log, log.with_name("report.json"))


def test_every_job_is_named_and_every_decoder_is_on_every_device_that_may_hold_it():
    jobs = named_jobs()
    assert len({job.name for job in jobs}) == len(jobs) == sum(len(n) * len(d) for _, n, d in JOBS)
    assert {job.design.name for job in jobs if job.design.unit == "decode"} == set(CONFIGS)
    assert {job.design.name for job in named_jobs("array", "edge")} == {"edge"} <= set(ARRAYS)
    assert {job.device for job in named_jobs("array", "edge")} == set(DEVICES)


@pytest.fixture(autouse=True)
def started() -> None:
    tools.start()  # whatever a test before has stopped


class Tools:
    """Stands for yosys and nextpnr: writes what they would, and counts. The router goes ``astray``
    with so many seeds."""

    def __init__(
        self, status: int = 0, needs_s: float = 10.0, placed: str = "", astray: int = 0
    ):  # fmt: skip
        self.status, self.needs_s, self.placed, self.calls = status, needs_s, placed, 0
        self.astray = astray

    def __call__(
        self, command: Sequence[str], folder: Path, log: Path, limit_s: float = 9e9,
        hopeless: Callable[[], bool] = lambda: False,
    ) -> int | None:  # fmt: skip
        self.calls += 1
        if "flow.ys" in command[-1]:
            cells = {"num_cells_by_type": {"SB_DFF": 3, "SB_DFFE": 4, "SB_LUT4": 9}}
            (folder / "stat.json").write_text(json.dumps({"design": cells}))
            log.write_text("")
            return 0
        rain = "ERROR: it is raining\n" * self.status
        rounds = "Info: iter=9 steplen=0.87 a=4.2\n" * 300  # the placer's
        log.write_text(LOG.format(logic=1445) + rounds + self.placed + rain)
        if limit_s < self.needs_s:
            return None
        if int(command[-1]) <= self.astray:
            log.write_text(log.read_text() + "Info:     iter=9 wires=9 overused=2\n" * 300)
            assert hopeless()
            return None
        assert not hopeless()
        if not self.status:
            (folder / "report.json").write_text('{"fmax": {"aclk": {"achieved": 90.0}}}')
        return self.status


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(tools, "versions", lambda: {"nextpnr": "1"})
    monkeypatch.setattr(tools, "program", lambda name: name)
    return Job(designs("tiny", "decode")[0], "ice40-hx8k")


def test_what_is_measured_is_kept_and_measured_again_when_something_changes(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stand_in = Tools()
    monkeypatch.setattr(tools, "run", stand_in)
    row = measure(job, tmp_path)
    assert (row.flip_flops, row.mhz, row.used) == (7, 90.0, {"logic": 1445, "bram": 4})
    assert measure(job, tmp_path) == row and stand_in.calls == 2
    monkeypatch.setattr(tools, "versions", lambda: {"nextpnr": "2"})
    assert measure(job, tmp_path).key != row.key and stand_in.calls == 4


def test_a_tool_that_fails_is_told_and_leaves_no_figures(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tools, "run", Tools(status=1))
    with pytest.raises(FpgaError, match=r"nextpnr: ERROR: it is raining \(see .*nextpnr.log\)"):
        measure(job, tmp_path)
    assert not list(tmp_path.glob("*.json"))


PLACED = "Info: Max frequency for clock 'aclk': 52.86 MHz (FAIL at 100.00 MHz)\n"


def test_what_is_not_routed_in_time_has_the_clock_of_the_placer(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stand_in = Tools(needs_s=50, placed=PLACED)
    monkeypatch.setattr(tools, "run", stand_in)
    row = measure(job, tmp_path, 40)
    assert words_of(row.usage) == "52.9 MHz, as placed: not routed"
    assert measure(job, tmp_path, 30) == row and stand_in.calls == 2
    assert words_of(measure(job, tmp_path, 60).usage) == "90.0 MHz"  # more time, another try
    assert measure(job, tmp_path, 40).routed and stand_in.calls == 4


def test_a_router_that_goes_astray_gets_another_placement(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stand_in = Tools(placed=PLACED, astray=1)
    monkeypatch.setattr(tools, "run", stand_in)
    row = measure(job, tmp_path)
    assert (row.mhz, row.routed, stand_in.calls) == (90.0, True, 3)
    (tmp_path / f"{job.name}.json").unlink()
    stand_in.astray = len(SEEDS)
    row = measure(job, tmp_path)
    assert words_of(row.usage) == "52.9 MHz, as placed: not routed"
    assert stand_in.calls == 3 + 1 + len(SEEDS)


@pytest.mark.parametrize("said", ["Info: Packing carries..\n", LOG])
def test_what_is_not_placed_in_time_is_told(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
):
    monkeypatch.setattr(tools, "run", Tools(needs_s=50))
    monkeypatch.setitem(globals(), "LOG", said)
    with pytest.raises(FpgaError, match="not placed in 40 s; give it a higher --limit"):
        measure(job, tmp_path, 40)
    assert not list(tmp_path.glob("*.json"))


def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path: Path):
    command = ["sh", "-c", "echo begun; sleep 600 & echo $! > child; wait"]
    assert tools.run(command, tmp_path, tmp_path / "log", 0.5) is None
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    deadline = time.monotonic() + 60
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_programs_status_and_first_error_are_kept(tmp_path: Path):
    log = tmp_path / "log"
    assert tools.run(["sh", "-c", "echo ERROR: one; echo two; exit 3"], tmp_path, log) == 3
    assert tools.last_words(log, 3) == "ERROR: one"
    assert tools.run(["sh", "-c", "echo two; kill -KILL $$"], tmp_path, log) == -9
    assert tools.last_words(log, -9) == "ended with status -9 and says no error"


def test_programs_that_are_stopped_are_gone_with_their_children(tmp_path: Path):
    command = ["sh", "-c", "echo begun; sleep 600 & wait"]
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(tools.run, command, tmp_path, tmp_path / "log")
        while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
            time.sleep(0.01)
        tools.stop()
        assert waits.result(60) == -signal.SIGKILL
    with pytest.raises(FpgaError, match="interrupted"):
        tools.run(["true"], tmp_path, tmp_path / "log")
    tools.start()
    assert tools.run(["true"], tmp_path, tmp_path / "log") == 0


def test_a_program_that_runs_is_ended_when_the_command_is_terminated(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    began = tmp_path / "began"

    def terminate() -> None:
        while not began.exists() or not began.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    def runs(command: Sequence[str], folder: Path, log: Path, *_: object) -> int | None:
        threading.Thread(target=terminate).start()
        return run(["sh", "-c", f"echo $$ > {began}; exec sleep 600"], folder, log)

    run = tools.run
    monkeypatch.setattr(tools, "run", runs)
    before = signal.getsignal(signal.SIGTERM)
    try:
        words = ["--unit", "decode", "--config", "tiny", "--device", "ice40-hx8k"]
        assert main(["utilisation", *words, "-o", str(tmp_path / "out")]) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (Path("/proc") / began.read_text().strip()).exists()
    assert not list((tmp_path / "out").glob("*.json"))


BAD = {
    "no unit": (["utilisation", "--unit", "rain"], "nothing is to be measured of 'rain'"),
    "no configuration": (["utilisation", "--config", "rain"], "is called 'rain'"),
    "no device": (["utilisation", "--device", "rain"], "no device is called 'rain'; there are"),
    "no jobs": (["utilisation", "--jobs", "0"], "--jobs must be at least 1, not 0"),
    "no time": (["utilisation", "--limit", "0"], "--limit must be above 0 minutes, not 0"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence_and_status_two(
    what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tools, "versions", dict)
    words, sentence = BAD[what]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1


def test_a_missing_tool_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tools, "PACKAGES", ("amaranth", "no-such-package"))
    for words in (["build"], ["utilisation"]):
        assert main(words) == 2
        assert capsys.readouterr().err == (
            "error: no-such-package is not in this environment; `make .venv-fpga` installs it\n"
        )


def test_an_interrupt_says_that_what_is_done_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def interrupt(job: Job, output: Path, limit_s: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tools, "versions", dict)
    monkeypatch.setattr(utilisation, "measure", interrupt)
    assert main(["utilisation", "--unit", "array", "-o", str(tmp_path)]) == 130
    assert "what is finished is kept" in capsys.readouterr().err
