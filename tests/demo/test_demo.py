"""The demo on BERT-tiny: what it compares, what it writes, and how it fails."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo import DemoError, steps
from demo.__main__ import main
from demo.show import equal
from gobo_rtl.array_config import named_array
from gobo_rtl.config import GoboConfig, named
from quant.container import read
from quant.fit import Options
from quant.image import write_image
from quant.writer import write
from sim import cosim
from sim.golden.decode import decode_unit
from sim.golden.image import read_image
from sim.model.bert import read_weights
from sim.model.fetch import MODELS
from sim.verilated.machine import Machine

LAYER = "bert.encoder.layer.0.attention.self.key.weight"
KEYS = [
    "model_sha256", "weights", "outlier_share", "bits_per_weight", "bound_bits_per_weight",
    "ratio_fp32", "container_mismatches", "rtl_words_compared", "rtl_mismatches", "rtl_cycles",
    "accelerator_words_compared", "accelerator_mismatches", "accelerator_cycles",
    "accelerator_error", "decoder_area_um2", "area_library", "embedding_cosine_mean",
    "embedding_cosine_min", "seconds",
]  # fmt: skip
CONFIG = named("tiny")
ARRAY = named_array("tiny")
BUILD = Path(__file__).resolve().parents[2] / "build" / "verilated"
SENTENCE = "The kettle is boiling."


class Shared(Machine):
    """The accelerator in the simulation that other tests build too."""

    def __init__(self, config, build_dir, memory_bytes, verilog):
        verilog = verilog.replace("accelerator_tiny", "accelerator")
        super().__init__(config, BUILD, memory_bytes, verilog)


def demo(folder: Path, *more: str) -> int:
    """Run the demo on one layer of BERT-tiny, with the smallest hardware."""
    liberty = Path(__file__).parents[1] / "synth" / "toy.lib"
    return main(["--model", "bert-tiny", "--config", "tiny", "--layers", LAYER, "--liberty",
                 str(liberty), "-o", str(folder), *more])  # fmt: skip


@pytest.fixture(scope="module")
def ready(tmp_path_factory, bert_tiny_folder):
    """What the software steps make of BERT-tiny: source, layers in memory, container, image."""
    folder = tmp_path_factory.mktemp("steps")
    source, choices = steps.plan(bert_tiny_folder)
    layers = steps.quantise(source, choices, Options(), lambda name: None)
    write(folder / "m.gobo.safetensors", source, choices, Options())
    container = read(folder / "m.gobo.safetensors")
    write_image(folder / "m.bin", container, [LAYER], CONFIG)
    return source, layers, container, folder / "m.bin"


@pytest.fixture
def given(ready, monkeypatch):
    """Words in place of those of a simulator: the golden model's, for a test to spoil."""
    layers = read_image(ready[3]).layers
    expected = decode_unit(CONFIG, layers)
    count = len(expected.values)
    words = {"": cosim.Decoded(expected.values.copy(), expected.last, np.zeros(count, bool), 0, 9)}
    monkeypatch.setattr(steps, "decode_layers", lambda *_: words[""])
    return words


@pytest.fixture(scope="module")
def verilog(tmp_path_factory):
    """The accelerator's Verilog."""
    return steps.emit("tiny", "accelerator", tmp_path_factory.mktemp("verilog"))


def decoded(ready, tmp_path):
    _, _, container, image = ready
    return steps.decode(CONFIG, image, container, tmp_path, "verilator")


def test_the_whole_job_ends_with_nothing_wrong_and_says_so(tmp_path, capfd, monkeypatch):
    if shutil.which("iverilog") and shutil.which("vvp"):  # quicker to build for so few words
        monkeypatch.setattr(steps, "simulator", lambda: "icarus")
    monkeypatch.setattr(steps, "Machine", Shared)
    page = tmp_path.with_suffix(".md")
    assert demo(tmp_path, "--report", str(page)) == 0
    shown = capfd.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary) == KEYS
    assert summary["model_sha256"] == MODELS["bert-tiny"].sha256
    assert summary["container_mismatches"] == summary["rtl_mismatches"] == 0
    assert summary["rtl_words_compared"] == 128 * 128
    assert summary["rtl_cycles"] >= 128 * 128 / CONFIG.lanes
    assert summary["weights"] == 30522 * 128 + 2 * (4 * 128 * 128 + 2 * 128 * 512)
    assert summary["bound_bits_per_weight"] < summary["bits_per_weight"] < 3.1
    assert summary["ratio_fp32"] == 32 / summary["bits_per_weight"]
    assert 0.9 < summary["embedding_cosine_min"] < summary["embedding_cosine_mean"] < 1
    assert summary["decoder_area_um2"] > 0
    tokens = summary["accelerator_words_compared"] // 128
    assert summary["accelerator_words_compared"] == tokens * 128 > 128 * 16
    assert summary["accelerator_mismatches"] == 0
    # Each PE takes a weight a cycle.
    assert summary["accelerator_cycles"] > tokens * 128 * 128 / (ARRAY.rows * ARRAY.columns)
    assert 0 < summary["accelerator_error"] < 0.3
    # The table has every layer, and the figures of the summary are those that a person reads.
    assert len(re.findall(r"^bert\.\S+ +\d+ x \d+ ", shown, re.MULTILINE)) == 13
    assert f"{summary['bits_per_weight']:.3f} bits a weight" in shown
    assert "16,384 words compared, 0 mismatches" in shown
    assert "all equal" in shown
    written = page.read_text()
    assert len(re.findall(r"^\| bert\.\S+ \| \d+ x \d+ ", written, re.MULTILINE)) == 13
    assert all(f"- `{key}`: {value}" in written for key, value in summary.items())
    assert re.search(r"^- command: `python -m demo --model bert-tiny .*`$", written, re.MULTILINE)
    assert {path.name for path in tmp_path.iterdir()} == {
        "bert-tiny.gobo.safetensors", "bert-tiny.tiny.bin", "bert-tiny.tiny.json",
        "bert-tiny.accelerator.bin", "bert-tiny.accelerator.json",
        *(f"{unit}_tiny.{end}" for unit in ("decode", "accelerator")
          for end in ("v", "json", "core", "xml")),
        "gobo_registers.h", "gobo_registers.json", "sim", "summary.json", "synth",
    }  # fmt: skip

    # The same again, the simulation built already, but with one bit wrong on its way, and without
    # a compiler for the accelerator.
    decode_layers = steps.decode_layers

    def spoilt(*arguments):
        result = decode_layers(*arguments)
        result.values[1000, 2] ^= 1
        return result

    monkeypatch.setattr(steps, "decode_layers", spoilt)
    monkeypatch.setattr(steps, "compiler", lambda: "g++")
    assert demo(tmp_path) == 1
    summary, shown = json.loads((tmp_path / "summary.json").read_text()), capfd.readouterr().out
    assert summary["rtl_mismatches"] == 1
    assert summary["accelerator_words_compared"] is summary["accelerator_mismatches"] is None
    assert "NOT EQUAL" in shown
    assert "LEFT OUT: the accelerator is simulated by Verilator, which needs g++" in shown


@pytest.mark.parametrize("part", ["container", "rtl", "accelerator"])
def test_one_mismatch_anywhere_is_not_equal(part):
    summary = dict.fromkeys(
        ("container_mismatches", "rtl_mismatches", "accelerator_mismatches"), 0
    )  # fmt: skip
    assert equal(summary) and equal({**summary, "accelerator_mismatches": None})
    assert not equal({**summary, f"{part}_mismatches": 1})


def test_groups_are_in_the_order_of_consumption():
    config = GoboConfig(lanes=4, lane_rows=2, tile_rows=4, beat_width=64)
    matrix = np.arange(5 * 3).reshape(5, 3)
    assert steps.groups_of(config, matrix, 99).tolist() == [
        [0, 1, 3, 4], [2, 99, 5, 99], [6, 7, 9, 10], [8, 99, 11, 99],  # rows 0 to 3
        [12, 13, 99, 99], [14, 99, 99, 99],  # the second tile: row 4
    ]  # fmt: skip


def test_right_words_have_no_mismatch(ready, given, tmp_path):
    result = decoded(ready, tmp_path)
    assert (result.words, result.mismatches) == ({LAYER: 128 * 128}, {LAYER: 0})


@pytest.mark.parametrize(
    ("fault", "mismatches"),
    [
        (lambda right: {"values": right.values ^ np.eye(*right.values.shape, dtype="u2")}, 4),
        (lambda right: {"values": right.values[:-1], "error": right.error[:-1]}, 4),
        (lambda right: {"values": np.repeat(right.values, 2, 0)[: len(right.values) + 1],
                        "error": np.append(right.error, False)}, None),
        (lambda right: {"error": np.arange(len(right.error)) == 7}, 4),
        (lambda right: {"error_code": 3}, 1),
    ],
    ids=["bits", "group lost", "group doubled", "error marked", "error at the end"],
)  # fmt: skip
def test_every_wrong_word_is_a_mismatch(ready, given, tmp_path, fault, mismatches):
    given[""] = replace(given[""], **fault(given[""]))
    found = decoded(ready, tmp_path).mismatches[LAYER]
    assert found == mismatches if mismatches else found > 4


def test_the_container_is_compared_with_what_the_quantiser_gave(ready):
    source, layers, container, _ = ready

    def wrong(changed):
        return steps.container_mismatches(container, source, changed, lambda name: None)

    layer = layers[LAYER]
    assert wrong(layers) == 0
    moved = layer.positions.copy()
    moved[0] -= 1
    assert wrong({**layers, LAYER: replace(layer, positions=moved)}) > 0
    assert wrong({**layers, LAYER: replace(layer, indexes=layer.indexes ^ (np.arange(
        layer.indexes.size) == 5).astype(np.uint8))}) == 1  # fmt: skip
    assert wrong({**layers, LAYER: replace(layer, outliers=-layer.outliers)}) == len(layer.outliers)
    assert wrong({name: layers[name] for name in layers if name != LAYER}) == 128 * 128


def test_a_sample_is_the_largest_layer_that_fits_with_its_true_input(bert_tiny_folder):
    inner = "bert.encoder.layer.0.intermediate.dense.weight"
    wide = "bert.encoder.layer.0.output.dense.weight"
    names = [LAYER, wide, inner, "bert.pooler.dense.weight"]
    sample = steps.sample(bert_tiny_folder, SENTENCE, names, 128)
    assert sample.layer == inner
    assert sample.results.shape == (7, 512)  # five words, a full stop, [CLS] and [SEP]: 7 of them
    weights = read_weights(bert_tiny_folder / "model.safetensors")
    assert np.array_equal(sample.results, sample.acts @ weights[inner].T + sample.bias)
    assert steps.sample(bert_tiny_folder, SENTENCE, [LAYER, wide], 512).layer == wide
    assert steps.sample(bert_tiny_folder, SENTENCE, [wide], 128) is None


def test_every_wrong_word_of_the_accelerator_is_a_mismatch(
    ready, verilog, bert_tiny_folder, tmp_path, monkeypatch
):
    class Spoilt(Shared):
        def run(self, layout):
            finished = super().run(layout)
            finished.results[0][[2, 6], [5, 127]] ^= 1
            return finished

    container, image = ready[2], tmp_path / "layer.bin"
    write_image(image, container, [LAYER], ARRAY)
    sample = steps.sample(bert_tiny_folder, SENTENCE, [LAYER], ARRAY.max_inputs)
    monkeypatch.setattr(steps, "Machine", Spoilt)
    found = steps.compute(ARRAY, sample, container, image, verilog, tmp_path)
    assert (found.words, found.mismatches) == (7 * 128, 2)
    assert found.arithmetic_error < 0.001 < 0.01 < found.error < 0.3


def test_without_a_simulator_the_demo_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    assert demo(tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("demo: no simulator can be built: ")
    assert "apt-get install g++ make perl" in error


def test_icarus_stands_in_when_nothing_compiles(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda tool: tool if tool in ("iverilog", "vvp") else None)
    assert steps.simulator() == "icarus"


def test_a_damaged_image_is_named(ready, tmp_path):
    _, _, container, image = ready
    data = bytearray(image.read_bytes())
    data[-100] ^= 1
    broken = tmp_path / "broken.bin"
    broken.write_bytes(data)
    with pytest.raises(DemoError, match=r"broken\.bin.*crc32"):
        steps.decode(CONFIG, broken, container, tmp_path, "verilator")


@pytest.mark.parametrize(
    ("stops", "status", "sentence"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("the build failed\nlong log"), 2, "demo: the build failed; logs are in"),
        (OSError(28, "No space left on device", "x.bin"), 2, "demo: x.bin: No space left"),
    ],
)
def test_a_demo_that_is_stopped_leaves_no_summary(
    tmp_path, capsys, monkeypatch, stops, status, sentence
):
    def stop(*_):
        raise stops

    (tmp_path / "summary.json").write_text("{}")
    monkeypatch.setattr(steps, "emit", lambda name, unit, folder: folder / f"{unit}_{name}.v")
    monkeypatch.setattr(steps, "decode_layers", stop)
    assert demo(tmp_path) == status
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error and "long log" not in error
    assert not (tmp_path / "summary.json").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
