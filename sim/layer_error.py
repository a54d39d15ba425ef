"""How near each PE comes to what it should compute, on real layers.

Weights are layers of all-MiniLM-L6-v2 at 3 bits as they ship, with free and with symmetric
codebooks; activations are the model's on sentences of this repository, in FP16. The error of a
token is the length of the difference between its results, before bias, and the right ones, over the
length of these. What is right, for the arithmetic: the exact sums of the same weights and
activations; for the layer: the model's own, of weights and activations in FP32.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.formats import VALUE_FORMATS
from quant import Options, decode, quantise
from quant.errors import QuantError
from sim.golden.layer import ArrayLayer, compute
from sim.model import ModelError
from sim.model.bert import read_weights
from sim.model.fetch import locate
from sim.model.sentence import SentenceModel, sample_sentences
from sim.page import table, write_json

__all__ = ["PES", "Errors", "Pe", "errors_of", "main", "summary"]

EXAMPLES = """examples:
  python -m sim.layer_error
  python -m sim.layer_error --json docs/results/layer-error.json
"""
MODEL = "all-minilm-l6-v2"
LAYERS = [f"encoder.layer.{n}.{part}.weight" for part in ("attention.self.query", "output.dense")
          for n in (0, 3, 5)]  # fmt: skip
TOKENS = 64
ABSOLUTE = 41  # bits of an activation that hold every FP16


class Pe(NamedTuple):
    """What decides an error: PEs of one kind and width give the same bits whatever the array."""

    pe: str
    act_width: int
    symmetric: bool

    @property
    def config(self) -> ArrayConfig:
        """An array of them."""
        align = "absolute" if self.act_width == ABSOLUTE else "token"
        return ArrayConfig(
            pe=self.pe, act_width=self.act_width, symmetric=self.symmetric, align=align
        )

    @property
    def words(self) -> str:
        """Its name in a table; ``products`` and ``bins`` give the same bits."""
        name = f"`{self.pe}`"
        if not self.config.floating:
            name = f"`products`, `bins`, {self.act_width} bits"
        return name + ", symmetric" * self.symmetric


class Errors(NamedTuple):
    """Errors (tokens,) of a layer's results."""

    arithmetic: NDArray[np.float64]
    layer: NDArray[np.float64]


PES = [
    Pe(pe, width, symmetric)
    for pe, widths in (("products", (8, 12, 16, 24, ABSOLUTE)), ("mac", (16,)),
                       ("bins_fp16", (16,)))
    for width in widths
    for symmetric in (False, True)
]  # fmt: skip


def inputs(names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return the activations (tokens, k) that reach the layers called ``names``."""
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}

    def linear(name, x, weight, bias):  # type: ignore[no-untyped-def]
        if name in found:
            found[name].append(x.reshape(-1, x.shape[-1]))
        return x @ weight.T + bias

    SentenceModel.load(locate(MODEL), linear=linear).embed(sample_sentences())
    rng = np.random.default_rng(0)
    taken = rng.permutation(len(np.concatenate(found[names[0]])))[:TOKENS]
    return {name: np.concatenate(parts)[taken] for name, parts in found.items()}


def quantised(weight: NDArray[np.float32], symmetric: bool) -> ArrayLayer:
    """Return a layer as it ships."""
    layer = quantise(weight, Options(symmetric=symmetric))
    assert layer.unit is not None
    weights = decode(layer)
    outlier = np.zeros(weights.size, bool)
    outlier[layer.positions] = True
    outlier = outlier.reshape(weights.shape)
    index = np.where(outlier, 0, np.searchsorted(layer.codebook, weights)).astype(np.uint8)
    codebook, bits = (numbers.astype(np.float16).view(np.uint16)
                      for numbers in (layer.codebook, weights))  # fmt: skip
    return ArrayLayer.from_bits(VALUE_FORMATS["fp16"], layer.unit, codebook, index, outlier, bits)


def product(acts: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the sums (tokens, rows); float64 is off by less than 1e-12 of them."""
    return acts.astype(np.float64) @ weights.astype(np.float64).T


def distance(got: NDArray[np.floating], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the errors of the tokens (tokens,) of results (tokens, rows)."""
    return np.linalg.norm(got - right, axis=1) / np.linalg.norm(right, axis=1)


def errors_of(
    weight: NDArray[np.float32], acts: NDArray[np.float32], pes: Sequence[Pe] = PES
) -> Iterator[tuple[Pe | None, Errors]]:
    """Yield what FP16 for FP32 activations and 3 bits cost before any arithmetic, for ``None``;
    then the errors of each PE, of weights (rows, k) and activations (tokens, k)."""
    halves = acts.astype(np.float16)
    layers = {symmetric: quantised(weight, symmetric) for symmetric in (False, True)}
    model = product(acts, weight)
    exact = {}
    for symmetric, layer in layers.items():
        weights = np.ldexp(layer.weights.astype(np.float64), layer.unit)
        exact[symmetric] = product(halves, weights)
        if not symmetric:
            yield None, Errors(distance(exact[False], product(acts, weights)),
                               distance(exact[False], model))  # fmt: skip
    for pe in pes:
        bits = compute(pe.config, layers[pe.symmetric], halves.view(np.uint16))
        got = bits.astype(np.uint32).view(np.float32)
        yield pe, Errors(distance(got, exact[pe.symmetric]), distance(got, model))


def summary(pe: Pe, errors: Sequence[Errors]) -> list[dict[str, object]]:
    """Return the means over all tokens of all layers and the worst of them, JSON-ready: a row for
    each kind of PE that gives these bits."""
    numbers: dict[str, object] = {}
    for name in Errors._fields:
        values = np.concatenate([getattr(each, name) for each in errors])
        numbers[name] = float(f"{values.mean():.5g}")
        numbers[f"{name}_worst"] = float(f"{values.max():.5g}")
    kinds = ("products", "bins") if pe.pe == "products" else (pe.pe,)
    return [pe._replace(pe=kind)._asdict() | numbers for kind in kinds]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit status: 0, 2 for bad input, or 130."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.layer_error", description=__doc__, epilog=EXAMPLES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE",
                        help="also write it there, for `python -m synth explore`")  # fmt: skip
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    try:
        _run(options.json, shlex.join(["python", "-m", "sim.layer_error", *words]))
    except (QuantError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing is written", file=sys.stderr)
        return 130  # the shell's number for it
    return 0


def _run(path: Path | None, command: str) -> None:
    model = locate(MODEL) / "model.safetensors"
    weights, acts = read_weights(model), inputs(LAYERS)
    found: dict[Pe | None, dict[int, list[Errors]]] = {}
    console = Console(stderr=True)
    bar = track(LAYERS, "layers", console=console, transient=True, disable=not console.is_terminal)
    for name in bar:
        for pe, errors in errors_of(weights[name], acts[name]):
            found.setdefault(pe, {}).setdefault(acts[name].shape[1], []).append(errors)
    sizes = sorted(found[None])
    heads = [f"K = {k}: {which}" for k in sizes for which in ("mean", "worst token", "layer")]
    rows = []
    for pe, by_size in found.items():
        cells = ["exact, on FP16 for FP32 activations" if pe is None else pe.words]
        for k in sizes:
            arithmetic, layer = (np.concatenate(part) for part in zip(*by_size[k], strict=True))
            cells += [f"{arithmetic.mean():.1e}", f"{arithmetic.max():.1e}", f"{layer.mean():.3%}"]
        rows.append(cells)
    print("\n".join(table(["arithmetic", *heads], rows)))
    if path:
        document = {
            "layers": LAYERS,
            "tokens": TOKENS,
            "errors": [row for pe, by_size in found.items() if pe is not None
                       for row in summary(pe, [e for part in by_size.values() for e in part])],
        }  # fmt: skip
        write_json(path, document, command, ("numpy",), [model])
        print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
