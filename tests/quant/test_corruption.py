"""Damaged files are refused with a sentence: never a crash, a hang or a silent difference."""

import hashlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from gobo_rtl.config import CONFIGS
from gobo_rtl.formats import LAYER_RECORD
from quant import container, fit
from quant.__main__ import main
from quant.errors import QuantError
from quant.fit import Options, OutlierRule
from quant.image import write_image
from quant.packing import pack
from quant.record import read_record, write_record
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from sim.golden.image import read_image

from . import toy

# Each is a way to change bytes: what, where (a share of the length), and with what.
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "insert", "delete", "cut", "copy"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, edits) -> bytes:
    changed = bytearray(data)
    for what, place, number in edits:
        at = int(place * len(changed))
        if what == "flip" and changed:
            changed[at] ^= 1 << number % 8
        elif what == "set" and changed:
            changed[at] = number
        elif what == "insert":
            changed[at:at] = bytes([number]) * (1 + number % 9)
        elif what == "delete":
            del changed[at : at + 1 + number % 9]
        elif what == "cut":
            del changed[at:]
        elif what == "copy":
            changed[at : at + 16] = changed[number : number + 16]
    return bytes(changed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, its container and its device image."""
    folder = tmp_path_factory.mktemp("valid")
    tensors = {name: tensor for name, tensor in toy.bert(layers=1).items() if "bias" not in name}
    source = open_model(str(toy.save(folder, tensors)))
    out = folder / "x.gobo.safetensors"
    options = Options(outliers=OutlierRule("share", 0.1))
    write(out, source, select(list(source.tensors.values())), options)
    opened = container.read(out)
    names = [name for name in opened.layers if "embedding" not in name]
    write_image(folder / "x.bin", opened, names, CONFIGS["tiny"])
    return folder


@given(edits=EDITS)
@settings(max_examples=400, deadline=None)
def test_any_change_of_a_container_is_found(folder, edits):
    data = (folder / "x.gobo.safetensors").read_bytes()
    path = folder / "damaged.gobo.safetensors"
    path.write_bytes(changed := damaged(data, edits))
    if changed == data:
        container.decode(container.read(path))
        return
    with pytest.raises(QuantError) as caught:
        container.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_flipped_bit_of_a_container_is_found(folder):
    data = (folder / "x.gobo.safetensors").read_bytes()
    path = folder / "flipped.gobo.safetensors"
    for bit in range(0, 8 * len(data), 61):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(QuantError):
            container.read(path)


def resealed(record: bytes) -> np.ndarray:
    """Return a record with the CRC-32 that belongs to it."""
    at = LAYER_RECORD.size - 4
    crc = zlib.crc32(record[at + 4 :], zlib.crc32(record[:at]))
    return np.frombuffer(record[:at] + struct.pack("<I", crc) + record[at + 4 :], np.uint8)


@pytest.fixture(scope="module")
def record() -> bytes:
    weights = np.random.default_rng(5).normal(0, 0.05, (7, 11)).astype(np.float32)
    layer = fit.quantise(weights, Options(outliers=OutlierRule("share", 0.1)))
    return write_record(layer, "F32", embedding=False)


@given(edits=EDITS)
@settings(max_examples=600, deadline=None)
def test_a_record_with_a_right_checksum_is_refused_or_another_whole_layer(record, edits):
    changed = damaged(record, edits)
    if len(changed) < LAYER_RECORD.size:
        changed += bytes(LAYER_RECORD.size - len(changed))
    data = resealed(changed)
    try:
        stored = read_record("x", data)
        decoded = fit.decode(stored.layer)
    except ValueError:
        return
    assert decoded.shape == stored.layer.shape
    assert np.isfinite(decoded).all()
    again = write_record(stored.layer, stored.source_type, embedding=stored.embedding)
    assert again == data.tobytes()


FIELD_FAULTS = {
    "magic": (b"GOBX", "magic at offset 0"),
    "version": (2, "version at offset 4 is 2, newer than the 1"),
    "index_width": (5, "index_width at offset 5 is 5, not in 2..4"),
    "value_format": (3, "value_format at offset 6"),
    "source_type": (4, "source_type at offset 7"),
    "policy": (5, "policy at offset 8"),
    "outlier_rule": (4, "outlier_rule at offset 9"),
    "flags": (8, "flags at offset 10"),
    "gap_width": (32, "gap_width at offset 11"),
    "unit_exponent": (-300, "codebook: a centroid is not on the grid"),
    "rank": (5, "rank at offset 16"),
    "dim0": (0, "dimensions at offset 20"),
    "dim1": (12, "the record has 167 bytes, its header says"),
    "dim2": (1, "dimensions at offset 20"),
    "outlier_count": (78, "outlier_count at offset 36"),
    "quotient_bytes": (9, "the record has 167 bytes, its header says"),
    "mean": (float("nan"), "mean at offset 48"),
    "squared_error": (float("inf"), "squared_error at offset 88"),
    "threshold": (2.0, "share must be in"),
    "policy of no outliers": (4, "policy at offset 8 is minmax, which has no outliers"),
}


@pytest.mark.parametrize("name", FIELD_FAULTS)
def test_a_wrong_field_is_named_with_its_offset(record, name):
    value, message = FIELD_FAULTS[name]
    field = LAYER_RECORD.field(name.split()[0])
    at, size = field.offset // 8, field.width // 8
    part = value if isinstance(value, bytes) else (
        struct.pack("<d", value) if field.kind == "float"
        else value.to_bytes(size, "little", signed=value < 0)
    )  # fmt: skip
    with pytest.raises(ValueError) as caught:
        read_record("x", resealed(record[:at] + part + record[at + size :]))
    assert message in str(caught.value)


@pytest.mark.parametrize("at", [17, 44, 96])
def test_a_byte_that_no_field_covers_must_be_zero(record, at):
    with pytest.raises(ValueError, match=f"byte at offset {at} must be zero"):
        read_record("x", resealed(record[:at] + b"\1" + record[at + 1 :]))


def test_gaps_that_are_not_as_short_as_they_can_be_are_refused(monkeypatch):
    def longest(positions):
        gaps = np.diff(positions, prepend=-1) - 1
        return 31, pack(gaps, 31), pack(np.ones(gaps.size, np.int64), 1)

    monkeypatch.setattr("quant.record.rice_encode", longest)
    weights = np.random.default_rng(5).normal(0, 0.05, (7, 11)).astype(np.float32)
    layer = fit.quantise(weights, Options(outliers=OutlierRule("share", 0.1)))
    record = write_record(layer, "F32", embedding=False)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"gap_width at offset 11 is 31, and \d+ is shorter"):
        read_record("x", np.frombuffer(record, np.uint8))


def test_a_record_with_a_wrong_checksum_is_refused(record):
    with pytest.raises(ValueError, match="checksum mismatch"):
        read_record("x", np.frombuffer(record[:-1] + bytes([record[-1] ^ 1]), np.uint8))


@given(edits=EDITS, only_header=st.booleans())
@example(edits=[("cut", 0.0, 0)], only_header=False)
@settings(max_examples=400, deadline=None)
def test_a_damaged_model_is_refused_or_read_as_the_library_reads_it(folder, edits, only_header):
    data = (folder / "model.safetensors").read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    head = damaged(data[:size], edits)
    path = folder / "damaged.safetensors"
    path.write_bytes(head + data[size:] if only_header else damaged(data, edits))
    try:
        source = open_model(str(path))
    except QuantError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        return
    with safe_open(path, "numpy") as library:
        assert sorted(library.keys()) == sorted(source.tensors)
        for name, tensor in source.tensors.items():
            if tensor.dtype in ("F32", "I64"):
                theirs = library.get_tensor(name)
                assert tensor.shape == theirs.shape
                assert tensor.raw().tobytes() == theirs.tobytes()


@given(edits=EDITS)
@settings(max_examples=300, deadline=None)
def test_any_change_of_an_image_is_found_by_the_golden_reader(folder, edits):
    data = (folder / "x.bin").read_bytes()
    changed = damaged(data, edits)
    if changed != data:
        with pytest.raises(ValueError):
            read_image(changed)


COMMANDS = {
    "inspect": lambda path, folder: ["inspect", path],
    "verify": lambda path, folder: ["verify", path, str(folder)],
    "export": lambda path, folder: ["export", path, "-o", str(folder / "out.safetensors")],
    "image": lambda path, folder: ["image", path, "-o", str(folder / "out.bin")],
    "explain": lambda path, folder: ["explain", path],
    "quantize": lambda path, folder: ["quantize", path, "-o", str(folder / "out")],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["missing", "empty", "foreign", "cut", "changed", "a model"])
def test_every_command_says_what_is_wrong_and_exits_with_two(folder, capsys, command, kind):
    models = command in ("explain", "quantize")
    name = "model.safetensors" if models else "x.gobo.safetensors"
    data = (folder / name).read_bytes()
    bad = folder / f"{kind}.safetensors"
    contents = {
        "empty": b"",
        "foreign": hashlib.sha256(b"seed").digest() * 9,
        "cut": data[: len(data) // 2],
        "changed": data[:20] + b"\xff" + data[21:],
        "a model": (
            folder / ("x.gobo.safetensors" if models else "model.safetensors")
        ).read_bytes(),
    }
    if kind in contents:
        bad.write_bytes(contents[kind])
    assert main(COMMANDS[command](str(bad), folder)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert str(bad) in said
    assert said.count("\n") == 1
    assert not list(folder.glob("*out*"))
