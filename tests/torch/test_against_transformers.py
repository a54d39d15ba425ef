"""The numpy encoder and its tokenizer against transformers, on the real models."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertModel

from sim.model.bert import Bert, BertConfig, read_weights
from sim.model.sentence import SentenceModel, sample_sentences

SENTENCES = [
    *sample_sentences(),
    "Caf\u00e9 na\u00efve \u6771\u4eac \U0001f980 \u0130stanbul \u00c5ngstr\u00f6m",
    "tabs\tand\u00a0spaces,  e-mail: a_b@c.org; 3.14 + $2,000 = 50%?!",
    "unaffable " * 12,
]


def rounding(config: BertConfig, dtype: type) -> float:
    """Return the largest relative error of a token's state that rounding can explain.

    To first order: a layer has 8 stages in a row, each a sum of at most the FFN's width in terms,
    each term rounded twice.
    """
    stages = 8 * config.num_hidden_layers
    return stages * 2 * config.intermediate_size * float(np.finfo(dtype).eps)


@pytest.fixture(scope="module", params=["bert_tiny_folder", "minilm_folder"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def batch(folder):
    return AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="np")


def transformers_states(folder, batch, dtype) -> np.ndarray:
    """Return the (batch, tokens, hidden) states of the same file, by transformers."""
    model = BertModel.from_pretrained(
        folder, add_pooling_layer=False, attn_implementation="eager", dtype=dtype
    )
    with torch.no_grad():
        states = model.eval()(**{name: torch.tensor(value) for name, value in batch.items()})
    return states.last_hidden_state.numpy()


@pytest.fixture(scope="module")
def truth(folder, batch):
    return transformers_states(folder, batch, torch.float64)


def our_states(folder, batch, dtype) -> np.ndarray:
    config = BertConfig.read(folder / "config.json")
    weights = read_weights(folder / "model.safetensors")
    bert = Bert(config, {name: weight.astype(dtype) for name, weight in weights.items()})
    return bert(batch["input_ids"], batch["attention_mask"].astype(bool))


def relative_error(states, truth, batch) -> float:
    """Return the largest relative error of the state of a token that is no padding."""
    error = np.linalg.norm(states - truth, axis=2) / np.linalg.norm(truth, axis=2)
    return error[batch["attention_mask"].astype(bool)].max()


def test_tokens_are_those_of_transformers(folder, batch):
    tokenizer = SentenceModel.load(folder).tokenizer
    lengths = batch["attention_mask"].sum(axis=1)
    for sentence, ids, length in zip(SENTENCES, batch["input_ids"], lengths, strict=True):
        assert tokenizer.encode(sentence).ids == ids[:length].tolist()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_states_are_those_of_transformers(dtype, folder, truth, batch):
    states = our_states(folder, batch, dtype)
    assert states.dtype == dtype
    config = BertConfig.read(folder / "config.json")
    assert relative_error(states, truth, batch) <= rounding(config, dtype)


def test_float32_is_as_near_to_the_truth_as_transformers_is(folder, truth, batch):
    ours = relative_error(our_states(folder, batch, np.float32), truth, batch)
    theirs = relative_error(transformers_states(folder, batch, torch.float32), truth, batch)
    # Both round each operation once; only the order of their sums differs: the same magnitude.
    assert 0 < ours <= 4 * theirs


def test_embeddings_are_those_of_transformers(folder, truth, batch):
    model = SentenceModel.load(folder)
    mask = batch["attention_mask"][:, :, None]
    pooled = (truth * mask).sum(axis=1) / mask.sum(axis=1)
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    error = np.linalg.norm(model.embed(SENTENCES) - expected, axis=1).max()
    assert error <= rounding(model.encoder.config, np.float32)
