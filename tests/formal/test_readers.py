"""The readers give what the beats say, bit for bit and in order: proved for all time.

Beats, tiles and stalls are arbitrary.  IndexReader is proved with its unpacker in it; OutlierReader
with one that gives any chunks at any pace, and keeps what the unpacker's own proof asks of it.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from gobo_rtl.config import CONFIGS, GoboConfig
from tests.sabotage.plant import Fault

from .decoding import no_sum, simple_sum
from .planted import planted_decode
from .prover import prove, reach
from .reading import index_claims, outlier_claims

TINY = CONFIGS["tiny"]
TWO = replace(TINY, outliers_per_cycle=2)
INDEXES = "gobo_rtl/decode/index_reader.py"
OUTLIERS = "gobo_rtl/decode/outlier_reader.py"
INDEX_FAULTS = (
    Fault("a tile has a group too few", INDEXES,
          "self.i_tile.payload.group_count == 1)", "self.i_tile.payload.group_count <= 2)"),
    Fault("a tile of the layer is taken for its first", INDEXES,
          "first.eq(final & unpacker.last)", "first.eq(final)"),
    Fault("planes in reverse", INDEXES,
          "word_select(n, config.lanes)", "word_select(config.index_width - 1 - n, config.lanes)"),
)  # fmt: skip
OUTLIER_FAULTS = (
    Fault("the sum is not compared", OUTLIERS, "(after != expected)", "(after != after)"),
    Fault("a record too early ends a tile", OUTLIERS,
          "(remaining == n + 1)", "(remaining == n + 2)"),
    Fault("a chunk enters too early", OUTLIERS, "unpacker.o.ready.eq(rest < count)",
          "unpacker.o.ready.eq(rest <= count)"),
    Fault("next_gap is of the window before", OUTLIERS, "with m.If(rest == 0):",
          "with m.If(held == 0):"),
    Fault("the window does not move", OUTLIERS, "entry.eq(entries[n + taken])", "entry.eq(entry)"),
)  # fmt: skip


@pytest.mark.slow
def test_groups_are_the_bits_of_the_beats(tmp_path: Path) -> None:
    claims = index_claims(TINY, planted_decode(None, tmp_path))
    assert prove(claims, tmp_path / "proof", sweep=True).holds


@pytest.mark.parametrize("config", [TINY, TWO], ids=["one", "two"])
def test_records_are_the_bits_of_the_beats(config: GoboConfig, tmp_path: Path) -> None:
    claims = outlier_claims(config, planted_decode(None, tmp_path), no_sum)
    assert prove(claims, tmp_path / "proof", sweep=True).holds


@pytest.mark.slow
@pytest.mark.parametrize("config", [TINY, TWO], ids=["one", "two"])
def test_their_sum_is_over_all_records(config: GoboConfig, tmp_path: Path) -> None:
    claims = outlier_claims(config, planted_decode(None, tmp_path), simple_sum)
    assert prove(claims, tmp_path / "proof", sweep=True).holds


def test_what_is_proved_of_can_happen(tmp_path: Path) -> None:
    for name, claims in (
        ("index", index_claims(TINY, planted_decode(None, tmp_path / "a"))),
        ("one", outlier_claims(TINY, planted_decode(None, tmp_path / "b"), no_sum)),
        ("two", outlier_claims(TWO, planted_decode(None, tmp_path / "c"), no_sum)),
    ):
        assert set(reach(claims, tmp_path / name, 14)) == set(claims.events)


@pytest.mark.parametrize("fault", INDEX_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_groups_is_found(fault: Fault, tmp_path: Path) -> None:
    claims = index_claims(TINY, planted_decode(fault, tmp_path))
    assert prove(claims, tmp_path / "proof", sweep=True).holds is False


@pytest.mark.parametrize("fault", OUTLIER_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_records_is_found(fault: Fault, tmp_path: Path) -> None:
    claims = outlier_claims(TWO, planted_decode(fault, tmp_path), no_sum)
    assert prove(claims, tmp_path / "proof", sweep=True).holds is False
