"""How near the arithmetic of each PE comes to the exact sums, on real layers.

    python -m tests.golden.accuracy

Prints the table of docs/decisions/reference-pes.md. Activations are those of all-MiniLM-L6-v2 on
sentences of this repository, in FP16; weights are its layers at 3 bits as they ship. The error of
a token is the length of the difference between its results, before bias, and the exact ones, over
the length of these; weights and activations are the same on both sides, but in the first row,
which tells what rounding the model's FP32 activations to FP16 costs before any arithmetic.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.formats import VALUE_FORMATS
from quant import Options, decode, quantise
from sim.golden import bins_fp16
from sim.golden.layer import ArrayLayer, compute
from sim.golden.mac import mac
from sim.model.bert import read_weights
from sim.model.fetch import locate
from sim.model.sentence import SentenceModel, sample_sentences

MODEL = "all-minilm-l6-v2"
LAYERS = [f"encoder.layer.{n}.{part}.weight" for part in ("attention.self.query", "output.dense")
          for n in (0, 3, 5)]  # fmt: skip
TOKENS = 64
ACT_WIDTHS = (8, 12, 16, 24)


class Case(NamedTuple):
    """A layer and its inputs: bits of FP16 but for ``index`` (rows, k) and ``outlier``."""

    codebook: NDArray[np.uint16]
    index: NDArray[np.uint8]
    outlier: NDArray[np.bool_]
    weights: NDArray[np.uint16]
    acts: NDArray[np.uint16]
    unit: int

    def exact(self, acts: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the sums (tokens, rows); float64 is off by less than 1e-12 of them."""
        weights = self.weights.view(np.float16).astype(np.float64)
        return acts.astype(np.float64) @ weights.T


def inputs(names: list[str]) -> dict[str, NDArray[np.float32]]:
    """Return the activations (tokens, k) that reach the layers called ``names``."""
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}

    def linear(name, x, weight, bias):
        if name in found:
            found[name].append(x.reshape(-1, x.shape[-1]))
        return x @ weight.T + bias

    SentenceModel.load(locate(MODEL), linear=linear).embed(sample_sentences())
    rng = np.random.default_rng(0)
    taken = rng.permutation(len(np.concatenate(found[names[0]])))[:TOKENS]
    return {name: np.concatenate(parts)[taken] for name, parts in found.items()}


def case(weight: NDArray[np.float32], acts: NDArray[np.uint16], symmetric: bool) -> Case:
    """Quantise a layer as it ships."""
    layer = quantise(weight, Options(symmetric=symmetric))
    assert layer.unit is not None
    weights = decode(layer)
    outlier = np.zeros(weights.size, bool)
    outlier[layer.positions] = True
    outlier = outlier.reshape(weights.shape)
    index = np.where(outlier, 0, np.searchsorted(layer.codebook, weights)).astype(np.uint8)
    codebook, bits = (numbers.astype(np.float16).view(np.uint16)
                      for numbers in (layer.codebook, weights))  # fmt: skip
    return Case(codebook, index, outlier, bits, acts, layer.unit)


def distance(got: NDArray[np.floating], exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the errors of the tokens (tokens,) of results (tokens, rows)."""
    return np.linalg.norm(got - exact, axis=1) / np.linalg.norm(exact, axis=1)


def errors(got: NDArray[np.uint32], given: Case) -> NDArray[np.float64]:
    """Return the errors of the tokens (tokens,) of FP32 results (tokens, rows)."""
    return distance(got.view(np.float32), given.exact(given.acts.view(np.float16)))


def arithmetics(
    weight: NDArray[np.float32], acts: NDArray[np.float32]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield each arithmetic's name and its errors (tokens,)."""
    halves = acts.astype(np.float16)
    free, symmetric = (case(weight, halves.view(np.uint16), mirrored) for mirrored in (False, True))
    yield "exact, on FP16 for FP32 activations", distance(free.exact(halves), free.exact(acts))
    for words, given, mirrored in (("", free, False), (", symmetric", symmetric, True)):
        parts = (given.codebook, mirrored, given.index, given.outlier, given.weights, given.acts)
        yield f"`bins_fp16`{words}", errors(bins_fp16.sums(*parts), given)
    yield "`mac`", errors(mac(free.weights, free.acts), free)
    layer = ArrayLayer.from_bits(VALUE_FORMATS["fp16"], free.unit, free.codebook, free.index,
                                 free.outlier, free.weights)  # fmt: skip
    for width in ACT_WIDTHS:
        name = f"`bins` and `products`, activations of {width} bits"
        yield name, errors(compute(ArrayConfig(act_width=width), layer, free.acts), free)


def main() -> int:
    """Print the table."""
    weights, acts = read_weights(locate(MODEL) / "model.safetensors"), inputs(LAYERS)
    found: dict[str, dict[int, list[NDArray[np.float64]]]] = {}
    for name in LAYERS:
        for words, error in arithmetics(weights[name], acts[name]):
            found.setdefault(words, {}).setdefault(acts[name].shape[1], []).append(error)
    sizes = sorted(next(iter(found.values())))
    print("| arithmetic |", " | ".join(f"K = {k}: mean | worst token" for k in sizes), "|")
    print("|---|" + "---|---|" * len(sizes))
    for words, by_size in found.items():
        cells = [f"{np.mean(by_size[k]):.1e} | {np.max(by_size[k]):.1e}" for k in sizes]
        print(f"| {words} |", " | ".join(cells), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
