"""The reader of the container, against the reader that was made from the page bit by bit."""

import json
from pathlib import Path

import numpy as np
import pytest

from sim.golden.container import read_container
from tests.quant import page_reader

DATA = Path(__file__).parents[1] / "data"
NAMES = sorted(path.name.split(".")[0] for path in DATA.glob("*.gobo.safetensors"))


@pytest.mark.parametrize("name", NAMES)
def test_every_vector_reads_as_the_page_says(name):
    path = DATA / f"{name}.gobo.safetensors"
    page, got = page_reader.read(path), read_container(path)
    assert got.metadata == page["metadata"]
    assert got.layers.keys() == page["layers"].keys()
    for layer, due in ((got.layers[n], page["layers"][n]) for n in got.layers):
        assert layer.matrix.shape == tuple(due["shape"])
        assert layer.floats.dtype == np.float32
        assert layer.floats.reshape(-1).tolist() == [float(weight) for weight in due["weights"]]
        assert np.flatnonzero(layer.outlier).tolist() == due["positions"]
        indexes = [0 if index is None else index for index in due["indexes"]]
        assert layer.index.reshape(-1).tolist() == indexes
        assert layer.codebook.size == 2 ** due["index_width"]
        assert layer.unit == (due["unit_exponent"] if due["flags"] & 2 else None)
    assert got.tensors.keys() == page["stored"].keys()


def test_other_tensors_are_as_they_were():
    found = [read_container(DATA / f"{name}.gobo.safetensors").tensors for name in NAMES]
    tensors = [tensor for stored in found for tensor in stored.values()]
    assert tensors and all(tensor.dtype == np.float32 for tensor in tensors)  # BF16 too
    # The vectors' biases are whole quarters, eighths and powers of two.
    assert all(np.array_equal(t * 8, np.rint(t * 8)) and t.any() for t in tensors)


def edited(change) -> bytes:
    """The small vector after ``change`` of its header's JSON, its sum not mended."""
    data = (DATA / "small.gobo.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def flipped(at: int) -> bytes:
    data = bytearray((DATA / "small.gobo.safetensors").read_bytes())
    data[at] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header at offset 8: needs 0 bytes; is the file truncated"),
        (b"\xff" * 9, "is the file truncated"),
        (edited(lambda header: header.pop("__metadata__")), "no metadata 'gobo', so no container"),
        (edited(lambda header: header.update(__metadata__={"gobo": '{"version": 2}'})),
         "version 2, this reader knows 1"),
        (flipped(-1), "sha256 of the file is not the one in its header"),
    ],
)  # fmt: skip
def test_other_files_are_refused_by_name(data, message, tmp_path):
    path = tmp_path / "x.gobo.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"x.gobo.safetensors: .*{message}"):
        read_container(path)
