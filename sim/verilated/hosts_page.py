"""Points of hosts as tables, sentences and plots."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from gobo_rtl.host_config import HostConfig
from sim.page import share, table

from .hosts import Measured, Point, Shape
from .model import layer_cycles, multipliers
from .plot import Line, draw

__all__ = ["LEAST", "Results", "bandwidth_plot", "page", "tokens_plot"]

LEAST = 0.97
"""Of the bound of the bits a weight, what a starved memory has to give with one token."""

_LATEST = 40  # cycles that the first weight may come after a plain read's
_NAMES = {"fp32": "FP32", "fp16": "FP16", "gobo": "3 bits"}
_PLAIN = ("fp32", "fp16")
Results = Mapping[Point, Measured]
Case = tuple[str, Shape, int, int]  # host, shape, tokens, bandwidth


class Cases:
    """Points with all ways to store weights beside each other, and what follows from them."""

    def __init__(
        self, configs: Mapping[str, HostConfig], found: Results, bits: Callable[[Point], float]
    ) -> None:
        self.configs, self.found, self._bits = configs, found, bits
        names = {(p.host, p.shape, p.tokens, p.bandwidth) for p in found if p.bandwidth}
        order = list(configs)
        self.all: list[Case] = sorted(names, key=lambda case: (order.index(case[0]), *case[1:]))

    def __call__(self, case: Case, weights: str) -> Measured:
        """Return what a case took."""
        return self.found[Point(*case, weights)]

    def speed_up(self, case: Case, plain: str) -> float:
        """Return how many times the cycles of 3 bits those of plain weights are."""
        return self(case, plain).cycles / self(case, "gobo").cycles

    def bits(self, case: Case, weights: str = "gobo") -> float:
        """Return the bits that a weight takes in memory."""
        return self._bits(Point(*case, weights))

    def bound(self, case: Case, plain: str) -> float:
        """Return the bound of the bits a weight."""
        return self.bits(case, plain) / self.bits(case)

    def byte_bound(self, case: Case, plain: str) -> float:
        """Return the bound of all bytes that are moved, not of weights only."""
        sizes = [sum(self(case, weights).bytes.values()) for weights in (plain, "gobo")]
        return sizes[0] / sizes[1]

    def use(self, case: Case, weights: str) -> str:
        """Return the share of the PEs' cycles with a multiply-accumulate."""
        host, (rows, inputs), tokens, _ = case
        pes = multipliers(self.configs[host])
        return share(rows * inputs * tokens, pes * self(case, weights).cycles)

    def least(self, case: Case) -> int:
        """Return the cycles that the array needs."""
        host, shape, tokens, _ = case
        return layer_cycles(self.configs[host], *shape, tokens)

    def waits(self, case: Case, weights: str) -> str:
        """Return the share of cycles beyond those that the array needs."""
        cycles = self(case, weights).cycles
        return share(max(0, cycles - self.least(case)), cycles)

    def layers(self) -> Iterator[tuple[str, Shape, list[Case]]]:
        """Yield hosts and layers with their cases."""
        for (host, shape), cases in groupby(self.all, lambda case: case[:2]):
            yield host, shape, list(cases)


def _shape(shape: Shape) -> str:
    return f"{shape[0]} x {shape[1]}"


def page(
    configs: Mapping[str, HostConfig], found: Results, bits: Callable[[Point], float],
    latency: int, pictures: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Return the page's lines; ``pictures`` are files beside it."""
    cases = Cases(configs, found, bits)
    words = sum(measured.words for measured in found.values())
    wrong = sum(measured.wrong for measured in found.values())
    sizes = [
        (f"`{host}`", multipliers(config), config.rows, config.tile_inputs, config.lanes,
         config.beat_width // 8)
        for host, config in configs.items()
    ]  # fmt: skip
    lines = [
        f"{len(found)} jobs of one layer on the emitted Verilog in Verilator, each from reset; "
        f"{words:,} result words compared with the golden model, {wrong:,} wrong.",
        "The same weights, stored in three ways, give the same results. All channels of the memory "
        f"share its bytes a cycle; a read is answered after {latency} cycles.",
        "Cycles are a job's, from its fetch to the response to its last result. A channel gives at "
        "most a beat a cycle, so what plain weights lose to that remains, however wide the memory "
        "is. The memory-bound share is that of the cycles beyond those that the array needs by "
        "docs/hosts.md, section 3: what the beginning and the end of a job take is in it.",
        "",
        *table(("host", "PEs", "outputs of a strip", "inputs of a weight tile",
                "weights of a word", "bytes of a beat"), sizes),
        "",
        "## What it says",
        "",
        *_starved(cases), "", *_computing(cases), "", *_first(cases, latency), "",
        *(f"![{name.partition('.')[0]}]({name})" for name in pictures),
        "",
    ]  # fmt: skip
    for host in configs:
        lines += [f"## `{host}`", "", *_table(cases, host), ""]
    return [*lines, "## Bytes by channel", "", *_bytes(cases)]


def _starved(cases: Cases) -> list[str]:
    """Say how near to the bound the slowest memory comes with the fewest tokens."""
    rows: list[list[object]] = []
    missed: list[str] = []
    for host, shape, every in cases.layers():
        case = min(every, key=lambda each: each[2:])
        row: list[object] = [f"`{host}`", _shape(shape), case[2], case[3],
                             f"{cases.bits(case):.4f}"]  # fmt: skip
        for plain in _PLAIN:
            part = cases.speed_up(case, plain) / cases.bound(case, plain)
            bytes_part = cases.speed_up(case, plain) / cases.byte_bound(case, plain)
            if part < LEAST:
                missed.append(f"`{host}` {_shape(shape)} over {_NAMES[plain]} ({part:.4f})")
            row += [f"{cases.speed_up(case, plain):.2f}", f"{cases.bound(case, plain):.2f}",
                    f"{part:.4f}", f"{bytes_part:.4f}"]  # fmt: skip
        rows.append(row)
    heads = ["host", "layer", "tokens", "bytes a cycle", "bits a weight"]
    for plain in _PLAIN:
        heads += [f"speed-up over {_NAMES[plain]}", "bound", "of it", "of that of all bytes"]
    return [
        "**Starved.** The fewest tokens and the slowest memory that were measured of each layer. "
        "The bound is that of the bits that a weight takes with its outliers and headers; without "
        "outliers it is 10.67 and 5.33.",
        "Activations, biases and results are read and written by all alike, which the bound of all "
        "bytes takes into account.",
        f"At least {LEAST} of the bound of the bits a weight: "
        f"{f'not {_and(missed)}' if missed else 'all'}.",
        "",
        *table(heads, rows),
    ]


def _and(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if names[:-1] else "") + names[-1]


def _computing(cases: Cases) -> list[str]:
    """Say what the front end costs where the array is the limit."""
    rows = []
    for host, shape, every in cases.layers():
        case = max(every, key=lambda each: each[2:])
        cycles = [cases(case, weights).cycles for weights in ("fp16", "gobo")]
        rows.append((f"`{host}`", _shape(shape), case[2], case[3], cases.least(case), *cycles,
                     cycles[1] - cycles[0]))  # fmt: skip
    most = max(row[-1] for row in rows)
    verdict = (
        f"No more than {most} cycles in a whole job, which is its beginning: none in steady state."
        if most <= _LATEST
        else f"Up to {most} cycles in a job."
    )
    return [
        "**Compute-bound.** The most tokens and the fastest memory that were measured of each "
        f"layer: cycles of 3 bits beyond those of FP16. {verdict}",
        "",
        *table(("host", "layer", "tokens", "bytes a cycle", "array's cycles", "cycles, FP16",
                "cycles, 3 bits", "more"), rows),
    ]  # fmt: skip


def _first(cases: Cases, latency: int) -> list[str]:
    """Say when the first weight is there."""
    firsts = {(p.host, p.weights): m.cycles for p, m in cases.found.items() if not p.bandwidth}
    rows = [
        (f"`{host}`", *(firsts[host, weights] for weights in (*_PLAIN, "gobo")),
         firsts[host, "gobo"] - firsts[host, "fp16"], firsts[host, "gobo"] - firsts[host, "fp32"])
        for host in cases.configs
    ]  # fmt: skip
    most = max(max(row[-2:]) for row in rows)
    verdict = "within" if most <= _LATEST else "beyond"
    return [
        "**First weight.** A job of one weight word and one token, without a bound of bandwidth: "
        "it is as much longer as its first weight is later, reading the codebook included. At most "
        f"{most} cycles, {verdict} {_LATEST}; the codebook is asked for while its descriptor "
        f"comes, and of the {latency} cycles until the memory answers only those are in them that "
        "this does not hide. In a queue of jobs they pass while the job before is at work.",
        "",
        *table(("host", "cycles, FP32", "cycles, FP16", "cycles, 3 bits", "later than FP16",
                "later than FP32"), rows),
    ]  # fmt: skip


def _table(cases: Cases, host: str) -> list[str]:
    heads = ["layer", "tokens", "bytes a cycle"]
    heads += [f"cycles, {_NAMES[weights]}" for weights in (*_PLAIN, "gobo")]
    heads += [f"array in use, {_NAMES[weights]}" for weights in (*_PLAIN, "gobo")]
    heads += [f"memory-bound, {_NAMES[weights]}" for weights in (*_PLAIN, "gobo")]
    for plain in _PLAIN:
        heads += [f"speed-up over {_NAMES[plain]}", "of its bound"]
    rows = []
    for case in cases.all:
        if case[0] != host:
            continue
        row: list[object] = [_shape(case[1]), *case[2:]]
        row += [cases(case, weights).cycles for weights in (*_PLAIN, "gobo")]
        row += [cases.use(case, weights) for weights in (*_PLAIN, "gobo")]
        row += [cases.waits(case, weights) for weights in (*_PLAIN, "gobo")]
        for plain in _PLAIN:
            up = cases.speed_up(case, plain)
            row += [f"{up:.2f}", f"{up / cases.bound(case, plain):.3f}"]
        rows.append(row)
    return table(heads, rows)


def _bytes(cases: Cases) -> list[str]:
    """Return the bytes of jobs, which are the same whatever the memory's bandwidth."""
    channels = list(next(iter(cases.found.values())).bytes)
    rows = []
    for host, shape, every in cases.layers():
        for tokens in sorted({case[2] for case in every}):
            case = next(each for each in every if each[2] == tokens)
            for weights in (*_PLAIN, "gobo"):
                sizes = cases(case, weights).bytes
                rows.append((f"`{host}`", _shape(shape), tokens, _NAMES[weights],
                             *sizes.values(), sum(sizes.values())))  # fmt: skip
    return table(("host", "layer", "tokens", "weights", *channels, "all"), rows)


# -- plots ----------------------------------------------------------------------------------


def _lines(
    cases: Cases, chosen: Callable[[Case], bool], x: Callable[[Case], int]
) -> tuple[list[Line], list[tuple[str, float]]]:
    """Return a line for each host and kind of plain weights over the chosen cases, and bounds."""
    lines, bounds = [], {}
    for n, host in enumerate(cases.configs):
        mine = [case for case in cases.all if case[0] == host and chosen(case)]
        for plain in _PLAIN:
            points = [(float(x(case)), cases.speed_up(case, plain)) for case in mine]
            if points:
                lines.append(Line(f"{host}, over {_NAMES[plain]}", n, sorted(points),
                                  open=plain == "fp16"))  # fmt: skip
                bounds[f"bound, {_NAMES[plain]}"] = cases.bound(mine[0], plain)
    return lines, list(bounds.items())


def bandwidth_plot(
    configs: Mapping[str, HostConfig], found: Results, bits: Callable[[Point], float]
) -> str:
    """Return speed-up against bandwidth with one token, of the layer that is measured most."""
    cases = Cases(configs, found, bits)
    shape = _most(cases)
    tokens = min(case[2] for case in cases.all)
    lines, bounds = _lines(cases, lambda case: case[1:3] == (shape, tokens), lambda case: case[3])
    return draw(f"Speed-up of 3-bit weights: {_shape(shape)}, {_count(tokens)}",
                "bytes a cycle of the memory", "speed-up", lines, bounds)  # fmt: skip


def tokens_plot(
    configs: Mapping[str, HostConfig], found: Results, bits: Callable[[Point], float]
) -> str:
    """Return speed-up against tokens from a starved memory, of the layer that is measured most."""
    cases = Cases(configs, found, bits)
    shape = _most(cases)
    bandwidths = sorted({case[3] for case in cases.all if case[1] == shape})
    bandwidth = bandwidths[(len(bandwidths) - 1) // 2]
    lines, bounds = _lines(
        cases, lambda case: case[1] == shape and case[3] == bandwidth, lambda case: case[2]
    )
    return draw(f"Speed-up of 3-bit weights: {_shape(shape)}, {bandwidth} bytes a cycle", "tokens",
                "speed-up", lines, bounds)  # fmt: skip


def _most(cases: Cases) -> Shape:
    shapes = [case[1] for case in cases.all]
    return max(dict.fromkeys(shapes), key=shapes.count)


def _count(tokens: int) -> str:
    return f"{tokens} token{'s' if tokens > 1 else ''}"
