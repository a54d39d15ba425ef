"""The stimulus is what its names say; its streams are the page's, by hand."""

import numpy as np
import pytest

from gobo_rtl.config import CONFIGS
from sim import stimulus
from sim.corruption import CORRUPTIONS, corrupt
from sim.golden.values import finite, order

from .cases import CODEBOOK, INDEXES, MATRIX, OUTLIERS, TINY

SEED = 6


def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def hand_layer() -> stimulus.Layer:
    """The case by hand, from its facts."""
    index = np.array([[5, 7], [0, 1], [2, 0]])
    outlier = np.array([[0, 0], [1, 0], [0, 1]], bool)
    tile = stimulus.Tile(
        ((5, 0, 2, 0), (7, 1, 0, 0)),
        (stimulus.Record(1, 0, 0, 0xC248), stimulus.Record(2, 0, 1, 0x3555)),
    )
    return stimulus.Layer(TINY, 3, CODEBOOK, index, outlier, MATRIX, (tile,))


def test_streams_by_hand():
    layer = hand_layer()
    assert layer.indexes.tobytes() == INDEXES and layer.outliers.tobytes() == OUTLIERS
    assert layer.indexes_last.tolist() == [True] and layer.outliers_last.tolist() == [False, True]


def test_codebook_payload_has_entry_0_lowest():
    assert hand_layer().codebook_payload == int("40003C00380034000000B800BC00C000", 16)


def test_equal_seeds_give_equal_layers():
    one, two = (stimulus.layer(TINY, rng(), 9, 5, 3, "share:0.2") for _ in range(2))
    assert np.array_equal(one.outliers, two.outliers) and np.array_equal(one.indexes, two.indexes)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_values_are_finite_and_centroids_ascend(config):
    layer = stimulus.layer(config, rng(), 2 * config.tile_rows, 40, config.index_width, "share:0.5")
    assert finite(config.value, layer.values).all() and finite(config.value, layer.codebook).all()
    assert (np.diff(order(config.value, layer.codebook)) >= 0).all()
    assert len(set(layer.values[layer.outlier].tolist())) > 100
    assert np.array_equal(layer.values[~layer.outlier], layer.codebook[layer.index[~layer.outlier]])


def test_scribbles_are_only_under_outliers():
    plain = stimulus.layer(TINY, rng(), 12, 12, 3, "share:0.5")
    scribbled = stimulus.layer(TINY, rng(), 12, 12, 3, "share:0.5", scribble=True)
    assert not plain.index[plain.outlier].any() and scribbled.index[plain.outlier].any()
    assert np.array_equal(plain.values, scribbled.values)


def groups_with(config, rows, columns, name) -> list[list[int]]:
    """Outliers in each group, a list a tile."""
    mask = stimulus.pattern(config, rng(), rows, columns, name)
    return [
        [sum(bool(mask[place]) for place in group if place is not None) for group in tile]
        for tile in stimulus.order(config, rows, columns)
    ]


def test_patterns_are_what_they_say():
    config, shape = CONFIGS["rows"], (17, 40)  # 2 tiles; 3 groups a row, the last of 8 lanes
    count = {name: stimulus.pattern(config, rng(), *shape, name).sum()
             for name in stimulus.PATTERNS if "escape" not in name}  # fmt: skip
    assert count["none"] == 0 and count["all"] == 17 * 40
    assert count["first"] == count["last"] == 1 and count["corners"] == 4
    assert count["tile-first"] == count["tile-last"] == 2
    assert count["lane-first"] == count["lane-last"] == 3 * 17
    assert {n for tile in groups_with(config, *shape, "burst") for n in tile} <= {0, 8, 16}
    assert {n for tile in groups_with(config, *shape, "full-rate") for n in tile} == {2}
    assert {n for tile in groups_with(config, *shape, "stall") for n in tile} == {2, 3}
    assert 0.05 < count["share:0.1"] / (17 * 40) < 0.2


def test_corner_patterns_are_at_the_corners():
    places = {name: np.argwhere(stimulus.pattern(TINY, rng(), 5, 3, name)).tolist()
              for name in ("first", "last", "tile-first", "tile-last")}  # fmt: skip
    assert places == {
        "first": [[0, 0]], "last": [[4, 2]],
        "tile-first": [[0, 0], [4, 0]], "tile-last": [[3, 2], [4, 2]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "gaps"),
    [
        ("escape-1", [254]),
        ("escape", [255, 0]),
        ("escape+1", [255, 1]),
        ("escape*2", [255, 255, 0]),
        ("escape*2+1", [255, 255, 1]),
    ],
)
def test_escapes_are_just_so_long(name, gaps):
    config = CONFIGS["wide"]  # gaps of 8 bits
    layer = stimulus.layer(config, rng(), 128, 520, 3, name)
    (tile,) = layer.tiles
    first, *rest = tile.records
    assert first.gap < 255 and [record.gap for record in rest] == gaps
    assert [record.more for record in rest] == [int(gap == 0) for gap in gaps[1:]] + [0]


def test_wrong_patterns_are_refused():
    with pytest.raises(ValueError, match="no pattern is called 'dense'; there are none, all"):
        stimulus.pattern(TINY, rng(), 4, 4, "dense")
    with pytest.raises(ValueError, match="more than 8191 groups, not 4; 8192 columns make them"):
        stimulus.pattern(TINY, rng(), 4, 4, "escape")


def test_tile_too_long_is_refused():
    with pytest.raises(ValueError, match="at most 65535 groups, not 65536"):
        stimulus.layer(TINY, rng(), 1, 65536, 3)
    with pytest.raises(ValueError, match="at most 65535 records, not 65536"):
        stimulus.layer(TINY, rng(), 4, 16384, 3, "all")


def test_corruptions_leave_the_good_layers_as_they_were():
    layers = [stimulus.layer(TINY, rng(), 7, 30, 3, "share:0.3") for _ in range(2)]
    before = [(layer.indexes.tobytes(), layer.outliers.tobytes()) for layer in layers]
    for name in CORRUPTIONS:
        bad = corrupt(rng(), name, layers, (0, 1))
        assert bad is None or (bad.layers[1] is layers[1] and bad.layers[0] is not layers[0])
    assert before == [(layer.indexes.tobytes(), layer.outliers.tobytes()) for layer in layers]
