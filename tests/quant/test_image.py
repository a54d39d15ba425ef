"""The device image decodes, by the golden model's reader, to the container's weights."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gobo_rtl.config import CONFIGS, GoboConfig
from gobo_rtl.formats import CRC16
from quant import container
from quant.encoding import value_bits
from quant.errors import QuantError
from quant.fit import Options, OutlierRule
from quant.image import choose_layers, contents_path, write_image
from quant.selection import select
from quant.source import open_model
from quant.tiles import TooManyError, crc16, pack_tiles
from quant.writer import write
from sim.golden.image import read_image
from sim.golden.matrix import decode_tiles
from tests.golden.cases import INDEXES, OUTLIERS

from . import toy

SEED = 3141
TINY = CONFIGS["tiny"]  # 4 lanes, a group is 4 rows by 1 column, beats of 64 bits
NONE = np.zeros(0, np.int64)


def packed(
    folder: Path, matrices: dict, options: Options | None = None, **selection
) -> container.Container:
    """Return a container of these float32 matrices."""
    source = open_model(str(toy.save(folder, matrices)))
    choices = select(list(source.tensors.values()), include=["*"], **selection)
    out = folder / "x.gobo.safetensors"
    write(out, source, choices, options or Options(), force=True)
    return container.read(out)


def normal(rows: int, columns: int, seed: int = SEED) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.05, (rows, columns)).astype(np.float32)


def test_a_matrix_by_hand_gives_the_streams_by_hand():
    # The case of tests/golden/cases.py: 3 x 2, outliers at positions 2 and 5.
    indexes = np.array([[5, 7], [0, 1], [2, 0]], np.uint8)
    values = np.array([0xC248, 0x3555], np.uint16)
    tiles = pack_tiles(TINY, 3, indexes, np.array([2, 5]), values)
    assert tiles.index_stream == INDEXES
    assert tiles.outlier_stream == OUTLIERS
    assert (tiles.group_count, tiles.record_count) == ([2], [2])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        # A record: lane in bits 0 and 1, more in bit 2, gap from bit 3, value from bit 16.
        ([0], [0x3C00_0000]),
        ([3], [0x3C00_0018]),
        ([0, 1], [0x3C00_0000, 0x3C00_0008]),
        ([8190], [0x3C00_FFF0]),
        ([8191], [0x0000_FFFC, 0x3C00_0000]),
        ([8192], [0x0000_FFF8, 0x3C00_0008]),
        ([5, 5 + 2 * 8191], [0x3C00_0028, 0x0000_FFF8, 0x0000_FFFC, 0x3C00_0000]),
    ],
)
def test_a_gap_that_does_not_fit_takes_escapes(columns, words):
    indexes = np.zeros((1, 20000), np.uint8)
    values = np.full(len(columns), 0x3C00, np.uint16)
    tiles = pack_tiles(TINY, 3, indexes, np.array(columns), values)
    records = np.frombuffer(tiles.outlier_stream[8 : 8 + 4 * len(words)], "<u4")
    assert records.tolist() == words
    assert tiles.record_count.tolist() == [len(words)]


def test_outliers_of_a_group_are_in_order_of_lane_and_say_that_more_follow():
    indexes = np.zeros((4, 2), np.uint8)
    positions = np.array([0, 3, 6])  # (0, 0), (1, 1), (3, 0)
    tiles = pack_tiles(TINY, 3, indexes, positions, np.array([1, 2, 3], np.uint16))
    records = np.frombuffer(tiles.outlier_stream[8:20], "<u4").tolist()
    assert records == [0x0001_0004, 0x0003_0003, 0x0002_0009]


def test_the_crc_has_its_check_value_and_is_that_of_the_page_for_any_number_of_bits():
    assert crc16(b"123456789", 72) == 0x6F91
    data = np.random.default_rng(SEED).integers(0, 256, 9, np.uint8).tobytes()
    for bits in range(72):
        crc = CRC16.initial
        for i in range(bits):
            odd = (crc ^ data[i // 8] >> i % 8) & 1
            crc = (crc >> 1) ^ (0x8408 if odd else 0)
        assert crc16(data, bits) == crc


@st.composite
def configs(draw) -> GoboConfig:
    lanes = 2 ** draw(st.integers(2, 7))
    lane_rows = 2 ** draw(st.integers(0, lanes.bit_length() - 1))
    return GoboConfig(
        lanes=lanes,
        index_widths=(2, 3, 4),
        value_format=draw(st.sampled_from(["fp16", "bf16", "fp32"])),
        beat_width=2 ** draw(st.integers(6, 9)),
        lane_rows=lane_rows,
        tile_rows=lane_rows * draw(st.integers(1, min(4, 1024 // lane_rows))),
        burst_beats=2 ** draw(st.integers(0, 6)),
    )


@given(configs(), st.integers(2, 4), st.integers(1, 40), st.integers(1, 60) | st.just(1500),
       st.sampled_from([0.0, 1e-3, 0.01, 0.3, 1.0]), st.integers(0, 2**32 - 1))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_streams_of_any_shape_decode_in_the_golden_model(config, width, rows, columns, share, seed):
    rng = np.random.default_rng(seed)
    codebook = np.sort(rng.integers(1, 0x4000, 1 << width).astype(np.uint32))
    positions = np.flatnonzero(rng.random(rows * columns) < share)
    values = rng.integers(0, 0x7000, positions.size).astype(np.uint32)
    indexes = rng.integers(0, 1 << width, rows * columns).astype(np.uint8)
    want = codebook[indexes]
    want[positions] = values
    indexes[positions] = 0
    tiles = pack_tiles(config, width, indexes.reshape(rows, columns), positions, values)
    streams = tiles.index_stream, tiles.outlier_stream
    places = {"name": "x", "index_base": 0, "outlier_base": 0}
    got = list(decode_tiles(config, rows, columns, width, codebook, *streams, **places))
    assert np.array_equal(np.concatenate([t.values for t in got]), want.reshape(rows, columns))
    assert [t.index_offset for t in got] == tiles.index_offset.tolist()
    assert [t.outlier_offset for t in got] == tiles.outlier_offset.tolist()


@pytest.mark.parametrize("config_name", CONFIGS)
def test_an_image_decodes_to_the_weights_of_the_container(tmp_path, config_name):
    config = CONFIGS[config_name]
    value_format = config.value_format
    matrices = {"a": normal(50, 70), "b": normal(3, 300), "c": normal(129, 1)}
    widths = [("c", config.index_widths[-1]), ("b", config.index_widths[0])]
    opened = packed(
        tmp_path, matrices, Options(value_format=value_format, outliers=OutlierRule("share", 0.02)),
        layer_bits=widths, bits=3,
    )  # fmt: skip
    table = write_image(tmp_path / "x.bin", opened, opened.layers, config, config_name)
    image = read_image(tmp_path / "x.bin")
    assert image.container_sha256.hex() == opened.metadata["sha256"]
    for name, layer in zip(opened.layers, image.layers, strict=True):
        assert np.array_equal(layer.matrix, value_bits(opened.weights(name), value_format))
        assert layer.outlier_count == opened.layer(name).layer.positions.size > 0
        assert layer.unit_exponent == opened.layer(name).layer.unit
    assert json.loads(contents_path(tmp_path / "x.bin").read_text()) == table
    assert [layer["name"] for layer in table["layers"]] == opened.layers
    assert table["configuration"] == {"name": config_name, **config.as_dict()}


@pytest.mark.parametrize("value_format", ["fp16", "bf16"])
def test_narrower_values_go_exactly_into_an_fp32_image(tmp_path, value_format):
    opened = packed(tmp_path, {"a": normal(20, 20)}, Options(value_format=value_format))
    write_image(tmp_path / "x.bin", opened, ["a"], CONFIGS["fp32"])
    (layer,) = read_image(tmp_path / "x.bin").layers
    assert np.array_equal(layer.matrix, opened.weights("a").view(np.uint32))


def test_chunks_of_tiles_give_the_same_image_as_one(tmp_path, monkeypatch):
    opened = packed(tmp_path, {"a": normal(70, 30)}, Options(outliers=OutlierRule("zscore", 1.5)))
    write_image(tmp_path / "x.bin", opened, ["a"], TINY)
    monkeypatch.setattr("quant.image._CHUNK", 30 * 4 * 3)
    write_image(tmp_path / "y.bin", opened, ["a"], TINY)
    assert (tmp_path / "x.bin").read_bytes() == (tmp_path / "y.bin").read_bytes()


def test_equal_inputs_give_equal_bytes(tmp_path):
    opened = packed(tmp_path, {"a": normal(20, 20), "b": normal(4, 4)})
    for name in ("x.bin", "y.bin"):
        write_image(tmp_path / name, opened, ["b", "a"], CONFIGS["default"], "default")
    assert (tmp_path / "x.bin").read_bytes() == (tmp_path / "y.bin").read_bytes()
    assert (tmp_path / "x.json").read_bytes() == (tmp_path / "y.json").read_bytes()


def test_embeddings_go_in_only_when_they_are_asked_for(tmp_path):
    source = open_model(str(toy.save(tmp_path, toy.bert())))
    write(tmp_path / "x", source, select(list(source.tensors.values())), Options())
    opened = container.read(tmp_path / "x")
    words = "bert.embeddings.word_embeddings.weight"
    assert choose_layers(opened) == [name for name in opened.layers if name != words]
    assert choose_layers(opened, ["*word*", "*pooler*"]) == [words, "bert.pooler.dense.weight"]
    assert choose_layers(opened, [], ["*layer*"]) == ["bert.pooler.dense.weight"]
    for include, exclude in ((["no"], []), ([], ["no"])):
        with pytest.raises(QuantError, match="'no' matches no layer"):
            choose_layers(opened, include, exclude)
    with pytest.raises(QuantError, match="no layer is left"):
        choose_layers(opened, [], ["*"])


def refusal(folder: Path, opened: container.Container, config: GoboConfig) -> str:
    with pytest.raises(QuantError) as caught:
        write_image(folder / "x.bin", opened, opened.layers, config)
    assert not [path for path in folder.iterdir() if re.search("bin|json", path.name)]
    return str(caught.value)


def test_what_the_configuration_cannot_hold_is_refused_with_the_layer(tmp_path):
    opened = packed(tmp_path, {"a": normal(20, 20)})
    message = refusal(tmp_path, opened, CONFIGS["bf16"])
    assert "layer a has values in fp16, the configuration takes bf16; quantise with" in message
    opened = packed(tmp_path, {"a": normal(20, 20)}, bits=4)
    assert "layer a has 4-bit indexes, the configuration takes 3;" in refusal(
        tmp_path, opened, CONFIGS["default"]
    )
    opened = packed(tmp_path, {"a": normal(20, 20).reshape(2, 10, 20)})
    assert "layer a has 3 dimensions" in refusal(tmp_path, opened, CONFIGS["default"])


def test_more_groups_than_a_tile_can_count_are_refused_with_the_tile(tmp_path):
    opened = packed(tmp_path, {"a": normal(4, 65536)})
    message = refusal(tmp_path, opened, TINY)
    assert "layer a: tile 0 has 65536 groups, at most 65535 are allowed; choose" in message
    opened = packed(tmp_path, {"a": normal(4, 65535)})
    write_image(tmp_path / "x.bin", opened, ["a"], TINY)
    assert read_image(tmp_path / "x.bin").layers[0].tiles[0].group_count == 65535


def test_more_records_than_a_tile_can_count_are_refused_with_the_tile():
    config = GoboConfig(lanes=16, tile_rows=16)
    indexes = np.zeros((32, 8192), np.uint8)
    for count, fits in ((65535, True), (65536, False)):
        positions = 16 * 8192 + np.arange(count)
        values = np.ones(count, np.uint16)
        if fits:
            tiles = pack_tiles(config, 3, indexes, positions, values)
            assert tiles.record_count.tolist() == [0, 65535]
        else:
            with pytest.raises(TooManyError, match="tile 8 has 65536 outlier records, at most"):
                pack_tiles(config, 3, indexes, positions, values, first_tile=7)


def test_an_image_named_like_its_table_of_contents_is_refused(tmp_path):
    opened = packed(tmp_path, {"a": normal(20, 20)})
    with pytest.raises(QuantError, match=r"name it \*.bin"):
        write_image(tmp_path / "x.json", opened, ["a"], TINY)
