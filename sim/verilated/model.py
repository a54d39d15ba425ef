"""A trained model whose linear layers run on the simulated accelerator, word by word compared."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np

from gobo_rtl.array_config import ArrayConfig
from quant.container import read
from quant.fit import Options
from quant.image import choose_layers, write_image
from quant.output import replacing
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from sim.golden.layer import compute
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
from sim.model.sentence import SentenceModel

from .machine import Machine, MachineError

__all__ = ["BITS", "LayerTally", "Prepared", "Sentence", "prepare", "simulate"]

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
    folder: Path, config: ArrayConfig, output: Path,
    done: Callable[[str], object] = lambda name: None,
) -> Prepared:  # fmt: skip
    """Quantise the model in ``folder`` and pack its encoders' FC matrices and biases for an array.

    The files go to ``output``. ``QuantError`` says what does not fit.
    """
    output.mkdir(parents=True, exist_ok=True)
    container_path = output / f"{folder.name}.gobo.safetensors"
    image_path = output / f"{folder.name}.bin"
    source = open_model(str(folder))
    choices = select(list(source.tensors.values()), bits=BITS, embedding_bits=BITS)
    options = Options(value_format=config.value_format)
    write(container_path, source, choices, options, force=True, done=done)
    container = read(container_path)
    # A pooler is not on a sentence's way.
    names = sorted(name for name in choose_layers(container) if "encoder." in name)
    write_image(image_path, container, names, config, force=True)
    return Prepared(folder, container_path, image_path.read_bytes(), tuple(names))


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

    config: ArrayConfig
    golden: Accelerator
    prepared: Prepared
    machine: Machine
    kept: Path
    advance: Callable[[int], object]
    tallies: dict[str, LayerTally] = field(default_factory=dict)

    def __call__(self, name: str, x: Array, weight: Array, bias: Array) -> Array:
        """Return the (tokens, out) results of layer ``name``, whose weights are the image's."""
        acts = activation_bits(self.config, name, x)
        layer = self.golden.layers[name]
        done = self._done(self.prepared.names.index(name), acts)
        wrong = int((done.results != compute(self.config, layer, acts)).sum())
        tally = self.tallies.setdefault(name, LayerTally((layer.rows, layer.columns)))
        tally.words += done.results.size
        tally.wrong += wrong
        tally.macs += layer.rows * layer.columns * len(acts)
        tally.cycles += done.cycles
        tally.seconds += done.seconds
        self.advance(done.cycles)
        return result_numbers(self.config, done.results)

    def _done(self, number: int, acts: Bits) -> _Done:
        """Return what the layer makes of activations, simulated now or before."""
        what = sha256(b"%d %d " % (number, len(acts)) + acts.tobytes()).hexdigest()
        path = self.kept / f"{what[:24]}.npz"
        if path.is_file():
            with np.load(path) as file:
                return _Done(file["results"], int(file["cycles"]), float(file["seconds"]))
        blocks = block_tiles(self.config, *acts.shape)
        run = Run(number, acts, blocks, tag=number, interrupt=True)
        begun = time.monotonic()
        finished = self.machine.run(lay_out(self.config, self.prepared.image, [run]))
        (results,), (completion,) = finished.results, finished.completions
        if results is None:
            raise MachineError(f"{self.prepared.names[number]}: error {completion.error}")
        done = _Done(results, completion.cycles, time.monotonic() - begun)
        data = BytesIO()
        np.savez(data, results=done.results, cycles=done.cycles, seconds=done.seconds)
        with replacing(path, force=True) as file:
            file.write(data.getvalue())
        return done


def memory_bytes(config: ArrayConfig, prepared: Prepared, tokens: int) -> int:
    """Return a memory that holds the image and any of its layers' jobs."""
    widest = config.max_inputs * (config.act.width + 4 * config.result.width) // 8
    return len(prepared.image) + (tokens + 1) * widest + (1 << 16)


def simulate(
    config: ArrayConfig, prepared: Prepared, machine: Machine, sentences: Sequence[str],
    kept: Path, advance: Callable[[int], object] = lambda cycles: None,
) -> tuple[list[Sentence], Mapping[str, LayerTally]]:  # fmt: skip
    """Run sentences through the simulated accelerator, the golden one and FP32; return what each
    sentence and each layer gave.

    Results are kept under ``kept``, by image and hardware. ``advance`` is called with the cycles
    of each job.  ``MachineError`` when the hardware does not end a job, or ends it with an error.
    """
    key = sha256(f"{config} {machine.key} ".encode() + prepared.image).hexdigest()
    kept = kept / key[:16]
    kept.mkdir(parents=True, exist_ok=True)
    container = open_container(prepared.container)
    weights = decoded_weights(container)
    golden = Accelerator.of(config, container)
    linear = _Simulated(config, golden, prepared, machine, kept, advance)
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


def expected_cycles(config: ArrayConfig, prepared: Prepared, sentences: Sequence[str]) -> int:
    """Return about how many cycles sentences take: a column of a strip each."""
    every = Accelerator.of(config, open_container(prepared.container)).layers
    layers = [every[name] for name in prepared.names]
    tokenizer = SentenceModel.load(prepared.folder).tokenizer
    tiles = sum(-(-len(tokenizer.encode(text).ids) // config.columns) for text in sentences)
    return tiles * sum(-(-layer.rows // config.rows) * layer.columns for layer in layers)
