"""Every layer of real trained models against the plain reference, bit for bit."""

import numpy as np
import pytest

from quant import Layer, Options, decode, quantise
from quant.packing import unpack

from . import reference


def expect_same(layer: Layer, weights: np.ndarray) -> None:
    """Compare outliers, centroids, iterations and indexes with the reference's."""
    options, flat = layer.options, weights.reshape(-1)
    mask, centroids, iterations = reference.layer(
        flat,
        bits=options.index_width,
        policy=options.policy,
        rule=(options.outliers.kind, options.outliers.parameter),
        symmetric=options.symmetric,
    )
    assert np.array_equal(layer.positions, np.flatnonzero(mask))
    assert layer.centroids.tolist() == centroids.tolist()
    assert layer.iterations == iterations
    indexes = unpack(layer.indexes, options.index_width, flat.size - layer.positions.size)
    assert np.array_equal(
        indexes, reference.nearest(flat[~mask], layer.codebook.astype(np.float64))
    )
    decoded = decode(layer).reshape(-1)
    assert np.array_equal(decoded[~mask], layer.codebook[indexes])
    assert np.array_equal(decoded[mask], layer.outliers)


@pytest.mark.parametrize("policy", ["gobo", "equal", "linear", "minmax", "kmeans"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_layer_of_bert_tiny_equals_the_reference(
    bert_tiny_weights: dict[str, np.ndarray], policy: str, bits: int
) -> None:
    small = {n: w for n, w in bert_tiny_weights.items() if w.size < 100_000 or policy == "gobo"}
    assert len(small) >= 12
    for weights in small.values():
        expect_same(quantise(weights, Options(index_width=bits, policy=policy)), weights)


def test_every_layer_of_minilm_equals_the_reference(minilm_weights: dict[str, np.ndarray]) -> None:
    layers = {name: quantise(weights) for name, weights in minilm_weights.items()}
    assert len(layers) == 38  # 36 FC matrices, the pooler, the word embeddings
    for name, layer in layers.items():
        expect_same(layer, minilm_weights[name])
