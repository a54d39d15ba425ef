"""Hold the number units to their golden models, over whole domains where there is an end to them.

    python -m tests.exhaustive [--build DIR] [NAME ...]

The emitted Verilog runs in Verilator. ``multiplier`` and ``adder16`` take all 2^32 pairs of FP16;
``adder32`` takes all pairs of special patterns and 64 million directed ones; ``testfloat`` takes
the vectors of Berkeley TestFloat for both adders, where its generator is installed. Without names
all four. Exit status 1 when a result differs.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gobo_rtl.formats import VALUE_FORMATS
from gobo_rtl.pe.float_adder import FloatAdder
from gobo_rtl.pe.float_multiplier import FloatMultiplier
from sim.golden.floating import add, multiply

from .cases import Bits, pairs, special, terms
from .testfloat import GENERATOR, vectors
from .unit import Unit

FP16, FP32 = VALUE_FORMATS["fp16"], VALUE_FORMATS["fp32"]
BUILD = Path("build/exhaustive")
BLOCK = 1 << 20  # pairs at a time
DIRECTED_BLOCKS = 64
SEED = 754

Reference = Callable[[Bits, Bits], Bits]


class Found(NamedTuple):
    """Pairs that were compared, those that differ, and the first of these in words."""

    pairs: int
    wrong: int
    first: str = ""


def compare(unit: Unit, reference: Reference, a: Bits, b: Bits) -> Found:
    """Compare the unit with the golden model."""
    got, want = unit(a, b), reference(a, b)
    wrong = np.flatnonzero(got != want)
    if not wrong.size:
        return Found(a.size, 0)
    n = wrong[0]
    return Found(a.size, wrong.size, f"{a[n]:#x}, {b[n]:#x}: {got[n]:#x}, must be {want[n]:#x}")


def all_halves(unit: Unit, reference: Reference, block: int) -> Found:
    """Compare all pairs whose first number is in a block of 16."""
    first = np.arange(16 * block, 16 * block + 16, dtype=np.uint16)
    second = np.arange(1 << 16, dtype=np.uint16)
    return compare(unit, reference, np.repeat(first, 1 << 16), np.tile(second, 16))


def directed(unit: Unit, reference: Reference, block: int) -> Found:
    """Compare a block of directed terms; the first is all pairs of special patterns."""
    if block == 0:
        return compare(unit, reference, *pairs(special(FP32)))
    return compare(unit, reference, *terms(FP32, np.random.default_rng([SEED, block]), BLOCK))


def in_parallel(work: Callable[[int], Found], blocks: int) -> Iterator[Found]:
    """Yield what the blocks of ``work`` gave, from as many processes as there are processors."""
    with multiprocessing.get_context("fork").Pool() as pool:
        yield from pool.imap_unordered(work, range(blocks))


def report(name: str, found: Iterator[Found]) -> bool:
    """Add up, print a line, and return whether all was right."""
    started, count, wrong, first = time.monotonic(), 0, 0, ""
    for part in found:
        count, wrong, first = count + part.pairs, wrong + part.wrong, first or part.first
        if sys.stderr.isatty():
            print(f"\r{name}: {count:,} pairs", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    seconds = time.monotonic() - started
    words = f"{wrong:,} differ; the first is {first}" if wrong else "all right"
    print(f"{name}: {count:,} pairs in {seconds:.0f} s, {words}", flush=True)
    return not wrong


def multiplier(build: Path) -> bool:
    """All pairs of factors."""
    unit = Unit(FloatMultiplier(), build)
    return report("multiplier", in_parallel(partial(all_halves, unit, multiply), 1 << 12))


def adder16(build: Path) -> bool:
    """All pairs of FP16 terms."""
    unit = Unit(FloatAdder(FP16), build)
    return report("adder16", in_parallel(partial(all_halves, unit, partial(add, FP16)), 1 << 12))


def adder32(build: Path) -> bool:
    """Special and directed FP32 terms."""
    unit = Unit(FloatAdder(FP32), build)
    work = partial(directed, unit, partial(add, FP32))
    return report("adder32", in_parallel(work, 1 + DIRECTED_BLOCKS))


def testfloat(build: Path) -> bool:
    """The vectors of others; right when there is no generator, which is said."""
    right = True
    for value in (FP16, FP32):
        found = vectors(value)
        if found is None:
            print(f"testfloat: {GENERATOR} is not installed, its vectors are left out")
            return True
        a, b, sums = found
        unit = Unit(FloatAdder(value), build)
        part = compare(unit, lambda a, b, sums=sums: sums, a, b)
        right &= report(f"testfloat, {value.name}", iter([part]))
    return right


UNITS = {unit.__name__: unit for unit in (multiplier, adder16, adder32, testfloat)}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.exhaustive", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(UNITS))
    parser.add_argument("--build", type=Path, default=BUILD, metavar="DIR",
                        help="where Verilator builds (default: %(default)s)")  # fmt: skip
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in UNITS]
    if unknown:
        parser.error(f"no unit is called {unknown[0]!r}; there are {', '.join(UNITS)}")
    right = [UNITS[name](options.build) for name in options.names or UNITS]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
