"""Plant the faults one after the other, and see each caught by a bench.

    python -m tests.sabotage [WORD ...]

Every fault is written into a copy of the tree, in which pytest then runs; with words only the
faults that have one in their name.  First the benches must pass without a fault.  Exit status
1 when a bench fails without a fault, or a fault survives.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from .faults import BENCHES, FAULTS
from .plant import ROOT, Fault, plant

LIMIT_SECONDS = 300
COPIED = ("gobo_rtl", "quant", "sim", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Outcome:
    """What a run of pytest did: the first test that failed, or none."""

    failed: str | None
    seconds: float
    words: str


def bench_of(fault: Fault) -> tuple[str, ...]:
    """Return what pytest runs for a fault."""
    return next(bench for folder, bench in BENCHES.items() if fault.file.startswith(folder))


def copy_tree(folder: Path) -> Path:
    """Copy what the benches need into ``folder``."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=skipped)
        else:
            shutil.copy(source, folder / name)
    return folder


def run(tree: Path, bench: Sequence[str]) -> Outcome:
    """Run pytest in ``tree`` until the first failure."""
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *bench]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "AMARANTH_USE_YOSYS": "builtin"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, text=True, timeout=LIMIT_SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        words, status = done.stdout, done.returncode
    except subprocess.TimeoutExpired:
        words, status = "", -1
    seconds = time.monotonic() - started
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", words, re.M)
    if found:
        return Outcome(found[1], seconds, words)
    # A fault may hang a bench; one that ends without a test run is no catch.
    if status == -1:
        return Outcome(f"no end within {LIMIT_SECONDS} s", seconds, words)
    return Outcome(None if status == 0 else f"pytest exit status {status}", seconds, words)


def main(wanted: Sequence[str]) -> int:
    faults = [f for f in FAULTS if not wanted or any(word in f.name for word in wanted)]
    with tempfile.TemporaryDirectory() as name:
        workers = min(2, os.cpu_count() or 1)
        trees: SimpleQueue[Path] = SimpleQueue()
        for n in range(workers):
            trees.put(copy_tree(Path(name) / f"tree{n}"))

        def attempt(fault: Fault | None, bench: tuple[str, ...]) -> Outcome:
            tree = trees.get()
            try:
                if fault is None:
                    return run(tree, bench)
                plant(fault, tree)
                try:
                    return run(tree, bench)
                finally:
                    shutil.copy(ROOT / fault.file, tree / fault.file)
            finally:
                trees.put(tree)

        benches = sorted({bench_of(fault) for fault in faults})
        with ThreadPoolExecutor(workers) as pool:
            print("without a fault:", flush=True)
            for bench, outcome in zip(
                benches, pool.map(lambda b: attempt(None, b), benches), strict=True
            ):
                verdict = f"fails: {outcome.failed}" if outcome.failed else "passes"
                print(f"  {' '.join(bench)} {verdict} ({outcome.seconds:.0f} s)", flush=True)
                if outcome.failed:
                    print(outcome.words[-3000:])
                    return 1
            print(f"with one of {len(faults)} faults:", flush=True)
            survivors = 0
            outcomes = pool.map(lambda f: attempt(f, bench_of(f)), faults)
            for fault, outcome in zip(faults, outcomes, strict=True):
                survivors += outcome.failed is None
                caught = outcome.failed or "SURVIVES"
                print(f"  {fault.name:52} {fault.file:34} {outcome.seconds:4.0f} s  {caught}",
                      flush=True)  # fmt: skip
    print(f"{len(faults) - survivors} of {len(faults)} faults caught")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
