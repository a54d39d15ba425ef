"""The layers of one encoder of BERT-Base, back to back in one queue: what the array's cycles go to.

Weights are seeded Gaussian numbers with a real model's share of outliers, quantised as any others;
cycles do not depend on them otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gobo_rtl.array_config import ArrayConfig
from quant.container import read
from quant.fit import Options, OutlierRule
from quant.image import choose_layers, write_image
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from sim.golden.layer import compute, layer_of_container
from sim.golden.values import Bits
from sim.jobs import Layout, Run, block_tiles, lay_out
from sim.model.accelerator import open_container

from .machine import Finished, Machine
from .model import BITS

__all__ = [
    "LAYERS", "OUTLIER_SHARE", "PREFIX", "Encoder", "Manners", "container_of", "make_encoder",
    "measure", "seeded_container",
]  # fmt: skip

LAYERS = {
    "attention.self.query": (768, 768),
    "attention.self.key": (768, 768),
    "attention.self.value": (768, 768),
    "attention.output.dense": (768, 768),
    "intermediate.dense": (3072, 768),
    "output.dense": (768, 3072),
}
"""Layers of an encoder of BERT-Base, in the order of work: outputs and inputs."""

OUTLIER_SHARE = 0.0032
"""Outliers among the weights of trained FC layers."""


PREFIX = "bert.encoder.layer.0."
"""Of the names that layers have in the container."""


@dataclass(frozen=True)
class Manners:
    """How a memory behaves: one beat a cycle for all channels together or for each; cycles from a
    read's address to its first beat."""

    shared: bool
    latency: int


@dataclass(frozen=True, eq=False)
class Encoder:
    """Six jobs in a memory, and the results due of each."""

    layout: Layout
    due: tuple[Bits, ...]
    macs: int


def seeded_container(
    folder: Path, rng: np.random.Generator, layers: Mapping[str, tuple[int, int]], share: float,
    value_format: str,
) -> Path:  # fmt: skip
    """Return a container, in ``folder``, of Gaussian weights and biases of these shapes at 3 bits,
    with a share of outliers."""
    tensors = {}
    for name, shape in layers.items():
        tensors[f"{PREFIX}{name}.weight"] = rng.normal(0, 0.04, shape).astype(np.float32)
        tensors[f"{PREFIX}{name}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
    options = Options(value_format=value_format, outliers=OutlierRule("share", share))
    return container_of(folder, tensors, options)


def container_of(
    folder: Path, tensors: Mapping[str, NDArray[np.float32]], options: Options
) -> Path:
    """Return a container, in ``folder``, of weights and biases at 3 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / "model.safetensors")
    source = open_model(str(folder / "model.safetensors"))
    choices = select(list(source.tensors.values()), bits=BITS, include=["*.weight"])
    path = folder / "model.gobo.safetensors"
    write(path, source, choices, options, force=True)
    return path


def make_encoder(
    config: ArrayConfig, folder: Path, tokens: int, layers: dict[str, tuple[int, int]], seed: int
) -> Encoder:
    """Return jobs with activations of their own, ready to run back to back.

    Files of the model go to ``folder``. ``ValueError`` or ``QuantError`` when the array does not
    take such a layer.
    """
    rng = np.random.default_rng(seed)
    path = seeded_container(folder, rng, layers, OUTLIER_SHARE, config.value_format)
    container = read(path)
    names = sorted(choose_layers(container))
    write_image(folder / "model.bin", container, names, config, force=True)
    golden = open_container(path)
    runs: list[Run] = []
    due: list[Bits] = []
    for name, (_, inputs) in layers.items():
        acts = rng.normal(0, 1, (tokens, inputs)).astype(np.float16).view(np.uint16)
        number = names.index(f"{PREFIX}{name}.weight")
        last = len(runs) + 1 == len(layers)
        blocks = block_tiles(config, tokens, inputs)
        runs.append(Run(number, acts, blocks, tag=len(runs), interrupt=last))
        due.append(compute(config, layer_of_container(golden, names[number]), acts))
    layout = lay_out(config, (folder / "model.bin").read_bytes(), runs)
    macs = tokens * sum(rows * inputs for rows, inputs in layers.values())
    return Encoder(layout, tuple(due), macs)


def measure(
    machine: Machine, encoder: Encoder, manners: Manners,
    advance: Callable[[int], object] = lambda cycles: None,
) -> tuple[Finished, int]:  # fmt: skip
    """Run the jobs from reset; return what they left and how many words of it are wrong.

    The counter of cycles runs from before the queue is started until after the last completion;
    ``advance`` is called with cycles that have passed.
    """
    bandwidth = machine.config.beat_bytes if manners.shared else 0
    machine.memory_manners(bandwidth=bandwidth, latency=manners.latency)
    finished = machine.run(encoder.layout, advance=advance)
    wrong = 0
    for given, due in zip(finished.results, encoder.due, strict=True):
        wrong += due.size if given is None else int((given != due).sum())
    return finished, wrong
