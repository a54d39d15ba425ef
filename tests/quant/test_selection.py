"""Which tensors are quantised, with how many bits, and what is said about the others."""

import re
from dataclasses import dataclass
from math import prod

import pytest

from quant.errors import QuantError
from quant.selection import select


@dataclass
class Tensor:
    name: str
    shape: tuple = (4, 4)
    dtype: str = "F32"


def bert(layers: int, hidden: int, prefix: str = "bert.", vocabulary: int = 30522) -> list[Tensor]:
    """Return the tensors of a BERT for classification, as the published models have them."""
    wide = 4 * hidden
    shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, hidden),
        "embeddings.position_embeddings.weight": (512, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "pooler.dense.weight": (hidden, hidden),
        "pooler.dense.bias": (hidden,),
    }
    for n in range(layers):
        at = f"encoder.layer.{n}."
        for role in ("query", "key", "value"):
            shapes[f"{at}attention.self.{role}.weight"] = (hidden, hidden)
            shapes[f"{at}attention.self.{role}.bias"] = (hidden,)
        shapes[f"{at}attention.output.dense.weight"] = (hidden, hidden)
        shapes[f"{at}attention.output.LayerNorm.gamma"] = (hidden,)
        shapes[f"{at}intermediate.dense.weight"] = (wide, hidden)
        shapes[f"{at}output.dense.weight"] = (hidden, wide)
    tensors = [Tensor(prefix + name, shape) for name, shape in shapes.items()]
    return [*tensors, Tensor("classifier.weight", (3, hidden)), Tensor("classifier.bias", (3,))]


def quantised(tensors, **options) -> dict[str, int]:
    return {c.name: c.bits for c in select(tensors, **options) if c.bits is not None}


@pytest.mark.parametrize(
    ("layers", "hidden", "matrices", "weights", "embeddings"),
    [(12, 768, 73, 85_524_480, 23_440_896), (24, 1024, 145, 303_038_464, 31_254_528)],
)
def test_bert_has_the_layers_and_weights_of_the_paper(
    layers, hidden, matrices, weights, embeddings
):
    tensors = bert(layers, hidden)
    size = {tensor.name: prod(tensor.shape) for tensor in tensors}
    bits = quantised(tensors)
    fully_connected = [name for name in bits if "word_embeddings" not in name]
    assert len(fully_connected) == matrices
    assert sum(size[name] for name in fully_connected) == weights
    assert sum(size[name] for name in bits) - weights == embeddings
    assert {bits[name] for name in fully_connected} == {3}
    assert bits["bert.embeddings.word_embeddings.weight"] == 4


# Tensors of each layout: those that are quantised, and those that are not.
LAYOUTS = {
    "DistilBERT": (
        "distilbert.",
        "embeddings.word_embeddings transformer.layer.0.attention.q_lin "
        "transformer.layer.0.attention.k_lin transformer.layer.0.attention.v_lin "
        "transformer.layer.0.attention.out_lin transformer.layer.0.ffn.lin1 "
        "transformer.layer.0.ffn.lin2",
        "embeddings.position_embeddings embeddings.LayerNorm transformer.layer.0.sa_layer_norm",
        "pre_classifier classifier vocab_transform vocab_projector",
    ),
    "ALBERT": (
        "albert.",
        "embeddings.word_embeddings encoder.embedding_hidden_mapping_in "
        "encoder.albert_layer_groups.0.albert_layers.0.attention.query "
        "encoder.albert_layer_groups.0.albert_layers.0.attention.key "
        "encoder.albert_layer_groups.0.albert_layers.1.attention.value "
        "encoder.albert_layer_groups.0.albert_layers.0.attention.dense "
        "encoder.albert_layer_groups.0.albert_layers.0.ffn "
        "encoder.albert_layer_groups.0.albert_layers.0.ffn_output pooler",
        "embeddings.position_embeddings embeddings.token_type_embeddings "
        "encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm",
        "predictions.dense predictions.decoder sop_classifier.classifier",
    ),
    "ELECTRA": (
        "electra.",
        "embeddings.word_embeddings embeddings_project encoder.layer.0.attention.self.query "
        "encoder.layer.0.intermediate.dense",
        "embeddings.position_embeddings",
        "discriminator_predictions.dense generator_lm_head",
    ),
    "MPNet": (
        "mpnet.",
        "embeddings.word_embeddings encoder.layer.11.attention.attn.q "
        "encoder.layer.11.attention.attn.k encoder.layer.11.attention.attn.v "
        "encoder.layer.11.attention.attn.o encoder.layer.11.intermediate.dense "
        "encoder.layer.11.output.dense pooler.dense",
        "embeddings.position_embeddings encoder.relative_attention_bias",
        "lm_head.dense lm_head.decoder",
    ),
    "RoBERTa": (
        "roberta.",
        "embeddings.word_embeddings encoder.layer.0.attention.self.query pooler.dense",
        "embeddings.position_embeddings embeddings.token_type_embeddings",
        "lm_head.dense lm_head.decoder classifier.dense classifier.out_proj",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("with_prefix", [True, False])
def test_layouts_are_known_by_their_names_with_and_without_a_head(layout, with_prefix):
    prefix, chosen, left, head = LAYOUTS[layout]
    prefix = prefix if with_prefix else ""
    chosen = {f"{prefix}{name}.weight" for name in chosen.split()}
    left = {f"{prefix}{name}.weight" for name in left.split()}
    if with_prefix:
        left |= {f"{name}.weight" for name in head.split()}
    assert set(quantised([Tensor(name) for name in sorted(chosen | left)])) == chosen


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "why"),
    [
        ("embeddings.position_ids", (1, 512), "I64", "numbers of type I64, not weights"),
        ("embeddings.position_embeddings.weight", (512, 4), "F32", "position embeddings"),
        ("embeddings.token_type_embeddings.weight", (2, 4), "F32", "token type embeddings"),
        ("embeddings.LayerNorm.gamma", (4,), "F32", "LayerNorm"),
        ("pooler.dense.bias", (4,), "F32", "bias"),
        ("cls.predictions.decoder.weight", (9, 4), "F32", "task head"),
        ("pooler.dense.weight", (0, 4), "F32", "out of the container's range"),
        ("pooler.dense.weight", (16,), "F32", "1 dimensions"),
    ],
)
def test_a_tensor_that_stays_says_why(name, shape, dtype, why):
    tensors = [Tensor("encoder.layer.0.attention.self.query.weight"), Tensor(name, shape, dtype)]
    query, choice = select(tensors)
    assert query.bits == 3
    assert query.why == "encoder 0, query"
    assert choice.bits is None
    assert why in choice.why


@pytest.mark.parametrize(("layers", "first"), [(12, 6), (24, 14)])
def test_the_mixed_recipe_gives_four_bits_to_value_and_intermediate_of_the_first(layers, first):
    bits = quantised(bert(layers, 8, "roberta."), recipe="roberta-mixed", embedding_bits=3)
    four = {name for name, number in bits.items() if number == 4}
    assert four == {
        f"roberta.encoder.layer.{n}.{role}.weight"
        for n in range(first)
        for role in ("attention.self.value", "intermediate.dense")
    }
    assert set(bits.values()) == {3, 4}


def test_the_last_pattern_for_bits_counts_and_beats_the_recipe():
    patterns = [("*.value.*", 2), ("*.layer.1.*", 4)]
    bits = quantised(bert(12, 8), recipe="roberta-mixed", layer_bits=patterns)
    assert bits["bert.encoder.layer.0.attention.self.value.weight"] == 2
    assert bits["bert.encoder.layer.1.attention.self.value.weight"] == 4
    assert bits["bert.encoder.layer.0.intermediate.dense.weight"] == 4
    assert bits["bert.encoder.layer.0.attention.self.key.weight"] == 3


def test_double_precision_is_said_to_be_rounded():
    (choice,) = select([Tensor("encoder.layer.0.attention.self.query.weight", dtype="F64")])
    assert choice.why == "encoder 0, query; rounded to FP32 first"


def test_include_takes_the_place_of_the_layout_and_exclude_takes_away():
    tensors = bert(1, 8)
    assert set(quantised(tensors, include=["classifier.*"])) == {"classifier.weight"}
    assert "bert.pooler.dense.weight" not in quantised(tensors, exclude=["*pooler*"])
    assert len(quantised(tensors, exclude=["*pooler*"])) == len(quantised(tensors)) - 1


def test_an_unknown_layout_needs_patterns():
    tensors = [Tensor("h.0.mlp.c_fc.weight"), Tensor("h.0.mlp.c_fc.bias", (4,)), Tensor("embed.w")]
    with pytest.raises(QuantError, match=r"no known layout .*BERT.*--include"):
        select(tensors)
    assert quantised(tensors, include=["h.*", "embed*"]) == {"h.0.mlp.c_fc.weight": 3, "embed.w": 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ["no.*"]}, "--include 'no.*' matches no tensor"),
        ({"exclude": ["no.*"]}, "--exclude 'no.*' matches no tensor"),
        ({"layer_bits": [("no.*", 4)]}, "--layer-bits 'no.*' matches no tensor of those"),
        ({"layer_bits": [("*position*", 4)]}, "matches no tensor of those that are quantised"),
        ({"exclude": ["*"]}, "nothing to quantise"),
        ({"include": ["*.bias"]}, "nothing to quantise"),
        ({"recipe": "roberta-mixed"}, "12 or 24 encoders, and this model has 6"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(QuantError, match=re.escape(message)):
        select(bert(6, 8), **options)
