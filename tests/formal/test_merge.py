"""The merge gives each group once, in order, with its outliers, and condemns a bad tile: proved for
all time, for gaps of 3 bits and values of 1 bit; with those of a record, in a bounded time.

Groups and records are anything that the readers promise, at any pace.
"""

from dataclasses import asdict
from pathlib import Path

import pytest

from gobo_rtl.config import CONFIGS, GoboConfig
from tests.sabotage.plant import Fault

from .decoding import no_sum, simple_sum
from .merging import Narrow, merge_claims
from .planted import planted_decode
from .prover import bounded, prove, reach

TINY = CONFIGS["tiny"]
NARROW = Narrow(**asdict(TINY))
TWO = Narrow(**{**asdict(TINY), "outliers_per_cycle": 2})
CYCLES = 12

CHECKS = "gobo_rtl/decode/checks.py"
LANES = "gobo_rtl/decode/lanes.py"
MERGE = "gobo_rtl/decode/merge.py"
SCHEDULE = "gobo_rtl/decode/schedule.py"
FAULTS = (
    Fault("an outlier goes to the lane above", LANES,
          "(records[n].lane == lane)", "(records[n].lane + 1 == lane)"),
    Fault("a further step writes centroids again", LANES,
          "self.step & (outlier | ~self.partial)", "self.step"),
    Fault("a record is taken a group too late", SCHEDULE,
          "Mux(unknown, since, after_since)", "since"),
    Fault("a group does not wait for records", SCHEDULE,
          "unknown.eq(next_pending & (~self.next_valid | stale))", "unknown.eq(0)"),
    Fault("an error leaves a step half done", SCHEDULE,
          "~self.forget & Mux(step, more, partial)", "Mux(step, more, partial)"),
    Fault("the layer's end is not compared", CHECKS,
          "end_bad.eq(finish & (self.ended != group.end))", "end_bad.eq(0)"),
    Fault("the sum of the group before", CHECKS,
          "before = Mux(group.start, CRC16.initial, remainder)", "before = remainder"),
    Fault("the codebook is taken with every tile", MERGE,
          "with m.If(i.payload.first):", "with m.If(i.payload.start):"),
    Fault("a group is overwritten", MERGE,
          "free = ~valid | o.ready", "free = ~valid | o.ready | self.i.valid"),
)  # fmt: skip


@pytest.mark.parametrize(
    "config", [pytest.param(NARROW, marks=pytest.mark.slow), TWO], ids=["one", "two"]
)
def test_groups_come_in_order_with_their_outliers(config: GoboConfig, tmp_path: Path) -> None:
    claims = merge_claims(config, planted_decode(None, tmp_path), no_sum)
    assert prove(claims, tmp_path / "proof", sweep=True).holds


@pytest.mark.slow
def test_their_sum_is_over_all_groups(tmp_path: Path) -> None:
    claims = merge_claims(NARROW, planted_decode(None, tmp_path), simple_sum)
    assert prove(claims, tmp_path / "proof", sweep=True).holds


@pytest.mark.slow
def test_with_whole_gaps_and_values(tmp_path: Path) -> None:
    claims = merge_claims(TINY, planted_decode(None, tmp_path), no_sum)
    assert bounded(claims, tmp_path / "proof", CYCLES).holds


@pytest.mark.parametrize("config", [NARROW, TWO], ids=["one", "two"])
def test_what_is_proved_of_can_happen(config: GoboConfig, tmp_path: Path) -> None:
    claims = merge_claims(config, planted_decode(None, tmp_path), no_sum)
    assert set(reach(claims, tmp_path / "proof", 10)) == set(claims.events)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    claims = merge_claims(NARROW, planted_decode(fault, tmp_path), simple_sum)
    assert prove(claims, tmp_path / "proof", sweep=True).holds is False
