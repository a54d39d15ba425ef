# amaranth: UnusedElaboratable=no
"""Layers, images and jobs for the benches of the accelerator, of any shape and pattern, and what
counters must say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np

from gobo_rtl.array.array import Array
from gobo_rtl.array.finish import Finish
from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.config import GoboConfig
from gobo_rtl.top.fetch import Fetch
from quant.fit import Layer, Options, OutlierRule
from quant.image import write_image
from quant.packing import pack
from quant.record import StoredLayer
from sim.golden.cycles import Work, beats, pass_cycles
from sim.golden.image import Layer as ImageLayer
from sim.golden.image import read_image
from sim.golden.layer import ArrayLayer, compute, layer_of_image
from sim.golden.values import Bits
from sim.jobs import Run, lay_out
from sim.verilated.machine import Finished, Machine

__all__ = [
    "ACTIVATIONS", "PATTERNS", "STALLS", "Case", "Jobs", "Shape", "activations", "expect_cycles",
    "image_of", "make_image", "make_jobs", "run_jobs",
]  # fmt: skip

UNIT = -12
"""Exponent of the layers' unit."""

PATTERNS = ("none", "share:0.003", "share:0.02", "share:0.3", "row", "step", "all", "corners")
"""Where the outliers are: a share of the weights at random, all of a row, all of a step, all, the
corners. Also `row:0.5`, a half of a row, and `steps:0.02`, all of 2 % of the steps."""

ACTIVATIONS = ("normal", "wide", "extreme", "subnormal", "special", "zero")
"""Of what kind the activations are."""

STALLS = ("stall_weights", "stall_acts", "stall_outliers", "stall_drain")
"""Counters of the cycles in which a pass is due and no step is done."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A layer to be made: its sizes, its outliers, and what its biases are."""

    rows: int
    columns: int
    index_width: int = 3
    pattern: str = "share:0.02"
    bias: str = "normal"  # or "none", or "special": infinities, NaN, the greatest and the least
    symmetric: bool = False


def outlier_places(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return where the outliers are, a bool for each weight."""
    places = np.zeros((shape.rows, shape.columns), bool)
    kind, _, number = shape.pattern.partition(":")
    share = float(number or 1)
    if kind == "share":
        places = rng.random(places.shape) < share
    elif kind == "row":
        places[rng.integers(shape.rows)] = rng.random(shape.columns) < share
    elif kind == "steps":
        places[:, rng.permutation(shape.columns)[: round(share * shape.columns)]] = True
    elif kind == "step":
        places[:, rng.integers(shape.columns)] = True
    elif kind == "corners":
        places[np.ix_((0, -1), (0, -1))] = True
    elif kind == "all":
        places[:] = True
    elif kind != "none":
        raise ValueError(f"no pattern is called {shape.pattern!r}")
    return places


def _layer(rng: np.random.Generator, config: ArrayConfig, shape: Shape) -> Layer:
    """Return a layer on the grid that the array takes: its rows' sums stay within the bound."""
    grid = (1 << config.grid_width - 1) - 1
    half = np.sort(rng.integers(0, grid + 1, 1 << shape.index_width - 1))
    other = half if shape.symmetric else np.sort(rng.integers(0, grid + 1, half.size))
    codebook = np.concatenate([-half[::-1], other])
    places = outlier_places(rng, shape)
    # Significands of the format's full width, shifted as far as a row of nothing else allows.
    room = (1 << config.weight_sum_width) // shape.columns
    shift = min(max(room.bit_length() - config.value.fraction_width - 2, 0), 15 - UNIT - 12)
    most = min((2 << config.value.fraction_width) - 1, room - 1)
    outliers = rng.integers(-most, most + 1, int(places.sum()))
    outliers <<= rng.integers(0, shift + 1, outliers.size)
    indexes = rng.integers(0, codebook.size, places.size - outliers.size).astype(np.uint8)
    return Layer(
        options=Options(index_width=shape.index_width, value_format=config.value_format,
                        outliers=OutlierRule("share", 0.01), symmetric=shape.symmetric),
        shape=places.shape, mean=0.0, deviation=1.0, centroids=codebook * 2.0**UNIT,
        codebook=np.ldexp(codebook.astype(np.float32), UNIT), unit=UNIT, iterations=1,
        indexes=pack(indexes, shape.index_width), positions=np.flatnonzero(places),
        outliers=np.ldexp(outliers.astype(np.float32), UNIT),
        l1=0.0, max_error=0.0, squared_error=0.0, outlier_error=0.0,
    )  # fmt: skip


def _biases(rng: np.random.Generator, shape: Shape) -> np.ndarray | None:
    """Return the (rows,) FP32 biases."""
    if shape.bias == "none":
        return None
    biases = rng.normal(0, 3, shape.rows).astype(np.float32)
    if shape.bias == "special":
        corners = np.array([np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 1e-45, -0.0], np.float32)
        places = rng.random(shape.rows) < 0.5
        biases[places] = rng.choice(corners, int(places.sum()))
    return biases


def make_image(
    config: ArrayConfig, shapes: Sequence[Shape], seed: int
) -> tuple[bytes, list[ArrayLayer]]:
    """Return an image of random layers, packed for the array, and what the golden reader makes of
    it."""
    data, layers = image_of(config, shapes, seed, config)
    return data, [layer_of_image(config.image, layer) for layer in layers]


def image_of(
    config: ArrayConfig, shapes: Sequence[Shape], seed: int, target: ArrayConfig | GoboConfig
) -> tuple[bytes, list[ImageLayer]]:
    """Return an image of random layers that the array takes, packed for ``target``, and the layers
    read back."""
    rng = np.random.default_rng(seed)
    names = [f"{n:03}.weight" for n in range(len(shapes))]
    layers = {name: _layer(rng, config, shape) for name, shape in zip(names, shapes, strict=True)}
    raw: dict[str, np.ndarray] = {}
    stored: dict[str, Any] = {}
    for name, shape in zip(names, shapes, strict=True):
        biases = _biases(rng, shape)
        if biases is not None:
            bias_name = name.replace("weight", "bias")
            raw[bias_name] = biases.view(np.uint8)
            stored[bias_name] = SimpleNamespace(dtype="F32", shape=biases.shape)
    container: Any = SimpleNamespace(
        path=Path("made"), layers=names, stored=stored, raw=raw.__getitem__,
        metadata={"sha256": "00" * 32},
        layer=lambda name: StoredLayer(name, layers[name], "F32", False, 0),
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        path = Path(folder) / "image.bin"
        write_image(path, container, names, target)
        return path.read_bytes(), list(read_image(path).layers)


def activations(
    config: ArrayConfig, rng: np.random.Generator, tokens: int, inputs: int, kind: str
) -> np.ndarray:
    """Return (tokens, inputs) activations as bits of the array's format."""
    if config.act.integer:
        low = -(1 << config.act.width - 1)
        values = rng.integers(low, -low, (tokens, inputs))
        if kind == "zero":
            values *= 0
        elif kind == "extreme":
            values = rng.choice([low, -low - 1], (tokens, inputs))
        size = config.act.width // 8
        return values.astype(f"i{size}").view(f"u{size}")
    dtype = np.float16 if config.act.width == 16 else np.float32
    most = np.finfo(dtype).max
    values = rng.normal(0, 1, (tokens, inputs))
    if kind == "wide":
        values *= 2.0 ** rng.integers(-14, 12, values.shape)
    elif kind == "extreme":
        values = rng.choice([most, -most], values.shape)
    elif kind == "subnormal":
        values *= np.finfo(dtype).tiny / 2
    elif kind == "zero":
        values *= 0
    elif kind == "special":
        values[rng.random(tokens) < 0.5, rng.integers(inputs)] = rng.choice([np.inf, np.nan])
    elif kind != "normal":
        raise ValueError(f"no activations are called {kind!r}")
    return values.astype(dtype).view(f"u{dtype().nbytes}")


# -- jobs -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Case:
    """A job: a layer's shape, its activations, and how it is run."""

    shape: Shape
    tokens: int
    acts: str = "normal"
    block_tiles: int = 1
    resident: bool = False


@dataclass(frozen=True, eq=False)
class Jobs:
    """Cases as an image with a layer each, runs, the results due, and what decides their cycles."""

    image: bytes
    layers: list[ArrayLayer]
    runs: list[Run]
    due: list[Bits]
    works: list[Work]


def make_jobs(config: ArrayConfig, cases: Sequence[Case], seed: int) -> Jobs:
    """Return random jobs, their tags by number from 0."""
    rng = np.random.default_rng(seed)
    image, layers = make_image(config, [case.shape for case in cases], seed)
    exponent = -7 if config.act.integer else 0
    runs, due, works = [], [], []
    for number, (case, layer) in enumerate(zip(cases, layers, strict=True)):
        acts = activations(config, rng, case.tokens, case.shape.columns, case.acts)
        how: Any = {"block_tiles": case.block_tiles, "resident": case.resident}
        runs.append(Run(number, acts, act_exponent=exponent, tag=number, **how))
        due.append(compute(config, layer, acts, exponent))
        works.append(
            Work(outlier=layer.outlier, index_width=case.shape.index_width, tokens=case.tokens,
                 has_bias=case.shape.bias != "none", **how)
        )  # fmt: skip
    return Jobs(image, layers, runs, due, works)


def run_jobs(machine: Machine, jobs: Jobs) -> Finished:
    """Run jobs in a queue of a slot each; return what they left.

    Words, completions, and the counters that never depend on memory are compared.
    """
    config, works = machine.config, jobs.works
    lengths = [pass_cycles(config, work) for work in works]
    total = sum(int(each.sum()) for each in lengths)
    before = machine.beats()
    layout = lay_out(config, jobs.image, jobs.runs, gap=1)
    finished = machine.run(layout, limit=10_000 * len(works) + 10 * total)
    moved = {name: beats - before[name] for name, beats in machine.beats().items()}
    ends = [(completion.tag, completion.error) for completion in finished.completions]
    assert ends == [(run.tag, "none") for run in jobs.runs], f"tags and errors are {ends}"
    for number, (results, due) in enumerate(zip(finished.results, jobs.due, strict=True)):
        wrong = np.argwhere(results != due)
        assert not wrong.size, f"job {number}: {len(wrong)} wrong words, from {wrong[0]}"
    counters = finished.counters
    due_beats = {name: sum(beats(config, work)[name] for work in works) for name in moved}
    assert moved == due_beats
    assert {name: counters[f"{name}_beats"] for name in moved} == due_beats
    steps = sum(len(each) * work.inputs for each, work in zip(lengths, works, strict=True))
    assert counters["busy"] == steps
    assert counters["stall_outliers"] == total - steps
    tiles = [-(-work.tokens // config.columns) for work in works]
    assert counters["outliers"] == sum(
        n * int(work.outlier.sum()) for n, work in zip(tiles, works, strict=True)
    )
    assert counters["jobs"] == len(works)
    return finished


def expect_cycles(config: ArrayConfig, work: Work, counters: Mapping[str, int]) -> int:
    """Return the cycles of a job by itself, from its fetch to the response to its last result.

    ``counters`` are those of the job, for steps and stalls: docs/accelerator.md, section 6.
    """
    rows = (work.rows - 1) % config.rows + 1
    columns = (work.tokens - 1) % config.columns + 1
    lanes = config.drain_lanes
    drain = (columns - 1) * config.rows // lanes + -(-rows // lanes) - 1
    begin, end = Fetch(config).latency(work.index_width), Finish(config).latency + 12
    due = counters["busy"] + sum(counters[stall] for stall in STALLS)
    return begin + due + Array(config).latency + end + drain
