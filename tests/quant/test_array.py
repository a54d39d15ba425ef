"""Images for arrays: biases, sums and flags are the container's; what cannot run is refused."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gobo_rtl.array_config import ARRAYS, MAX_OUTPUTS, ArrayConfig
from gobo_rtl.array_layout import LayerLayout
from gobo_rtl.config import CONFIGS
from quant import container, fit
from quant.__main__ import main
from quant.array import check_array, row_sums, strip_words, symmetric
from quant.errors import QuantError
from quant.fit import Layer, Options, OutlierRule
from quant.image import choose_layers, write_image
from quant.record import StoredLayer
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from sim.golden.image import read_image

from . import toy

SEED = 2718
SHARE = Options(outliers=OutlierRule("share", 0.05))
ARRAY = ArrayConfig(rows=4, columns=2, beat_width=64, burst_beats=4, outliers_per_step=2,
                    max_inputs=64, index_depth=64, outlier_depth=64, act_depth=64)  # fmt: skip


def normal(rows: int, columns: int, seed: int = SEED) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.05, (rows, columns)).astype(np.float32)


def packed(folder: Path, tensors: dict, options: Options = SHARE, **how) -> container.Container:
    """Return a container of these tensors, the matrices quantised."""
    source = open_model(str(toy.save(folder, tensors)))
    matrices = [name for name, tensor in tensors.items() if np.ndim(tensor) == 2]
    out = folder / "x.gobo.safetensors"
    choices = select(list(source.tensors.values()), include=matrices, **how)
    write(out, source, choices, options, force=True)
    return container.read(out)


def layer_of(weights: np.ndarray, options: Options = SHARE) -> Layer:
    return fit.quantise(weights, options)


def sums_of(layer: Layer) -> np.ndarray | None:
    return row_sums(layer, StoredLayer("x", layer, "F32", False, 0).indexes())


def hand_layer(outliers: dict[int, float], shape: tuple[int, int] = (5, 4)) -> Layer:
    """A layer on the grid of 2^-9: centroid -1 everywhere, outliers by position."""
    whole = layer_of(normal(*shape), Options(index_width=2, outliers=OutlierRule("none")))
    return replace(
        whole, codebook=np.array([-1, -0.5, 0.25, 2], np.float32), unit=-9,
        indexes=np.zeros(-(-2 * (shape[0] * shape[1] - len(outliers)) // 8), np.uint8),
        positions=np.array(sorted(outliers), np.int64),
        outliers=np.array([outliers[at] for at in sorted(outliers)], np.float32),
    )  # fmt: skip


def refusal(layer: Layer, array: ArrayConfig = ARRAY) -> str:
    with pytest.raises(QuantError) as caught:
        check_array(array, layer, sums_of(layer), "file: layer x")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- what the descriptor says ---------------------------------------------------------------


def test_the_sums_of_rows_by_hand():
    layer = hand_layer({0: 3, 5: -70.5, 6: 0})
    assert sums_of(layer).tolist() == [1536 + 3 * 512, 70.5 * 512 + 2 * 512, 2048, 2048, 2048]
    assert sums_of(replace(layer, unit=None)) is None
    assert sums_of(hand_layer({0: 2.0**-9})).tolist()[0] == 1 + 3 * 512
    assert sums_of(hand_layer({0: 2.0**-10})) is None


@given(
    st.integers(1, 20), st.integers(1, 30), st.integers(2, 4),
    st.sampled_from(["fp16", "bf16", "fp32"]), st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=60)
def test_the_sums_of_rows_are_those_of_the_weights(rows, columns, width, value, even, seed):
    options = Options(index_width=width, value_format=value, symmetric=even,
                      outliers=OutlierRule("share", 0.1))  # fmt: skip
    weights = normal(rows, columns, seed)
    layer = layer_of(weights, options)
    unit = Fraction(2) ** layer.unit
    decoded = [[abs(Fraction(float(w))) / unit for w in row] for row in fit.decode(layer)]
    sums = sums_of(layer)
    if all(w.denominator == 1 for row in decoded for w in row):
        assert sums.tolist() == [sum(row) for row in decoded]
    else:
        assert sums is None


def test_biases_are_rounded_to_fp32_and_kept_when_not_finite(tmp_path):
    biases = {
        "f32.bias": np.array([1, -0.0, np.inf, np.nan, 1e-45], np.float32),
        "f16.bias": np.array([65504, -(2.0**-24), -np.inf, 0.1, 0], np.float16),
        # A tie that goes to even, the next above it, one that overflows, one that vanishes.
        "f64.bias": np.array([1 + 2.0**-24, 1 + 2.0**-24 + 2.0**-50, 1e39, 1e-60, -1e39]),
    }
    tensors = {name.replace("bias", "weight"): normal(5, 6, n) for n, name in enumerate(biases)}
    opened = packed(tmp_path, {**tensors, **biases})
    table = write_image(tmp_path / "x.bin", opened, opened.layers, CONFIGS["tiny"])
    image = read_image(tmp_path / "x.bin")
    words = {
        entry["name"][:3]: [f"{bits:08x}" for bits in layer.biases.tolist()]
        for entry, layer in zip(table["layers"], image.layers, strict=True)
    }
    assert words == {
        "f32": ["3f800000", "80000000", "7f800000", "7fc00000", "00000001"],
        "f16": ["477fe000", "b3800000", "ff800000", "3dccc000", "00000000"],
        "f64": ["3f800000", "3f800001", "7f800000", "00000000", "ff800000"],
    }
    assert {entry["bias_bytes"] for entry in table["layers"]} == {8 * 4}  # two tiles of four rows


def test_only_a_float_tensor_of_a_value_a_row_is_taken_for_biases(tmp_path):
    tensors = {
        "a.weight": normal(5, 6), "a.bias": np.zeros(6, np.float32),
        "b.weight": normal(5, 6), "b.bias": np.zeros((5, 1, 1), np.float32),
        "c.weight": normal(5, 6), "c.bias": np.zeros(5, np.int32),
        "d.weight": normal(5, 6), "d": np.zeros(5, np.float32),
        "e": normal(5, 6), "e.bias": np.zeros(5, np.float32),
        "f.weight": normal(5, 6),
    }  # fmt: skip
    opened = packed(tmp_path, tensors)
    write_image(tmp_path / "x.bin", opened, opened.layers, CONFIGS["tiny"])
    assert [layer.biases for layer in read_image(tmp_path / "x.bin").layers] == [None] * 6
    for name in "abc":
        message = rf"layer {name}\.weight has 5 outputs \(rows\), but {name}\.bias is not 5 "
        with pytest.raises(QuantError, match=message):
            write_image(tmp_path / "y.bin", opened, [f"{name}.weight"], ARRAYS["tiny"])
    write_image(tmp_path / "y.bin", opened, ["d.weight", "e", "f.weight"], ARRAYS["tiny"])


def test_sum_and_flags_in_the_descriptor(tmp_path):
    far = normal(20, 20) / 1000
    far[3, 4] = 60000  # in the unit 2^-24
    even, none = Options(symmetric=True), Options(outliers=OutlierRule("none"))
    cases = {
        "grid": (normal(20, 20), SHARE, True, False),
        "symmetric": (normal(20, 20), even, True, True),
        "zeros": (np.zeros((20, 20), np.float32), none, True, True),
        "far": (far, SHARE, True, False),
        "paper": (normal(20, 20), Options(value_format="fp32", paper=True), False, False),
    }  # fmt: skip
    sums = {}
    for name, (weights, options, on_grid, is_symmetric) in cases.items():
        opened = packed(tmp_path, {"w": weights}, options)
        config = CONFIGS["fp32"]
        table = write_image(tmp_path / "x.bin", opened, ["w"], config, force=True)
        (layer,) = read_image(tmp_path / "x.bin").layers  # checks the sum, too
        assert (layer.on_grid, layer.symmetric) == (on_grid, is_symmetric), name
        assert table["layers"][0]["flags"] == is_symmetric + 2 * on_grid
        sums[name] = layer.weight_sum
    assert sums["grid"] > 20 * 100 and sums["symmetric"] > 20 * 100
    assert (sums["zeros"], sums["far"], sums["paper"]) == (1, 0, 0)
    assert sums_of(layer_of(far)).max() > 1 << 39


# -- what an array takes --------------------------------------------------------------------


@pytest.mark.parametrize("name", ARRAYS)
def test_an_image_for_an_array_is_packed_in_its_sizes(tmp_path, name):
    array = ARRAYS[name]
    tensors = {"a.weight": normal(50, 70), "a.bias": normal(1, 50)[0], "b.weight": normal(3, 300)}
    opened = packed(tmp_path, tensors)
    table = write_image(tmp_path / "x.bin", opened, opened.layers, array, name)
    assert table["array"] == {"name": name, **array.as_dict()}
    assert "configuration" not in table
    assert json.loads((tmp_path / "x.json").read_text()) == table
    image = read_image(tmp_path / "x.bin")
    assert replace(image.config, outliers_per_cycle=array.outliers_per_step) == array.image
    for layer, entry in zip(image.layers, table["layers"], strict=True):
        assert entry["tile_count"] == -(-entry["rows"] // array.rows)
        assert 0 < layer.weight_sum == entry["weight_sum"] < 1 << array.weight_sum_width
    assert image.layers[0].biases.tolist() == tensors["a.bias"].view(np.uint32).tolist()
    assert image.layers[1].biases is None


@given(st.sampled_from([4, 8]), st.sampled_from([1, 2, 4]), st.integers(1, 30), st.integers(1, 20),
       st.sampled_from([0.0, 0.01, 0.2, 1.0]), st.integers(0, 2**32 - 1))  # fmt: skip
@settings(max_examples=80)
def test_words_of_outliers_are_counted_step_by_step(rows, per_step, height, width, share, seed):
    array = replace(ARRAY, rows=rows, outliers_per_step=per_step, beat_width=128)
    mask = np.random.default_rng(seed).random((height, width)) < share
    layer = replace(hand_layer({}, (height, width)), positions=np.flatnonzero(mask))
    due = []
    for top in range(0, height, rows):
        words = 0
        for step in range(width):
            outliers = int(mask[top : top + rows, step].sum())
            words += max(-(-outliers // per_step), step == width - 1)
        due.append(words)
    assert strip_words(array, layer).tolist() == due


def test_a_layer_that_just_fits_passes_and_one_more_is_refused():
    at_most = {"weight_sum_width": 15}
    layer = hand_layer({5: 2.0**6 - 3 - 2.0**-9}, (5, 4))  # row 1: 2^15 - 1 units
    assert sums_of(layer).max() == 2**15 - 1
    check_array(replace(ARRAY, **at_most), layer, sums_of(layer), "x")
    layer = hand_layer({5: 2.0**6 - 3}, (5, 4))
    assert refusal(layer, replace(ARRAY, **at_most)) == (
        "file: layer x has weights in row 1 whose magnitudes add up to 32768 units: that needs a "
        "weight_sum_width of 16 bits, the array has 15; choose another array, or leave the layer "
        "out: --exclude"
    )

    array = replace(ARRAY, max_inputs=8, index_depth=8, act_depth=8)
    layer = hand_layer({}, (5, 8))
    check_array(array, layer, sums_of(layer), "x")
    wider = hand_layer({}, (5, 9))
    assert "file: layer x has 9 columns, the array takes 8; " in refusal(wider, array)

    # Words of strip 1 (rows 4 to 7): 2, 1, 1 and, for the last step, 1.
    array = replace(ARRAY, outlier_depth=4)
    outliers = dict.fromkeys([16, 20, 24, 17, 18], 1.0)
    layer = hand_layer(outliers, (9, 4))
    assert strip_words(array, layer).tolist() == [1, 5, 1]
    assert refusal(layer, array).startswith(
        "file: layer x has outliers in strip 1 (from row 4) that take 5 words, the array keeps 4; "
    )
    del outliers[24]
    layer = hand_layer(outliers, (9, 4))
    check_array(array, layer, sums_of(layer), "x")


def test_rows_are_as_many_as_the_hardware_counts():
    for rows in (4, 128):
        layout = LayerLayout(ArrayConfig(rows=rows))
        assert MAX_OUTPUTS.bit_length() <= layout["rows"].width
        assert (-(-MAX_OUTPUTS // rows)).bit_length() <= layout["strips"].width
    tall = replace(hand_layer({}), shape=(MAX_OUTPUTS, 1))
    check_array(ARRAY, tall, np.full(MAX_OUTPUTS, 512.0), "x")
    with pytest.raises(QuantError, match="x has 1048573 rows, an array takes 1048572; leave the"):
        check_array(ARRAY, replace(tall, shape=(MAX_OUTPUTS + 1, 1)), None, "x")


def test_what_an_array_cannot_compute_is_refused():
    layer = hand_layer({7: 2.0**-3 + 2.0**-10})
    assert refusal(layer) == (
        "file: layer x has the outlier 0.125977 in row 1, column 3, which is not an integer in the "
        "layer's unit 2^-9; quantise with another outlier rule, or leave the layer out: --exclude"
    )
    assert "has centroids off the shipping grid" in refusal(replace(layer, unit=None))
    layer, only = layer_of(normal(9, 9)), replace(ARRAY, symmetric=True)
    assert not symmetric(layer)
    assert "has a codebook that is not sign-symmetric, the array demands it" in refusal(layer, only)
    layer = layer_of(normal(9, 9), Options(symmetric=True))
    check_array(only, layer, sums_of(layer), "x")


def test_a_row_sum_beyond_64_bits_is_told_in_bits():
    layer = replace(hand_layer({1: 2.0**120}), unit=-100, codebook=np.zeros(4, np.float32))
    assert "weight_sum_width of 221 bits" in refusal(layer)


# -- the command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return packed(folder, {"a.weight": normal(20, 20), "a.bias": normal(1, 20)[0]}).path


def test_the_command_packs_for_an_array(made, tmp_path, capsys):
    out = tmp_path / "x.bin"
    assert main(["image", str(made), "--array", "edge", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "1 layers, 400 weights for array edge, " in said
    assert "; biases of 1 layers; " in said
    assert json.loads((tmp_path / "x.json").read_text())["array"]["name"] == "edge"
    assert read_image(out).config.lanes == ARRAYS["edge"].rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--array edge --config rows", "--config and --array exclude each other"),
        ("--array rows", "'rows' is not one of"),
        ("--array wide --include nothing", "'nothing' matches no layer"),
    ],
)
def test_a_wrong_array_is_one_sentence_and_status_two(made, tmp_path, capsys, arguments, message):
    out = tmp_path / "x.bin"
    assert main(["image", str(made), *arguments.split(), "-o", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_layer_that_does_not_fit_is_one_sentence_and_status_two(tmp_path, capsys):
    opened = packed(tmp_path, {"a.weight": normal(4, 600)})
    out = tmp_path / "x.bin"
    assert main(["image", str(opened.path), "--array", "tiny", "-o", str(out)]) == 2
    assert capsys.readouterr().err == (
        f"error: {opened.path}: layer a.weight has 600 columns, the array takes 512; choose "
        "another array, or leave the layer out: --exclude\n"
    )
    opened = packed(tmp_path, {"a.weight": normal(20, 20)}, bits=4)
    assert main(["image", str(opened.path), "--array", "edge", "-o", str(out)]) == 2
    assert "has 4-bit indexes, the array takes 3; choose another array," in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".json", ".part")]


# -- a real model ---------------------------------------------------------------------------


def test_every_layer_of_a_real_encoder_runs_on_the_arrays_that_are_large_enough(
    minilm_folder, tmp_path
):
    source = open_model(str(minilm_folder))
    choices = select(list(source.tensors.values()), include=["encoder.*.weight"],
                     exclude=["*LayerNorm*"], bits=3)  # fmt: skip
    write(tmp_path / "x", source, choices, Options())
    opened = container.read(tmp_path / "x")
    names = choose_layers(opened)
    assert len(names) == 36
    for name in ("default", "paper", "wide", "edge"):
        table = write_image(tmp_path / f"{name}.bin", opened, names, ARRAYS[name], name)
        assert all(layer["bias_bytes"] >= 4 * layer["rows"] for layer in table["layers"])
        assert max(layer["weight_sum"] for layer in table["layers"]) == 2_985_188
        assert all(layer["flags"] & 2 for layer in table["layers"])
    # The second matrix of the feed-forward block has 1536 columns.
    large = [name for name in names if opened.layer(name).layer.shape[1] == 1536]
    assert len(large) == 6
    with pytest.raises(
        QuantError, match=rf"layer {large[0]} has 1536 columns, the array takes 512; "
    ):
        write_image(tmp_path / "tiny.bin", opened, large, ARRAYS["tiny"], "tiny")
