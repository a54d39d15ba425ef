# amaranth: UnusedElaboratable=no
"""The emitted Verilog of the hosts, on every simulator there is, and a real layer through each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from gobo_rtl.host_config import HOSTS, WEIGHTS
from gobo_rtl.hosts.host import HostTop
from quant.fit import Options
from sim import cosim
from sim.model.accelerator import open_container
from sim.model.host import Host
from sim.verilated.cycles import container_of
from sim.verilated.hosts import KINDS, MINILM, activations
from sim.verilated.model import host_image
from tests.verilog.bench_hosts import HOST, LAYER
from tests.verilog.bench_hosts import WEIGHTS as STORED

BENCH = "tests.verilog.bench_hosts"
NAME = MINILM[384, 384]


def cases() -> list[object]:
    """Return hosts and weights; all but one in `make sim` only."""
    return [
        pytest.param(kind, weights, marks=[pytest.mark.slow] * ((kind, weights) != ("tpu", "gobo")))
        for kind in KINDS for weights in WEIGHTS
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "weights"), cases())
def test_a_host_behind_axi(kind: str, weights: str, simulator: str, build_dir: Path) -> None:
    name = f"{kind}_tiny"
    environment = {HOST: name, STORED: weights}
    tests = ["layers_back_to_back_under_random_pauses"]
    if simulator == "verilator":
        tests.append("errors_stop_their_layer_and_the_queue_goes_on")
    environment["COCOTB_TEST_FILTER"] = "|".join(tests)
    cosim.run(HostTop(replace(HOSTS[name], weights=weights)), BENCH, tests=len(tests),
              build_dir=build_dir, simulator=simulator, environment=environment)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["fp16", "gobo"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_real_layer_with_and_without_the_front_end(
    kind: str, weights: str, simulator: str, build_dir: Path, minilm_folder: Path, tmp_path: Path
) -> None:
    name = f"{kind}_tiny"
    config = replace(HOSTS[name], weights=weights)
    with safe_open(minilm_folder / "model.safetensors", "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in (NAME, NAME.replace("weight", "bias"))}
    container = container_of(tmp_path, tensors, Options(value_format="fp16"))
    layer = Host.of(config, open_container(container)).layers[NAME]
    assert (layer.rows, layer.columns) == (384, 384)
    image = host_image(config, container, {NAME: layer})
    acts = activations((layer.rows, layer.columns), 1)
    place = tmp_path / "layer.npz"
    np.savez(place, weights=layer.weights, bias=layer.bias, acts=acts,
             image=np.frombuffer(image, np.uint8))  # fmt: skip
    environment = {HOST: name, STORED: weights, LAYER: str(place),
                   "COCOTB_TEST_FILTER": "a_real_layer"}  # fmt: skip
    cosim.run(HostTop(config), BENCH, tests=1, build_dir=build_dir, simulator=simulator,
              environment=environment)  # fmt: skip
