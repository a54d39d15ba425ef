# amaranth: UnusedElaboratable=no
"""Whole jobs on the hosts' Verilog, from memory to memory, with plain and with 3-bit weights."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gobo_rtl.emit import emit
from gobo_rtl.formats import LAYER_DESCRIPTOR
from gobo_rtl.host_config import HOSTS, EyerissConfig, HostConfig, TensorCoreConfig, TpuConfig
from gobo_rtl.hosts.host import HostTop
from sim.golden.hosts.engine import compute
from sim.jobs import Run, lay_out, unpack
from sim.plain import plain_image
from sim.verilated.machine import Finished, Machine
from tests.accelerating import Shape, activations, image_of

SEED = 1965
BUILD = Path(__file__).resolve().parents[2] / "build" / "verilated"
SHAPES = [
    (Shape(rows=9, columns=21), 7),
    (Shape(rows=4, columns=4, pattern="none", bias="none"), 1),
    (Shape(rows=6, columns=33, index_width=2, pattern="share:0.2", bias="special"), 13),
    (Shape(rows=5, columns=1, index_width=4), 6),
    (Shape(rows=12, columns=40, pattern="all"), 3),
]


def config_of(kind: str, weights: str) -> HostConfig:
    return replace(HOSTS[f"{kind}_tiny"], weights=weights)


@cache
def verilog_of(kind: str, weights: str) -> str:
    return emit(HostTop(config_of(kind, weights)), "accelerator")


# The array does not know where its words come from: each is there once with 3-bit weights.
MADE = [("tpu", "gobo"), ("tpu", "fp16"), ("eyeriss", "gobo"), ("eyeriss", "fp32"),
        ("tensor_core", "gobo")]  # fmt: skip


@pytest.fixture(params=MADE, ids="-".join)
def host(request: pytest.FixtureRequest) -> Iterator[tuple[HostConfig, Machine]]:
    kind, weights = request.param
    config = config_of(kind, weights)
    with Machine(config.array, BUILD, 1 << 20, verilog_of(kind, weights)) as machine:
        yield config, machine


@dataclass(frozen=True)
class Jobs:
    """Runs of layers, and the results due."""

    image: bytes
    runs: list[Run]
    due: list[np.ndarray]


def make_jobs(config: HostConfig, shapes: list[tuple[Shape, int]]) -> Jobs:
    """Return jobs on layers of the same weights, however they are stored."""
    rng = np.random.default_rng(SEED)
    image, layers = image_of(config.array, [shape for shape, _ in shapes], SEED, config.image)
    runs, due, plain = [], [], []
    for number, ((shape, tokens), layer) in enumerate(zip(shapes, layers, strict=True)):
        acts = activations(config.array, rng, tokens, shape.columns, "wide")
        weights = layer.matrix.astype(np.uint16)
        bias = None if layer.biases is None else layer.biases.astype(np.uint32)
        runs.append(Run(number, acts, tag=number))
        due.append(compute(config, weights, acts, bias))
        plain.append((weights.view(np.float16).astype(np.float32),
                      None if bias is None else bias.view(np.float32)))  # fmt: skip
    return Jobs(image if config.weights == "gobo" else plain_image(config, plain), runs, due)


def run(config: HostConfig, machine: Machine, jobs: Jobs, limit: int = 100_000) -> Finished:
    """Run jobs, words compared; return what they left."""
    layout = lay_out(config.array, jobs.image, jobs.runs, gap=1, packed=config.image)
    finished = machine.run(layout, limit=limit)
    ends = [(completion.tag, completion.error) for completion in finished.completions]
    assert ends == [(job.tag, "none") for job in jobs.runs]
    for number, (results, due) in enumerate(zip(finished.results, jobs.due, strict=True)):
        wrong = np.argwhere(results != due)
        assert not wrong.size, f"job {number}: {len(wrong)} wrong words, from {wrong[0]}"
    return finished


@pytest.mark.parametrize(("pause", "latency", "bandwidth"), [
    (0, 1, 0), (0, 30, 0), (120, 3, 16), (0, 9, 3),
])  # fmt: skip
def test_jobs_give_the_golden_models_words(host, pause, latency, bandwidth):
    config, machine = host
    machine.memory_manners(pause=pause, latency=latency, bandwidth=bandwidth)
    run(config, machine, make_jobs(config, SHAPES))


def test_a_job_moves_its_beats_and_uses_its_activations_once_a_step(host):
    config, machine = host
    machine.memory_manners()
    shape, tokens = Shape(rows=9, columns=21), 2 * config.tokens + 1
    jobs = make_jobs(config, [(shape, tokens)])
    before = machine.beats()
    finished = run(config, machine, jobs)
    moved = {name: count - before[name] for name, count in machine.beats().items()}
    array, tiles, strips = config.array, 3, -(-shape.rows // config.rows)
    words = strips * -(-shape.columns // config.word_inputs)
    descriptor = unpack(LAYER_DESCRIPTOR, jobs.image[128:256])
    streams = {name: descriptor[f"{name}_bytes"] // array.beat_bytes
               for name in ("index", "outlier")}  # fmt: skip
    codebook = 8 * 16 // config.beat_width if config.weights == "gobo" else 0
    if config.weights != "gobo":
        assert streams == {"index": words * config.word_beats, "outlier": 0}
    assert moved == {
        **{name: tiles * count for name, count in streams.items()},
        "act": tokens * -(-shape.columns // array.acts_per_beat),
        "job": (512 + 1024) // config.beat_width + codebook
        + tiles * strips * config.rows * 32 // config.beat_width,
        "result": max(1, 128 // config.beat_width) + tokens * sum(
            -(-min(config.rows, shape.rows - at) * 32 // config.beat_width)
            for at in range(0, shape.rows, config.rows)
        ),
    }  # fmt: skip
    assert finished.counters["busy"] == strips * sum(
        steps_of(config, shape.columns, min(config.tokens, tokens - at))
        for at in range(0, tokens, config.tokens)
    )


def steps_of(config: HostConfig, inputs: int, tokens: int) -> int:
    """Return the cycles in which a pass uses activations, docs/hosts.md section 3."""
    if isinstance(config, TpuConfig):
        return -(-inputs // config.tile_inputs) * tokens
    if isinstance(config, TensorCoreConfig):
        return -(-inputs // 4) * -(-tokens // 4)
    assert isinstance(config, EyerissConfig)
    groups = -(-tokens // config.pe_columns)
    return -(-inputs // config.tile_inputs) * groups * config.filters * (config.channels + 1)


def refused(
    config: HostConfig, machine: Machine, image: bytes, jobs: Jobs, acts: np.ndarray
) -> str:
    """Run a job on layer 0 of ``image`` and then the ``jobs``, which must be right; return the
    error of the first."""
    layout = lay_out(config.array, jobs.image, jobs.runs, packed=config.image)
    alone = lay_out(config.array, image, [Run(0, acts, tag=9)], packed=config.image)
    machine.memory_manners()
    first = machine.run(alone, limit=100_000)
    assert first.results == [None] and first.completions[0].tag == 9
    finished = machine.run(layout, limit=100_000)
    for results, due in zip(finished.results, jobs.due, strict=True):
        assert np.array_equal(results, due)
    return first.completions[0].error


def test_errors_are_told_and_the_next_job_is_done(host):
    config, machine = host
    jobs = make_jobs(config, SHAPES[:1])
    acts = jobs.runs[0].acts
    groups, words = -(-config.tokens // config.act_banks), -(-300 // config.act_word)
    if groups * words > config.act_depth:  # not of tensor_core: its words are of four tokens
        long = make_jobs(config, [(Shape(rows=4, columns=300), config.tokens)])
        assert refused(config, machine, long.image, jobs, long.runs[0].acts) == "too_large"
    wrong = bytearray(jobs.image)
    wrong[128 + 119] ^= 1  # unused, but in the sum of check
    assert refused(config, machine, bytes(wrong), jobs, acts) == "layer_crc"
    # Weights that are stored in another way.
    other = replace(config, weights="fp16" if config.weights == "gobo" else "gobo")
    stored = make_jobs(other, SHAPES[:1])
    assert refused(config, machine, stored.image, jobs, acts) == "layer"
    if config.weights == "gobo":
        wrong = bytearray(jobs.image)
        wrong[unpack(LAYER_DESCRIPTOR, jobs.image[128:256])["index_offset"]] ^= 1
        assert refused(config, machine, bytes(wrong), jobs, acts) == "index_crc"


def test_a_read_error_is_told_and_the_next_job_is_done(host):
    config, machine = host
    jobs = make_jobs(config, SHAPES[:1])
    layout = lay_out(config.array, jobs.image, jobs.runs, packed=config.image)
    offset = unpack(LAYER_DESCRIPTOR, jobs.image[128:256])["index_offset"]
    at = layout.jobs[0].image_address + offset
    machine.memory_manners(fault=(at, at + 8))
    assert machine.run(layout, limit=100_000).completions[0].error == "read"
    machine.memory_manners()
    run(config, machine, jobs)


def test_with_a_starved_memory_3_bits_are_faster_by_as_much_as_they_are_smaller() -> None:
    """A token; memory gives a beat in 16 cycles, of all channels: time is that of the beats."""
    cycles, beats = {}, {}
    for weights in ("fp16", "gobo"):
        config = config_of("tpu", weights)
        with Machine(config.array, BUILD, 1 << 20, verilog_of("tpu", weights)) as machine:
            jobs = make_jobs(config, [(Shape(rows=256, columns=512, pattern="share:0.003"), 1)])
            machine.memory_manners(pause=240, bandwidth=config.beat_width // 8)
            finished = run(config, machine, jobs, limit=2_000_000)
            (completion,) = finished.completions
            cycles[weights], beats[weights] = completion.cycles, sum(machine.beats().values())
    assert beats["fp16"] > 4.7 * beats["gobo"]
    assert cycles["fp16"] / cycles["gobo"] > 0.97 * beats["fp16"] / beats["gobo"]
