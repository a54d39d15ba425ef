"""A trained model's layer for the self-test: from the quantiser its image, from the golden models
the words that are due."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.formats import LAYER_DESCRIPTOR
from quant.container import read
from quant.fit import Options
from quant.image import write_image
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from sim.golden.decode import decode_unit
from sim.golden.image import read_image
from sim.golden.layer import compute, layer_of_image
from sim.jobs import Run, block_tiles, lay_out, layer_offset, unpack
from sim.model import ModelError
from sim.model.accelerator import activation_bits
from sim.model.bert import Array, matmul
from sim.model.sentence import SentenceModel, sample_sentences

from .stored import Stored

__all__ = ["LAYER", "MODEL", "image_of", "store", "stored_layer"]

MODEL = "bert-tiny"
LAYER = "bert.encoder.layer.0.intermediate.dense.weight"

_BITS = 3
_SENTENCE = 2  # its tokens do not fill the last tile


def image_of(model: Path, config: ArrayConfig, layer: str) -> bytes:
    """Return a device image of one layer of a model, quantised to 3 bits, with its biases."""
    source = open_model(str(model))
    choices = select(list(source.tensors.values()), bits=_BITS, embedding_bits=_BITS)
    if layer not in {choice.name for choice in choices if choice.bits is not None}:
        raise ModelError(f"{model.name} has no layer {layer}; `python -m quant explain` shows them")
    with tempfile.TemporaryDirectory() as folder:
        container, image = Path(folder) / "model.gobo.safetensors", Path(folder) / "image.bin"
        write(container, source, choices, Options(value_format=config.value_format))
        write_image(image, read(container), [layer], config)
        return image.read_bytes()


def _activations(model: Path, config: ArrayConfig, layer: str) -> NDArray[Any]:
    """Return the (tokens, inputs) activations of a layer on a sample sentence, as bits."""
    found: list[Array] = []

    def linear(name: str, x: Array, weight: Array, bias: Array) -> Array:
        if name == layer:
            found.append(x)
        return matmul(name, x, weight, bias)

    SentenceModel.load(model, linear=linear).embed(sample_sentences()[_SENTENCE : _SENTENCE + 1])
    if not found:
        raise ModelError(f"layer {layer} of {model.name} is not on a sentence's way")
    return activation_bits(config, layer, np.concatenate(found))


def store(config: ArrayConfig, image: bytes, acts: NDArray[Any]) -> Stored:
    """Return what the self-test stores of the first layer of an image and activations for it."""
    packed = config.image
    (layer, *_) = read_image(image).layers
    run = Run(0, acts, block_tiles(config, *acts.shape))
    layout = lay_out(config, image, [run])
    (job,) = layout.jobs
    if job.result_stride * 8 != layer.rows * config.result.width:
        raise ValueError(f"{layer.rows} results of a token must fill whole beats")
    start = layer_offset(0)
    place = unpack(LAYER_DESCRIPTOR, image[start : start + LAYER_DESCRIPTOR.size])
    due = decode_unit(packed, [layer])
    width, lanes = packed.value_width, packed.lanes
    groups = [
        sum(int(word) << n * width for n, word in enumerate(group)) | int(last) << lanes * width
        for group, last in zip(due.values, due.last, strict=True)
    ]
    results = compute(config, layer_of_image(packed, layer), acts)

    def beats(data: bytes) -> list[int]:
        size = config.beat_bytes
        data = data.ljust(-(-len(data) // size) * size, b"\0")
        return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]

    def stream(name: str, beats: NDArray[Any]) -> tuple[int, int]:
        return job.image_address + place[f"{name}_offset"], len(beats)

    return Stored(
        config=config, memory=beats(layout.memory.tobytes()),
        codebook=sum(int(word) << n * width for n, word in enumerate(layer.codebook)),
        index_width=layer.index_width, indexes=stream("index", layer.indexes),
        outliers=stream("outlier", layer.outliers),
        groups=groups, results=job.result_address,
        result_beats=beats(results.astype(results.dtype.newbyteorder("<")).tobytes()),
    )  # fmt: skip


def stored_layer(model: Path, config: ArrayConfig, layer: str = LAYER) -> Stored:
    """Return what the self-test stores of a layer of a trained model and a sentence."""
    return store(config, image_of(model, config, layer), _activations(model, config, layer))
