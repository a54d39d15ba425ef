"""The encoder against plain loops in float64, and what its callers rely on."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import save_file

from sim.model import ModelError
from sim.model.bert import Bert, BertConfig, gelu, matmul, read_weights
from sim.model.sentence import sample_sentences

SEED = 20260105
TINY = BertConfig(
    vocab_size=11,
    hidden_size=6,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=10,
    max_position_embeddings=7,
    type_vocab_size=2,
    layer_norm_eps=1e-5,
)
# Rounding to first order: a layer has 8 stages in a row (projection, scores, softmax, context,
# output, LayerNorm, two of the FFN with its LayerNorm), each a sum of at most the FFN's width in
# terms, each term rounded twice, on states that LayerNorm keeps within sqrt(hidden) units.
STAGES = 8


def rounding(config: BertConfig, dtype: type) -> float:
    """Return the largest error of a state of unit-scale weights that rounding can explain."""
    terms = STAGES * config.num_hidden_layers * 2 * config.intermediate_size
    return terms * math.sqrt(config.hidden_size) * float(np.finfo(dtype).eps)


def tiny_weights(dtype: type = np.float64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(SEED)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in TINY.tensors()}


def plain_bert(config, weights, ids, types):
    """Return the states of one sentence as lists, by loops over Python floats and exact sums."""
    width = config.hidden_size // config.num_attention_heads

    def dense(name, rows):
        weight, bias = weights[f"{name}.weight"].tolist(), weights[f"{name}.bias"].tolist()
        return [
            [
                math.fsum([b, *(w * v for w, v in zip(out, row, strict=True))])
                for out, b in zip(weight, bias, strict=True)
            ]
            for row in rows
        ]

    def norm(name, rows):
        scale, shift = weights[f"{name}.weight"].tolist(), weights[f"{name}.bias"].tolist()
        result = []
        for row in rows:
            mean = math.fsum(row) / len(row)
            variance = math.fsum((v - mean) ** 2 for v in row) / len(row)
            spread = math.sqrt(variance + config.layer_norm_eps)
            result.append(
                [(v - mean) / spread * a + b for v, a, b in zip(row, scale, shift, strict=True)]
            )
        return result

    def add(a, b):
        return [[u + v for u, v in zip(r, s, strict=True)] for r, s in zip(a, b, strict=True)]

    tables = [
        weights[f"embeddings.{part}_embeddings.weight"].tolist()
        for part in ("word", "position", "token_type")
    ]
    states = norm(
        "embeddings.LayerNorm",
        [
            [
                math.fsum(three)
                for three in zip(tables[0][i], tables[1][n], tables[2][t], strict=True)
            ]
            for n, (i, t) in enumerate(zip(ids, types, strict=True))
        ],
    )
    for n in range(config.num_hidden_layers):
        at = f"encoder.layer.{n}"
        query, key, value = (
            dense(f"{at}.attention.self.{part}", states) for part in ("query", "key", "value")
        )
        contexts = []
        for q in query:
            context = []
            for head in range(config.num_attention_heads):
                part = slice(head * width, (head + 1) * width)
                powers = [
                    math.exp(
                        math.fsum(a * b for a, b in zip(q[part], k[part], strict=True))
                        / math.sqrt(width)
                    )
                    for k in key
                ]
                for column in range(width):
                    mixed = math.fsum(
                        p * v[part][column] for p, v in zip(powers, value, strict=True)
                    )
                    context.append(mixed / math.fsum(powers))
            contexts.append(context)
        states = norm(
            f"{at}.attention.output.LayerNorm",
            add(dense(f"{at}.attention.output.dense", contexts), states),
        )
        inner = [
            [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in row]
            for row in dense(f"{at}.intermediate.dense", states)
        ]
        states = norm(f"{at}.output.LayerNorm", add(dense(f"{at}.output.dense", inner), states))
    return states


def test_states_equal_plain_loops():
    weights = tiny_weights()
    ids = np.array([[1, 10, 0, 4, 4], [7, 3, 2, 9, 6]])
    types = np.array([[0, 0, 0, 1, 1], [1, 0, 1, 0, 1]])
    got = Bert(TINY, weights)(ids, types=types)
    for states, sentence, kinds in zip(got, ids.tolist(), types.tolist(), strict=True):
        expected = plain_bert(TINY, weights, sentence, kinds)
        np.testing.assert_allclose(states, expected, rtol=0, atol=rounding(TINY, np.float64))


def test_types_left_out_are_zero():
    bert, ids = Bert(TINY, tiny_weights()), np.array([[3, 1, 4, 1]])
    assert np.array_equal(bert(ids), bert(ids, types=np.zeros_like(ids)))
    assert not np.array_equal(bert(ids), bert(ids, types=np.ones_like(ids)))


def test_gelu_is_x_times_the_normal_distribution():
    # 0.8413447460685429 and 0.9772498680518208 are the distribution at 1 and 2 deviations.
    expected = [
        -2 * (1 - 0.9772498680518208),
        -(1 - 0.8413447460685429),
        0,
        0.8413447460685429,
        2 * 0.9772498680518208,
    ]
    got = gelu(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]))
    np.testing.assert_allclose(got, expected, rtol=0, atol=4 * np.finfo(float).eps)


def test_padding_content_changes_no_bit():
    bert, rng = Bert(TINY, tiny_weights(np.float32)), np.random.default_rng(SEED)
    ids = rng.integers(TINY.vocab_size, size=(4, 7))
    mask = np.arange(7) < np.array([[7], [1], [3], [5]])
    other = np.where(mask, ids, (ids + 5) % TINY.vocab_size)
    got, expected = bert(other, mask)[mask], bert(ids, mask)[mask]
    assert np.array_equal(got.view(np.uint32), expected.view(np.uint32))


def test_padded_batch_equals_sentences_alone():
    bert, rng = Bert(TINY, tiny_weights()), np.random.default_rng(SEED)
    ids = rng.integers(TINY.vocab_size, size=(4, 7))
    lengths = [7, 1, 3, 5]
    padded = bert(ids, np.arange(7) < np.array(lengths)[:, None])
    for row, sentence, length in zip(padded, ids, lengths, strict=True):
        alone = bert(sentence[None, :length])[0]
        np.testing.assert_allclose(row[:length], alone, rtol=0, atol=rounding(TINY, np.float64))


@pytest.mark.parametrize("model", ["bert_tiny_folder", "minilm_folder"])
def test_linear_sees_each_matrix_once(model, request):
    folder = request.getfixturevalue(model)
    config = BertConfig.read(folder / "config.json")
    weights, calls = read_weights(folder / "model.safetensors"), []

    def spy(name, x, weight, bias):
        assert weight is weights[name]
        assert x.shape == (2 * 5, weight.shape[1])
        assert x.dtype == np.float32
        calls.append(name)
        return matmul(name, x, weight, bias)

    states = Bert(config, weights, spy)(np.arange(10).reshape(2, 5))
    assert states.shape == (2, 5, config.hidden_size)
    assert states.dtype == np.float32
    matrices = [name for name, weight in weights.items() if "encoder." in name and weight.ndim == 2]
    assert len(calls) == 6 * config.num_hidden_layers
    assert sorted(calls) == sorted(matrices)


def test_linear_may_bring_its_own_weights():
    mine = tiny_weights(np.float32)
    other = {name: weight * 2 if weight.ndim == 2 else weight for name, weight in mine.items()}
    for name in mine:  # only the linear layers differ
        if name.startswith("embeddings."):
            other[name] = mine[name]
    ids = np.array([[5, 6, 7]])
    plugged = Bert(TINY, mine, lambda name, x, weight, bias: matmul(name, x, other[name], bias))
    assert np.array_equal(plugged(ids), Bert(TINY, other)(ids))
    assert not np.array_equal(plugged(ids), Bert(TINY, mine)(ids))


def test_names_of_older_files_are_understood():
    weights = tiny_weights()
    older = {
        "bert."
        + (name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")): weight
        for name, weight in weights.items()
    }
    ids = np.array([[1, 2, 3]])
    assert set(older).isdisjoint(weights)
    assert np.array_equal(Bert(TINY, older)(ids), Bert(TINY, weights)(ids))


def test_model_fixtures_hold_what_is_quantised(bert_tiny_weights, minilm_weights):
    assert len(bert_tiny_weights) == 2 * 6 + 1
    assert len(minilm_weights) == 6 * 6 + 1 + 1
    encoder = sum(weight.size for name, weight in minilm_weights.items() if "encoder." in name)
    assert encoder == 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    for weight in [*bert_tiny_weights.values(), *minilm_weights.values()]:
        assert weight.ndim == 2
        assert weight.dtype == np.float32


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 11]], "0..10"),
        ([[-1, 3]], "0..10"),
        ([[0] * 8], "8 tokens do not fit 7 positions"),
    ],
)
def test_tokens_outside_the_tables_are_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        Bert(TINY, tiny_weights())(np.array(ids))


def test_missing_tensor_is_named():
    weights = tiny_weights()
    del weights["encoder.layer.1.output.dense.bias"]
    with pytest.raises(ModelError, match=r"no tensor encoder\.layer\.1\.output\.dense\.bias"):
        Bert(TINY, weights)


def test_wrong_shape_is_named():
    weights = tiny_weights() | {"encoder.layer.0.intermediate.dense.weight": np.zeros((6, 10))}
    with pytest.raises(ModelError, match=r"intermediate.dense.weight has shape \(6, 10\).*10, 6"):
        Bert(TINY, weights)


@pytest.mark.parametrize(
    "entries",
    [
        {"hidden_act": "gelu_new"},
        {"position_embedding_type": "relative_key"},
        {"num_attention_heads": 4},
        {"num_attention_heads": 0},
        {"hidden_size": "six"},
    ],
)
def test_unfit_configuration_names_the_file(entries, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(vars(TINY) | entries))
    with pytest.raises(ModelError, match=r"config\.json does not describe a BERT encoder"):
        BertConfig.read(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null"])
def test_broken_configuration_names_the_file(text, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"config\.json does not describe a BERT encoder"):
        BertConfig.read(path)


def test_configuration_is_read_from_the_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(vars(TINY) | {"model_type": "bert"}))
    assert BertConfig.read(path) == TINY


def test_weights_are_read_as_float32(tmp_path):
    path = tmp_path / "model.safetensors"
    half = np.array([[1.5, -(2.0**-24)]], np.float16)
    save_file({"half": half, "ids": np.arange(3)}, path)
    weights = read_weights(path)
    assert list(weights) == ["half"]
    assert weights["half"].dtype == np.float32
    assert np.array_equal(weights["half"], half)


def test_truncated_weights_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(100, np.float32)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        read_weights(path)
    with pytest.raises(ModelError, match="cannot read"):
        read_weights(tmp_path / "absent.safetensors")


def test_sample_sentences_are_diverse():
    sentences = sample_sentences()
    assert len(sentences) == len(set(sentences)) == 48
    lengths = {len(sentence.split()) for sentence in sentences}
    assert min(lengths) == 1
    assert max(lengths) > 20
