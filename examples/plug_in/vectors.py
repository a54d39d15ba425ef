"""Files for the bench: a layer of a trained model as beats of its streams, and what is due for it.

The beats come from the device image. What is due comes from the container, by the order of
docs/formats.md, section 4.1: the image has no part in it.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.config import GoboConfig
from quant.container import Container
from sim.golden.image import read_image
from sim.model.bert import Array, matmul
from sim.model.sentence import SentenceModel, sample_sentences

__all__ = ["activations", "write_vectors"]

_UNIT = 24  # an FP16 number is a whole number of 2^-24


def activations(model: Path, layer: str) -> NDArray[np.int8]:
    """Return the (inputs,) activations of a layer for the first token of a sentence, in 8 bits."""
    found: list[Array] = []

    def linear(name: str, x: Array, weight: Array, bias: Array) -> Array:
        if name == layer:
            found.append(x)
        return matmul(name, x, weight, bias)

    SentenceModel.load(model, linear=linear).embed(sample_sentences()[:1])
    acts = found[0][0]
    return np.rint(acts * (127 / np.abs(acts).max())).astype(np.int8)


def write_vectors(
    folder: Path, config: GoboConfig, image: Path, container: Container, layer: str,
    acts: NDArray[np.int8],
) -> None:  # fmt: skip
    """Write what ``bench.v`` reads, for an image with this layer alone.

    The configuration has a group in a column: ``lane_rows`` and ``tile_rows`` are ``lanes``.
    """
    (stored,) = read_image(image).layers
    lanes = config.lanes
    weights = container.weights(layer)
    rows, columns = weights.shape
    tiles = -(-rows // lanes)

    # Rows past the last are padding, which decodes to the first centroid.
    padded = np.full((tiles * lanes, columns), container.layer(layer).layer.codebook[0])
    padded[:rows] = weights
    groups = padded.reshape(tiles, lanes, columns).transpose(0, 2, 1).reshape(-1, lanes)
    units = (padded.astype(np.float64) * 2.0**_UNIT).astype(np.int64)
    sums = (units @ acts.astype(np.int64)).reshape(tiles, lanes)

    files = {
        "codebook.hex": [stored.codebook],
        "index.hex": stored.indexes,
        "outlier.hex": stored.outliers,
        "acts.hex": acts[:, None],
        "words.hex": groups.astype(np.float16),
        "sums.hex": sums,
    }
    for name, words in files.items():
        (folder / name).write_text(_hex(words))
    sizes = {
        "COLUMNS": columns, "TILES": tiles, "GROUPS": len(groups),
        "INDEX_BEATS": len(stored.indexes), "OUTLIER_BEATS": len(stored.outliers),
    }  # fmt: skip
    lines = [f"localparam {name} = {size};\n" for name, size in sizes.items()]
    (folder / "sizes.vh").write_text("".join(lines))


def _hex(words: Iterable[NDArray[np.generic]]) -> str:
    """Return a line a word, element 0 in its lowest bits."""
    return "".join(f"{word.astype(word.dtype.newbyteorder('<')).tobytes()[::-1].hex()}\n"
                   for word in words)  # fmt: skip
