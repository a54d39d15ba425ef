"""The test vectors and the worked examples are what the code writes, and read as they say."""

import hashlib
import json

import numpy as np
import pytest

from quant import container
from quant.errors import QuantError
from sim.golden.image import read_image
from sim.golden.matrix import decode_tiles
from tests.data import make

NAMES = sorted(make.vectors())


def test_the_files_are_what_their_script_makes(tmp_path):
    make.build(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    there = {path.name: path.read_bytes() for path in make.FOLDER.iterdir() if path.is_file()}
    del there["make.py"]
    assert sorted(made) == sorted(there)
    assert [name for name in made if made[name] != there[name]] == []
    assert len(made) == 4 * len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_container_and_image_give_the_decoded_weights(name):
    says = json.loads((make.FOLDER / f"{name}.decoded.json").read_text())
    opened = container.read(make.FOLDER / f"{name}.gobo.safetensors")
    weights = opened.weights("fc.weight")
    assert hashlib.sha256(weights.tobytes()).hexdigest() == says["weights_sha256"]
    assert list(weights.shape) == says["shape"]
    stored = {name: opened.raw(name).tobytes().hex() for name in opened.stored}
    assert stored == says["stored"]
    layer = opened.layer("fc.weight").layer
    assert layer.codebook.tolist() == says["codebook"]
    assert layer.positions.tolist() == says["positions"]
    assert layer.outliers.tolist() == says["outliers"]

    (read,) = read_image(make.FOLDER / f"{name}.bin").layers
    biases = make.vectors()[name].biases
    assert (read.biases is None) == (not biases)
    if biases:
        assert read.biases.view(np.float32).tolist() == biases
    assert read.symmetric == (name in ("symmetric", "escapes"))  # or all centroids are 0
    assert read.on_grid == (name != "fp32")
    bits = read.matrix.astype(np.uint32)
    if layer.options.value_format == "fp16":
        values = bits.astype(np.uint16).view(np.float16).astype(np.float32)
    else:
        values = (bits << (16 if layer.options.value_format == "bf16" else 0)).view(np.float32)
    assert values.tobytes() == weights.tobytes()


def test_the_escapes_vector_has_an_escape_followed_in_its_group():
    (layer,) = read_image(make.FOLDER / "escapes.bin").layers
    assert layer.outlier_count == 5
    assert [tile.record_count for tile in layer.tiles] == [6]


@pytest.mark.parametrize("name", ["container", "image"])
def test_the_worked_example_in_the_page_is_what_the_files_hold(name):
    page = make.PAGE.read_text()
    start, stop = make.example_in(page, name)
    assert page[start:stop] == f"\n{make.examples(make.FOLDER)[name]}\n"


def test_a_vector_with_a_changed_bit_is_refused(tmp_path):
    for name in NAMES:
        data = bytearray((make.FOLDER / f"{name}.gobo.safetensors").read_bytes())
        data[-1] ^= 0x10
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(QuantError, match="checksum mismatch"):
            container.read(tmp_path / "x")


def test_streams_of_the_small_image_are_those_of_the_page():
    page = make.PAGE.read_text()
    (layer,) = read_image(make.FOLDER / "small.bin").layers
    codebook = layer.codebook
    streams = [
        bytes.fromhex(page.split(f"| {name} stream | ")[1].split("`")[1])
        for name in ("index", "outlier")
    ]
    places = {"name": "page", "index_base": 0, "outlier_base": 0}
    tiles = decode_tiles(make.CONFIGS["tiny"], 5, 4, 3, codebook, *streams, **places)
    assert np.array_equal(np.concatenate([tile.values for tile in tiles]), layer.matrix)
