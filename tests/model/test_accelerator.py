"""A trained model on the golden accelerator, and the command that scores it."""

import csv
import os
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from gobo_rtl.array_config import ARRAYS
from quant.fit import Options
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from sim.golden.container import read_container
from sim.golden.layer import compute_by_passes
from sim.model import ModelError
from sim.model import __main__ as command
from sim.model.accelerator import (
    Accelerator,
    activation_bits,
    array_of_width,
    decoded_weights,
    result_numbers,
)
from sim.model.bert import matmul
from sim.model.fetch import sha256
from sim.model.score import read_pairs, similarity_score
from sim.model.sentence import SentenceModel, compare, sample_sentences

main = command.main

DEFAULT = ARRAYS["default"]
KEY = "bert.encoder.layer.0.attention.self.key.weight"


@pytest.fixture(scope="module")
def container_path(bert_tiny_folder, tmp_path_factory):
    """BERT-tiny at 3 bits."""
    path = tmp_path_factory.mktemp("model") / "tiny.gobo.safetensors"
    source = open_model(str(bert_tiny_folder))
    choices = select(list(source.tensors.values()), bits=3, embedding_bits=3)
    write(path, source, choices, Options())
    return path


@pytest.fixture(scope="module")
def container(container_path):
    return read_container(container_path)


def on_array(config, container, folder) -> SentenceModel:
    machine = Accelerator.of(config, container)
    return SentenceModel.load(folder, decoded_weights(container), machine)


def test_decoded_weights_are_a_whole_model(container, bert_tiny_folder):
    sentences = sample_sentences()[:8]
    decoded = SentenceModel.load(bert_tiny_folder, decoded_weights(container))
    whole = SentenceModel.load(bert_tiny_folder)
    assert 0.5 < compare(whole, decoded, sentences).min() < 1  # quantised, and still the model


@pytest.mark.parametrize("act_format", ["fp16", "fp32"])
@pytest.mark.parametrize("result_format", ["fp16", "fp32"])
def test_a_layer_is_what_every_pe_computes(container, act_format, result_format):
    config = replace(array_of_width(ARRAYS["tiny"], act_format, 12), result_format=result_format)
    machine = Accelerator.of(config, container)
    x = np.random.default_rng(2).normal(0, 2, (3, 128)).astype(np.float32)
    got = machine(KEY, x, np.empty(0), np.empty(0))
    assert got.dtype == np.float32 and got.shape == (3, 128)
    narrow = np.float16 if act_format == "fp16" else np.float32
    bits = x.astype(narrow).view(np.uint16 if act_format == "fp16" else np.uint32)
    due = compute_by_passes(config, machine.layers[KEY], bits)
    assert np.array_equal(got, result_numbers(config, due))


def test_the_result_is_the_product_within_the_units_of_the_activations(container):
    """Half a unit an activation, times the weights, and the rounding to FP32; no more."""
    config = array_of_width(DEFAULT, "fp32", 24)
    machine = Accelerator.of(config, container)
    weights = decoded_weights(container)
    x = np.random.default_rng(3).normal(0, 1, (20, 128)).astype(np.float32)
    bias = weights[KEY.replace("weight", "bias")]
    exact = matmul(KEY, x.astype(np.float64), weights[KEY].astype(np.float64), bias)
    unit = 2.0 ** (np.floor(np.log2(np.abs(x).max(axis=1))) - 22)
    bound = unit[:, None] / 2 * np.abs(weights[KEY]).sum(axis=1) + np.abs(exact) * 2.0**-24
    assert (np.abs(machine(KEY, x, weights[KEY], bias) - exact) <= bound).all()


def test_wider_activations_bring_the_embeddings_nearer(container, bert_tiny_folder):
    """Every bit should halve the difference; four bits more must make it at least four times
    smaller, down to what FP32 itself loses."""
    sentences = sample_sentences()[:12]
    weights = decoded_weights(container)
    reference = SentenceModel.load(bert_tiny_folder, weights).embed(sentences)
    far = []
    for width in (8, 12, 16):
        config = array_of_width(DEFAULT, "fp32", width)
        found = on_array(config, container, bert_tiny_folder).embed(sentences)
        far.append(float(np.linalg.norm(found - reference, axis=1).max()))
    assert far[0] > 4 * far[1] > 16 * far[2] > 0


def test_absolute_alignment_is_as_good_as_fp16(container, bert_tiny_folder):
    """41 bits hold every FP16: what is lost is the rounding of the activations to FP16 alone."""
    weights, x = decoded_weights(container), np.random.default_rng(4).normal(0, 1, (9, 128))
    half = x.astype(np.float16).astype(np.float64)
    machine = Accelerator.of(array_of_width(DEFAULT, "fp16", 41), container)
    bias = weights[KEY.replace("weight", "bias")]
    exact = half @ weights[KEY].astype(np.float64).T + bias
    got = machine(KEY, x.astype(np.float32), weights[KEY], bias)
    # float64's own 128 terms lose less than 2^-40 of any of these sums.
    assert (np.abs(got - exact) <= np.abs(exact) * 2.0**-24 + 2.0**-40).all()


def test_activations_are_rounded_to_nearest_and_never_to_infinity():
    x = np.array([[1 + 2**-11, 1 + 3 * 2**-11, 65519, -0.0]], np.float32)
    assert activation_bits(DEFAULT, "fc", x).tolist() == [[0x3C00, 0x3C02, 0x7BFF, 0x8000]]
    with pytest.raises(ModelError, match="fc gets the activation 70000: fp16 overflows, take fp32"):
        activation_bits(DEFAULT, "fc", np.array([[1, -70000, 65520]], np.float32))
    assert activation_bits(DEFAULT, "fc", np.array([[np.inf]], np.float32)) == [[0x7C00]]


def test_layers_that_are_not_there_or_cannot_run_are_named(container):
    machine = Accelerator.of(DEFAULT, container)
    with pytest.raises(ModelError, match="no quantised matrix classifier"):
        machine("classifier.weight", np.zeros((1, 4)), np.empty(0), np.empty(0))
    small = replace(DEFAULT, max_inputs=64)
    with pytest.raises(ModelError, match=r"encoder.\S+weight cannot run on the array: .* columns"):
        Accelerator.of(small, container)


# -- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Eight pairs."""
    path, sentences = tmp_path_factory.mktemp("pairs") / "pairs.csv", sample_sentences()
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(zip(sentences[:8], sentences[8:16], range(8), strict=True))
    return path


def test_the_command_scores_every_width_and_writes_how(
    container_path, bert_tiny_folder, table, tmp_path, capsys
):
    report = tmp_path / "accuracy.md"
    words = ["accuracy", str(container_path), "--base", "bert-tiny", "--csv", str(table),
             "--act-width", "8", "41", "--report", str(report)]  # fmt: skip
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    text = report.read_text(encoding="utf-8")
    container = read_container(container_path)
    models = {
        "| bert-tiny | FP32 |": SentenceModel.load(bert_tiny_folder),
        "3 bits | FP32 |": SentenceModel.load(bert_tiny_folder, decoded_weights(container)),
        "FP16, 8 bits aligned per token |": on_array(
            array_of_width(DEFAULT, "fp16", 8), container, bert_tiny_folder
        ),
        "FP16, 41 bits exact |": on_array(
            array_of_width(DEFAULT, "fp16", 41), container, bert_tiny_folder
        ),
    }
    for start, model in models.items():
        row = f"{start} {100 * similarity_score(model, read_pairs(table)):.2f} |"
        assert row in shown.out and row in text
    assert "run the 12 matrices of the encoder" in text
    for fact in (sha256(container_path), sha256(table), "python -m sim.model accuracy", "commit: "):
        assert fact in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CONTAINER": "absent"}, "cannot read absent: No such file"),
        ({"CONTAINER": "TABLE"}, "pairs.csv: "),
        ({"8": "7"}, "no such array: act_width must be in 8..24 bits, not 7"),
        ({"fp16": "fp32", "8": "41"}, "no such array: align 'absolute' takes act_format 'fp16'"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(changes, message, container_path, table, capsys):
    words = "accuracy CONTAINER --base bert-tiny --csv TABLE --act-width 8 --act-format fp16"
    known = {"CONTAINER": str(container_path), "TABLE": str(table)}
    chosen = [changes.get(word, word) for word in words.split()]
    assert main([known.get(word, word) for word in chosen]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error)


def test_an_interrupt_ends_the_processes_and_leaves_the_page(
    container_path, table, tmp_path, capsys, monkeypatch
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    report = tmp_path / "accuracy.md"
    report.write_text("as it was")
    monkeypatch.setattr(command._Table, "add", interrupted)
    words = ["accuracy", str(container_path), "--base", "bert-tiny", "--csv", str(table),
             "--act-width", "8", "--report", str(report)]  # fmt: skip
    assert main(words) == 130
    assert capsys.readouterr().err == "interrupted; no page is written\n"
    assert report.read_text() == "as it was"
    assert [path.name for path in tmp_path.iterdir()] == ["accuracy.md"]


def test_processes_do_not_outlive_what_went_wrong(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    with pytest.raises(ModelError), command._processes(1) as pool:
        assert pool.submit(os.getenv, "OPENBLAS_NUM_THREADS").result() == "1"
        pool.submit(time.sleep, 3600)  # the block would wait for its end
        raise ModelError
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"
