"""Every layer of real trained models against the plain reference, bit for bit."""

import numpy as np
import pytest

from quant import Options, quantise

from .reference import expect_same


@pytest.mark.parametrize("policy", ["gobo", "equal", "linear", "minmax", "kmeans"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_layer_of_bert_tiny_equals_the_reference(
    bert_tiny_weights: dict[str, np.ndarray], policy: str, bits: int
) -> None:
    matrices = [w for w in bert_tiny_weights.values() if w.size < 100_000 or policy == "gobo"]
    assert len(matrices) >= 12
    for weights in matrices:
        expect_same(quantise(weights, Options(index_width=bits, policy=policy)), weights)


def test_every_layer_of_minilm_equals_the_reference(minilm_weights: dict[str, np.ndarray]) -> None:
    layers = {name: quantise(weights) for name, weights in minilm_weights.items()}
    assert len(layers) == 38  # 36 FC matrices, the pooler, the word embeddings
    for name, layer in layers.items():
        expect_same(layer, minilm_weights[name])
