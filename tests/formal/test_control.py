# amaranth: UnusedElaboratable=no
"""After an error the accelerator comes to rest, blames the right job, counts it once, goes on.

Proved for all time, of a controller that waits ``SETTLE`` cycles instead of 512, among engines and
a bus that do what they do at any pace within the bounds below: every number of jobs, done or
failed, errors in any cycle, of the bus too, and ``clear`` in any cycle.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from amaranth.hdl import Mux, Signal, Value

from gobo_rtl.array_config import ARRAYS
from gobo_rtl.formats import ARRAY_ERRORS
from gobo_rtl.top import control
from tests.sabotage.plant import Fault, planted_package

from .prover import Claims, bounded, prove, reach

CONFIG = ARRAYS["tiny"]
SETTLE = 6  # longer than the bus drains after a completion
# Most cycles in which the rest of the accelerator moves after an error; in which the bus drains; in
# which the completion of the failed job is not taken; from then until its response.
MOVES, DRAIN, TAKE, ANSWER = 2, 2, 2, 3
BOUND = (MOVES + 1) * SETTLE + 1 + 2 * (DRAIN + 1) + 1 + (TAKE + 1) + (ANSWER + 1)
"""Cycles from an error to ``stopped``."""
KEPT = 4  # bits of a tag that differ, and of a count of jobs
FILE = "gobo_rtl/top/control.py"
FAULTS: dict[str, tuple[Fault, str]] = {  # and the claim that is broken
    "the bus is reset before it is drained": (Fault(
        "drained", FILE, "with m.If(self.bus_idle):\n                    m.next = \"flush\"",
        "with m.If(1):\n                    m.next = \"flush\"",
    ), "the bus is drained before the reset"),
    "it hangs where no answer is due": (Fault(
        "hang", FILE, "with m.If(self.bus_idle):\n                    m.next = \"stopped\"",
        "with m.If(self.bus_idle & self.done):\n                    m.next = \"stopped\"",
    ), "stopped in time"),
    "a completion that cannot be written is not noticed": (Fault(
        "noticed", FILE, "m.If(self.done | self.write_error)", "m.If(self.done)",
    ), "every job counts once"),
    "it stops while something moves": (Fault(
        "moves", FILE, "m.If(self.moving | (self.error_code == 0) | ~self.fetch)",
        "m.If(self.error_code == 0)",
    ), "it stops when all is still"),
    "the job that is fetched is blamed": (Fault(
        "blame", FILE, "Mux(self.i_job.valid, self.i_job.payload, self.fetched)", "self.fetched",
    ), "the completion has the job"),
    "a job whose completion cannot be written is not counted": (Fault(
        "count", FILE, "self.finished.eq(self.done | self.failed)", "self.finished.eq(self.done)",
    ), "every job counts once"),
    "clear is taken at any time": (Fault(
        "clear", FILE, "with m.State(\"report\"):",
        "with m.State(\"report\"):\n                with m.If(self.clear):\n"
        "                    m.next = \"run\"",
    ), "o_failed.valid stays"),
    "the last error stays": (Fault(
        "stays", FILE, "m.d.sync += [self.code.eq(0), self.tag.eq(0)]", "pass",
    ), "it goes on"),
}  # fmt: skip


def at_most(claims: Claims, name: str, condition: Value, cycles: int, again: Value) -> None:
    """Assume that ``condition`` holds in at most so many cycles; counted anew with ``again``."""
    count = Signal(range(cycles + 2), name=f"{name}_count")
    claims.m.d.sync += count.eq(Mux(claims.reset | again, 0, count + condition))
    claims.assume(again | (count + condition <= cycles))


def flag(claims: Claims, name: str, rises: Value, falls: Value) -> Signal:
    """Return whether ``rises`` was set in a cycle before, and ``falls`` was not since."""
    kept = Signal(name=name)
    claims.m.d.sync += kept.eq(~claims.reset & ~falls & (rises | kept))
    return kept


def control_claims(source: ModuleType) -> Claims:
    """Return the claims, with the engines, the masters and the bus around the controller."""
    dut = source.Control(CONFIG)
    claims = Claims(dut)
    m, reset, running, report = claims.m, claims.reset, dut.fetch, dut.o_failed
    moving, idle = claims.free(1, "moving_in"), claims.free(1, "idle_in")
    done, clear = claims.free(1, "done_in"), claims.free(1, "clear_in")
    m.d.comb += [dut.moving.eq(moving), dut.bus_idle.eq(idle), dut.done.eq(done),
                 dut.clear.eq(clear), report.ready.eq(claims.free(1, "take"))]  # fmt: skip

    # What goes on: the engines have jobs from `clear` to `flush`; then one completion is written.
    active = running | flag(claims, "active", running, dut.flush)
    writing = flag(claims, "writing", report.valid & report.ready, done | dut.write_error)

    # Jobs: those at hand are reset with the engines.
    waiting, kept = Signal(), Signal(KEPT)
    job, fetched = claims.free(KEPT, "job"), claims.free(KEPT, "fetched")
    m.d.comb += [
        dut.i_job.valid.eq(waiting | (claims.free(1, "job_offer") & running & ~reset)),
        dut.i_job.payload.tag.eq(Mux(waiting, kept, job)),
        dut.fetched.tag.eq(fetched),
    ]
    m.d.sync += [
        waiting.eq(dut.i_job.valid & ~dut.i_job.ready & ~dut.flush & ~reset),
        kept.eq(dut.i_job.payload.tag),
    ]
    moved = claims.before(moving & ~reset, "moved")
    claims.assume(~done | writing | (running & dut.i_job.valid & moved))
    claims.assume(~done | ~dut.write_error)

    # Errors: kept until the reset; where no engine has a job, only the write of a completion.
    error, held = claims.free(len(dut.error_code), "error"), Signal(len(dut.error_code))
    wrong, bad = claims.free(1, "wrong"), Signal()
    m.d.comb += [
        dut.write_error.eq(~reset & (bad | (wrong & (active | writing)))),
        dut.error_code.eq(Mux(dut.write_error, ARRAY_ERRORS["write"],
                              Mux(held != 0, held, Mux(active & ~reset, error, 0)))),
    ]  # fmt: skip
    m.d.sync += [
        held.eq(Mux(dut.flush | reset, 0, dut.error_code)),
        bad.eq(dut.write_error & ~dut.flush & ~reset),
    ]

    # How long things take.
    wait = dut.stop & idle
    at_most(claims, "moves", moving, MOVES, dut.error_code == 0)
    at_most(claims, "drain", ~idle, DRAIN, ~dut.stop)
    at_most(claims, "take", ~report.ready, TAKE, ~report.valid)
    at_most(claims, "answer", ~done & ~dut.write_error, ANSWER, ~writing)
    claims.assume(~dut.stop | ~claims.before(wait, "was_idle") | idle)

    # It comes to rest, after what could be done is done.
    since, still = Signal(range(BOUND + 2)), Signal(range(SETTLE + 1))
    pending = (since != 0) | (dut.error_code != 0)
    ran = claims.before(running & ~reset, "ran")
    m.d.sync += [
        since.eq(Mux(reset | dut.stopped, 0, Mux(since > BOUND, since, since + pending))),
        still.eq(Mux(reset | moving | (dut.error_code == 0), 0,
                     Mux(still == SETTLE, still, still + 1))),
    ]  # fmt: skip
    claims.claim("stopped in time", since <= BOUND)
    quiet = claims.before(still == SETTLE, "quiet")
    claims.claim("it stops when all is still", ~ran | running | quiet)
    flushed = claims.before(dut.flush | (idle & dut.stop), "flushed")
    claims.claim("the bus is drained before the reset", ~dut.flush | flushed)
    rests = claims.before(dut.stopped & ~clear & ~reset, "rests")
    claims.claim("stopped stays until clear", ~rests | dut.stopped)

    # The oldest job is blamed, and told once.
    blamed, code = Signal(KEPT), Signal(len(dut.error_code))
    with m.If(running):
        m.d.sync += [code.eq(dut.error_code),
                     blamed.eq(Mux(dut.i_job.valid, dut.i_job.payload.tag, fetched))]  # fmt: skip
    for name, there, found_tag, found_code in (
        ("the completion", report.valid, report.payload.tag, report.payload.error),
        ("the registers", dut.stopped, dut.tag, dut.code),
    ):
        claims.claim(f"{name} has the job", ~there | (found_tag == blamed))
        claims.claim(f"{name} has the error", ~there | ((found_code == code) & (code != 0)))
    written = flag(claims, "written", report.valid & report.ready, dut.stopped)
    told = flag(claims, "told", dut.failed, running)
    claims.claim("a completion is written once", ~report.valid | ~written)
    claims.claim("a failure is told once", ~dut.failed | ~told)
    claims.claim("a failure is told", ~dut.stopped | told)
    claims.keeps_rules(report, "o_failed")

    # All jobs count, and after `clear` it goes on.
    jobs = Signal(KEPT)
    with m.If(reset):
        m.d.sync += jobs.eq(0)
    with m.Elif(done | (writing & dut.write_error)):
        m.d.sync += jobs.eq(jobs + 1)
    claims.claim("every job counts once", dut.completed[:KEPT] == jobs)
    goes_on = claims.before(dut.stopped & clear & ~reset, "goes_on")
    claims.claim("it goes on", ~goes_on | (running & (dut.code == 0) & (dut.tag == 0)))

    again = flag(claims, "again", goes_on, reset)
    claims.event("it takes as long as it may", dut.stopped & (since == BOUND))
    claims.event("a job is done after an error", running & done & (dut.error_code != 0))
    claims.event("a completion cannot be written", writing & dut.write_error)
    claims.event("a job is done after clear", again & running & done)
    claims.event("another one fails", again & dut.stopped)
    return claims


def planted_control(fault: Fault, folder: Path) -> ModuleType:
    """Return the controller's module of a copy with ``fault``."""
    return import_module(f"{planted_package(fault, folder)}.top.control")


def test_it_comes_to_rest_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SETTLE", SETTLE)
    claims = control_claims(control)
    verdict = prove(claims, tmp_path)
    assert verdict.holds, verdict
    assert set(reach(claims, tmp_path, 2 * BOUND)) == set(claims.events)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, broken = FAULTS[name]
    source = planted_control(fault, tmp_path)
    monkeypatch.setattr(source, "SETTLE", SETTLE)
    verdict = bounded(control_claims(source), tmp_path / "proof", 2 * BOUND)
    assert verdict.holds is False and verdict.broken == broken, verdict
