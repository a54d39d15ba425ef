"""The reader of the device image: what is good is read, whatever is not is told."""

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gobo_rtl.config import CONFIGS
from gobo_rtl.formats import LAYER_DESCRIPTOR, Record
from sim import stimulus
from sim.golden.decode import decode_unit
from sim.golden.image import Image, read_image

from .cases import CODEBOOK, INDEXES, MATRIX, OUTLIERS, TINY, configs
from .test_stimulus import hand_layer

SEED = 7


def small() -> bytes:
    """One tiny layer of 8 x 2 weights: two tiles, three outliers, no padding lanes."""
    rng = np.random.default_rng(SEED)
    mask = np.zeros((8, 2), bool)
    mask[[0, 2, 4], [0, 1, 1]] = True
    layer = stimulus.layer(TINY, rng, 8, 2, 3, mask)
    return stimulus.image(TINY, [layer], bytes(range(32)))


SMALL = small()

# The layer of cases.py on the grid of 2^-9 and with biases: header, descriptor, codebook at 256,
# tile table at 272, streams at 288 and 320, biases at 352 (bursts of 32).  Its second outlier is
# 0x3550, 170 units; the magnitudes of row 1, 0xC248 and -1, are 1608 and 512 units.
HAND_PARTS = {
    0: b"GOBOIMG\0" + bytes.fromhex("0100 00 08 0400 0400 0400 4000 0400"),
    24: bytes.fromhex("01000000 00000000 8001000000000000"),
    128: b"GOBD" + bytes.fromhex("03 00 f7ff 03000000 02000000 01000000 02000000"),
    152: bytes.fromhex("0001000000000000 1001000000000000"),
    168: bytes.fromhex("2001000000000000 0800000000000000"),
    184: bytes.fromhex("4001000000000000 1000000000000000"),
    200: bytes.fromhex("6001000000000000 1000000000000000"),
    216: bytes.fromhex("48080000 02"),
    256: CODEBOOK.astype("<u2").tobytes(),
    272: bytes.fromhex("00000000 00000000 02000000 02000000"),
    288: INDEXES,
    320: bytes.fromhex("0200 0200 ebcb 32ea  0100 48c2  0a00 5035"),
    352: bytes.fromhex("0000803f 00000080 0100c0ff 00000000"),  # 1, -0, a NaN; no fourth row
}


def number(data: bytes, record: Record, at: int, field: str) -> int:
    """A field of the record at ``at``."""
    where = record.field(field)
    whole = int.from_bytes(data[at : at + record.size], "little")
    return whole >> where.offset & ((1 << where.width) - 1)


def sealed(data: bytes) -> bytes:
    """The image with all CRC-32s right again, from the innermost out."""
    out = bytearray(data)

    def put(at: int, covered: bytes) -> None:
        out[at : at + 4] = zlib.crc32(covered).to_bytes(4, "little")

    start = number(out, LAYER_DESCRIPTOR, 128, "codebook_offset")
    last = "bias" if number(out, LAYER_DESCRIPTOR, 128, "bias_bytes") else "outlier"
    end = sum(number(out, LAYER_DESCRIPTOR, 128, f"{last}_{part}") for part in ("offset", "bytes"))
    put(128 + 120, bytes(out[start:end]))
    put(128 + 124, bytes(out[128 : 128 + 124]))
    put(120, bytes(out[128:]))
    put(124, bytes(out[:124]))
    return bytes(out)


def assembled(parts: dict[int, bytes], size: int) -> bytes:
    """An image of parts at their offsets, with all sums right."""
    data = bytearray(size)
    for at, part in parts.items():
        data[at : at + len(part)] = part
    return sealed(data)


HAND = assembled(HAND_PARTS, 384)


def changed(data: bytes, offset: int, value: str) -> bytes:
    """An image with bytes replaced and all sums right."""
    raw = bytes.fromhex(value)
    return sealed(data[:offset] + raw + data[offset + len(raw) :])


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Every image with one bit flipped, and the byte where."""
    for at in range(len(data)):
        for bit in range(8):
            yield at, data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


# -- good images ----------------------------------------------------------------------------


def test_image_by_hand():
    # Off the grid and without biases.
    parts = {
        **HAND_PARTS,
        24: bytes.fromhex("01000000 00000000 6001000000000000"),
        128: b"GOBD" + bytes.fromhex("03 00 0000 03000000 02000000 01000000 02000000"),
        320: OUTLIERS,
    }
    for at in (200, 216, 352):
        del parts[at]
    data = assembled(parts, 352)
    image = read_image(data)
    assert image.config == TINY and image.container_sha256 == bytes(32)
    (layer,) = image.layers
    assert np.array_equal(layer.matrix, MATRIX) and layer.outlier_count == 2
    assert layer.indexes.tobytes() == INDEXES and layer.outliers.tobytes() == OUTLIERS
    assert layer.biases is None and layer.weight_sum == 0
    assert not layer.on_grid and not layer.symmetric
    assert data == stimulus.image(TINY, [hand_layer()])


def test_biases_sum_and_flags_by_hand():
    (layer,) = read_image(HAND).layers
    assert layer.biases.tolist() == [0x3F80_0000, 0x8000_0000, 0xFFC0_0001]
    assert layer.biases.dtype == np.uint32
    assert (layer.unit_exponent, layer.weight_sum) == (-9, 1608 + 512)
    assert layer.on_grid and not layer.symmetric


def test_a_symmetric_codebook_is_flagged_whatever_the_signs_of_its_zeros():
    for middle in ("0000 0000", "0080 0000", "0000 0080"):
        data = changed(HAND, 256, f"00c0 00bc 00b8 {middle} 0038 003c 0040")
        with pytest.raises(ValueError, match=r"flags at offset 220: .* the codebook is sign-sym"):
            read_image(data)
        (layer,) = read_image(changed(data, 220, "03")).layers
        assert layer.symmetric


def test_a_layer_of_zeros_has_unit_0():
    data = changed(changed(HAND, 256, "00" * 16), 220, "03")
    with pytest.raises(ValueError, match=r"unit_exponent at offset 134: .* all of its centroids a"):
        read_image(data)
    # In units of 1 the outliers are no integers, so there is no sum.
    data = changed(changed(data, 134, "0000"), 216, "00000000")
    assert read_image(data).layers[0].weight_sum == 0


def assert_reads(image: Image, layers: list[stimulus.Layer]) -> None:
    for read, layer in zip(image.layers, layers, strict=True):
        assert np.array_equal(read.matrix, layer.values)
        assert read.matrix.dtype == layer.values.dtype
    if layers:
        due = np.concatenate([layer.groups() for layer in layers])
        assert np.array_equal(decode_unit(image.config, image.layers).values, due)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_named_configurations_read(config, tmp_path):
    rng = np.random.default_rng(SEED)
    layers = [
        stimulus.layer(config, rng, rows, columns, config.index_widths[0], "share:0.1")
        for rows, columns in ((1, 1), (2 * config.tile_rows + 1, 2 * config.lane_columns + 1))
    ]
    path = tmp_path / "image.bin"
    path.write_bytes(stimulus.image(config, layers, b"\xff" * 32))
    image = read_image(path)
    assert_reads(image, layers)
    assert image.container_sha256 == b"\xff" * 32
    assert {**image.config.as_dict(), "outliers_per_cycle": config.outliers_per_cycle} == (
        config.as_dict()
    )


@settings(max_examples=40, deadline=None)
@given(configs(), st.data())
def test_any_image_reads(config, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    layers = [
        stimulus.layer(
            config, rng, data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40)),
            data.draw(st.sampled_from(config.index_widths)),
            data.draw(st.sampled_from(["none", "all", "share:0.1", "burst"])),
        )
        for _ in range(data.draw(st.integers(0, 3)))
    ]  # fmt: skip
    assert_reads(read_image(stimulus.image(config, layers)), layers)


# -- bad images -----------------------------------------------------------------------------


@pytest.mark.parametrize("image", [SMALL, HAND], ids=["small", "hand"])
def test_every_bit_flip_is_told(image):
    for at, data in flips(image):
        with pytest.raises(ValueError, match=r"^image: .* at offset \d+: "):
            read_image(data)
            pytest.fail(f"a flip in byte {at} was not seen")


# What may change without a rule being broken: hash, more index widths, centroids, biases.
FREE = {*range(40, 72), *range(120, 128), 11, *range(128 + 120, 256 + 16)}


@pytest.mark.parametrize(
    ("image", "free"), [(SMALL, FREE), (HAND, {*FREE, *range(352, 364)})], ids=["small", "hand"]
)
def test_every_bit_flip_is_told_or_harmless_when_the_sums_are_right(image, free):
    accepted = 0
    for at, data in flips(image):
        try:
            read = read_image(sealed(data))
        except ValueError as error:
            assert " at offset " in str(error), at
        else:
            accepted += 1
            assert at in free, f"a flip in byte {at} was not seen"
            same = read.layers[0].matrix == read_image(image).layers[0].matrix
            assert same.all() or at in range(256, 256 + 16)
    assert accepted > 32 * 8  # the hash at least


@pytest.mark.parametrize("size", range(0, len(SMALL), 7))
def test_truncated_files_are_told(size):
    with pytest.raises(ValueError, match="truncated"):
        read_image(SMALL[:size])


def test_foreign_file_is_told_by_name(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(ValueError, match=r"model\.bin: .*magic at offset 0: not a device image"):
        read_image(path)


FAULTS = [
    (8, "0200", "version at offset 8: 2, but this reader knows version 1 only"),
    (10, "03", "value_format at offset 10: must be one of"),
    (10, "01", "value_format at offset 133: layer 0 must have 1, not 0"),
    (11, "20", "index_widths at offset 11: index_widths must be out of 2, 3 and 4 bits, not 5"),
    (11, "04", r"index_width at offset 132: layer 0 must have one of \(2,\), not 3"),
    (12, "0500", "lanes at offset 12: lanes must be a power of two"),
    (16, "0300", "tile_rows at offset 16: tile_rows must be a multiple of lane_rows"),
    (20, "0004", "burst_beats at offset 20: "),
    (22, "01", "image header, unused bytes at offset 22: must be 0"),
    (24, "00ffffff", "layer_count at offset 24: 4294967040 descriptors do not fit"),
    (32, "00", "file_bytes at offset 32: is 256, but the file has 384 bytes; something is"),
    (128, "00", "layer descriptor, magic at offset 128: must be b'GOBD'"),
    (134, "0100", "unit_exponent at offset 134: layer 0 must have 0, as it is not on the grid"),
    (136, "00", "rows at offset 136: layer 0 has none"),
    (140, "00", "columns at offset 140: layer 0 has none"),
    (144, "01", "tile_count at offset 144: layer 0 must have 2, not 1"),
    (148, "02", "outlier_count at offset 148: layer 0 must have 3, not 2"),
    (152, "20", "codebook_offset at offset 152: layer 0 must have 256, not 288"),
    (176, "18", "index_bytes at offset 176: layer 0 must have 16, not 24"),
    (192, "19", "outlier_bytes at offset 192: layer 0 must have whole beats of 8 bytes"),
    (193, "ff", "outlier stream at offset 352: needs 65312 bytes"),
    (200, "01", "bias_offset at offset 200: layer 0 must have 384, not 1"),
    (208, "10", "bias_offset at offset 200: layer 0 must have 384, not 0"),
    (216, "01", "weight_sum at offset 216: layer 0 must have 0, not 1"),
    (220, "01", "flags at offset 220: layer 0 has 0x01, but the codebook is not sign-symmetric"),
    (220, "02", "codebook entry 0 at offset 256: .* is not on the grid of 2\\^0"),
    (221, "01", "layer descriptor, unused bytes at offset 221: must be 0"),
    (247, "80", "layer descriptor, unused bytes at offset 247: must be 0"),
    (256, "007c", "codebook entry 0 at offset 256: 0x7c00 is infinite or NaN"),
    (256, "ff7b", "codebook entry 1 at offset 258: .* is below the entry before"),
    (288, "09", "tile entry, index_offset at offset 288: layer 0, tile 1 has 8, not 9"),
    (300, "02", "tile entry, record_count at offset 300: layer 0, tile 1 has 1, not 2"),
    (304, "01", "bytes after the tile table at offset 304: must be 0, not 0x01"),
    (340, "80", "bytes after the index stream at offset 340: must be 0, not 0x80"),
    (327, "01", "layer 0, tile 0: padding at offset 323: bits after the groups are set"),
    (353, "01", "layer 0, tile 0: group_count at offset 352: 258, but must be 2"),
    (364, "00", "layer 0, tile 0: outlier_crc16 at offset 358: "),
]


HAND_FAULTS = [
    (134, "f6ff", "codebook entry 0 at offset 256: 0xc000 is not on the grid of 2\\^-10"),
    (134, "f8ff", "weight_sum at offset 216: layer 0 must have 1060, not 2120"),
    (200, "0000", "bias_offset at offset 200: layer 0 must have 352, not 0"),
    (200, "80", "bias_offset at offset 200: layer 0 must have 352, not 384"),
    (208, "00", "bias_bytes at offset 208: layer 0 must have 16, not 0"),
    (208, "18", "bias_bytes at offset 208: layer 0 must have 16, not 24"),
    (216, "49", "weight_sum at offset 216: layer 0 must have 2120, not 2121"),
    (216, "00000000", "weight_sum at offset 216: layer 0 must have 2120, not 0"),
    (220, "00", "unit_exponent at offset 134: layer 0 must have 0, as it is not on the grid, not"),
    (220, "06", "flags at offset 220: layer 0 has 0x06, of which 0x04 is not known"),
    (336, "01", "bytes after the outlier stream at offset 336: must be 0, not 0x01"),
    (364, "01", "bytes after the biases at offset 364: must be 0, not 0x01"),
    (368, "01", "bytes after the last layer at offset 368: must be 0, not 0x01"),
]


@pytest.mark.parametrize(
    ("image", "offset", "value", "text"),
    [(SMALL, *fault) for fault in FAULTS] + [(HAND, *fault) for fault in HAND_FAULTS],
)
def test_fault_names_field_and_offset(image, offset, value, text):
    with pytest.raises(ValueError, match=f"^image: .*{text}"):
        read_image(changed(image, offset, value))


def test_gaps_around_layers_are_zero():
    rng = np.random.default_rng(SEED)
    config = CONFIGS["tiny"]
    layer = stimulus.layer(config, rng, 1, 1, 3)  # streams of a beat each, bursts of 4
    data = stimulus.image(config, [layer, layer])
    second = number(data, LAYER_DESCRIPTOR, 256, "codebook_offset")
    for at, text in ((second - 1, "before the codebook"), (len(data) - 1, "after the last layer")):
        assert data[at] == 0
        bad = bytearray(data)
        bad[at] = 1
        bad[120:124] = zlib.crc32(bad[128:]).to_bytes(4, "little")
        bad[124:128] = zlib.crc32(bad[:124]).to_bytes(4, "little")
        with pytest.raises(ValueError, match=rf"bytes {text}.* at offset {at}: must be 0"):
            read_image(bytes(bad))


def test_sums_are_told():
    for offset, field in ((124, "image header, crc32"), (120, "image header, body_crc32")):
        data = bytearray(SMALL)
        data[offset] ^= 1
        if offset == 120:
            data[124:128] = zlib.crc32(data[:124]).to_bytes(4, "little")
        with pytest.raises(ValueError, match=f"{field} at offset {offset}: .* the file is corrupt"):
            read_image(bytes(data))


@pytest.mark.parametrize("value", [0x7C00, 0xFE01])
def test_outliers_are_finite(value):
    layer = hand_layer()
    (tile,) = layer.tiles
    records = (tile.records[0], replace(tile.records[1], value=value))
    bad = replace(layer, tiles=(replace(tile, records=records),))
    with pytest.raises(ValueError, match="layer 0: the weight at row 2, column 1 is infinite or"):
        read_image(stimulus.image(TINY, [bad]))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_corrupt_files_give_one_clear_error(data):
    image = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(image)))
        change = data.draw(st.sampled_from(["flip", "cut", "insert", "zero"]))
        if change == "flip" and at < len(image):
            image[at] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "cut":
            del image[at:]
        elif change == "insert":
            image[at:at] = data.draw(st.binary(min_size=1, max_size=40))
        elif change == "zero":
            image[at : at + 8] = bytes(len(image[at : at + 8]))
    if image != SMALL:
        with pytest.raises(ValueError, match=r"^image: .* at offset \d+: "):
            read_image(bytes(image))
    if len(image) == len(SMALL):  # with right sums the reader gets to see more
        try:
            read_image(sealed(bytes(image)))
        except ValueError as error:
            assert " at offset " in str(error)
