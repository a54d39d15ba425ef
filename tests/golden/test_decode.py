"""The golden decode unit: by hand, against the stimulus, and on corrupted streams."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gobo_rtl.config import CONFIGS
from sim import stimulus
from sim.corruption import CORRUPTIONS, corrupt
from sim.golden.decode import decode_unit
from sim.golden.tile import Header, Records, index_groups

from .cases import CODEBOOK, INDEXES, OUTLIERS, TINY, configs, given_layer

SEED = 4
HAND = np.array([[0x3800, 0xC248, 0xB800, 0xC000], [0x4000, 0xBC00, 0x3555, 0xC000]], np.uint16)


# -- by hand --------------------------------------------------------------------------------


def test_case_by_hand():
    expected = decode_unit(TINY, [given_layer()])
    assert np.array_equal(expected.values, HAND) and expected.values.dtype == np.uint16
    assert expected.last.tolist() == [False, True]
    assert expected.stop is None and expected.error_codes == {0}


def test_layers_follow_each_other():
    expected = decode_unit(TINY, [given_layer(), given_layer(codebook=CODEBOOK[::-1].copy())])
    assert np.array_equal(expected.values[:2], HAND)
    assert expected.values[2].tolist() == [0xB800, 0xC248, 0x3800, 0x4000]
    assert expected.last.tolist() == [False, True, False, True]


def test_planes_hold_a_bit_of_every_lane():
    # Two groups of 2-bit indexes 0 1 2 3 and 3 3 0 1: planes 0101 0011, 1101 1100.
    config = replace(TINY, index_widths=(2,))
    assert index_groups(config, 2, bytes([0b11001010, 0b00111011]), 2).tolist() == [
        [0, 1, 2, 3], [3, 3, 0, 1],
    ]  # fmt: skip


def test_header_layout():
    assert Header.read(bytes.fromhex("0102 0304 0506 0708 99")) == Header(
        0x0201, 0x0403, 0x0605, 0x0807
    )


@pytest.mark.parametrize(
    ("name", "lane", "gap"), [("tiny", 2, 13), ("default", 4, 11), ("bf16", 6, 9), ("wide", 7, 8)]
)
def test_record_layout(name, lane, gap):
    def fields(place: int) -> tuple[int, bool, int, bool]:
        data = place.to_bytes(2, "little") + bytes.fromhex("3412")
        r = Records.read(CONFIGS[name], data)
        assert r.value.tolist() == [0x1234]
        return int(r.lane[0]), bool(r.more[0]), int(r.gap[0]), bool(r.escape[0])

    assert lane + 1 + gap == 16
    assert fields(2**lane - 1) == (2**lane - 1, False, 0, False)
    assert fields(1 << lane) == (0, True, 0, False)
    assert fields(1 << (lane + 1)) == (0, False, 1, False)
    assert fields(0xFFFF - 2 ** (lane + 1) + 1) == (0, False, 2**gap - 1, True)


def test_escape_moves_on_and_does_not_count_in_the_order_of_lanes():
    # 128 lanes, escapes of 255 groups: one to group 255 with more, then lanes 0 and 127 there.
    config = CONFIGS["wide"]
    data = bytes.fromhex("80ff 0000 8000 1111 7f00 2222")
    records = Records.read(config, data)
    assert records.group.tolist() == [255, 255, 255]
    assert records.escape.tolist() == [True, False, False]
    assert records.lane.tolist() == [0, 0, 127]
    assert records.more.tolist() == [True, True, False]
    assert records.faults(256, True) == []
    assert {fault.code for fault in records.faults(255, True)} == {4}


# -- against the stimulus -------------------------------------------------------------------


def assert_decodes(config, layers):
    expected = decode_unit(config, layers)
    assert np.array_equal(expected.values, np.concatenate([each.groups() for each in layers]))
    ends = [len(tile.groups) for each in layers for tile in each.tiles]
    assert np.flatnonzero(expected.last).tolist() == (np.cumsum(ends) - 1).tolist()
    assert expected.stop is None


@pytest.mark.parametrize("pattern", [p for p in stimulus.PATTERNS if "escape" not in p])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_pattern_decodes(name, pattern):
    config, rng = CONFIGS[name], np.random.default_rng(SEED)
    shape = 2 * config.tile_rows - 1, 3 * config.lane_columns + 1
    assert_decodes(
        config,
        [stimulus.layer(config, rng, *shape, b, pattern) for b in config.index_widths],
    )


@pytest.mark.parametrize("pattern", [p for p in stimulus.PATTERNS if "escape" in p])
@pytest.mark.parametrize("name", ["default", "bf16", "wide"])
def test_every_escape_decodes(name, pattern):
    config, rng = CONFIGS[name], np.random.default_rng(SEED)
    shape = config.lane_rows, stimulus.columns_for(config, 2 * config.gap_escape + 4)
    layer = stimulus.layer(config, rng, *shape, config.index_width, pattern)
    escapes = [record.gap == config.gap_escape for record in layer.tiles[0].records]
    assert any(escapes) == (pattern != "escape-1")
    assert_decodes(config, [layer])


@settings(max_examples=60, deadline=None)
@given(configs(), st.data())
def test_any_layers_decode(config, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shapes = st.tuples(
        st.integers(1, 2 * config.tile_rows + 1), st.integers(1, 4 * config.lane_columns)
    )
    patterns = st.sampled_from([p for p in stimulus.PATTERNS if "escape" not in p])
    layers = [
        stimulus.layer(
            config, rng, *data.draw(shapes), data.draw(st.sampled_from(config.index_widths)),
            data.draw(patterns), scribble=data.draw(st.booleans()),
        )
        for _ in range(data.draw(st.integers(1, 3)))
    ]  # fmt: skip
    assert_decodes(config, layers)


# -- corruptions ----------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_corruptions_are_found_where_they_are(config):
    rng, done = np.random.default_rng(SEED), set()
    for _ in range(6):
        shape = 2 * config.tile_rows - 1, 9 * config.lane_columns + 1
        good = [
            stimulus.layer(config, rng, *shape, config.index_width, pattern)
            for pattern in ("share:0.1", "share:0.5", "none")
        ]
        tiles = [len(layer.tiles) for layer in good]
        for name in CORRUPTIONS:
            layer = int(rng.integers(2))
            place = layer, int(rng.integers(tiles[layer]))
            bad = corrupt(rng, name, good, place)
            if bad is None:
                continue
            done.add(name)
            expected = decode_unit(config, bad.layers)
            stop = expected.stop
            assert stop is not None and stop.certain, (name, place)
            assert (stop.layer, stop.tile) == place, name
            assert stop.codes & bad.rules, (name, place, stop.codes)
            assert not bad.exact or stop.codes <= bad.rules, (name, place, stop.codes)
            before = sum(tiles[:layer]) + place[1]
            whole = decode_unit(config, good)
            exact = [0, *(np.flatnonzero(whole.last) + 1)][before]
            assert np.array_equal(expected.values, whole.values[:exact]), name
    never = {"index-width"} if len(config.index_widths) == 1 else set()
    assert done == set(CORRUPTIONS) - never


def patched(data: bytes, at: int, new: str) -> bytes:
    """Replace bytes by those written in hexadecimal."""
    raw = bytes.fromhex(new)
    return data[:at] + raw + data[at + len(raw) :]


def with_sum(data: bytes) -> bytes:
    """Write the right sum of the records after the header."""
    bits = [byte >> i & 1 for byte in data[8:16] for i in range(8)]
    return patched(data, 6, stimulus.crc16(bits).to_bytes(2, "little").hex())


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({"indexes": patched(INDEXES, 0, "40")}, {1}),
        ({"outliers": patched(OUTLIERS, 4, "00")}, {1}),
        ({"outliers": patched(OUTLIERS, 7, "00")}, {2}),
        ({"outliers": patched(OUTLIERS, 10, "49")}, {2}),
        ({"outliers": with_sum(patched(OUTLIERS, 8, "0500 48c2 0000"))}, {3}),
        ({"outliers": with_sum(patched(OUTLIERS, 8, "0500"))}, {3}),
        ({"outliers": with_sum(patched(OUTLIERS, 12, "0e00"))}, {3}),
        ({"outliers": with_sum(patched(OUTLIERS, 12, "0200"))}, {3, 4}),
        ({"outliers": with_sum(patched(OUTLIERS, 12, "1200"))}, {4}),
        ({"outliers": with_sum(patched(OUTLIERS, 12, "f8ff 0000"))}, {4}),
        ({"outliers": patched(OUTLIERS, 2, "0300")}, {4, 6}),
        ({"outliers": patched(OUTLIERS, 2, "0100")}, {2}),
        ({"outliers": patched(OUTLIERS, 0, "0000")}, {7}),
        ({"indexes": INDEXES + INDEXES}, {5, 6}),
        ({"outliers": OUTLIERS + bytes(8)}, {5, 6}),
        ({"outliers": patched(OUTLIERS, 0, "0600")}, {5}),
    ],
)  # fmt: skip
def test_faults_by_hand(change, codes):
    stop = decode_unit(TINY, [given_layer(**change), given_layer()]).stop
    assert stop is not None and stop.certain and (stop.layer, stop.tile) == (0, 0)
    assert stop.codes == codes


# -- beats that never come ------------------------------------------------------------------


def test_nothing_is_due_without_beats():
    expected = decode_unit(TINY, [given_layer(b"", b"")])
    assert expected.values.shape == (0, 4) and expected.stop is None


def test_unit_waits_for_index_beats():
    stop = decode_unit(TINY, [given_layer(indexes=b"")]).stop
    assert stop is not None and not stop.certain and stop.codes == frozenset()
    assert stop.values.shape == (0, 4)


def test_unit_gives_what_is_settled_while_it_waits_for_records():
    # The first record, of group 0 and without more, settles group 0 and no other.
    outliers = patched(OUTLIERS[:8], 2, "0300") + OUTLIERS[8:]
    stop = decode_unit(TINY, [given_layer(outliers=outliers, ends=False)]).stop
    # The second is in the last group: a unit may end the tile there, with a record left over.
    assert stop is not None and not stop.certain and stop.codes == {4}
    assert np.array_equal(stop.values, HAND[:1])


def test_group_is_not_settled_while_more_is_to_come():
    # Lanes 1 and 2 of group 0; with more in the second, lane 3 may follow.
    start = patched(OUTLIERS[:8], 2, "0300") + patched(OUTLIERS[8:], 0, "0500 48c2")
    for place, due in (("0200", [[0x3800, 0xC248, 0x3555, 0xC000]]), ("0600", [])):
        layer = given_layer(outliers=patched(start, 12, place), ends=False)
        stop = decode_unit(TINY, [layer]).stop
        assert stop is not None and not stop.certain and stop.values.tolist() == due


# -- holding a unit to it -------------------------------------------------------------------


def test_what_is_expected_matches_itself():
    expected = decode_unit(TINY, [given_layer()])
    assert expected.mismatch(expected.values, expected.last, [False, False], 0) is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"values": HAND[:1], "last": [0], "error": [0]}, "1 transfers came, at least 2 are due"),
        ({"values": HAND ^ np.array([[0, 0, 0, 0], [0, 0, 1, 0]], np.uint16)},
         "transfer 1 lane 2 is 0x3554, 0x3555 is due"),
        ({"last": [1, 1]}, "transfer 0 has last 1, 0 is due"),
        ({"error": [0, 1]}, "transfer 1 has error in a good tile"),
        ({"error_code": 2}, "error_code is 2"),
        ({"values": HAND[[0, 1, 1]], "last": [0, 1, 1], "error": [0, 0, 0]},
         "transfer 2 came after the last group"),
    ],
)  # fmt: skip
def test_good_layer_mismatches_are_told(change, text):
    got = {"values": HAND, "last": [0, 1], "error": [0, 0], "error_code": 0} | change
    assert text in str(decode_unit(TINY, [given_layer()]).mismatch(**got))


@pytest.mark.parametrize(
    ("last", "error", "code", "text"),
    [
        ([0, 1, 0, 1], [0, 0, 0, 1], 1, None),
        ([0, 1, 1], [0, 0, 1], 1, None),
        ([0, 1], [0, 0], 1, "no closing transfer"),
        ([0, 1, 1], [0, 0, 0], 1, "must end with its only transfer that has last and error"),
        ([0, 1, 0], [0, 0, 1], 1, "must end with its only transfer that has last and error"),
        ([0, 1, 1, 1], [0, 0, 1, 1], 1, "must end with its only transfer that has last and error"),
        ([0, 1, 0, 0, 1], [0, 0, 0, 0, 1], 1, "at most 2 are due"),
        ([0, 1, 0, 1], [0, 0, 0, 1], 2, "error_code is 2, one of [1] is due"),
        ([0, 1, 0, 1], [0, 0, 0, 0], 0, "error_code is 0, one of [1] is due"),
    ],
)
def test_bad_tile_mismatches_are_told(last, error, code, text):
    bad = given_layer(indexes=patched(INDEXES, 0, "40"))
    values = np.concatenate([HAND, np.full((8, 4), 0xAAAA)])[: len(last)]
    found = decode_unit(TINY, [given_layer(), bad]).mismatch(values, last, error, code)
    assert found is None if text is None else text in str(found)


def test_tile_without_groups_closes_with_one_transfer():
    expected = decode_unit(TINY, [given_layer(outliers=patched(OUTLIERS, 0, "0000"))])
    assert expected.mismatch(HAND[:1], [1], [1], 7) is None
    assert "at most 1 are due" in str(expected.mismatch(HAND, [0, 1], [0, 1], 7))


def test_waiting_unit_mismatches_are_told():
    outliers = patched(OUTLIERS[:8], 2, "0300") + OUTLIERS[8:]
    expected = decode_unit(TINY, [given_layer(outliers=outliers, ends=False)])
    none = np.zeros((0, 4), np.uint16)
    assert expected.mismatch(none, [], [], 0) is None
    assert expected.mismatch(HAND[:1], [0], [0], 0) is None
    assert "is wrong" in str(expected.mismatch(HAND[1:], [0], [0], 0))
    assert "can be known" in str(expected.mismatch(HAND, [0, 0], [0, 0], 0))
    assert "while it waits" in str(expected.mismatch(HAND[:1], [1], [0], 0))
    assert "error_code is 1" in str(expected.mismatch(HAND[:1], [1], [1], 1))


# -- wrong arguments ------------------------------------------------------------------------


def test_wrong_codebooks_are_refused():
    with pytest.raises(ValueError, match=r"codebook must be of shape \(8,\), not \(4,\)"):
        decode_unit(TINY, [replace(given_layer(), codebook=CODEBOOK[:4])])
    with pytest.raises(TypeError, match="unsigned bit patterns, not float16"):
        decode_unit(TINY, [replace(given_layer(), codebook=CODEBOOK.view(np.float16))])
    with pytest.raises(OverflowError, match="must fit 16 bits, not 0x20000"):
        decode_unit(TINY, [replace(given_layer(), codebook=CODEBOOK + np.uint32(0x14000))])


def test_flags_must_be_as_many_as_beats():
    with pytest.raises(ValueError, match="1 beats have 2 last flags"):
        decode_unit(TINY, [replace(given_layer(), indexes_last=np.zeros(2, bool))])
