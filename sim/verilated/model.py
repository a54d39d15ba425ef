"""A trained model whose linear layers run on simulated hardware, word by word compared."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.host_config import EyerissConfig, HostConfig, TensorCoreConfig
from quant.container import read
from quant.fit import Options
from quant.image import choose_layers, write_image
from quant.output import replacing
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from sim.golden.values import Bits
from sim.jobs import Run, block_tiles, lay_out
from sim.model.accelerator import (
    Accelerator,
    activation_bits,
    decoded_weights,
    open_container,
    result_numbers,
)
from sim.model.bert import Array
from sim.model.host import Host, HostLayer
from sim.model.sentence import SentenceModel
from sim.plain import plain_image

from .machine import Machine, MachineError

__all__ = [
    "BITS", "LayerTally", "Prepared", "Sentence", "golden_of", "host_image", "layer_cycles",
    "multipliers", "prepare", "quantise", "simulate",
]  # fmt: skip

BITS = 3


@dataclass(frozen=True)
class Prepared:
    """A model made ready for an array: its folder, its container, its image and the layers in it
    in their order."""

    folder: Path
    container: Path
    image: bytes
    names: tuple[str, ...]


def prepare(
    folder: Path, config: ArrayConfig | HostConfig, output: Path,
    done: Callable[[str], object] = lambda name: None,
) -> Prepared:  # fmt: skip
    """Quantise the model in ``folder`` and pack its encoders' FC matrices and biases for an array
    or a host.

    The files go to ``output``. ``QuantError`` says what does not fit.
    """
    array = config.array if isinstance(config, HostConfig) else config
    container_path = quantise(folder, output, array.value_format, done)
    container = read(container_path)
    # A pooler is not on a sentence's way.
    names = sorted(name for name in choose_layers(container) if "encoder." in name)
    if isinstance(config, HostConfig):
        layers = Host.of(config, open_container(container_path)).layers
        image = host_image(config, container_path, {name: layers[name] for name in names})
    else:
        image_path = output / f"{folder.name}.bin"
        write_image(image_path, container, names, config, force=True)
        image = image_path.read_bytes()
    return Prepared(folder, container_path, image, tuple(names))


def quantise(
    folder: Path, output: Path, value_format: str,
    done: Callable[[str], object] = lambda name: None,
) -> Path:  # fmt: skip
    """Quantise the model in ``folder`` to 3 bits; return its container, in ``output``."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{folder.name}.gobo.safetensors"
    source = open_model(str(folder))
    choices = select(list(source.tensors.values()), bits=BITS, embedding_bits=BITS)
    write(path, source, choices, Options(value_format=value_format), force=True, done=done)
    return path


def host_image(config: HostConfig, container: Path, layers: Mapping[str, HostLayer]) -> bytes:
    """Return the image of layers of a container for a host, by their names' order, their weights
    as the host has them in memory."""
    if config.weights == "gobo":
        path = container.with_name(f"{container.name.partition('.')[0]}-{config.kind}.bin")
        write_image(path, read(container), list(layers), config.image, force=True)
        return path.read_bytes()
    return plain_image(config, [layers[name].plain for name in sorted(layers)])


def golden_of(config: ArrayConfig | HostConfig, container: Path) -> Accelerator | Host:
    """Return the golden model with the layers of a container."""
    kind: Any = Host if isinstance(config, HostConfig) else Accelerator
    found: Accelerator | Host = kind.of(config, open_container(container))
    return found


@dataclass(frozen=True, eq=False)
class _Done:
    """A layer on activations: its results, the cycles of its job, the seconds of simulating it."""

    results: Bits
    cycles: int
    seconds: float


@dataclass
class LayerTally:
    """What a layer did in all sentences: words compared and wrong ones, cycles, seconds."""

    shape: tuple[int, int]
    words: int = 0
    wrong: int = 0
    macs: int = 0
    cycles: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Sentence:
    """A sentence: its tokens, whether its embedding is that of the golden model, bit for bit, and
    its cosine with that of the model in FP32."""

    text: str
    tokens: int
    equal: bool
    cosine: float


@dataclass(eq=False)
class _Simulated:
    """A ``linear`` for :class:`sim.model.bert.Bert`.

    Results are kept in the folder ``kept``, by layer and activations: what is there is not
    simulated again, but compared again.
    """

    golden: Accelerator | Host
    prepared: Prepared
    machine: Machine
    kept: Path
    advance: Callable[[int], object]
    tallies: dict[str, LayerTally] = field(default_factory=dict)

    def __call__(self, name: str, x: Array, weight: Array, bias: Array) -> Array:
        """Return the (tokens, out) results of layer ``name``, whose weights are the image's."""
        acts = activation_bits(self.golden.array, name, x)
        layer = self.golden.layers[name]
        done = self._done(self.prepared.names.index(name), acts)
        wrong = int((done.results != self.golden.results(name, acts)).sum())
        tally = self.tallies.setdefault(name, LayerTally((layer.rows, layer.columns)))
        tally.words += done.results.size
        tally.wrong += wrong
        tally.macs += layer.rows * layer.columns * len(acts)
        tally.cycles += done.cycles
        tally.seconds += done.seconds
        self.advance(done.cycles)
        return result_numbers(self.golden.array, done.results)

    def _done(self, number: int, acts: Bits) -> _Done:
        """Return what the layer makes of activations, simulated now or before."""
        what = sha256(b"%d %d " % (number, len(acts)) + acts.tobytes()).hexdigest()
        path = self.kept / f"{what[:24]}.npz"
        if path.is_file():
            with np.load(path) as file:
                return _Done(file["results"], int(file["cycles"]), float(file["seconds"]))
        config, array = self.golden.config, self.golden.array
        host = isinstance(config, HostConfig)  # which has one block a token tile
        run = Run(number, acts, 1 if host else block_tiles(array, *acts.shape), tag=number,
                  interrupt=True)  # fmt: skip
        layout = lay_out(array, self.prepared.image, [run], packed=config.image)
        begun = time.monotonic()
        finished = self.machine.run(layout)
        (results,), (completion,) = finished.results, finished.completions
        if results is None:
            raise MachineError(f"{self.prepared.names[number]}: error {completion.error}")
        done = _Done(results, completion.cycles, time.monotonic() - begun)
        data = BytesIO()
        np.savez(data, results=done.results, cycles=done.cycles, seconds=done.seconds)
        with replacing(path, force=True) as file:
            file.write(data.getvalue())
        return done


def memory_bytes(config: ArrayConfig | HostConfig, prepared: Prepared, tokens: int) -> int:
    """Return a memory that holds the image and any of its layers' jobs."""
    config = config.array if isinstance(config, HostConfig) else config
    widest = config.max_inputs * (config.act.width + 4 * config.result.width) // 8
    return len(prepared.image) + (tokens + 1) * widest + (1 << 16)


def simulate(
    config: ArrayConfig | HostConfig, prepared: Prepared, machine: Machine,
    sentences: Sequence[str], kept: Path, advance: Callable[[int], object] = lambda cycles: None,
) -> tuple[list[Sentence], Mapping[str, LayerTally]]:  # fmt: skip
    """Run sentences through the simulated accelerator, the golden one and FP32; return what each
    sentence and each layer gave.

    Results are kept under ``kept``, by image and hardware. ``advance`` is called with the cycles
    of each job.  ``MachineError`` when the hardware does not end a job, or ends it with an error.
    """
    key = sha256(f"{config} {machine.key} ".encode() + prepared.image).hexdigest()
    kept = kept / key[:16]
    kept.mkdir(parents=True, exist_ok=True)
    weights = decoded_weights(open_container(prepared.container))
    golden = golden_of(config, prepared.container)
    linear = _Simulated(golden, prepared, machine, kept, advance)
    models = [
        SentenceModel.load(prepared.folder),
        SentenceModel.load(prepared.folder, weights, golden),
        SentenceModel.load(prepared.folder, weights, linear),
    ]

    def each() -> Iterator[Sentence]:
        for text in sentences:
            plain, due, given = (model.embed([text])[0] for model in models)
            tokens = len(models[0].tokenizer.encode(text).ids)
            yield Sentence(text, tokens, given.tobytes() == due.tobytes(), float(plain @ given))

    return list(each()), linear.tallies


def model_cycles(
    config: ArrayConfig | HostConfig, prepared: Prepared, sentences: Sequence[str]
) -> int:
    """Return about how many cycles sentences take: without memory, a column of a strip each, or
    on a host :func:`layer_cycles`."""
    every = golden_of(config, prepared.container).layers
    tokenizer = SentenceModel.load(prepared.folder).tokenizer
    total = 0
    for text, name in product(sentences, prepared.names):
        tokens, layer = len(tokenizer.encode(text).ids), every[name]
        if isinstance(config, HostConfig):
            total += layer_cycles(config, layer.rows, layer.columns, tokens)
        else:
            total += -(-tokens // config.columns) * -(-layer.rows // config.rows) * layer.columns
    return total


def multipliers(config: ArrayConfig | HostConfig) -> int:
    """Return the PEs of an array: what does a multiply-accumulate a cycle."""
    if isinstance(config, EyerissConfig):
        return config.pe_rows * config.pe_columns
    if isinstance(config, TensorCoreConfig):
        return config.lanes * config.act_banks
    return config.rows * (config.tile_inputs if isinstance(config, HostConfig) else config.columns)


def layer_cycles(config: HostConfig, rows: int, inputs: int, tokens: int) -> int:
    """Return the cycles that a host's array is at work on a layer when nothing waits: those of its
    weight tiles, docs/hosts.md section 3."""
    words, total = -(-inputs // config.word_inputs), 0
    for begin in range(0, tokens, config.tokens):
        count = min(config.tokens, tokens - begin)
        for at in range(0, words, config.tile_words):
            size = min(config.tile_words, words - at)
            total += max(size, _tile_cycles(config, size, count))
    return total * -(-rows // config.rows)


def _tile_cycles(config: HostConfig, words: int, tokens: int) -> int:
    """Return the cycles that the array computes with a weight tile."""
    if isinstance(config, EyerissConfig):
        loading = config.pe_columns * config.tile_inputs // config.act_word
        group = max(config.filters * (config.channels + 1), loading)
        return -(-tokens // config.pe_columns) * group
    if isinstance(config, TensorCoreConfig):
        return -(-tokens // config.act_banks) * words
    return tokens
