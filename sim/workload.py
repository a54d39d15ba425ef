"""What the blocks of an array see while it works on a layer of a trained model, cycle by cycle, as
a file: to run their netlists on, and to measure their power by."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.pe.int8 import Int8PE
from gobo_rtl.pe.mac import MacPE
from gobo_rtl.units import designs
from quant.errors import QuantError
from quant.fit import Options
from quant.output import replacing
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from sim.golden.container import StoredLayer, read_container
from sim.golden.layer import ArrayLayer
from sim.golden.outlier import integers
from sim.model import ModelError
from sim.model.accelerator import activation_bits
from sim.model.bert import Array, matmul
from sim.model.fetch import MODELS, locate
from sim.model.sentence import SentenceModel, sample_sentences
from sim.passes import Pass, record, record_steps

__all__ = ["main", "passes_of", "save", "save_alone", "steps_alone", "work"]

_EXAMPLES = """examples:
  python -m sim.workload --config default -o build/workload/default.npz
  python -m sim.workload --config default --set pe=mac --passes 2 -o build/workload/mac.npz
  python -m sim.workload --alone mac_pe -o build/workload/mac_pe.npz
"""


def passes_of(
    config: ArrayConfig, stored: StoredLayer, acts: NDArray[Any], count: int
) -> list[Pass]:
    """Return the first passes of a layer: its strips by the first ``columns`` tokens of ``acts``,
    (tokens, K) bits."""
    if stored.unit is None or stored.matrix.ndim != 2:
        raise ValueError("the layer is no matrix on the shipping grid")
    ArrayLayer.from_bits(
        stored.value, stored.unit, stored.codebook, stored.index, stored.outlier, stored.matrix
    ).check(config)
    strips = len(stored.matrix) // config.rows
    if count > strips or len(acts) < config.columns:
        raise ValueError(
            f"the layer has {strips} whole strips and {len(acts)} tokens, too few for {count} "
            f"passes of {config.columns} tokens"
        )
    codebook = stored.codebook
    if not config.floating:
        codebook = integers(stored.value, stored.codebook, stored.unit)
    rows = [slice(at, at + config.rows) for at in range(0, count * config.rows, config.rows)]
    return [
        Pass(codebook, stored.unit, stored.index[row], stored.outlier[row], stored.matrix[row],
             acts[: config.columns])
        for row in rows
    ]  # fmt: skip


def steps_alone(work: Pass, rows: int, interleave: int | None) -> list[dict[str, int]]:
    """Return the steps of the first ``rows`` of a pass for a PE by itself: in FP16 for as many
    tokens in turn as a :class:`MacPE` has sums under way; or, ``interleave`` None, one token after
    the other in INT8, scaled by the greatest magnitude of a row and of a token."""
    bits = np.where(work.outlier, work.value, work.codebook[work.index]).astype(np.uint16)
    weights, acts = bits[:rows], work.acts
    if interleave is None:
        weights, acts = (_int8(values.view(np.float16)) for values in (weights, acts))
    elif len(acts) < interleave:
        raise ValueError(
            f"a mac has {interleave} tokens in turn; the array has {len(acts)} columns"
        )
    steps, last = [], bits.shape[1] - 1
    for n, row in enumerate(weights):
        tokens = [acts[n % len(acts)]] if interleave is None else acts[:interleave]
        for k, weight in enumerate(row):
            for token in tokens:
                steps.append({"weight": int(weight), "act": int(token[k]), "first": int(k == 0),
                              "last": int(k == last)})  # fmt: skip
    return steps


def _int8(values: NDArray[np.float16]) -> NDArray[np.int64]:
    """Return rows scaled by their greatest magnitude; a row of zeros stays."""
    rows = values.astype(np.float64)
    greatest = np.abs(rows).max(axis=1, keepdims=True)
    return np.rint(127 * rows / np.where(greatest == 0, 1, greatest)).astype(np.int64)


def save_alone(path: Path, unit: str, work: Pass, rows: int) -> None:
    """Record rows of a pass on a PE by itself into a file like that of :func:`save`."""
    pe = {"mac_pe": MacPE, "int8_pe": Int8PE}[unit]()
    steps = steps_alone(work, rows, getattr(pe, "interleave", None))
    trace = record_steps(pe, steps)
    arrays: dict[str, Any] = {f"{unit}:macs": len(steps), f"{unit}:window": trace.window}
    arrays |= {f"{unit}:in:{name}": bits for name, bits in trace.inputs.items()}
    arrays |= {f"{unit}:out:{name}": bits for name, bits in trace.outputs.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, force=True) as file:
        np.savez_compressed(file, **arrays)


def save(path: Path, config: ArrayConfig, passes: Sequence[Pass]) -> None:
    """Record passes into a file of arrays: ``column:in:a``, ``array:out:o__valid``; with the cycles
    that count, ``column:window``, and their multiply-accumulates, ``column:macs``: those of the
    last pass."""
    arrays: dict[str, Any] = {}
    macs = config.rows * passes[-1].index.shape[1]
    for block, trace in record(config, passes).items():
        arrays[f"{block}:macs"] = macs * (config.columns if block == "array" else 1)
        arrays[f"{block}:window"] = trace.window
        arrays |= {f"{block}:in:{name}": bits for name, bits in trace.inputs.items()}
        arrays |= {f"{block}:out:{name}": bits for name, bits in trace.outputs.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, force=True) as file:
        np.savez_compressed(file, **arrays)


def work(model: Path, config: ArrayConfig, layer: str, count: int) -> list[Pass]:
    """Return passes of a layer of a trained model, quantised to 3 bits, on the activations of
    sample sentences. ``QuantError``, ``ModelError`` or ``ValueError`` say what is not there."""
    source = open_model(str(model))
    choices = select(list(source.tensors.values()), bits=3, embedding_bits=3)
    if layer not in {choice.name for choice in choices if choice.bits is not None}:
        raise ModelError(f"{model.name} has no layer {layer}; `python -m quant explain` shows them")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gobo.safetensors"
        options = Options(value_format=config.value_format, symmetric=config.symmetric)
        write(path, source, choices, options)
        stored = read_container(path).layers[layer]
    found: list[Array] = []

    def linear(name: str, x: Array, weight: Array, bias: Array) -> Array:
        if name == layer:
            found.append(x)
        return matmul(name, x, weight, bias)

    SentenceModel.load(model, linear=linear).embed(sample_sentences())
    acts = activation_bits(config, layer, np.concatenate(found)) if found else np.empty((0, 0))
    return passes_of(config, stored, acts, count)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the traces of an array's blocks; return the exit status: 0, 2 for bad input, or 130."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.workload", description=__doc__, epilog=_EXAMPLES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--config", default="default", metavar="NAME", help="a named array")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE",
                        dest="changes", help="another size, as for `gobo_rtl verilog`")  # fmt: skip
    parser.add_argument("--model", choices=list(MODELS), default="all-minilm-l6-v2")
    parser.add_argument("--layer", default="encoder.layer.0.intermediate.dense.weight",
                        help="one of its matrices (default: %(default)s)")  # fmt: skip
    parser.add_argument(
        "--passes", type=int, default=2, metavar="N",
        help="strips of the layer, of which the last counts for power; it alone with what comes "
        "before and after when there is one (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--alone", choices=("mac_pe", "int8_pe"),
                        help="the trace of this PE by itself, on four rows")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.npz")
    options = parser.parse_args(arguments)
    try:
        if options.passes < 1:
            raise ValueError(f"--passes must be at least 1, not {options.passes}")
        changes = [*options.changes, "pe=mac"] if options.alone else options.changes
        (design,) = designs(options.config, "array", changes)
        passes = work(locate(options.model), design.config, options.layer, options.passes)
        if options.alone:
            save_alone(options.output, options.alone, passes[0], rows=4)
        else:
            save(options.output, design.config, passes)
    except (QuantError, ModelError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing is written", file=sys.stderr)
        return 130  # the shell's number for it
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
