"""Command line: ``python -m fpga build|utilisation``."""

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fpga import FpgaError, tools
from fpga.usage import DEVICES, KINDS, LIMIT_S, Usage
from gobo_rtl.array_config import ARRAYS
from quant.errors import QuantError
from sim.model import ModelError
from sim.model.fetch import locate
from sim.page import table, write_page

_EXAMPLES = """examples:
  python -m fpga build
  python -m fpga build --report docs/results/fpga-ulx3s.md
  python -m fpga utilisation --unit decode --device ice40-hx8k
  python -m fpga utilisation --config edge --unit array --device ecp5-85k
  python -m fpga utilisation --report docs/results/fpga.md
"""
_INTERRUPTED = 130  # the shell's number for it
_ARRAY = "edge"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fpga", epilog=_EXAMPLES, allow_abbrev=False,
        description=f"{__doc__} Exit status: 0, or 2 when it could not be done: also when the "
        "board's clock is not met.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="the self-test's bitstream for a ULX3S 85F")
    build.set_defaults(run=_build, folder=Path("build/fpga/ulx3s"))
    usage = commands.add_parser(
        "utilisation", help="what named configurations take of an ECP5 and of iCE40s, and how fast "
        "they are; what is done is kept, the same command goes on",
    )  # fmt: skip
    usage.add_argument("--unit", metavar="UNIT", help="only this unit, or a block of an "
                       "accelerator, as `python -m gobo_rtl list` shows them")  # fmt: skip
    usage.add_argument("--config", metavar="NAME",
                       help="only this configuration, also one that is not measured by default")
    usage.add_argument("--device", metavar="DEVICE", help=f"only {' or '.join(DEVICES)}")
    usage.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                       help="at a time (default: one a core, %(default)s)")  # fmt: skip
    usage.add_argument("--limit", type=float, default=LIMIT_S / 60, metavar="MINUTES",
                       help="how long the placer and router may take (default: %(default)g); what "
                       "is not routed then has the placer's estimate of its clock")  # fmt: skip
    usage.set_defaults(run=_utilisation, folder=Path("build/fpga/utilisation"))
    for command in (build, usage):
        command.add_argument("--report", type=Path, metavar="FILE.md",
                             help="also write a page with the figures and all it takes to repeat "
                             "them")  # fmt: skip
        command.add_argument("-o", "--output", type=Path, dest="folder", metavar="DIR",
                             help="where files go (default: %(default)s)")  # fmt: skip
    return parser


def _say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def _bar(text: str, total: int | None) -> Iterator[tuple[Progress, Any]]:
    """Show progress, on a terminal only."""
    console = Console(stderr=True)
    count = [MofNCompleteColumn()] if total is not None else []
    columns = (TextColumn("{task.description}"), BarColumn(), *count, TimeElapsedColumn())
    off = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off) as bar:
        yield bar, bar.add_task(text, total=total)


# -- build ----------------------------------------------------------------------------------


def _build(options: argparse.Namespace) -> None:
    """Build the bitstream, which meets the board's clock or is not written."""
    tools.versions()  # or they are missing
    from fpga.build import build, usage_from
    from fpga.layer import LAYER, MODEL, stored_layer
    from fpga.selftest import SelfTest

    folder = locate(MODEL)
    stored = stored_layer(folder, ARRAYS[_ARRAY])
    _say(f"self-test of array {_ARRAY} and the decode unit of its image on {LAYER} of {MODEL}: "
         f"{stored.words:,} words are due")  # fmt: skip
    begun = time.monotonic()
    with _bar("yosys, nextpnr, ecppack: some minutes", None):
        figures = build(
            SelfTest(stored, f"GOBO {_ARRAY}"), options.folder,
            lambda work, seed: _say(
                f"building with yosys, nextpnr and ecppack in {work}, seed {seed} of the placer"
            ),
        )  # fmt: skip
    usage = usage_from(figures)
    cells = [(KINDS[kind], used, usage.available[kind]) for kind, used in usage.used.items()]
    rows = [(what, f"{used:,}", f"{there:,}", f"{100 * used / there:.1f} %")
            for what, used, there in cells]  # fmt: skip
    rows.append(("flip-flops", f"{figures['flip_flops']:,}", "one a logic cell", ""))
    lines = table(("LFE5U-85F", "used", "there are", "share"), rows)
    lines += ["", f"Highest clock: {usage.mhz:.2f} MHz; the board's has "
              f"{figures['clock_mhz']:g} MHz."]  # fmt: skip
    _say("\n".join(["", *lines, "", f"{time.monotonic() - begun:.0f} s"]))
    _say(f"written: {options.folder / 'top.bit'}, {figures['bytes']:,} bytes; on a board: "
         f"openFPGALoader -b ulx3s {options.folder / 'top.bit'}")  # fmt: skip
    if options.report:
        about = [
            f"The self-test of docs/fpga.md: array `{_ARRAY}`, the decode unit of its image, and "
            f"`{LAYER}` of {MODEL} in block RAM; {stored.words:,} words are due.",
            f"Bitstream: {figures['bytes']:,} bytes, sha256 {figures['sha256']}.",
            "",
        ]  # fmt: skip
        write_page(options.report, "The self-test on a ULX3S 85F", [*about, *lines],
                   options.command, tools.PACKAGES, (folder / "model.safetensors",))  # fmt: skip
        _say(f"written: {options.report}")


# -- utilisation ----------------------------------------------------------------------------


def _utilisation(options: argparse.Namespace) -> None:
    """Measure designs on devices."""
    if options.jobs < 1:
        raise FpgaError(f"--jobs must be at least 1, not {options.jobs}")
    if not options.limit > 0:
        raise FpgaError(f"--limit must be above 0 minutes, not {options.limit:g}")
    tools.versions()  # or they are missing
    from fpga.utilisation import Row, measure_all, named_jobs

    jobs = named_jobs(options.unit, options.config, options.device)
    _say(f"{len(jobs)} designs through yosys and nextpnr, by themselves and without pins; large "
         "ones take many minutes")  # fmt: skip
    with _bar("measured", len(jobs)) as (bar, task):

        def done(row: Row) -> None:
            bar.advance(task)
            _say(f"{row.unit} {row.config} on {row.device}: {words_of(row.usage)}")

        rows = measure_all(jobs, options.folder, options.jobs, done, 60 * options.limit)
    lines = []
    for name, device in DEVICES.items():
        mine = [row for row in rows if row.device == name]
        if mine:
            kinds = [kind for kind in KINDS if kind in device.cells]
            heads = ("unit", "configuration", *(KINDS[kind] for kind in kinds), "flip-flops",
                     "highest clock")  # fmt: skip
            cells = [
                (row.unit, f"`{row.config}`", *(cells_of(kind, row.usage) for kind in kinds),
                 row.flip_flops, words_of(row.usage))
                for row in mine
            ]  # fmt: skip
            lines += [f"## {device.title}", "", f"Placed for {device.target_mhz} MHz.", "",
                      *table(heads, cells), ""]  # fmt: skip
    _say("\n".join(["", *lines[:-1]]))
    _say(f"\nwritten: {options.folder}/*.json")
    if options.report:
        about = [
            "Each design by itself, without pins: paths from and to ports do not count. One run of "
            "the placer each, whose seeds differ by some percent, and another seed where the "
            "router comes to no end.",
            "Logic cells are 4-input tables, and what carry chains and small memories take of "
            "them, of an ECP5; tables with their flip-flop of an iCE40.",
            f"What was not routed {options.limit:g} minutes after its placer began, or with no "
            "seed, has the placer's estimate of its clock.",
            "",
        ]
        write_page(options.report, "Units on FPGAs", [*about, *lines[:-1]], options.command,
                   tools.PACKAGES)  # fmt: skip
        _say(f"written: {options.report}")


def cells_of(kind: str, usage: Usage) -> str:
    """Return how many of a kind are used, and their share of the device's."""
    used, available = usage.used[kind], usage.available[kind]
    return f"{used:,} ({100 * used / available:.1f} %)"


def words_of(usage: Usage) -> str:
    """Return the frequency, or by how much a design does not fit."""
    if usage.over:
        needs = (f"{times:.2f} times the {KINDS[kind]}" for kind, times in usage.over.items())
        return f"does not fit: {', '.join(needs)} that there are"
    return f"{usage.mhz:.1f} MHz{'' if usage.routed else ', as placed: not routed'}"


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 2 (it could not be done), or 130."""
    signal.signal(signal.SIGTERM, _terminated)
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    options.command = f"python -m fpga {shlex.join(words)}"
    try:
        options.run(options)
        return 0
    except (FpgaError, ModelError, QuantError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, the same command goes on", file=sys.stderr)
        return _INTERRUPTED
    return 2


if __name__ == "__main__":
    os.nice(10)  # for hours, perhaps
    sys.exit(main())
