"""Speed of the quantiser on BERT-Base's weights, beside one-dimensional k-means programs.

Seeded Gaussian weights with planted outliers, in the shapes of BERT-Base's 73 FC matrices and its
word embeddings.  Everything runs on one thread.  ``gobo`` is all of it: outliers, fit, grid,
indexes, packing, outlier positions.  The peers only cluster the same arrays into 8; they are run on
some of the matrices and compared on those.  CPU seconds are ``time.process_time``.

    python bench/bench_quant.py [--quick] [--json FILE]
"""

import os

for _name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"

import argparse
import json
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from quant import quantise
from quant.packing import rice_encode

SEED = 108_965_376
ENCODER = [(768, 768)] * 4 + [(3072, 768), (768, 3072)]
BERT_BASE = [*ENCODER * 12, (768, 768), (30522, 768)]
Array = np.ndarray[Any, np.dtype[np.float32]]


def matrix(number: int, shape: tuple[int, int]) -> Array:
    """Return weights of deviation 0.04, one in a thousand six times as large."""
    rng = np.random.default_rng([SEED, number])
    weights = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.04)
    weights.reshape(-1)[rng.integers(0, weights.size, weights.size // 1000)] *= 6
    return weights


def gobo(weights: Array) -> None:
    """Quantise to 3 bits and pack indexes and outlier positions."""
    rice_encode(quantise(weights).positions)


def scikit(weights: Array) -> None:
    """Cluster with scikit-learn: k-means++, one start, default tolerance and iterations."""
    from sklearn.cluster import KMeans

    KMeans(n_clusters=8, n_init=1, random_state=0).fit(weights.reshape(-1, 1))


def flash(weights: Array) -> None:
    """Cluster with flash1dkmeans, its defaults."""
    from flash1dkmeans import kmeans_1d

    kmeans_1d(weights.reshape(-1), 8)


def cpu(work: Callable[[Array], None], weights: Array) -> float:
    """Return the CPU seconds of one call."""
    start = time.process_time()
    work(weights)
    return time.process_time() - start


def peak(weights: Array) -> float:
    """Return the most memory that ``gobo`` holds beside ``weights``, in their size."""
    tracemalloc.start()
    gobo(weights)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / weights.nbytes


def processor() -> str:
    """Return the name of the processor, if the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def main() -> None:
    """Measure, print the table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one encoder layer, no embeddings")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    shapes = ENCODER if arguments.quick else BERT_BASE

    gobo(matrix(0, (768, 768)))  # warm up: imports, first pages
    seconds, weights_total = 0.0, 0
    for number, shape in enumerate(shapes):
        weights = matrix(number, shape)
        seconds += cpu(gobo, weights)
        weights_total += weights.size
    figures: dict[str, Any] = {
        "machine": processor(),
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("numpy", "scikit-learn", "flash1dkmeans")},
        "weights": weights_total,
        "matrices": len(shapes),
        "cpu_seconds": seconds,
        "ns_per_weight": 1e9 * seconds / weights_total,
    }
    largest = max(range(len(shapes)), key=lambda n: shapes[n][0] * shapes[n][1])
    figures["peak_extra_memory"] = peak(matrix(largest, shapes[largest]))

    print(f"{figures['machine']}, Python {figures['python']}, {figures['versions']}; one thread")
    print(f"gobo: {weights_total:,} weights in {len(shapes)} matrices: {seconds:.2f} s of CPU, "
          f"{figures['ns_per_weight']:.1f} ns a weight")  # fmt: skip
    print(f"peak extra memory (tracemalloc): {figures['peak_extra_memory']:.2f} times the largest "
          f"matrix as float32")  # fmt: skip
    print(f"\n{'peer':<16}{'matrix':>12}{'peer s':>10}{'gobo s':>10}{'ratio':>9}")
    peers = {"flash1dkmeans": flash, "scikit-learn": scikit}
    samples = [(768, 768)] if arguments.quick else [(768, 768), (3072, 768)]
    for name, work in peers.items():
        work(matrix(0, (64, 64)))  # compiles
        for number, shape in enumerate(samples):
            weights = matrix(number, shape)
            theirs = cpu(work, weights)
            ours = min(cpu(gobo, weights) for _ in range(3))
            figures[f"ratio_{name}_{shape[0]}x{shape[1]}"] = theirs / ours
            size = f"{shape[0]}x{shape[1]}"
            print(f"{name:<16}{size:>12}{theirs:>10.3f}{ours:>10.4f}{theirs / ours:>8.1f}x")
    print("peers cluster only (8 clusters; no outliers, grid or packing), on these matrices of the "
          f"{len(shapes)}; best of 3 for gobo, one run for peers")  # fmt: skip
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
