"""Command line: fetch a trained model, score a model on sentence pairs."""

from __future__ import annotations

import argparse
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from sim.model import ModelError
from sim.model.fetch import MODELS, locate, sha256
from sim.model.score import read_pairs, similarity_score
from sim.model.sentence import SentenceModel

EXAMPLES = """examples:
  python -m sim.model fetch all-minilm-l6-v2
  python -m sim.model score all-minilm-l6-v2 --csv stsb-en-test.csv
  python -m sim.model score decoded.safetensors --base all-minilm-l6-v2 --csv stsb-en-test.csv
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status, 2 for bad input."""
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
    score.add_argument(
        "--csv",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="no header; sentence 1, sentence 2, score (STS Benchmark)",
    )
    score.add_argument(
        "--base",
        metavar="FOLDER",
        help="where config.json and tokenizer are, if not beside a safetensors file",
    )
    score.add_argument(
        "--report",
        type=Path,
        metavar="FILE.md",
        help="also write the table there, with all it takes to repeat it",
    )
    score.set_defaults(run=_score)

    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    options.command = f"python -m sim.model {shlex.join(words)}"
    try:
        options.run(options)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _score(options: argparse.Namespace) -> None:
    sets = [read_pairs(path) for path in options.csv]
    lines = [
        f"| model | {' | '.join(path.name for path in options.csv)} |",
        f"|---|{'---|' * len(sets)}",
    ]
    print("Spearman x 100 of", ", ".join(f"{len(pairs.score)} pairs" for pairs in sets))
    print("\n".join(lines))
    for name in options.models:
        model = _load(name, options.base)
        figures = []
        for pairs in sets:
            with _progress(f"{name}", 2 * len(pairs.score)) as advance:
                figures.append(f"{100 * similarity_score(model, pairs, advance):.2f}")
        lines.append(f"| {Path(name).name} | {' | '.join(figures)} |")
        print(lines[-1], flush=True)
    if options.report:
        _write_report(options, lines)


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


def _write_report(options: argparse.Namespace, table: Sequence[str]) -> None:
    """Write the table with command, commit, date, versions, machine and sha256 of the inputs."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"
    tools = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "tokenizers"))
    weights = [_path(name) for name in options.models]
    inputs = [path / "model.safetensors" if path.is_dir() else path for path in weights]
    text = [
        "# Sentence similarity: Spearman's correlation x 100",
        "",
        *table,
        "",
        f"- command: `{options.command}`",
        f"- commit: {commit}; date: {datetime.now(UTC):%Y-%m-%d}",
        f"- Python {platform.python_version()}, {tools}; {platform.machine()} {platform.system()}",
        *(f"- sha256 of {path.name}: {sha256(path)}" for path in [*inputs, *options.csv]),
        "",
    ]
    try:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text("\n".join(text), encoding="utf-8")
    except OSError as error:
        raise ModelError(f"cannot write {options.report}: {error.strerror}") from error
    print(f"written to {options.report}")


if __name__ == "__main__":
    sys.exit(main())
