"""Speed of the quantiser on BERT-Base's weights, beside one-dimensional k-means programs.

Seeded Gaussian weights with planted outliers, in the shapes of BERT-Base's 73 FC matrices and its
word embeddings.  ``gobo`` is all of it: outliers, fit, grid, indexes, packing, outlier positions.
The peers only cluster the same arrays into 8.  Seconds are of CPU, ``time.process_time``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from quant import Options, quantise
from quant.packing import rice_encode

SEED = 108_965_376
ENCODER = [(768, 768)] * 4 + [(3072, 768), (768, 3072)]
BERT_BASE = [*ENCODER * 12, (768, 768), (30522, 768)]
RUNS = 3  # of gobo on each matrix
WIDTHS = (3, 4)  # bits of an index whose memory is measured: defaults of FC weights, embeddings
PEAK_LIMIT = 1.5  # of extra memory, in the size of the matrix
Array = np.ndarray[Any, np.dtype[np.float32]]
Shape = tuple[int, int]


def matrix(number: int, shape: Shape) -> Array:
    """Return weights of deviation 0.04, one in a thousand six times as large."""
    rng = np.random.default_rng([SEED, number])
    weights = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.04)
    weights.reshape(-1)[rng.integers(0, weights.size, weights.size // 1000)] *= 6
    return weights


def gobo(weights: Array, index_width: int = 3) -> None:
    """Quantise, and pack indexes and outlier positions."""
    rice_encode(quantise(weights, Options(index_width=index_width)).positions)


def scikit(weights: Array) -> None:
    """Cluster with scikit-learn: k-means++, one start, default tolerance and iterations."""
    from sklearn.cluster import KMeans

    KMeans(n_clusters=8, n_init=1, random_state=0).fit(weights.reshape(-1, 1))


def flash(weights: Array) -> None:
    """Cluster with flash1dkmeans, its defaults."""
    from flash1dkmeans import kmeans_1d

    kmeans_1d(weights.reshape(-1), 8)


PEERS = {"flash1dkmeans": flash, "scikit-learn": scikit}


def cpu(work: Callable[[Array], object], weights: Array) -> float:
    """Return the CPU seconds of one call."""
    start = time.process_time()
    work(weights)
    return time.process_time() - start


def peak(weights: Array, index_width: int) -> float:
    """Return the most memory that ``gobo`` holds beside ``weights``, in their size."""
    tracemalloc.start()
    gobo(weights, index_width)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / weights.nbytes


def gauge() -> float:
    """Return ns a number of a fixed piece of numpy: what the machine gives at this moment."""
    numbers = matrix(0, (768, 768)).reshape(-1)[: 1 << 16]
    start = time.process_time()
    for _ in range(300):
        (numbers.astype(np.float64) * 3.0).sum()
    return 1e9 * (time.process_time() - start) / (300 * numbers.size)


def processor() -> str:
    """Return the name of the processor, if the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def commit() -> str:
    """Return the last commit of what is measured, and whether it was changed since."""

    def git(*words: str) -> str:
        root = Path(__file__).parents[1]
        command = ["git", *words, "--", "quant", "bench"]
        return subprocess.run(command, capture_output=True, text=True, cwd=root).stdout.strip()

    changed = " with changes" if git("status", "--porcelain") else ""
    return (git("log", "-1", "--format=%h") or "unknown") + changed


def load() -> str:
    """Return the load averages of 1, 5 and 15 minutes."""
    return ", ".join(f"{x:.1f}" for x in os.getloadavg())


def measure(shapes: list[Shape]) -> dict[str, Any]:
    """Return all figures: gobo on a matrix for each of ``shapes``, peers once for each shape."""
    gobo(matrix(0, (768, 768)))  # imports, first pages
    figures: dict[str, Any] = {"load_before": load(), "gauge_ns": [gauge()]}
    seconds: dict[Shape, list[list[float]]] = {}
    for number, shape in enumerate(shapes):
        weights = matrix(number, shape)
        seconds.setdefault(shape, []).append([cpu(gobo, weights) for _ in range(RUNS)])
    figures["gauge_ns"].append(gauge())
    for work in PEERS.values():
        work(matrix(0, (64, 64)))  # compiles
    figures["shapes"] = []
    for shape, runs in seconds.items():
        weights = matrix(shapes.index(shape), shape)
        row = {
            "shape": shape,
            "matrices": len(runs),
            "least": sum(min(x) for x in runs),
            "median": sum(statistics.median(x) for x in runs),
            # A peer's on one matrix, for all of the shape.
            "peers": {name: len(runs) * cpu(work, weights) for name, work in PEERS.items()},
        }
        figures["shapes"].append(row)
    figures["gauge_ns"].append(gauge())
    largest = max(seconds, key=lambda shape: shape[0] * shape[1])
    weights = matrix(shapes.index(largest), largest)
    figures["peak"] = {width: peak(weights, width) for width in WIDTHS}
    figures["load_after"] = load()
    return figures


def table(figures: dict[str, Any]) -> list[str]:
    """Return the lines of the table, in Markdown."""
    names = list(PEERS)
    lines = [
        "| matrices | weights | CPU s, least | median | ns a weight | "
        + " | ".join(f"{name} s | ratio" for name in names) + " |",
        "|---|" + "---:|" * (4 + 2 * len(names)),
    ]  # fmt: skip
    rows = [
        (f"{x['matrices']} of {x['shape'][0]} x {x['shape'][1]}",
         x["matrices"] * x["shape"][0] * x["shape"][1], x["least"], x["median"], x["peers"])
        for x in figures["shapes"]
    ]  # fmt: skip
    peers = {name: sum(row[4][name] for row in rows) for name in names}
    rows.append(("all", *(sum(row[n] for row in rows) for n in (1, 2, 3)), peers))
    for what, size, least, median, theirs in rows:
        cells = [what, f"{size:,}", f"{least:.3f}", f"{median:.3f}", f"{1e9 * median / size:.1f}"]
        for name in names:
            cells += [f"{theirs[name]:.2f}", f"{theirs[name] / median:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def report(figures: dict[str, Any], command: str) -> str:
    """Return the page of the results."""
    versions = ", ".join(f"{n} {version(n)}" for n in ("numpy", "scikit-learn", "flash1dkmeans"))
    peaks = " and ".join(f"{x:.2f} (at {n} bits)" for n, x in figures["peak"].items())
    gauges = ", ".join(f"{x:.2f}" for x in figures["gauge_ns"])
    return "\n".join([
        "# Speed of the quantiser", "",
        f"`{command}`, commit {commit()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.", "",
        f"{processor()}, {os.cpu_count()} cores, {platform.system()}; Python "
        f"{platform.python_version()}, {versions}. One thread. Load average (1, 5, 15 minutes) "
        f"{figures['load_before']} before and {figures['load_after']} after. ns a number of a "
        f"fixed piece of numpy before gobo, before and after the peers: {gauges}.", "",
        *table(figures), "",
        f"Each matrix is quantised {RUNS} times to 3 bits, indexes and outlier positions packed; "
        "least and median are of these, added up. A peer runs once on one matrix of each shape "
        "and its time counts for all of them; it clusters into 8 and does nothing else. Ratios "
        "and ns are of the median.", "",
        f"Peak extra memory: {peaks} times the largest matrix as float32 (tracemalloc); "
        f"at most {PEAK_LIMIT} is allowed.", "",
    ])  # fmt: skip


def main() -> None:
    """Measure and print; write the page and the figures where asked.

    Ends with status 1 if there is a peak above ``PEAK_LIMIT``; times are for the reader to judge.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one encoder layer, no embeddings")
    parser.add_argument("--report", type=Path, help="also write the page to this file")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    figures = measure(ENCODER if arguments.quick else BERT_BASE)
    command = "python -m bench" + " --quick" * arguments.quick
    if arguments.report:
        command += f" --report {arguments.report}"
    page = report(figures, command)
    print(page)
    for path, text in ((arguments.report, page), (arguments.json, json.dumps(figures, indent=2))):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.rstrip("\n") + "\n")
    if max(figures["peak"].values()) > PEAK_LIMIT:
        sys.exit(f"the quantiser takes more extra memory than {PEAK_LIMIT} times its matrix")
