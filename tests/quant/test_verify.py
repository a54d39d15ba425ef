"""Verification finds what differs from what the quantiser makes, and only that."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quant import container
from quant.fit import Options, OutlierRule
from quant.packing import pack, unpack
from quant.selection import select
from quant.source import open_model
from quant.verify import compare_layer, verify, wrong_split
from quant.writer import quantise_tensor, write

from . import toy

POOLER = "bert.pooler.dense.weight"


def differences(container_path: Path, tensors: dict) -> dict[str, str]:
    folder = toy.save(container_path.parent / "other", tensors)
    source = open_model(str(folder))
    return {r.name: r.what for r in verify(container.read(container_path), source) if r.what}


@pytest.fixture
def made(tmp_path) -> Path:
    source = open_model(str(toy.save(tmp_path / "model", toy.bert())))
    write(tmp_path / "x", source, select(list(source.tensors.values())), Options())
    return tmp_path / "x"


RULES = ["logpdf:-2", "zscore:2", "share:5%", "none"]


@pytest.mark.parametrize("policy", ["gobo", "kmeans", "linear", "equal", "minmax"])
@pytest.mark.parametrize("value_format", ["fp16", "bf16", "fp32"])
def test_what_the_quantiser_made_has_no_mismatch(tmp_path, policy, value_format):
    source = open_model(str(toy.save(tmp_path, toy.bert(layers=1, hidden=16))))
    choices = select(list(source.tensors.values()))
    for number, rule in enumerate(RULES):
        options = Options(
            policy=policy, value_format=value_format, outliers=OutlierRule.parse(rule),
            symmetric=number % 2 == 0, paper=value_format == "fp32" and number > 1,
        )  # fmt: skip
        out = tmp_path / f"{number}"
        layers = write(out, source, choices, options)
        results = verify(container.read(out), source)
        assert [result for result in results if result.what] == []
        assert sum(result.weights for result in results) == sum(
            tensor.size for tensor in source.tensors.values()
        )
        errors = {result.name: result.max_error for result in results}
        assert [errors[layer.name] for layer in layers] == [layer.max_error for layer in layers]


@pytest.mark.parametrize(
    ("value", "what"), [(0.3, "1 weights are neither"), (np.nan, "not finite")]
)
def test_a_changed_weight_is_found(made, value, what):
    tensors = toy.bert()
    tensors[POOLER][1, 1] = value
    ((name, said),) = differences(made, tensors).items()
    assert name == POOLER
    assert what in said


def test_a_changed_byte_of_what_stayed_is_found(made):
    tensors = toy.bert()
    tensors["bert.pooler.dense.bias"][3] = -0.0
    assert differences(made, tensors) == {"bert.pooler.dense.bias": "1 bytes differ"}


def test_missing_added_and_reshaped_tensors_are_found(made):
    tensors = toy.bert()
    del tensors["classifier.weight"]
    tensors["more"] = np.zeros(3, np.float32)
    tensors[POOLER] = tensors[POOLER].reshape(4, 16)
    tensors["bert.pooler.dense.bias"] = tensors["bert.pooler.dense.bias"].astype(np.float16)
    assert differences(made, tensors) == {
        "classifier.weight": "the model does not have it",
        "more": "the container does not have it",
        POOLER: "F32 [4, 16] in the model, F32 [8, 8] in the container",
        "bert.pooler.dense.bias": "F16 [8] in the model, F32 [8] in the container",
    }


@pytest.fixture
def layer(tmp_path):
    source = open_model(str(toy.save(tmp_path / "model", toy.bert(hidden=16))))
    (choice,) = (c for c in select(list(source.tensors.values())) if c.name == POOLER)
    options = Options(outliers=OutlierRule("share", 0.1))
    weights = source.tensors[POOLER].weights().reshape(-1)
    return weights, quantise_tensor(source, choice, options)


def mismatches(weights, layer) -> int:
    indexes = unpack(layer.indexes, 3, weights.size - layer.positions.size)
    decoded = np.insert(
        layer.codebook[indexes], layer.positions - np.arange(layer.positions.size), layer.outliers
    )
    return compare_layer(weights, decoded, layer.codebook, layer.positions, "fp16")[0]


def test_every_index_that_is_not_the_nearest_is_counted(layer):
    weights, right = layer
    assert mismatches(weights, right) == 0
    indexes = unpack(right.indexes, 3, weights.size - right.positions.size)
    wrong = indexes.copy()
    wrong[[0, 7, 100]] ^= 1
    assert mismatches(weights, replace(right, indexes=pack(wrong, 3))) == 3


def test_every_outlier_that_is_not_the_rounded_weight_is_counted(layer):
    weights, right = layer
    outliers = right.outliers.copy()
    outliers[2] = np.nextafter(np.float16(outliers[2]), np.float16(9))
    assert mismatches(weights, replace(right, outliers=outliers)) == 1


def test_either_of_two_centroids_equally_near_is_right():
    codebook = np.array([-1, 0, 1, 2], np.float32)
    weights = np.array([0.5, 0.5, 0.5], np.float32)
    decoded = np.array([0, 1, 2], np.float32)
    assert compare_layer(weights, decoded, codebook, np.zeros(0, np.int64), "fp16") == (1, 1.5)


@pytest.mark.parametrize("rule", RULES)
def test_an_outlier_too_few_or_too_many_is_found(layer, rule):
    weights, right = layer
    options = replace(right.options, outliers=OutlierRule.parse(rule))
    distance = np.abs(weights - np.float64(right.mean))
    order = np.argsort(distance)
    sizes = {
        "none": 0,
        "zscore:2": int((distance >= 2 * right.deviation).sum()),
        "share:5%": 13,
        "logpdf:-2": int(
            (-((distance / right.deviation) ** 2) / 2
             <= -2 + np.log(right.deviation * np.sqrt(2 * np.pi))).sum()
        ),
    }  # fmt: skip
    assert rule == "none" or sizes[rule] > 0

    def said(positions) -> str:
        return wrong_split(weights, replace(right, options=options, positions=np.sort(positions)))

    count = sizes[rule]
    farthest = order[weights.size - count :]
    assert said(farthest) == ""
    assert "outliers" in said(order[weights.size - count - 1 :])
    if count:
        assert "outliers" in said(farthest[1:])
        assert "outliers" in said(np.append(farthest[1:], order[0]))


def test_moments_that_are_not_the_weights_are_found(layer):
    weights, right = layer
    assert "mean and deviation" in wrong_split(weights, replace(right, mean=right.mean + 1e-9))
