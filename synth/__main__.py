"""Command line: ``python -m synth area|run|table|power|explore``."""

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip

from synth import (
    SynthError,
    explore,
    flow,
    gates,
    history,
    limits,
    pdk,
    points,
    report,
    sky130,
    table,
    whole,
)
from synth.files import write
from synth.library import Library, load

EXAMPLE = """\
examples:
  python -m synth run
  python -m synth run --liberty sg13g2_stdcell_typ_1p20V_25C.lib.gz --config default
  python -m synth run --pdk asap7 --pdk-dir ~/pdk --config default
  python -m synth run --unit column --verilog build/blocks
  python -m synth area --config default
  python -m synth table --pdk sg13g2 --pdk-dir ~/pdk --only "products, 16 bits"
  python -m synth power --unit column --verilog build/blocks --config default \\
      --pdk sg13g2 --pdk-dir ~/pdk --trace build/workload/default.npz
  python -m synth explore --pdk sg13g2 --pdk-dir ~/pdk --picture docs/results/pareto.svg
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m synth", description=__doc__, epilog=EXAMPLE, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="area|run|table|power|explore"
    )
    for name, text in (
        ("area", "print the area of each configuration, one line each"),
        ("run", "area, cells, critical path and limits: a table, JSON and CSV"),
        ("table", "the array's PEs and their references beside each other, area, path and energy; "
         "blocks, buffers, decode units, whole arrays; takes two hours, and what is done is not "
         "done again"),
        ("power", "what a netlist takes to do what `python -m sim.workload` has seen the RTL do; "
         "every output has to be the RTL's"),
        ("explore", "measure PEs by kind, width, rows and codebook, and write a page with Pareto "
         "plots; what is done already is not done again"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        library = command.add_mutually_exclusive_group()
        library.add_argument(
            "--liberty", type=Path, nargs="+", metavar="FILE",
            help="cell library, .lib or .lib.gz, several if it is in parts (default: open "
            "SkyWater 130 nm areas)",
        )  # fmt: skip
        library.add_argument(
            "--pdk", choices=list(pdk.KITS), help="an open process kit's library for typical use"
        )
        command.add_argument(
            "--pdk-dir", type=Path, metavar="DIR",
            help="where its files are, at any depth (default: where Debian puts osu180)",
        )  # fmt: skip
        command.add_argument(
            "-o", "--output", type=Path, metavar="DIR",
            default=Path("build/explore" if name == "explore" else "build/synth"),
            help="where results, netlists and logs go (default: %(default)s)",
        )  # fmt: skip
        if name == "table":
            _add_table(command)
            continue
        command.add_argument(
            "--clock", type=float, metavar="NS",
            default=points.CLOCK_NS if name == "explore" else 2.5,
            help="clock period to map for, in ns (default: %(default)s)",
        )  # fmt: skip
        _add_options(command, points.CHOICES if name == "explore" else flow.DEFAULT)
        if name == "explore":
            explore.add_arguments(command)
            continue
        command.add_argument(
            "--config", action="append", default=[], metavar="NAME",
            help="a configuration, may be given several times (default: all that are emitted)",
        )  # fmt: skip
        command.add_argument(
            "--unit", default="decode",
            help="what to take, also a block of an accelerator as `python -m gobo_rtl list` shows "
            "them, or all `blocks` that are in the folder (default: %(default)s)",
        )  # fmt: skip
        command.add_argument(
            "--verilog", type=Path, default=Path("build/verilog"), metavar="DIR",
            help="where UNIT_NAME.v and .json are (default: %(default)s)",
        )  # fmt: skip
        if name == "run":
            command.add_argument(
                "--update", action="store_true",
                help="make what is measured the limits in synth/limits.toml",
            )  # fmt: skip
            command.add_argument(
                "--history", type=Path, metavar="FILE.csv",
                help="add a line for each module to this file, of a commit without changes",
            )  # fmt: skip
        if name == "power":
            command.add_argument(
                "--trace", type=Path, required=True, metavar="FILE.npz",
                help="of the one configuration, by `python -m sim.workload`",
            )  # fmt: skip
    return parser


def _add_table(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `table`, whose clock and options are those of `synth.points`."""
    command.add_argument(
        "--only", action="append", default=[], metavar="WORDS",
        help='only PEs whose title has these words, as "products, 16 bits"; may be given several '
        "times",
    )  # fmt: skip
    command.add_argument("--report", type=Path, metavar="FILE.md",
                         help="also write the table as a page")  # fmt: skip


def _add_options(command: argparse.ArgumentParser, default: flow.Options) -> None:
    """Add the arguments of `flow.Options`."""
    command.add_argument(
        "--booth", action="store_true", help="multipliers of Booth's digits"
    )
    command.add_argument(
        "--adder", default=default.adder, metavar="TREE",
        help=f"tree of carries: {', '.join(flow.ADDERS)} (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--gate-fanout", type=int, default=default.gate_fanout, metavar="N",
        help="flip-flops of a clock gate at most, 0 for any number (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--fanout", type=int, default=default.fanout, metavar="N",
        help="gates that a flip-flop or an input drives at most, others by trees of buffers; 0 "
        "leaves buffers to ABC (default: %(default)s)",
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 when a limit is exceeded, or 2 for bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        return _run(options, shlex.join(["python", "-m", "synth", *words]))
    except SynthError as error:
        print(f"synth: {error}", file=sys.stderr)
    except OSError as error:
        print(f"synth: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        kept = options.command == "explore"
        print("synth: interrupted; " + ("points that are done are kept, the same command goes on"
              if kept else "nothing was reported"), file=sys.stderr)  # fmt: skip
        return 130
    return 2


def _run(options: argparse.Namespace, words: str) -> int:
    if options.command == "table":
        return _table(options, words)
    if not 0.01 <= options.clock <= 1000:
        raise SynthError(f"--clock must be in 0.01..1000 ns, not {options.clock:g}")
    choices = flow.Options(
        options.booth, options.adder, options.gate_fanout, options.fanout
    )
    if options.command == "run" and options.update and choices != flow.DEFAULT:
        raise SynthError("limits are of what the flow does by itself: --update goes without "
                         "--booth, --adder, --gate-fanout and --fanout")  # fmt: skip
    is_sweep = options.command == "explore"
    designs = [] if is_sweep else report.find_designs(
        options.verilog, options.config, options.unit
    )  # fmt: skip
    errors = Console(stderr=True)
    wants_history = options.command == "run" and options.history
    commit = history.clean_commit(options.history) if wants_history else ""
    first, *more = _library(options)
    if is_sweep:
        liberty = tuple(path.resolve() for path in (first, *more))
        setting = explore.Setting(liberty, options.clock, options.output.resolve(), choices,
                                  options.energy)  # fmt: skip
        return explore.run(options, setting, words)
    library = load(first, options.output, *more)
    if options.command == "power":
        return _power(options, choices, designs, library)
    bar = Progress(
        TextColumn("synth {task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=errors, transient=True, disable=not errors.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(library.name, total=len(designs))
        rows = report.measure_all(
            report.area if options.command == "area" else report.measure,
            designs, library, options.clock, options.output, choices, lambda: bar.advance(task),
        )  # fmt: skip
    if options.command == "area":
        for row in rows:
            print(f"{row['config']:8} {row['area_um2']:12,.1f} um2 in {library.name}")
        return 0
    paths = report.save(rows, library, options.clock, options.output, options.unit)
    Console(width=None if sys.stdout.isatty() else 110).print(
        report.table(rows, library, options.clock)
    )
    print("written: " + ", ".join(str(path) for path in paths))
    if options.history:
        added = history.append(options.history, rows, library, options.clock, commit)
        print(f"{options.history}: {added} lines added")
    if options.update:
        limits.update(library.name, rows)
        print(f"{limits.FILE}: limits of {len(rows)} modules updated")
    # Limits are of what the flow does by itself.
    all_limits = limits.read() if choices == flow.DEFAULT else {}
    sentences = [text for row in rows for text in limits.over(all_limits, library.name, row)]
    for sentence in sentences:
        print(f"synth: {sentence}", file=sys.stderr)
    return 1 if sentences else 0


def _library(options: argparse.Namespace) -> list[Path]:
    """Return the files of the library that is asked for."""
    if options.pdk:
        return pdk.find(options.pdk, options.pdk_dir)
    if options.pdk_dir:
        raise SynthError("--pdk-dir is for --pdk, which is not given")
    if options.liberty:
        return list(options.liberty)
    print("synth: no library given: open SkyWater 130 nm areas, without timing", file=sys.stderr)
    return [sky130.area_library(options.output)]


def _table(options: argparse.Namespace, words: str) -> int:
    """Measure the PEs beside each other."""
    first, *more = _library(options)
    library = load(first, options.output, *more)
    kinds = table.entries()
    only = options.only or [""]
    chosen = [kind for kind in kinds if any(part in kind.title for part in only)]
    if not chosen:
        titles = "; ".join(kind.title for kind in kinds)
        raise SynthError(f"no PE has {' or '.join(only)!r} in its title; there are {titles}")
    if shutil.which("iverilog") is None:
        print("synth: no energy without iverilog: sudo apt-get install iverilog", file=sys.stderr)
    bar = Progress(
        TextColumn("synth {task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        disable=not sys.stderr.isatty(),
    )  # fmt: skip
    made, folder = report.made_by(library), options.output / "points" / library.name
    others: list[dict[str, Any]] = []
    with bar:
        others_count = 0 if options.only else whole.count()
        task = bar.add_task(library.name, total=table.count(chosen) + others_count)

        def done(name: str) -> None:
            bar.update(task, advance=1, description=name)

        rows, failed = table.run(chosen, library, folder, done)
        if not options.only:
            others, others_failed = whole.run(library, folder, done)
            failed += others_failed
    for sentence in failed:
        print(f"synth: {sentence}", file=sys.stderr)
    if table.REFERENCE.name not in rows:
        return 1
    found = table.figures(chosen, rows)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table.table(found, library))
    if others:
        console.print(table.whole_table(others, library))
    name = "some" if options.only else "table"
    paths = table.save(found, others, library, options.output, name)
    if options.report:
        write(options.report, table.page(found, others, library, words, made))
        paths.append(options.report)
    print("written: " + ", ".join(str(path) for path in paths))
    return 1 if failed else 0


def _power(
    options: argparse.Namespace, choices: flow.Options, designs: Sequence[report.Design],
    library: Library,
) -> int:  # fmt: skip
    """Measure one design at work, and say so in a line."""
    if len(designs) != 1:
        raise SynthError(f"a trace is of one configuration, not of {len(designs)}: give --config")
    if not library.has_timing:
        raise SynthError(f"{library.name} has no power: give --liberty or --pdk")
    trace = gates.load_trace(options.trace, options.unit)
    row = report.at_work(designs[0], library, options.clock, options.output, trace, choices)
    print(
        f"{row['top']} in {library.name}: {row['area_um2']:,.0f} um2, {row['delay_ns']:.2f} ns; "
        f"{row['macs']:,} multiply-accumulates in {row['cycles']:,} cycles of "
        f"{row['clock_ns']:g} ns, every output in every cycle that of the RTL: "
        f"{row['internal_mw']:.2f} mW in cells, {row['switching_mw']:.2f} mW on nets, "
        f"{row['pj_per_mac']:.3f} pJ each"
    )
    if row["delay_ns"] > options.clock:
        print(f"synth: {row['top']} is slower than the clock; its energy is that of the same "
              f"cycles at {options.clock:g} ns", file=sys.stderr)  # fmt: skip
    print(f"written: {report.save_power(row, library, options.trace, options.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
