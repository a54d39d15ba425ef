"""Command line: fetch a trained model, score it on sentence pairs, also on the accelerator."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from gobo_rtl.array_config import ARRAYS
from quant.errors import QuantError
from sim.golden.container import Container
from sim.model import ModelError
from sim.model.accelerator import (
    ABSOLUTE_WIDTH,
    Accelerator,
    Trial,
    array_of_width,
    open_container,
)
from sim.model.fetch import MODELS, locate
from sim.model.score import read_pairs, similarity_score
from sim.model.sentence import SentenceModel
from sim.page import write_page

EXAMPLES = """examples:
  python -m sim.model fetch all-minilm-l6-v2
  python -m sim.model score all-minilm-l6-v2 --csv stsb-en-test.csv
  python -m sim.model score decoded.safetensors --base all-minilm-l6-v2 --csv stsb-en-test.csv
  python -m sim.model accuracy minilm.gobo.safetensors --base all-minilm-l6-v2 \\
      --csv stsb-en-test.csv --act-width 8 12 16
"""
WIDTHS = (8, 10, 12, 16, 24)
_INTERRUPTED = 130  # the shell's number for it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 2 for bad input, 130 when interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.model",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fetch = commands.add_parser("fetch", help="download a trained model, print its folder")
    fetch.add_argument("name", choices=list(MODELS))
    fetch.set_defaults(run=lambda options: print(locate(options.name)))

    score = commands.add_parser("score", help="Spearman's correlation on scored sentence pairs")
    score.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="folder, safetensors file, or a name that fetch knows",
    )
    _add_files(score)
    score.add_argument(
        "--base",
        metavar="FOLDER",
        help="where config.json and tokenizer are, if not beside a safetensors file",
    )
    score.set_defaults(run=_score)

    accuracy = commands.add_parser(
        "accuracy",
        help="the same of a quantised model on the accelerator, by width of its activations",
    )
    accuracy.add_argument("container", type=Path, metavar="CONTAINER", help="*.gobo.safetensors")
    accuracy.add_argument(
        "--base",
        required=True,
        metavar="MODEL",
        help="the model it was made of: folder with config.json and tokenizer, or a known name",
    )
    _add_files(accuracy)
    accuracy.add_argument(
        "--act-width",
        nargs="+",
        type=int,
        default=WIDTHS,
        metavar="BITS",
        help=f"bits of an aligned activation, 8 to 24, or {ABSOLUTE_WIDTH}: every FP16 exactly "
        f"(default {' '.join(map(str, WIDTHS))})",
    )
    accuracy.add_argument(
        "--act-format",
        choices=["fp16", "fp32"],
        default="fp16",
        help="what the hidden states are rounded to before (default fp16)",
    )
    accuracy.add_argument(
        "--array", choices=list(ARRAYS), default="default", help="its other sizes (default default)"
    )
    accuracy.add_argument(
        "--jobs",
        type=int,
        choices=range(1, 65),
        default=1,
        metavar="N",
        help="rows at a time; memory grows with it (default 1)",
    )
    accuracy.set_defaults(run=_accuracy)

    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    options.command = f"python -m sim.model {shlex.join(words)}"
    try:
        options.run(options)
    except (ModelError, QuantError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no page is written", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--csv",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="no header; sentence 1, sentence 2, score (STS Benchmark)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.md",
        help="also write the table there, with all it takes to repeat it",
    )


class _Table:
    """A table of scores, a row a model, that is shown as it grows."""

    def __init__(self, options: argparse.Namespace, *columns: str):
        sets = [read_pairs(path) for path in options.csv]
        heads = [*columns, *(path.name for path in options.csv)]
        self.lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        self.pairs = sum(len(pairs.score) for pairs in sets)
        print("Spearman x 100 of", ", ".join(f"{len(pairs.score)} pairs" for pairs in sets))
        print("\n".join(self.lines))

    def add(self, cells: Sequence[str], scores: Sequence[float]) -> None:
        """Show the row of a model."""
        self.lines.append(f"| {' | '.join([*cells, *(f'{100 * s:.2f}' for s in scores)])} |")
        print(self.lines[-1], flush=True)


def _score(options: argparse.Namespace) -> None:
    table = _Table(options, "model")
    for name in options.models:
        model = _load(name, options.base)
        with _progress(name, 2 * table.pairs) as advance:
            scores = [similarity_score(model, read_pairs(path), advance) for path in options.csv]
        table.add([Path(name).name], scores)
    models = [_path(name) for name in options.models]
    _write_report(options, "Sentence similarity", table.lines, models)


def _accuracy(options: argparse.Namespace) -> None:
    container, folder = open_container(options.container), _path(options.base)
    arrays = [
        array_of_width(ARRAYS[options.array], options.act_format, width)
        for width in options.act_width
    ]
    machines = [Accelerator.of(array, container) for array in arrays]
    name = f"{options.container.name}, {_bits(container)}"
    rows = {(folder.name, "FP32"): Trial(folder, None, None, options.csv)}
    rows[name, "FP32"] = Trial(folder, options.container, None, options.csv)
    for array in arrays:
        what = "exact" if array.act_width == ABSOLUTE_WIDTH else "aligned per token"
        cells = name, f"{array.act_format.upper()}, {array.act_width} bits {what}"
        rows[cells] = Trial(folder, options.container, array, options.csv)
    table = _Table(options, "weights", "activations")
    with _processes(options.jobs) as pool, _progress("models", len(rows)) as advance:
        for cells, scores in zip(rows, pool.map(Trial.scores, rows.values()), strict=True):
            table.add(cells, scores)
            advance(1)
    count = sum("encoder." in name for name in machines[0].layers)
    notes = [
        "",
        f"The rows with a width run the {count} matrices of the encoder on the golden model of "
        "the accelerator (`sim/golden`), whose results are those of the",
        f"hardware bit for bit: activations rounded to {options.act_format.upper()} and "
        "aligned to integers of that many bits, exact sums, one rounding to "
        f"{arrays[0].result_format.upper()}.",
        "Embeddings are the container's; LayerNorm, softmax, GELU and the products of the "
        "attention are FP32 on the host.",
    ]
    files = [folder, options.container]
    _write_report(options, "Accuracy on the accelerator", table.lines + notes, files)


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Give processes of one thread each, which end at once when the block fails."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"  # the processes inherit it
    try:
        with ProcessPoolExecutor(
            count, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_DFL)
        ) as pool:
            try:
                yield pool
            except BaseException:
                for process in active_children():
                    process.terminate()
                raise
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _bits(container: Container) -> str:
    """Return the index widths in a container, the most frequent first: `3 bits, 4 bits`."""
    widths = [len(layer.codebook).bit_length() - 1 for layer in container.layers.values()]
    return ", ".join(f"{width} bits" for width in sorted(set(widths), key=widths.count)[::-1])


def _load(name: str, base: str | None) -> SentenceModel:
    path = _path(name)
    if path.is_dir():
        return SentenceModel.load(path)
    if not path.exists():
        raise ModelError(f"there is no file or folder {name}, and fetch knows no such model")
    return SentenceModel.load(_path(base) if base else path.parent, path)


def _path(name: str) -> Path:
    return locate(name) if name in MODELS else Path(name)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Give the function that advances a progress bar, which shows on a terminal only."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _write_report(
    options: argparse.Namespace, title: str, lines: Sequence[str], models: Sequence[Path]
) -> None:
    """Write a page of scores, if one is asked for."""
    if options.report:
        weights = [path / "model.safetensors" if path.is_dir() else path for path in models]
        write_page(
            options.report, f"{title}: Spearman's correlation x 100", lines, options.command,
            ("numpy", "scipy", "tokenizers"), [*weights, *options.csv],
        )  # fmt: skip
        print(f"written to {options.report}")


if __name__ == "__main__":
    sys.exit(main())
