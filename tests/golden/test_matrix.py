"""Matrices from their streams: by hand, any shape, and every rule that a reader checks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gobo_rtl.config import CONFIGS, GoboConfig
from sim import stimulus
from sim.golden.matrix import decode_tiles

from .cases import CODEBOOK, INDEXES, MATRIX, OUTLIERS, TINY, configs
from .test_decode import patched, with_sum

SEED = 5


def decode_matrix(*arguments, **named):
    return np.concatenate([tile.values for tile in decode_tiles(*arguments, **named)])


def decode(indexes=INDEXES, outliers=OUTLIERS, rows=3, columns=2):
    return decode_matrix(TINY, rows, columns, 3, CODEBOOK, indexes, outliers, name="a.bin: layer 4")


def test_case_by_hand():
    assert np.array_equal(decode(), MATRIX) and decode().dtype == np.uint16


def test_blocks_go_by_rows_of_blocks():
    # 2 x 2 lanes a block, tiles of 4 rows: the lanes of the 4 groups of a 4 x 4 matrix, in order.
    config = GoboConfig(lanes=4, lane_rows=2, tile_rows=4, beat_width=64, index_widths=(4,))
    lanes = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    places = [place for tile in stimulus.order(config, 4, 4) for group in tile for place in group]
    assert places == [divmod(n, 4) for n in lanes]
    indexes = stimulus.Tile(tuple(tuple(lanes[n : n + 4]) for n in (0, 4, 8, 12)), ())
    packed = stimulus.bytes_of(indexes.index_bits(4), 8)
    header = stimulus.bytes_of(indexes.header_bits(config, 4), 8)
    book = np.arange(16, dtype=np.uint16)
    assert decode_matrix(config, 4, 4, 4, book, packed, header).tolist() == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15],
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(configs(), st.data())
def test_any_matrix_decodes(config, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = data.draw(st.integers(1, 2 * config.tile_rows + 1))
    columns = data.draw(st.integers(1, 4 * config.lane_columns))
    width = data.draw(st.sampled_from(config.index_widths))
    pattern = data.draw(st.sampled_from([p for p in stimulus.PATTERNS if "escape" not in p]))
    layer = stimulus.layer(config, rng, rows, columns, width, pattern)
    streams = layer.indexes.tobytes(), layer.outliers.tobytes()
    tiles = list(decode_tiles(config, rows, columns, width, layer.codebook, *streams))
    assert np.array_equal(np.concatenate([tile.values for tile in tiles]), layer.values)
    assert sum(tile.outlier_count for tile in tiles) == layer.outlier.sum()
    for n, tile in enumerate(tiles):
        starts = [span.start * config.beat_bytes for span in stimulus.spans(layer, n)]
        assert [tile.index_offset, tile.outlier_offset] == starts


FAULTS = {
    "group_count at offset 0: 3, but must be 2": {"outliers": patched(OUTLIERS, 0, "0300")},
    "record_count at offset 2: 3 records run past": {"outliers": patched(OUTLIERS, 2, "0300")},
    "index_crc16 at offset 4: 0xcbea, but the groups' is 0xcbeb":
        {"outliers": patched(OUTLIERS, 4, "ea")},
    "outlier_crc16 at offset 6: 0x948a, but the records' is":
        {"outliers": patched(OUTLIERS, 10, "49")},
    "outlier_crc16 at offset 6: ": {"outliers": patched(OUTLIERS, 2, "0100")},
    "record 1 at offset 12: its lane is not above":
        {"outliers": with_sum(patched(OUTLIERS, 8, "0500 48c2 0000"))},
    "record 1 at offset 12: its gap is not 0 after":
        {"outliers": with_sum(patched(OUTLIERS, 8, "0500"))},
    "record 1 at offset 12: its gap is 0 after":
        {"outliers": with_sum(patched(OUTLIERS, 12, "0200"))},
    "record 1 at offset 12: more is set": {"outliers": with_sum(patched(OUTLIERS, 12, "0e00"))},
    "record 1 at offset 12: its group is past the tile's 2":
        {"outliers": with_sum(patched(OUTLIERS, 12, "1200"))},
    "groups at offset 0: a lane outside the matrix has an index or an outlier":
        {"outliers": with_sum(patched(OUTLIERS, 12, "0b00"))},
    "padding at offset 3: bits after the groups": {"indexes": patched(INDEXES, 5, "01")},
    "indexes at offset 0: 2 groups run past": {"indexes": b""},
    "tile header at offset 0: the outlier stream ends": {"outliers": b""},
}  # fmt: skip


@pytest.mark.parametrize("text", FAULTS)
def test_fault_names_layer_tile_field_and_offset(text):
    with pytest.raises(ValueError) as error:
        decode(**FAULTS[text])
    found = str(error.value)
    assert found.startswith("a.bin: layer 4, tile 0: ") and text in found


@pytest.mark.parametrize("change", [{"lane": 1}, {"value": 1}])
def test_escape_has_neither_lane_nor_value(change):
    config = CONFIGS["wide"]
    layer = stimulus.layer(config, np.random.default_rng(SEED), 128, 300, 3, "escape")
    (tile,) = layer.tiles
    first, escape, last = tile.records
    records = (first, replace(escape, **change), last)
    bad = replace(layer, tiles=(replace(tile, records=records),))
    with pytest.raises(ValueError, match="record 1 at offset 12: an escape's lane and value must"):
        decode_matrix(
            config, 128, 300, 3, bad.codebook, bad.indexes.tobytes(), bad.outliers.tobytes()
        )


@pytest.mark.parametrize("shape", [(1, 2), (2, 1)])
@pytest.mark.parametrize("what", ["index", "outlier"])
def test_lanes_past_either_edge_have_index_0_and_no_outlier(shape, what):
    # A block of 2 x 2 lanes: the last is outside of both matrices.
    config = GoboConfig(lanes=4, lane_rows=2, tile_rows=2, beat_width=64)
    groups, records = ((0, 0, 0, 0),), (stimulus.Record(0, 0, 0, 0x3C00),)
    good = stimulus.Tile(groups, records)
    bad = {
        "index": replace(good, groups=((0, 0, 0, 1),)),
        "outlier": replace(good, records=(stimulus.Record(3, 0, 0, 0x3C00),)),
    }[what]

    def read(tile):
        indexes = stimulus.bytes_of(tile.index_bits(3), 8)
        bits = tile.header_bits(config, 3) + tile.record_bits(config)
        return decode_matrix(config, *shape, 3, CODEBOOK, indexes, stimulus.bytes_of(bits, 8))

    assert read(good)[0, 0] == 0x3C00
    with pytest.raises(ValueError, match="groups at offset 0: a lane outside the matrix has an"):
        read(bad)


def test_bits_after_the_records_are_zero():
    outliers = patched(OUTLIERS[:8], 2, "0000 ebcb ffff") + bytes(8)
    assert decode(outliers=outliers[:8])[1, 0] == CODEBOOK[0]
    config = replace(TINY, beat_width=128)
    for padding in (bytes(8), bytes(7) + b"\x80"):
        streams = INDEXES + bytes(8), outliers[:8] + padding
        if any(padding):
            with pytest.raises(ValueError, match="padding at offset 8: bits after the records"):
                decode_matrix(config, 3, 2, 3, CODEBOOK, *streams)
        else:
            decode_matrix(config, 3, 2, 3, CODEBOOK, *streams)


@pytest.mark.parametrize("stream", ["indexes", "outliers"])
def test_nothing_follows_the_last_tile(stream):
    whole = {"indexes": INDEXES, "outliers": OUTLIERS}[stream]
    with pytest.raises(ValueError, match=f"stream at offset {len(whole)}: 8 bytes follow"):
        decode(**{stream: whole + bytes(8)})


def test_offsets_count_from_their_bases():
    tiles = decode_tiles(TINY, 3, 2, 3, CODEBOOK, INDEXES, patched(OUTLIERS, 4, "00"),
                         index_base=1000, outlier_base=2000)  # fmt: skip
    with pytest.raises(ValueError, match="index_crc16 at offset 2004"):
        list(tiles)


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_empty_matrices_are_refused(shape):
    with pytest.raises(ValueError, match="rows and columns must be at least 1"):
        decode(rows=shape[0], columns=shape[1])


def test_tile_too_long_for_its_header_is_refused():
    config = GoboConfig(lanes=4, beat_width=64, tile_rows=1024)
    with pytest.raises(ValueError, match="group_count at offset 0: 2, but must be 65536"):
        decode_matrix(config, 1024, 256, 3, CODEBOOK, INDEXES, OUTLIERS)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_corrupt_streams_give_an_error_or_the_same_shape(data):
    streams = {"indexes": bytearray(INDEXES), "outliers": bytearray(OUTLIERS)}
    for _ in range(data.draw(st.integers(1, 4))):
        stream = streams[data.draw(st.sampled_from(sorted(streams)))]
        at = data.draw(st.integers(0, len(stream)))
        change = data.draw(st.sampled_from(["flip", "cut", "insert", "zero"]))
        if change == "flip" and at < len(stream):
            stream[at] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "cut":
            del stream[at:]
        elif change == "insert":
            stream[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        elif change == "zero":
            stream[at : at + 4] = bytes(len(stream[at : at + 4]))
    if streams != {"indexes": INDEXES, "outliers": OUTLIERS}:
        with pytest.raises(ValueError, match=r"^a\.bin: layer 4"):
            decode(**{name: bytes(stream) for name, stream in streams.items()})
