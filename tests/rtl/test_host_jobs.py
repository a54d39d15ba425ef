# amaranth: UnusedElaboratable=no
"""Whole jobs on the hosts' Verilog, from memory to memory, with plain and with 3-bit weights."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gobo_rtl.emit import emit
from gobo_rtl.host_config import HOSTS, WEIGHTS, HostConfig
from gobo_rtl.hosts.engine import ARRAYS
from gobo_rtl.hosts.host import HostTop
from sim.golden.hosts.engine import compute
from sim.jobs import Run, lay_out
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


@pytest.fixture(params=[(kind, weights) for kind in ARRAYS for weights in WEIGHTS],
                ids=lambda param: "-".join(param))  # fmt: skip
def host(request):
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


def run(config: HostConfig, machine: Machine, jobs: Jobs) -> Finished:
    """Run jobs, words compared; return what they left."""
    layout = lay_out(config.array, jobs.image, jobs.runs, gap=1, packed=config.image)
    finished = machine.run(layout, limit=100_000)
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
