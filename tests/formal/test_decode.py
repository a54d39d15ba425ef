"""The decode unit gives codebook[index], or the outlier in its place, for all beats and any pace.

Bounded: all sequences of inputs, offers and stalls in the cycles after the reset are covered, which
hold whole tiles, a change of layer, every error, and an error with ``clear`` before them.
"""

from dataclasses import asdict
from pathlib import Path

import pytest

from gobo_rtl.config import CONFIGS
from tests.sabotage.plant import Fault

from .decoding import ShortEscape, decoding_claims
from .planted import planted_decode
from .prover import bounded, reach

TINY = CONFIGS["tiny"]
SHORT = ShortEscape(**asdict(TINY))
BEATS = {"index_beats": 2, "outlier_beats": 4, "codebooks": 2, "tiles": 2}
CYCLES = 6
CYCLES_WITH_SUMS = 5

CHECKS = "gobo_rtl/decode/checks.py"
LANES = "gobo_rtl/decode/lanes.py"
MERGE = "gobo_rtl/decode/merge.py"
FAULTS = (
    Fault("an outlier in the last lane is dropped", LANES, "outlier.eq(any_of(list(here)))",
          "outlier.eq(any_of(list(here)) if lane + 1 < config.lanes else 0)"),
    Fault("two centroids are swapped", LANES, "centroid.eq(self.codebook[n])",
          "centroid.eq(self.codebook[n ^ 1 if n < 2 else n])"),
    Fault("the last group of a tile is not marked", MERGE,
          "last.eq((done & group.last) | killed)", "last.eq(killed)"),
    Fault("a lane twice in a group is let through", CHECKS, "disorder_r.eq(step & disorder)",
          "disorder_r.eq(0)"),
)  # fmt: skip


@pytest.mark.slow
def test_weights_come_in_order_and_bad_tiles_are_condemned(tmp_path: Path) -> None:
    claims = decoding_claims(TINY, **BEATS, source=planted_decode(None, tmp_path))
    assert bounded(claims, tmp_path / "proof", CYCLES).holds


@pytest.mark.slow
def test_the_same_with_an_escape_in_reach(tmp_path: Path) -> None:
    claims = decoding_claims(SHORT, **BEATS, source=planted_decode(None, tmp_path))
    assert bounded(claims, tmp_path / "proof", CYCLES).holds


@pytest.mark.slow
def test_sums_are_over_all_groups_and_records(tmp_path: Path) -> None:
    claims = decoding_claims(TINY, **BEATS, sums=True, source=planted_decode(None, tmp_path))
    assert bounded(claims, tmp_path / "proof", CYCLES_WITH_SUMS).holds


def test_what_is_proved_of_can_happen(tmp_path: Path) -> None:
    claims = decoding_claims(SHORT, **BEATS, source=planted_decode(None, tmp_path))
    assert set(reach(claims, tmp_path / "proof", 9)) == set(claims.events)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    claims = decoding_claims(TINY, **BEATS, source=planted_decode(fault, tmp_path))
    assert bounded(claims, tmp_path / "proof", CYCLES).holds is False
