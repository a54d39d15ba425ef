"""A host behind its AXI4 ports, with memories and a driver that are not ours."""

import os
from dataclasses import dataclass, replace
from typing import Any

import cocotb
import numpy as np

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.formats import ARRAY_ERRORS, JOB, LAYER_DESCRIPTOR
from gobo_rtl.host_config import HOSTS, HostConfig
from sim.cosim import configuration
from sim.golden.hosts.engine import compute
from sim.jobs import Layout, Run, lay_out
from sim.model.host import HostLayer
from sim.plain import plain_image
from tests.accelerating import ACTIVATIONS, Shape, activations, image_of
from tests.verilog.bench_accelerator import BASE, Bench, check

HOST, WEIGHTS, LAYER = "GOBO_HOST", "GOBO_WEIGHTS", "GOBO_LAYER"
SEED = 1965
LIMIT = 2000  # us of simulated time


def host() -> HostConfig:
    """Return the host that is simulated."""
    config = replace(HOSTS[os.environ[HOST]], weights=os.environ[WEIGHTS])
    assert config.array == configuration(ArrayConfig)
    return config


def golden(config: HostConfig) -> Any:
    """Return the golden model as :func:`check` calls it."""
    return lambda _, layer, acts, __: compute(config, layer.weights, acts, layer.bias)


@dataclass(frozen=True)
class Made:
    """Layers in an image, and runs of them in a memory."""

    layers: list[HostLayer]
    runs: list[Run]
    layout: Layout


def make(config: HostConfig, shapes: list[tuple[Shape, int]], gap: int = 0) -> Made:
    """Return jobs, a layer each with so many tokens; the same weights however they are stored."""
    rng = np.random.default_rng(SEED)
    image, stored = image_of(config.array, [shape for shape, _ in shapes], SEED, config.image)
    layers = [
        HostLayer(each.matrix.astype(np.uint16),
                  None if each.biases is None else each.biases.astype(np.uint32))
        for each in stored
    ]  # fmt: skip
    if config.weights != "gobo":
        image = plain_image(config, [layer.plain for layer in layers])
    runs = [
        Run(n, activations(config.array, rng, tokens, shape.columns, ACTIVATIONS[n % 3]),
            tag=1000 + n, fence=n % 4 == 3, interrupt=n == len(shapes) - 1)
        for n, (shape, tokens) in enumerate(shapes)
    ]  # fmt: skip
    layout = lay_out(config.array, image, runs, base=BASE, gap=gap, packed=config.image)
    return Made(layers, runs, layout)


@cocotb.test(timeout_time=LIMIT, timeout_unit="us")
async def layers_back_to_back_under_random_pauses(dut: Any) -> None:
    """Every channel pauses as it likes; sizes at the edges of strips, tiles and words."""
    config = host()
    made = make(config, [
        (Shape(rows=config.rows + 1, columns=config.tile_inputs + 1), config.tokens + 1),
        (Shape(rows=1, columns=1, pattern="none", bias="none"), 1),
        (Shape(rows=config.rows, columns=13, index_width=2, bias="special"), 3),
        (Shape(rows=2 * config.rows - 1, columns=2 * config.tile_inputs, pattern="share:0.3"), 2),
    ], gap=1)  # fmt: skip
    bench = Bench(dut, made.layout, 0.4, SEED)
    await bench.start()
    assert await bench.run(len(made.runs)) == []
    check(config.array, bench, made.layers, made.runs, {}, golden(config))
    assert await bench.read("COUNT_JOBS") == len(made.runs)


@cocotb.test(timeout_time=LIMIT, timeout_unit="us")
async def errors_stop_their_layer_and_the_queue_goes_on(dut: Any) -> None:
    """A bad descriptor, a bad job and a bad response to a read of weights, between good layers."""
    config = host()
    made = make(config, [(Shape(rows=2 * config.rows, columns=11), 3)] * 6)
    bench = Bench(dut, made.layout, 0.2, SEED)
    raw, start = bench.memory.bytes, made.layout.jobs[0].image_address - BASE
    descriptors = [start + job.layer_offset for job in made.layout.jobs]
    raw[descriptors[1] + 8] ^= 1
    raw[3 * 128 + JOB.field("act_format").offset // 8] ^= 3
    at = descriptors[5] + LAYER_DESCRIPTOR.field("index_offset").offset // 8
    bad = start + BASE + int.from_bytes(raw[at : at + 8], "little")
    bench.memory.bad = range(bad, bad + 1)
    due = {1: "layer_crc", 3: "job", 5: "read"}
    bench.layout = replace(made.layout, memory=np.frombuffer(bytes(raw), np.uint8))
    await bench.start()
    errors = await bench.run(len(made.runs))
    assert errors == [(ARRAY_ERRORS[name], 1000 + n) for n, name in due.items()]
    check(config.array, bench, made.layers, made.runs, due, golden(config))


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_real_layer(dut: Any) -> None:
    """Strips of a trained model's layer, from a file, with the results due."""
    config = host()
    with np.load(os.environ[LAYER]) as file:
        layer = HostLayer(file["weights"], file["bias"])
        image, acts = file["image"].tobytes(), file["acts"]
    run = Run(0, acts, tag=7, interrupt=True)
    layout = lay_out(config.array, image, [run], base=BASE, packed=config.image)
    bench = Bench(dut, layout, 0.1, SEED)
    await bench.start()
    assert await bench.run(1) == []
    check(config.array, bench, [layer], [run], {}, golden(config))
