"""Find the pipeline of the reference PEs with the best throughput per area.

    python -m tests.synth.references --liberty sg13g2_stdcell_typ_1p20V_25C.lib.gz

Every latency is mapped by every recipe with every tree of carries; a line tells the best of each,
by area times critical path. This takes an hour of processor time.
"""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import cpu_count
from pathlib import Path

from amaranth.lib import wiring

from gobo_rtl.emit import emit
from gobo_rtl.pe.int8 import Int8PE
from gobo_rtl.pe.mac import MacPE
from gobo_rtl.units import Flat
from synth import SynthError, flow, sta
from synth.library import Library, load

PES: dict[str, Callable[[], wiring.Component]] = {
    **{
        f"MacPE({a}, {b})": lambda a=a, b=b: MacPE(a, b)
        for a, b in ((2, 4), (2, 5), (2, 6), (3, 4), (3, 5), (3, 6), (4, 6))
    },
    **{f"Int8PE({a})": lambda a=a: Int8PE(a) for a in range(3)},
}


def measure(
    verilog: Path, library: Library, clock_ns: float, recipe: str, adder: str
) -> tuple[float, str]:
    """Return area times path, in um2 ns, and what it is made of, in words."""
    folder = verilog.parent / recipe / adder
    mapped = flow.synthesise(
        verilog, "top", library, clock_ns, folder, recipe, flow.Options(adder=adder)
    )
    path = sta.critical_path("top", library, clock_ns, folder)
    return mapped.area * path.delay_ns, (
        f"{mapped.area:,.0f} um2, {mapped.flip_flops} flip-flops, {path.delay_ns:.2f} ns, "
        f"{recipe}, {adder}: {mapped.area * path.delay_ns:,.0f}"
    )


def best(name: str, library: Library, clock_ns: float, output: Path) -> str:
    """Return the best of a PE by area times path, in words."""
    folder = (output / "".join(c for c in name if c.isalnum())).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    verilog = folder / "top.v"
    verilog.write_text(emit(Flat(PES[name]()), "top"), encoding="utf-8")
    ways = [(recipe, adder) for recipe in flow.RECIPES for adder in flow.ADDERS]
    with ThreadPoolExecutor(cpu_count()) as pool:
        found = pool.map(partial(measure, verilog, library, clock_ns), *zip(*ways, strict=True))
        return min(found)[1]


def main() -> int:
    """Run the command line; return the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.synth.references", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="PE", help=f"of {', '.join(PES)}")
    parser.add_argument("--liberty", type=Path, required=True, metavar="FILE")
    parser.add_argument("--clock", type=float, default=2, metavar="NS", help="default: %(default)s")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/references"), metavar="DIR",
        help="where netlists and logs go (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in PES]:
        parser.error(f"no PE is called {unknown[0]!r}; there are {', '.join(PES)}")
    if not sta.is_installed():
        parser.error("paths need sta: sudo apt-get install opensta")
    try:
        library = load(options.liberty, options.output)
        for name in options.names or PES:
            print(f"{name}: {best(name, library, options.clock, options.output)}", flush=True)
    except (SynthError, OSError) as error:
        print(f"references: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
