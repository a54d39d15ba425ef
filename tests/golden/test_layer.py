"""Whole layers: from files to results, against exact fractions and against every PE's steps."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.formats import VALUE_FORMATS
from quant import container
from quant.fit import Options, OutlierRule
from quant.image import write_image
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from sim.golden.align import align
from sim.golden.container import read_container
from sim.golden.image import read_image
from sim.golden.layer import (
    ArrayLayer,
    compute,
    compute_by_passes,
    layer_of_container,
    layer_of_image,
)
from sim.golden.schedule import passes
from sim.golden.steps import extra_cycles, outlier_counts, outlier_words
from sim.golden.values import quiet_nan
from tests.quant import toy

from .numbers import nearest, number
from .test_floating import exact_product, exact_sum

SEED = 41
TINY = ARRAYS["tiny"]
FP16, FP32 = VALUE_FORMATS["fp16"], VALUE_FORMATS["fp32"]


def layer(rows: int, columns: int, index_width: int = 3, share: float = 0.05,
          seed: int = SEED) -> ArrayLayer:  # fmt: skip
    """A layer with outliers, biases and a sign-symmetric codebook."""
    rng = np.random.default_rng(seed)
    half = np.sort(rng.integers(0, 2048, 1 << (index_width - 1)))
    codebook = np.concatenate([-half[::-1], half])
    index = rng.integers(0, len(codebook), (rows, columns)).astype(np.uint8)
    outlier = rng.random(index.shape) < share
    weights = codebook[index]
    weights[outlier] = rng.integers(-(1 << 14), 1 << 14, int(outlier.sum()))
    index[outlier] = 0
    bias = rng.normal(0, 3, rows).astype(np.float32).view(np.uint32)
    return ArrayLayer(VALUE_FORMATS["fp16"], -14, codebook, index, outlier, weights, bias)


def activations(config: ArrayConfig, tokens: int, columns: int, seed: int = SEED) -> np.ndarray:
    """Bits of activations with a wide range, a zero token and one with an infinity."""
    rng = np.random.default_rng(seed)
    if config.act.integer:
        return rng.integers(0, 1 << config.act.width, (tokens, columns)).astype(
            f"u{config.act.width // 8}"
        )
    wide = rng.normal(0, 1, (tokens, columns)) * 2.0 ** rng.integers(-12, 5, (tokens, columns))
    wide[tokens // 2] = 0
    wide[-1, -1] = np.inf
    half = config.act.width == 16
    return wide.astype(np.float16 if half else np.float32).view(np.uint16 if half else np.uint32)


def due(config: ArrayConfig, given: ArrayLayer, acts: np.ndarray, act_exponent: int) -> list:
    """The definition of docs/accelerator.md, result by result."""
    aligned = align(config, acts, act_exponent)
    results = []
    for a, e, special in zip(*aligned, strict=True):
        row_results = []
        for row, bias in zip(given.weights.tolist(), given.bias.tolist(), strict=True):
            total = sum(x * w for x, w in zip(a.tolist(), row, strict=True))
            exact = total * Fraction(2) ** (int(e) + given.unit) + number(FP32, bias)
            bits = nearest(config.result, exact) if exact else 0
            row_results.append(quiet_nan(config.result) if special else bits)
        results.append(row_results)
    return results


@settings(max_examples=40)
@given(
    rows=st.integers(1, 9), columns=st.integers(1, 12), tokens=st.integers(1, 5),
    numbers=st.sampled_from([
        {"act_format": "fp16", "act_width": 16}, {"act_format": "fp16", "act_width": 8},
        {"act_format": "fp16", "act_width": 41, "align": "absolute"},
        {"act_format": "fp32", "act_width": 24}, {"act_format": "int8", "act_width": 8},
        {"act_format": "int16", "act_width": 16},
    ]),
    pe=st.sampled_from(["products", "bins"]), symmetric=st.booleans(),
    result_format=st.sampled_from(["fp16", "fp32"]), index_width=st.integers(2, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_any_layer_equals_the_definition_on_any_pe(
    rows, columns, tokens, numbers, pe, symmetric, result_format, index_width, seed
):
    config = replace(TINY, pe=pe, symmetric=symmetric, result_format=result_format, rows=8,
                     **numbers)  # fmt: skip
    given_layer = layer(rows, columns, index_width, 0.2, seed)
    acts = activations(config, tokens, columns, seed)
    want = due(config, given_layer, acts, -7)
    assert compute(config, given_layer, acts, -7).tolist() == want
    assert compute_by_passes(config, given_layer, acts, -7).tolist() == want


def ordered(config: ArrayConfig, given: ArrayLayer, acts: np.ndarray) -> list:
    """What PEs in floating point do, one operation after the other, each rounded by fractions."""
    codebook = given.halves(given.codebook).tolist()
    top, shared = len(codebook) - 1, len(codebook) >> config.symmetric
    results = []
    for token in acts.tolist():
        row_results = []
        for index, outlier, row, bias in zip(
            given.index.tolist(), given.outlier.tolist(), given.halves(given.weights).tolist(),
            given.bias.tolist(), strict=True,
        ):  # fmt: skip
            total, bins = 0, [0] * shared
            for act, i, here, weight in zip(token, index, outlier, row, strict=True):
                if config.pe == "mac" or here:
                    total = exact_sum(FP32, total, exact_product(weight, act))
                elif i < shared:
                    bins[i] = exact_sum(FP16, bins[i], act)
                else:
                    bins[top - i] = exact_sum(FP16, bins[top - i], act ^ 0x8000)
            if config.pe == "bins_fp16":
                for centroid, value in zip(codebook, bins, strict=False):
                    total = exact_sum(FP32, total, exact_product(centroid, value))
            row_results.append(exact_sum(FP32, total, bias))
        results.append(row_results)
    return results


@settings(max_examples=25)
@given(
    rows=st.integers(1, 7), columns=st.integers(1, 15), tokens=st.integers(1, 5),
    pe=st.sampled_from(["mac", "bins_fp16"]), symmetric=st.booleans(),
    index_width=st.integers(2, 4), seed=st.integers(0, 99),
)  # fmt: skip
def test_pes_in_floating_point_do_one_operation_after_the_other(
    rows, columns, tokens, pe, symmetric, index_width, seed
):
    config = replace(TINY, pe=pe, symmetric=symmetric)
    made = layer(rows, columns, index_width, 0.2, seed)
    weights = np.where(made.outlier, made.weights & ~15, made.weights)  # of 10 bits: FP16 has them
    made = replace(made, weights=weights)
    acts = activations(config, tokens, columns, seed)
    want = ordered(config, made, acts)
    assert compute(config, made, acts).tolist() == want
    assert compute_by_passes(config, made, acts).tolist() == want


def test_weights_that_fp16_does_not_have_are_refused():
    made = layer(4, 20, share=0)
    made.weights[2, 3] = 4097
    with pytest.raises(ValueError, match=r"4097 at \(2, 3\) is not FP16 in units of 2\^-14"):
        compute(replace(TINY, pe="mac"), made, activations(TINY, 2, 20))


def test_a_layer_by_hand():
    # Weights 3, -2 and an outlier 100 in units of 2^-2; activations 1 and 0.5 and 2.
    value = VALUE_FORMATS["fp16"]
    made = ArrayLayer.from_bits(
        value, -2, np.array([0xC200, 0xB800, 0x3400, 0x3A00], np.uint16),  # -3 -0.5 0.25 0.75
        np.array([[3, 1, 0]], np.uint8), np.array([[False, False, True]]),
        np.array([[0x3A00, 0xB800, 0x4E40]], np.uint16),  # 0.75, -0.5, 25
        np.array([0x3F000000], np.uint32),  # 0.5
    )  # fmt: skip
    assert made.codebook.tolist() == [-12, -2, 1, 3] and made.weights.tolist() == [[3, -2, 100]]
    acts = np.array([1, 0.5, 2], np.float16).view(np.uint16)[None]
    got = compute(TINY, made, acts)
    assert got.view(np.float32).tolist() == [[0.75 - 0.25 + 50 + 0.5]]


def test_a_layer_without_biases_has_biases_of_zero():
    given_layer = layer(5, 7)
    acts = activations(TINY, 4, 7)
    zero = replace(given_layer, bias=np.zeros(5, np.uint32))
    without = replace(given_layer, bias=None)
    assert np.array_equal(compute(TINY, without, acts), compute(TINY, zero, acts))
    assert np.array_equal(compute_by_passes(TINY, without, acts), compute(TINY, zero, acts))


@pytest.mark.parametrize("change", [{"rows": 16}, {"columns": 7}, {"pe": "bins"}])
def test_the_shape_of_the_array_does_not_matter(change):
    given_layer, acts = layer(19, 24), activations(TINY, 9, 24)
    want = compute(TINY, given_layer, acts)
    assert np.array_equal(compute_by_passes(replace(TINY, **change), given_layer, acts), want)


# -- from files ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["tiny", "default", "wide"])
def files(request, tmp_path_factory) -> tuple[ArrayConfig, Path, Path]:
    """A container and its image for an array."""
    config, folder = ARRAYS[request.param], tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(SEED)
    tensors = {
        "fc.weight": rng.normal(0, 0.05, (150, 70)).astype(np.float32),
        "fc.bias": rng.normal(0, 1, 150).astype(np.float32),
        "other.weight": rng.normal(0, 0.5, (3, 5)).astype(np.float32),
    }
    source = open_model(str(toy.save(folder, tensors)))
    chosen = select(list(source.tensors.values()), include=["*.weight"], bits=3)
    path = folder / "x.gobo.safetensors"
    write(path, source, chosen, Options(outliers=OutlierRule("share", 0.03)))
    write_image(folder / "x.bin", container.read(path), ["fc.weight", "other.weight"], config.image)
    return config, path, folder / "x.bin"


def test_container_and_image_give_the_same_layers(files):
    config, path, image_path = files
    opened, image = read_container(path), read_image(image_path)
    for name, packed in zip(sorted(opened.layers), image.layers, strict=True):
        stored, read = layer_of_container(opened, name), layer_of_image(image.config, packed)
        assert (stored.unit, stored.value) == (read.unit, read.value)
        for field in ("codebook", "index", "outlier", "weights", "bias"):
            ours, theirs = getattr(stored, field), getattr(read, field)
            assert (ours is None) == (theirs is None)
            assert ours is None or (np.array_equal(ours, theirs) and ours.dtype == theirs.dtype)
        assert np.array_equal(np.ldexp(stored.weights.astype(np.float64), stored.unit),
                              opened.layers[name].floats)  # fmt: skip
        assert stored.weight_sum == packed.weight_sum
        assert stored.outlier.sum() == packed.outlier_count == (315 if name[0] == "f" else 0)
        acts = activations(config, 3, stored.columns)
        assert np.array_equal(compute(config, stored, acts), compute(config, read, acts))
    assert layer_of_container(opened, "other.weight").bias is None


def test_an_image_that_is_not_for_an_array_is_refused():
    data = Path(__file__).parents[1] / "data"
    image = read_image(data / "fp16.bin")
    with pytest.raises(ValueError, match="lanes, lane_rows and tile_rows are 16, 1 and 16"):
        layer_of_image(image.config, image.layers[0])


def test_layers_off_the_grid_are_refused_by_name():
    opened = read_container(Path(__file__).parents[1] / "data" / "fp32.gobo.safetensors")
    (name,) = opened.layers
    with pytest.raises(ValueError, match=f"{name} is not on the shipping grid"):
        layer_of_container(opened, name)


@pytest.mark.parametrize(
    ("sizes", "changes", "text"),
    [
        ({"value_format": "bf16"}, {}, "values are fp16, the array takes bf16"),
        ({"index_widths": (2, 4)}, {}, r"indexes have 3 bits, the array takes \(2, 4\)"),
        ({"max_inputs": 16}, {}, "20 columns, the array takes 16"),
        ({}, {"codebook": np.array([-2048, 0, 0, 0, 0, 0, 0, 2047])},
         "a centroid is 2048 units, the grid ends at 2047"),
        ({"symmetric": True}, {"codebook": np.arange(8)}, "the codebook is not sign-symmetric"),
        ({}, {"weights": np.zeros((4, 20), np.int64)}, "all weights are 0"),
        ({}, {"weights": np.ones((1 << 20, 1), np.int64)}, "1048576 rows, an array takes 1048572"),
        ({}, {"weights": np.full((4, 20), (1 << 24) // 20 + 1)},
         r"add up to 16777220 units, the array takes less than 2\^24"),
    ],
)  # fmt: skip
def test_what_the_array_does_not_take_is_refused(sizes, changes, text):
    config, given_layer = replace(TINY, **sizes), layer(4, 20)
    compute(TINY, given_layer, activations(TINY, 2, 20))
    with pytest.raises(ValueError, match=text):
        compute(config, replace(given_layer, **changes), activations(config, 2, 20))


def test_activations_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"of shape \(tokens, 20\), not \(2, 19\)"):
        compute(TINY, layer(4, 20), activations(TINY, 2, 19))


# -- steps and passes ---------------------------------------------------------------------------


def test_steps_by_hand():
    config = replace(TINY, outliers_per_step=2, rows=8)
    outlier = np.zeros((11, 5), bool)
    outlier[:5, 1] = True  # 5 in a step: 3 words, 2 cycles more
    outlier[6, 3] = True
    outlier[8:, 0] = True  # 3 in a step of the second strip: 2 words, 1 cycle more
    outlier[9, 4] = True  # and one in its last step
    assert outlier_counts(config, outlier).tolist() == [[0, 5, 0, 1, 0], [3, 0, 0, 0, 1]]
    assert extra_cycles(config, outlier).tolist() == [2, 1]
    assert outlier_words(config, outlier).tolist() == [3 + 1 + 1, 2 + 1]


def test_a_strip_without_outliers_takes_a_word_and_no_cycles():
    none = np.zeros((5, 3), bool)
    assert outlier_words(TINY, none).tolist() == [1, 1]
    assert extra_cycles(TINY, none).tolist() == [0, 0]


def test_passes_go_by_block_strip_and_tile():
    got = list(passes(TINY, rows=6, tokens=5, block_tiles=2))  # 2 strips of 4, 3 tiles of 2
    assert [(p.strip, p.tile) for p in got] == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (1, 2)]
    assert [p.new_strip for p in got] == [True, False, True, False, True, True]
    assert [p.rows for p in got] == [4, 4, 2, 2, 4, 2]
    assert [p.columns for p in got] == [2, 2, 2, 2, 1, 1]
