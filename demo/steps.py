"""The steps of the demo; each returns what it found, none prints."""

import io
import json
import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo import DemoError
from gobo_rtl import cli
from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.config import GoboConfig
from gobo_rtl.units import top_name
from quant.container import Container
from quant.fit import Layer, Options
from quant.image import contents_path
from quant.selection import Choice, select
from quant.source import Source, open_model
from quant.verify import verify
from quant.writer import quantise_tensor
from sim import verilator
from sim.cosim import decode_layers
from sim.golden.container import read_container
from sim.golden.image import read_image
from sim.golden.layer import compute as golden
from sim.golden.layer import layer_of_container
from sim.jobs import Run, block_tiles, lay_out
from sim.model.accelerator import activation_bits, result_numbers
from sim.model.bert import Array, matmul
from sim.model.sentence import SentenceModel
from sim.verilated.machine import Machine
from synth import report, sky130
from synth.library import load

__all__ = [
    "BITS", "Area", "Computed", "Decoded", "Sample", "area", "compiler", "compute",
    "container_mismatches", "decode", "emit", "groups_of", "plan", "quantise", "sample",
    "simulator",
]  # fmt: skip

BITS = 3
CLOCK_NS = 2.5

# What a simulator needs of the system; Verilator itself comes with the environment.
SYSTEM_TOOLS = {"verilator": verilator.TOOLS, "icarus": ("iverilog", "vvp")}

# The bits of weights in a value format that holds them exactly.
_BITS_OF = {
    "fp16": lambda weights: weights.astype(np.float16).view(np.uint16),
    "bf16": lambda weights: (weights.view(np.uint32) >> 16).astype(np.uint16),
    "fp32": lambda weights: weights.view(np.uint32),
}


@dataclass(frozen=True)
class Decoded:
    """What the Verilog gave: by layer the words compared and the wrong ones; cycles for all."""

    words: dict[str, int]
    mismatches: dict[str, int]
    cycles: int


@dataclass(frozen=True, eq=False)
class Sample:
    """A layer at work in the model, FP32: (tokens, in) activations, (out,) bias, (tokens, out)
    results."""

    layer: str
    acts: Array
    bias: Array
    results: Array


@dataclass(frozen=True)
class Computed:
    """What the accelerator gave for a layer: words compared and the wrong ones, cycles.

    ``error`` is the deviation from the model's own results, ``arithmetic_error`` that from FP32's
    with the same 3-bit weights; root mean squares, over that of the model's results.
    """

    words: int
    mismatches: int
    cycles: int
    error: float
    arithmetic_error: float


@dataclass(frozen=True)
class Area:
    """Area of the decode unit in um2, and the cell library it is in."""

    um2: float
    library: str


def simulator() -> str:
    """Return the simulator that this machine can build; ``DemoError`` says what is missing."""
    missing = {name: _missing(tools) for name, tools in SYSTEM_TOOLS.items()}
    for name, tools in missing.items():
        if not tools:
            return name
    raise DemoError(
        f"no simulator can be built: Verilator needs {', '.join(missing['verilator'])}, or Icarus "
        f"{', '.join(missing['icarus'])}; sudo apt-get install g++ make perl"
    )


def compiler() -> str:
    """Return what is missing of the system to simulate the accelerator; "" when nothing."""
    return " ".join(_missing(SYSTEM_TOOLS["verilator"]))


def _missing(tools: Sequence[str]) -> list[str]:
    return [tool for tool in tools if shutil.which(tool) is None]


# -- software ---------------------------------------------------------------------------------


def plan(folder: Path) -> tuple[Source, list[Choice]]:
    """Return the model in ``folder`` and what happens to each of its tensors."""
    source = open_model(str(folder))
    choices = select(list(source.tensors.values()), bits=BITS, embedding_bits=BITS)
    return source, choices


def quantise(
    source: Source, choices: Sequence[Choice], options: Options, done: Callable[[str], object]
) -> dict[str, Layer]:
    """Return the quantised layers by name, in memory: nothing of them has been in a file."""
    layers = {}
    for choice in choices:
        if choice.bits is not None:
            layers[choice.name] = quantise_tensor(source, choice, options)
            done(choice.name)
    return layers


def container_mismatches(
    container: Container, source: Source, layers: dict[str, Layer], done: Callable[[str], object]
) -> int:
    """Return how many elements of a container are wrong.

    Every weight is compared, bit by bit, with what the quantiser gave; then every tensor is held
    against the model, by the definitions of outlier and nearest centroid alone.
    """
    wrong = 0
    for name in sorted({*layers, *container.layers}):
        if name not in layers:
            wrong += container.layer(name).size
        elif name not in container.layers:
            wrong += math.prod(layers[name].shape)
        else:
            wrong += _different(container.weights(name), layers[name])
    return wrong + sum(result.mismatches for result in verify(container, source, done))


def sample(model: Path, sentence: str, names: Sequence[str], most: int) -> Sample | None:
    """Return the largest of the layers ``names`` at work on a sentence, in FP32.

    The first of equal ones; None when the model runs none of them with ``most`` inputs or fewer.
    """
    found: list[tuple[int, Sample]] = []

    def linear(name: str, x: Array, weight: Array, bias: Array) -> Array:
        results = matmul(name, x, weight, bias)
        if name in names and weight.shape[1] <= most:
            found.append((weight.size, Sample(name, x, bias, results)))
        return results

    SentenceModel.load(model, linear=linear).embed([sentence])
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _different(weights: np.ndarray, layer: Layer) -> int:
    """Return how many weights read back are not those of ``layer``."""
    if weights.shape != layer.shape:
        return weights.size
    is_outlier = np.zeros(weights.size, bool)
    is_outlier[layer.positions] = True
    planes = np.unpackbits(layer.indexes, bitorder="little")
    planes = planes[: BITS * (weights.size - layer.positions.size)].reshape(-1, BITS)
    wanted = np.empty(weights.size, np.float32)
    wanted[~is_outlier] = layer.codebook[planes @ np.array([1, 2, 4], np.uint8)]
    wanted[is_outlier] = layer.outliers
    return int((wanted.view(np.uint32) != weights.reshape(-1).view(np.uint32)).sum())


# -- hardware ---------------------------------------------------------------------------------


def groups_of(config: GoboConfig, matrix: np.ndarray, padding: int) -> np.ndarray:
    """Return a (rows, columns) matrix as (groups, lanes), in the order of docs/formats.md, 4.1.

    Lanes outside of the matrix get ``padding``.
    """
    across = -(-matrix.shape[1] // config.lane_columns)
    groups = []
    for row in range(0, matrix.shape[0], config.tile_rows):
        tile = matrix[row : row + config.tile_rows]
        down = -(-tile.shape[0] // config.lane_rows)
        whole = np.full((down * config.lane_rows, across * config.lane_columns), padding,
                        matrix.dtype)  # fmt: skip
        whole[: tile.shape[0], : tile.shape[1]] = tile
        blocks = whole.reshape(down, config.lane_rows, across, config.lane_columns)
        groups.append(blocks.transpose(0, 2, 1, 3).reshape(-1, config.lanes))
    return np.concatenate(groups)


def decode(
    config: GoboConfig, image: Path, container: Container, build_dir: Path, tool: str
) -> Decoded:
    """Decode all layers of a device image with the simulated Verilog.

    Every word that comes out is compared with the weight that the container decodes to, in the
    configuration's value format, at its place in the order of consumption.  A word too many or
    too few, or one in a transfer that is marked as an error, is a mismatch.
    """
    try:
        opened = read_image(image)
        table = json.loads(contents_path(image).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DemoError(str(error)) from error
    names = [layer["name"] for layer in table["layers"]]
    try:
        given = decode_layers(config, opened.layers, build_dir, tool)
    except RuntimeError as error:
        # The first line says what, the rest is the end of a log.
        raise DemoError(f"{str(error).splitlines()[0]}; logs are in {build_dir}") from error
    bits = _BITS_OF[config.value_format]
    words, mismatches, at = {}, {}, 0
    for name in names:
        codebook = bits(container.layer(name).layer.codebook)
        wanted = groups_of(config, bits(container.weights(name)), codebook[0])
        got = given.values[at : at + len(wanted)]
        at += len(wanted)
        wrong = np.ones(wanted.shape, bool)  # what has not come is wrong
        wrong[: len(got)] = (got != wanted[: len(got)]) | given.error[at - len(wanted) : at, None]
        words[name], mismatches[name] = wanted.size, int(wrong.sum())
    mismatches[names[-1]] += given.values[at:].size + int(given.error_code != 0)
    return Decoded(words, mismatches, given.cycles)


def compute(
    array: ArrayConfig, given: Sample, container: Container, image: Path, verilog: Path,
    build_dir: Path,
) -> Computed:  # fmt: skip
    """Compute a layer with the simulated Verilog of the accelerator.

    The image holds this layer alone, packed for the array.  Every word of the results is compared
    with that of the golden model, which takes the weights from the container and knows nothing of
    the image.
    """
    try:
        layer = layer_of_container(read_container(container.path), given.layer)
        acts = activation_bits(array, given.layer, given.acts)
        wanted = golden(array, layer, acts)
    except ValueError as error:
        raise DemoError(str(error)) from error
    run = Run(0, acts, block_tiles(array, *acts.shape))
    layout = lay_out(array, image.read_bytes(), [run])
    try:
        with Machine(array, build_dir, len(layout.memory), verilog.read_text("utf-8")) as machine:
            finished = machine.run(layout)
    except RuntimeError as error:
        raise DemoError(f"{str(error).splitlines()[0]}; logs are in {build_dir}") from error
    [got], [completion] = finished.results, finished.completions
    if got is None:
        raise DemoError(f"{given.layer}: the accelerator stopped with error {completion.error!r}")
    results = result_numbers(array, got)
    same_weights = matmul(given.layer, given.acts, container.weights(given.layer), given.bias)
    scale = _rms(given.results)
    return Computed(
        words=wanted.size, mismatches=int((got != wanted).sum()), cycles=completion.cycles,
        error=_rms(results - given.results) / scale,
        arithmetic_error=_rms(results - same_weights) / scale,
    )  # fmt: skip


def _rms(numbers: Array) -> float:
    return float(np.sqrt(np.mean(np.square(numbers, dtype=np.float64))))


def emit(name: str, unit: str, folder: Path) -> Path:
    """Write the Verilog of a configuration and its JSON to ``folder``; return the Verilog."""
    with redirect_stdout(io.StringIO()):
        status = cli.main(["verilog", "--config", name, "--unit", unit, "-o", str(folder)])
    if status:
        raise DemoError(f"the Verilog of {name} could not be written to {folder}")
    return folder / f"{top_name(name, unit)}.v"


def area(name: str, verilog: Path, work: Path, liberty: Path | None) -> Area:
    """Return the area of the emitted Verilog of a configuration; netlist and logs go to ``work``.

    In the library ``liberty``, or in open SkyWater areas that are downloaded once.
    """
    library = load(liberty or sky130.area_library(Path("build/synth")), work)
    [design] = report.find_designs(verilog, [name])
    return Area(report.area(design, library, CLOCK_NS, work)["area_um2"], library.name)
