"""The decode unit in Amaranth's simulator against the golden model."""

import numpy as np
import pytest

from gobo_rtl.config import CONFIGS, GoboConfig
from sim import stimulus
from sim.corruption import CORRUPTIONS, corrupt
from sim.golden.decode import decode_unit

from .decoding import Pace, Seen, rtl_decode

SEED = 20201014
TINY, DEFAULT, ROWS = CONFIGS["tiny"], CONFIGS["default"], CONFIGS["rows"]
# Every lane count, beat, value format and number of outliers a cycle, at a simulator's size.
SMALL = {
    "tiny": TINY,
    "rows": ROWS,
    "default": DEFAULT,
    "fp32": CONFIGS["fp32"],
    "four": GoboConfig(
        lanes=8, outliers_per_cycle=4, lane_rows=2, tile_rows=4, index_widths=(2, 4)
    ),
    "narrow": GoboConfig(lanes=32, beat_width=64, index_widths=(4,), tile_rows=3),
    "bf16": GoboConfig(lanes=8, beat_width=256, value_format="bf16", outliers_per_cycle=2),
}
PATTERNS = ("none", "all", "share:0.1", "full-rate", "stall", "burst", "tile-last", "corners")


def layers_of(
    config: GoboConfig, seed: int, *patterns: str, groups: int = 9, scribble: bool = True
) -> list[stimulus.Layer]:
    """Return layers of two tiles and a bit, with edges that fill neither group nor tile."""
    rng = np.random.default_rng([SEED, seed])
    rows = 2 * config.tile_rows + 1
    across = groups * config.lane_rows // config.tile_rows or 2
    columns = max(1, stimulus.columns_for(config, across) - (config.lane_columns > 1))
    return [
        stimulus.layer(config, rng, rows, columns, int(rng.choice(config.index_widths)), pattern,
                       scribble=scribble)
        for pattern in patterns
    ]  # fmt: skip


def assert_as_golden(config: GoboConfig, layers: list[stimulus.Layer], seen: Seen) -> None:
    """Hold what came out, and that all went in, to the golden model."""
    expected = decode_unit(config, layers)
    difference = expected.mismatch(seen.values, seen.last, seen.error, seen.error_code)
    assert difference is None, difference
    assert seen.taken == {
        "i_codebook": len(layers),
        "i_indexes": sum(len(layer.indexes) for layer in layers),
        "i_outliers": sum(len(layer.outliers) for layer in layers),
    }


def test_a_layer_written_out_by_hand() -> None:
    """Four rows by two columns; row 2 of column 1 is the outlier 0x7bff (65504)."""
    codebook = np.array([0xC400, 0xC000, 0xBC00, 0x8000, 0x3800, 0x3C00, 0x4000, 0x4400])
    index = np.array([[0, 7], [1, 6], [2, 5], [3, 4]])
    mask = np.zeros((4, 2), bool)
    mask[2, 1] = True
    layer = stimulus.layer(TINY, np.random.default_rng(SEED), 4, 2, 3, mask)
    # planes of column 0 (lanes 0..3 have 0, 1, 2, 3) and column 1 (7, 6, don't-care 0, 4)
    groups = [0b1010, 0b1100, 0b0000, 0b0001, 0b0011, 0b1011]
    bits = sum(plane << 4 * n for n, plane in enumerate(groups))
    records = 2 | 0 << 2 | 1 << 3 | 0x7BFF << 16  # lane 2, no more, one group on
    sums = stimulus.crc16([bits >> n & 1 for n in range(24)]), stimulus.crc16(
        [records >> n & 1 for n in range(32)]
    )
    header = 2 | 1 << 16 | sums[0] << 32 | sums[1] << 48
    beats = [header.to_bytes(8, "little"), records.to_bytes(8, "little")]
    streams = vars(layer)
    streams["indexes"] = np.frombuffer(bits.to_bytes(8, "little"), np.uint8).reshape(1, 8)
    streams["outliers"] = np.frombuffer(b"".join(beats), np.uint8).reshape(2, 8)
    object.__setattr__(layer, "codebook", codebook)
    seen = rtl_decode(TINY, [layer])
    want = codebook[index.T]
    want[1, 2] = 0x7BFF
    assert seen.values.tolist() == want.tolist()
    assert (seen.last, seen.error, seen.error_code) == ([False, True], [False, False], 0)


@pytest.mark.parametrize("pace", [Pace(), Pace(0.4, 0.0, 2), Pace(0.0, 0.5, 3), Pace(0.3, 0.3, 4)])
@pytest.mark.parametrize("name", SMALL)
def test_layers_in_a_row_come_out_as_golden_says(name: str, pace: Pace) -> None:
    config = SMALL[name]
    patterns = PATTERNS if config.lanes <= 8 else PATTERNS[:1] + PATTERNS[2:]
    layers = layers_of(config, pace.seed, *patterns)
    assert_as_golden(config, layers, rtl_decode(config, layers, pace))


@pytest.mark.parametrize("name", ["bf16", "wide", "block"])
def test_the_widest_configurations_decode(name: str) -> None:
    config = CONFIGS[name]
    layers = layers_of(config, 5, "full-rate", "share:0.1", groups=3)
    assert_as_golden(config, layers, rtl_decode(config, layers, Pace(0.1, 0.1, 5)))


@pytest.mark.parametrize("distance", ["escape-1", "escape", "escape+1", "escape*2", "escape*2+1"])
def test_gaps_longer_than_a_record_holds_take_escapes(distance: str) -> None:
    config = GoboConfig(lanes=128, beat_width=512, lane_rows=128, tile_rows=128)
    layers = layers_of(config, 6, distance, groups=2 * config.gap_escape + 3)[:1]
    assert any(record.gap == config.gap_escape for record in layers[0].tiles[0].records) == (
        distance != "escape-1"
    )
    assert_as_golden(config, layers, rtl_decode(config, layers))


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_tiles_of_one_group_follow_each_other(columns: int) -> None:
    rng = np.random.default_rng([SEED, columns])
    layers = [stimulus.layer(TINY, rng, 4 * n + 1, columns, 3, "share:0.3") for n in range(1, 5)]
    assert_as_golden(TINY, layers, rtl_decode(TINY, layers))


@pytest.mark.parametrize("name", ["default", "rows", "bf16", "four"])
@pytest.mark.parametrize("pattern", ["none", "full-rate", "lane-last"])
def test_no_bubble_across_tiles_and_layers_at_full_rate(name: str, pattern: str) -> None:
    config = SMALL[name]
    if name == "four":  # four records fill a beat of 128 bits: twice that keeps up with headers
        config = GoboConfig(lanes=8, beat_width=256, outliers_per_cycle=4, tile_rows=4)
    layers = layers_of(config, 7, pattern, pattern)
    seen = rtl_decode(config, layers)
    assert_as_golden(config, layers, seen)
    assert seen.cycle == list(range(seen.cycle[0], seen.cycle[0] + len(seen.cycle)))


def test_the_first_group_leaves_two_cycles_after_the_first_beats() -> None:
    layers = layers_of(DEFAULT, 8, "none")
    assert rtl_decode(DEFAULT, layers).cycle[0] == 2


@pytest.mark.parametrize("name", ["default", "rows", "four"])
def test_each_further_set_of_outliers_in_a_group_costs_a_cycle(name: str) -> None:
    config = SMALL[name]
    mask = np.zeros((config.tile_rows, stimulus.columns_for(config, 6)), bool)
    mask[: config.lane_rows, 2 * config.lane_columns : 3 * config.lane_columns] = True  # a group
    rng = np.random.default_rng([SEED, 9])
    layer = stimulus.layer(config, rng, *mask.shape, config.index_widths[-1], mask)
    seen = rtl_decode(config, [layer])
    assert_as_golden(config, [layer], seen)
    extra = config.lanes // config.outliers_per_cycle - 1
    steps = np.diff(seen.cycle)
    assert steps[1] == 1 + extra
    assert (np.delete(steps, 1) == 1).all()


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("name", ["tiny", "rows"])
def test_a_corrupt_stream_ends_its_tile_with_an_error(name: str, kind: str) -> None:
    config = SMALL[name]
    tried = 0
    for seed in range(40):
        rng = np.random.default_rng([SEED, seed, list(CORRUPTIONS).index(kind)])
        pattern = str(rng.choice(["share:0.1", "full-rate", "burst"]))
        layers = layers_of(config, 100 + seed, pattern, pattern, "none")
        place = int(rng.integers(2)), int(rng.integers(3))
        corruption = corrupt(rng, kind, layers, place)
        if corruption is None:
            continue
        pace = Pace() if tried == 0 else Pace(0.3, 0.3, seed)
        seen = rtl_decode(config, corruption.layers, pace)
        expected = decode_unit(config, corruption.layers)
        difference = expected.mismatch(seen.values, seen.last, seen.error, seen.error_code)
        assert difference is None, difference
        # nothing holds the bus: whatever the fault, all that was offered is taken
        if seen.error_code:
            assert seen.taken["i_indexes"] == sum(len(y.indexes) for y in corruption.layers)
            assert seen.taken["i_outliers"] == sum(len(y.outliers) for y in corruption.layers)
        tried += 1
        if tried == 2:
            return
    assert (name, kind) == ("tiny", "index-width"), "the corruption was never possible"


@pytest.mark.parametrize("kind", ["flip-index", "flip-outlier-value", "zero-groups"])
@pytest.mark.parametrize("name", ["tiny", "rows", "fp32"])
def test_after_clear_the_next_layer_is_whole(name: str, kind: str) -> None:
    config = SMALL[name]
    rng = np.random.default_rng([SEED, 11])
    layers = layers_of(config, 12, "full-rate", "none")
    corruption = corrupt(rng, kind, layers, (0, 1))
    assert corruption is not None
    after = layers_of(config, 13, "share:0.1", "full-rate")
    seen = rtl_decode(config, corruption.layers, Pace(0.2, 0.2, 7), after=after)
    assert_as_golden(config, after, seen)


def test_a_gap_that_can_never_be_reached_is_found_at_the_end_of_the_tile() -> None:
    """A record of gap 0 after one without ``more``: since has moved on, and does not come round."""
    layer = layers_of(TINY, 14, "lane-first")[0]
    tile = layer.tiles[0]
    wrong = stimulus.Record(tile.records[1].lane, 0, 0, tile.records[1].value)
    records = (tile.records[0], wrong, *tile.records[2:])
    broken = stimulus.Tile(tile.groups, records)
    layer = stimulus.Layer(**{
        **{k: getattr(layer, k) for k in layer.__dataclass_fields__},
        "tiles": (broken, *layer.tiles[1:]),
    })  # fmt: skip
    seen = rtl_decode(TINY, [layer])
    assert seen.error_code in (3, 4)
    assert (seen.last[-1], seen.error[-1]) == (True, True)
    assert len(seen.values) <= len(tile.groups)
