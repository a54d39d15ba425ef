"""What the front end brings to the host arrays: a layer's job from memories of any bandwidth.

The weights of a layer are the same however they are stored, so its results are, and they are
compared with the golden model's, all of them in every point.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import groupby, product
from pathlib import Path
from threading import Event

import numpy as np

import sim.golden
from gobo_rtl.formats import IMAGE_HEADER, LAYER_DESCRIPTOR
from gobo_rtl.host_config import HOSTS, WEIGHTS, HostConfig
from quant.output import replacing
from sim.golden.hosts.engine import compute
from sim.golden.values import Bits
from sim.jobs import Layout, Run, lay_out, unpack
from sim.model.accelerator import open_container
from sim.model.fetch import locate
from sim.model.host import Host, HostLayer

from .cycles import LAYERS, PREFIX, seeded_container
from .machine import Machine
from .model import host_image, layer_cycles, quantise

__all__ = [
    "BANDWIDTHS", "KINDS", "LATENCY", "MINILM", "SHAPES", "STARVED", "TOKENS", "Bench",
    "Measured", "Point", "Source", "all_points", "expected_cycles", "first_points",
    "make_sources", "measure_all", "some_points",
]  # fmt: skip

LATENCY = 30
"""Cycles from a read's address to its first beat."""

KINDS = ("tpu", "eyeriss", "tensor_core")
TOKENS = (1, 16, 128)
BANDWIDTHS = (2, 4, 8, 16, 32)
"""Bytes a cycle."""
STARVED = 4
"""Bytes a cycle that keep no host at work, however its weights are stored."""

MINILM = {
    (384, 384): "encoder.layer.0.attention.self.query.weight",
    (1536, 384): "encoder.layer.0.intermediate.dense.weight",
    (384, 1536): "encoder.layer.0.output.dense.weight",
}
"""Layers of all-MiniLM-L6-v2 by outputs and inputs."""

SHAPES = (*MINILM, *sorted(set(LAYERS.values())))
"""Outputs and inputs of the layers."""

_OUTLIERS = 0.001  # of the weights that are seeded
_SEED = 2020

Shape = tuple[int, int]


@dataclass(frozen=True, order=True)
class Point:
    """A job to be measured: a host by name, a layer's outputs and inputs, tokens, bytes a cycle
    of the memory, 0 for no bound, and how weights are stored."""

    host: str
    shape: Shape
    tokens: int
    bandwidth: int
    weights: str


@dataclass(frozen=True)
class Measured:
    """What a job took: its cycles, bytes by channel; the words of its results, and how many are
    wrong."""

    cycles: int
    bytes: dict[str, int]
    words: int
    wrong: int


@dataclass(frozen=True, eq=False)
class Source:
    """A layer: its container, its name in it, and its weights."""

    container: Path
    name: str
    layer: HostLayer


def all_points(hosts: Iterable[str] = KINDS) -> list[Point]:
    """Return all points of hosts."""
    return [Point(*each) for each in product(hosts, SHAPES, TOKENS, BANDWIDTHS, WEIGHTS)]


def some_points(hosts: Iterable[str] = KINDS) -> list[Point]:
    """Return those of the smallest layer, and of the others what tells most: one token from a
    memory that starves the hosts, and one and the most of them from an ample one."""

    def chosen(point: Point) -> bool:
        starved = point.tokens == TOKENS[0] and point.bandwidth == STARVED
        ample = point.tokens != TOKENS[1] and point.bandwidth == BANDWIDTHS[-1]
        return point.shape == SHAPES[0] or starved or ample

    return [point for point in all_points(hosts) if chosen(point)]


def first_points(configs: Mapping[str, HostConfig]) -> list[Point]:
    """Return jobs of a single weight word and token, without a bound of bandwidth: what they take
    differs by when that word is there."""
    return [
        Point(host, (config.rows, config.word_inputs), 1, 0, weights)
        for host, config in configs.items() for weights in WEIGHTS
    ]  # fmt: skip


def make_sources(folder: Path, shapes: Iterable[Shape]) -> dict[Shape, Source]:
    """Return a layer of each shape, at 3 bits: of all-MiniLM-L6-v2 where it has one, of seeded
    Gaussian weights else. Their containers go to ``folder``."""
    shapes = list(dict.fromkeys(shapes))
    found: dict[Shape, Source] = {}
    if trained := {shape: MINILM[shape] for shape in shapes if shape in MINILM}:
        container = quantise(locate("all-minilm-l6-v2"), folder / "minilm", "fp16")
        found |= _sources(container, trained)
    for shape in shapes:
        if shape not in MINILM:  # by itself, the same whatever else is measured
            name, rng = f"{shape[0]}x{shape[1]}", np.random.default_rng([_SEED, *shape])
            container = seeded_container(folder / name, rng, {name: shape}, _OUTLIERS, "fp16")
            found |= _sources(container, {shape: f"{PREFIX}{name}.weight"})
    return found


def _sources(container: Path, names: Mapping[Shape, str]) -> dict[Shape, Source]:
    layers = Host.of(HOSTS["tpu"], open_container(container)).layers  # the same for all hosts
    return {shape: Source(container, name, layers[name]) for shape, name in names.items()}


def image_bits(image: bytes) -> float:
    """Return the bits that a weight takes in the streams of an image's only layer."""
    at = IMAGE_HEADER.size
    fields = unpack(LAYER_DESCRIPTOR, image[at : at + LAYER_DESCRIPTOR.size])
    size = fields["index_bytes"] + fields["outlier_bytes"]
    return 8 * size / (fields["rows"] * fields["columns"])


def activations(shape: Shape, tokens: int) -> Bits:
    """Return the (tokens, inputs) activations of a point, as bits of FP16."""
    rng = np.random.default_rng(_SEED)
    return rng.normal(0, 1, (tokens, shape[1])).astype(np.float16).view(np.uint16)


class Bench:
    """Images and simulations for points, and what is known of these, in files named by all that
    they come from.

    Parameters
    ----------
    configs : HostConfig by the name of a host
    sources : Source by shape
    folder : Path
        Where points are kept.
    build_dir : Path
        Where simulations are, see :class:`Machine`.
    points : Iterable of Point
        What it has to be ready for.
    building : Callable
        Called with host and weights before each simulation is made, which takes minutes.
    latency : int
        Cycles from a read's address to its first beat.
    """

    def __init__(
        self, configs: Mapping[str, HostConfig], sources: Mapping[Shape, Source], folder: Path,
        build_dir: Path, points: Iterable[Point],
        building: Callable[[str, str], object] = lambda host, weights: None,
        latency: int = LATENCY,
    ) -> None:  # fmt: skip
        self.configs, self.sources, self.latency = configs, sources, latency
        self._kept = folder / "points"
        self._kept.mkdir(parents=True, exist_ok=True)
        self._golden = _golden()
        points = list(points)
        self._images: dict[tuple[str, str, Shape], bytes] = {}
        for host, weights, shape in sorted({(p.host, p.weights, p.shape) for p in points}):
            source = sources[shape]
            layers = {source.name: source.layer}
            image = host_image(self.config(host, weights), source.container, layers)
            self._images[host, weights, shape] = image
        sizes: dict[tuple[str, str], int] = {}
        for point in points:
            size = len(self.layout(point).memory)
            key = point.host, point.weights
            sizes[key] = max(sizes.get(key, 0), size)
        self._machines: dict[tuple[str, str], Machine] = {}
        for (host, weights), size in sizes.items():
            building(host, weights)
            machine = Machine(self.config(host, weights), build_dir, size)
            self._machines[host, weights] = machine

    def config(self, host: str, weights: str) -> HostConfig:
        """Return the configuration of a host with weights stored so."""
        return replace(self.configs[host], weights=weights)

    def bits(self, point: Point) -> float:
        """Return the bits that a weight takes in memory."""
        return image_bits(self._images[point.host, point.weights, point.shape])

    def layout(self, point: Point) -> Layout:
        """Return the memory of a point."""
        config = self.config(point.host, point.weights)
        acts = activations(point.shape, point.tokens)
        image = self._images[point.host, point.weights, point.shape]
        return lay_out(config.array, image, [Run(0, acts, interrupt=True)], packed=config.image)

    def path(self, point: Point) -> Path:
        """Return where a point is kept."""
        machine = self._machines[point.host, point.weights]
        kind = " ".join(Measured.__annotations__)
        words = f"{kind} {machine.key} {self._golden} {point.bandwidth} {self.latency} "
        what = sha256(words.encode() + self.layout(point).memory.tobytes()).hexdigest()
        return self._kept / f"{what[:24]}.json"

    def due(self, point: Point) -> Bits:
        """Return the results of a point by the golden model: the same however weights are."""
        layer = self.sources[point.shape].layer
        acts = np.asarray(activations(point.shape, point.tokens), np.uint16)
        return compute(self.configs[point.host], layer.weights, acts, layer.bias)

    def run(
        self, point: Point, due: Bits, advance: Callable[[int], object] = lambda cycles: None
    ) -> Measured:
        """Simulate a point, and compare its results with those that are ``due``."""
        with copy(self._machines[point.host, point.weights]) as machine:
            machine.memory_manners(bandwidth=point.bandwidth, latency=self.latency)
            finished = machine.run(self.layout(point), advance=advance)
            moved = machine.beats()
        (results,), (completion,) = finished.results, finished.completions
        wrong = due.size if results is None else int((results != due).sum())
        sizes = {name: beats * machine.config.beat_bytes for name, beats in moved.items()}
        return Measured(completion.cycles, sizes, due.size, wrong)


def _golden() -> str:
    """Return what the golden model is, by its sources."""
    files = sorted(Path(sim.golden.__path__[0]).rglob("*.py"))
    return sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:24]


def expected_cycles(config: HostConfig, point: Point) -> int:
    """Return about how many cycles a point takes."""
    rows, inputs = point.shape
    bits = {"gobo": 3.1, "fp16": 16, "fp32": 32}[point.weights]
    beat = config.beat_width // 8
    wire = rows * inputs * bits / 8 / min(point.bandwidth or beat, beat)
    return int(max(wire, layer_cycles(config, rows, inputs, point.tokens)))


def measure_all(
    bench: Bench, points: Sequence[Point], jobs: int,
    advance: Callable[[int], object] = lambda cycles: None,
) -> dict[Point, Measured]:  # fmt: skip
    """Return what points took, measured now or before; ``jobs`` of them at a time.

    A point is kept as soon as it is done. ``advance`` is called with the cycles that points were
    expected to take, part by part; all in all those of all points.
    """
    found: dict[Point, Measured] = {}
    for point in points:
        if (path := bench.path(point)).is_file():
            found[point] = Measured(**json.loads(path.read_text(encoding="utf-8")))
            advance(expected_cycles(bench.configs[point.host], point))
    stop = Event()

    def group(members: list[Point]) -> None:
        if not stop.is_set():
            due = bench.due(members[0])
            for point in members:
                found[point] = _one(bench, point, due, advance, stop)

    def job(point: Point) -> tuple[str, Shape, int]:
        return point.host, point.shape, point.tokens

    groups = [list(each) for _, each in groupby(sorted(set(points) - set(found)), job)]
    groups.sort(key=lambda each: -sum(expected_cycles(bench.configs[p.host], p) for p in each))
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in [pool.submit(group, members) for members in groups]:
                future.result()
        except BaseException:  # an interrupt, too: no simulation outlives it
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return {point: found[point] for point in points}


class _StoppedError(RuntimeError):
    """Another point has failed, or the program was interrupted."""


def _one(
    bench: Bench, point: Point, due: Bits, advance: Callable[[int], object], stop: Event
) -> Measured:
    """Simulate a point and keep it."""
    left = expected_cycles(bench.configs[point.host], point)

    def passed(cycles: int) -> None:
        nonlocal left
        if stop.is_set():
            raise _StoppedError
        advance(min(cycles, left))
        left -= min(cycles, left)

    measured = bench.run(point, due, passed)
    advance(left)
    with replacing(bench.path(point), force=True) as file:
        file.write(json.dumps(asdict(measured)).encode())
    return measured
