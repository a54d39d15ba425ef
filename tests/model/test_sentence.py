"""Tokens and sentence embeddings of the real models."""

import json
import shutil

import numpy as np
import pytest

from sim.model import ModelError
from sim.model.bert import BertConfig, read_weights
from sim.model.sentence import (
    BATCH_TOKENS,
    SentenceModel,
    compare,
    equal_length_batches,
    read_tokenizer,
    sample_sentences,
)

SEED = 20260106
SENTENCES = sample_sentences()


def rounding(config: BertConfig, dtype: type) -> float:
    """Return the largest error of a unit embedding that rounding can explain, to first order.

    A layer has 8 stages in a row, each a sum of at most the FFN's width in terms, each term
    rounded twice; pooling and normalisation keep the relative error.
    """
    stages = 8 * config.num_hidden_layers
    return stages * 2 * config.intermediate_size * float(np.finfo(dtype).eps)


@pytest.fixture(scope="module", params=["bert_tiny_folder", "minilm_folder"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def model(folder):
    return SentenceModel.load(folder)


@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        ("", []),
        ("Hello, WORLD!", ["hello", ",", "world", "!"]),
        ("unaffable", ["una", "##ffa", "##ble"]),
        ("Caf\u00e9 na\u00efve", ["cafe", "naive"]),
        ("\u6771\u4eac", ["\u6771", "\u4eac"]),
        ("a\tb\u0000c", ["a", "bc"]),
        ("\U0001f980", ["[UNK]"]),
        ("x" * 101, ["[UNK]"]),
    ],
)
def test_tokens_are_bert_uncased_word_pieces(model, sentence, tokens):
    assert model.tokenizer.encode(sentence).tokens == ["[CLS]", *tokens, "[SEP]"]


def test_token_ids_are_those_of_bert_uncased(model):
    assert model.tokenizer.encode("hello world").ids == [101, 7592, 2088, 102]


def test_long_sentences_are_cut_to_the_positions(folder):
    tokens = read_tokenizer(folder, 512).encode("word " * 600).tokens
    assert tokens == ["[CLS]", *["word"] * 510, "[SEP]"]


def test_vocabulary_alone_gives_the_same_tokens(folder, tmp_path):
    whole = read_tokenizer(folder, 512)
    words = sorted(whole.get_vocab().items(), key=lambda item: item[1])
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words), "utf-8")
    built = read_tokenizer(tmp_path, 512)
    sentences = [*SENTENCES, "", "Caf\u00e9 \u6771\u4eac \U0001f980", "word " * 600]
    for a, b in zip(whole.encode_batch(sentences), built.encode_batch(sentences), strict=True):
        assert a.ids == b.ids


def test_vocabulary_keeps_case_if_the_options_say_so(folder, tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nAh\nah\n", "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert read_tokenizer(tmp_path, 512).encode("Ah ah").ids == [2, 5, 6, 3]


def test_embeddings_have_unit_length(model):
    embeddings = model.embed(SENTENCES)
    assert embeddings.shape == (len(SENTENCES), model.encoder.config.hidden_size)
    assert embeddings.dtype == np.float32
    # A norm is a sum of hidden squares, a square root and a division, each rounded.
    bound = (model.encoder.config.hidden_size + 3) * np.finfo(np.float32).eps
    np.testing.assert_allclose(np.linalg.norm(embeddings.astype(float), axis=1), 1, atol=bound)


def test_embeddings_do_not_depend_on_company_or_order(model):
    bound = rounding(model.encoder.config, np.float32)
    together = model.embed(SENTENCES)
    order = np.random.default_rng(SEED).permutation(len(SENTENCES))
    shuffled = model.embed([SENTENCES[n] for n in order])
    assert np.linalg.norm(shuffled - together[order], axis=1).max() <= bound
    for n in (0, 5, 47):
        assert np.linalg.norm(model.embed([SENTENCES[n]])[0] - together[n]) <= bound


def test_float32_is_within_its_rounding_of_float64(folder, model):
    weights = read_weights(folder / "model.safetensors")
    wide = {name: weight.astype(np.float64) for name, weight in weights.items()}
    exact = SentenceModel.load(folder, wide).embed(SENTENCES)
    assert exact.dtype == np.float64
    error = np.linalg.norm(model.embed(SENTENCES) - exact, axis=1).max()
    assert 0 < error <= rounding(model.encoder.config, np.float32)


def test_nearer_meaning_has_the_larger_cosine(minilm_folder):
    model = SentenceModel.load(minilm_folder)
    a, b, c = model.embed(
        [
            "A cat sleeps on the sofa.",
            "A kitten is asleep on the couch.",
            "The central bank raised its rates.",
        ]
    )
    assert a @ b > 0.5 > 0.2 > a @ c


def test_progress_counts_every_sentence_once(model):
    counts = []
    model.embed(SENTENCES, counts.append)
    assert len(counts) > 1
    assert sum(counts) == len(SENTENCES)


def test_no_sentences_give_no_embeddings(model):
    assert model.embed([]).shape == (0, model.encoder.config.hidden_size)


def test_batches_hold_every_index_once_by_length():
    rng = np.random.default_rng(SEED)
    lengths = [*rng.integers(2, 9, size=3000).tolist(), BATCH_TOKENS + 1, BATCH_TOKENS + 1]
    batches = list(equal_length_batches(lengths))
    assert sorted(n for batch in batches for n in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len({lengths[n] for n in batch}) == 1
        assert len(batch) * lengths[batch[0]] <= BATCH_TOKENS or len(batch) == 1


def test_a_model_compares_equal_to_itself_and_near_to_a_rounded_one(folder, model):
    weights = read_weights(folder / "model.safetensors")
    eps = (model.encoder.config.hidden_size + 3) * np.finfo(np.float32).eps
    same = compare(model, SentenceModel.load(folder, weights), SENTENCES)
    assert same.shape == (len(SENTENCES),)
    np.testing.assert_allclose(same, 1, atol=eps)
    coarse = {
        name: weight.astype(np.float16).astype(np.float32) for name, weight in weights.items()
    }
    cosines = compare(model, SentenceModel.load(folder, coarse), SENTENCES)
    assert cosines.max() <= 1 + eps
    assert 0.999 < cosines.min() < 1


def test_weights_may_come_from_another_file(folder, model, tmp_path):
    shutil.copy(folder / "model.safetensors", tmp_path / "decoded.safetensors")
    other = SentenceModel.load(folder, tmp_path / "decoded.safetensors")
    assert np.array_equal(other.embed(SENTENCES[:3]), model.embed(SENTENCES[:3]))


def test_missing_and_broken_tokenizers_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"neither tokenizer\.json nor vocab\.txt"):
        read_tokenizer(tmp_path, 512)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot read the tokenizer in"):
        read_tokenizer(tmp_path, 512)
