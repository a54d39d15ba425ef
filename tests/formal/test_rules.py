"""The decode unit keeps the rules of streams and never hangs, whatever its inputs bring.

Proved for all time: beats and codebooks are arbitrary, and so are the cycles in which they are
offered, in which the output is taken, and in which ``clear`` comes.
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from amaranth.hdl import Mux, Signal

from gobo_rtl import decode
from gobo_rtl.config import CONFIGS, GoboConfig
from tests.sabotage.plant import Fault

from .planted import planted_decode
from .prover import Claims, prove, reach

TINY = CONFIGS["tiny"]
SIZES = {
    "tiny": TINY,
    "2 and 3 bits": replace(TINY, index_widths=(2, 3)),
    "two outliers a cycle": replace(TINY, outliers_per_cycle=2),
}
INPUTS = ("i_codebook", "i_indexes", "i_outliers")
IDLE_CYCLES = 3
"""Most cycles in which nothing moves while everything is offered and the output is taken."""


def stream_claims(config: GoboConfig, source: ModuleType = decode) -> Claims:
    dut = source.DecodeUnit(config)
    claims = Claims(dut)
    for name in INPUTS:
        claims.drive(getattr(dut, name), name)
    claims.m.d.comb += [
        dut.o.ready.eq(claims.free(1, "take")), dut.clear.eq(claims.free(1, "clear_in")),
    ]  # fmt: skip
    claims.keeps_rules(dut.o, "o")
    failed = dut.error_code != 0
    for name in INPUTS:
        claims.claim(f"{name} is taken after an error", ~failed | getattr(dut, name).ready)
    held = claims.before(failed & ~dut.clear & ~claims.reset, "held")
    code = claims.before(dut.error_code, "code_before")
    claims.claim("error_code stays until clear", ~held | (dut.error_code == code))
    cleared = claims.before(failed & dut.clear & ~claims.reset, "cleared")
    claims.claim("clear clears error_code", ~cleared | (dut.error_code == 0))
    claims.event("an error and clear", cleared)
    claims.event("a group is given after an error and clear",
                 cleared_once(claims, cleared) & dut.o.valid & ~dut.o.payload.error)
    return claims


def cleared_once(claims: Claims, cleared: Signal) -> Signal:
    """Return whether ``cleared`` was set in a cycle before."""
    once = Signal(name="cleared_once")
    claims.m.d.sync += once.eq(~claims.reset & (once | cleared))
    return once


def progress_claims(config: GoboConfig, source: ModuleType = decode) -> Claims:
    dut = source.DecodeUnit(config)
    claims = Claims(dut)
    for name in INPUTS:
        claims.drive(getattr(dut, name), name, pauses=False)
    claims.m.d.comb += [dut.o.ready.eq(1), dut.clear.eq(claims.free(1, "clear_in"))]
    moves = dut.o.valid | dut.i_indexes.ready | dut.i_outliers.ready
    still = Signal(range(IDLE_CYCLES + 2))
    more = Mux(still > IDLE_CYCLES, still, still + 1)
    claims.m.d.sync += still.eq(Mux(moves | claims.reset, 0, more))
    claims.claim("something moves", still <= IDLE_CYCLES)
    claims.event("nothing moves for a cycle", still == 1)
    return claims


@pytest.mark.parametrize("name", SIZES)
def test_the_output_keeps_the_rules_and_errors_hold_no_bus(name: str, tmp_path: Path) -> None:
    claims = stream_claims(SIZES[name])
    assert prove(claims, tmp_path).holds
    assert set(reach(claims, tmp_path, 12)) == set(claims.events)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_it_never_hangs(name: str, tmp_path: Path) -> None:
    claims = progress_claims(SIZES[name])
    assert prove(claims, tmp_path).holds
    assert set(reach(claims, tmp_path, 12)) == set(claims.events)


def test_a_fault_in_the_rules_is_found(tmp_path: Path) -> None:
    fault = Fault("a group is overwritten", "gobo_rtl/decode/merge.py",
                  "free = ~valid | o.ready", "free = ~valid | o.ready | self.i.valid")  # fmt: skip
    verdict = prove(stream_claims(TINY, planted_decode(fault, tmp_path)), tmp_path / "proof")
    assert verdict.holds is False and verdict.broken.startswith("o.")


def test_a_held_bus_is_found(tmp_path: Path) -> None:
    fault = Fault("an error holds a bus", "gobo_rtl/decode/unit.py",
                  "self.i_outliers.ready.eq(outliers.i.ready | failed)",
                  "self.i_outliers.ready.eq(outliers.i.ready)")  # fmt: skip
    verdict = prove(stream_claims(TINY, planted_decode(fault, tmp_path)), tmp_path / "proof")
    assert verdict.holds is False and verdict.broken == "i_outliers is taken after an error"


@pytest.mark.slow
def test_a_hang_is_found(tmp_path: Path) -> None:
    fault = Fault("a used beat is not taken", "gobo_rtl/decode/unpacker.py",
                  "(used_up | self.final)", "self.final")  # fmt: skip
    verdict = prove(progress_claims(TINY, planted_decode(fault, tmp_path)), tmp_path / "proof")
    assert verdict.holds is False
