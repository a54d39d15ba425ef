"""Which tests run, and the real trained models that they run on.

Models are fetched once; a test fails if one cannot be had. ``make test`` leaves out what is marked
``slow``: it runs where its folder or its file is named, as `make proof` and `make sim` do.

With ``-n`` worker processes collect and run the tests, and another one shows what came of them. The
workers tell it what was left out, so that this is shown as without them.
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from sim.model.bert import read_weights
from sim.model.fetch import locate
from tests.simulators import chosen

# A slow or busy machine is no fault of a test.
settings.register_profile("unhurried", settings.get_profile(settings.get_current_profile_name()),
                          deadline=None)  # fmt: skip
settings.load_profile("unhurried")

# What GOBO quantises: the encoder's FC matrices, the pooler's and the word embeddings.
QUANTISED = re.compile(
    r"(encoder\.layer\.\d+\.(attention\.self\.(query|key|value)|(attention\.output|intermediate"
    r"|output)\.dense)|pooler\.dense|embeddings\.word_embeddings)\.weight$"
)


_LEFT_OUT = pytest.StashKey[list[str]]()


def left_out(config: pytest.Config) -> list[str]:
    """Return the sentences about what no test is made of; a conftest adds its own."""
    return config.stash.setdefault(_LEFT_OUT, [])


def pytest_configure(config: pytest.Config) -> None:
    chosen()  # that SIM is wrong is told at once
    config.addinivalue_line("markers", "slow: takes longer than `make test` should")
    if config.getoption("numprocesses", None):
        # Workers keep the cores busy; threads of each that wait for one another would spin on them.
        for library in ("OPENBLAS", "OMP", "MKL"):
            os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    if hasattr(config, "workeroutput"):
        config.workeroutput.update(deselected=0, left_out=left_out(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = {(config.invocation_params.dir / name.split("::")[0]).resolve() for name in config.args}
    out = [
        item
        for item in items
        if item.get_closest_marker("slow") and named.isdisjoint({item.path, item.path.parent})
    ]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and hasattr(items[0].config, "workeroutput"):
        items[0].config.workeroutput["deselected"] += len(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from a worker that has ended what it left out; each says the same."""
    if told := getattr(node, "workeroutput", None):
        count = [f"{told['deselected']} tests were deselected"] * bool(told["deselected"])
        left_out(node.config)[:] = told["left_out"] + count


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if sentences := left_out(config):
        terminalreporter.section("left out", yellow=True)
        for sentence in sentences:
            terminalreporter.write_line(sentence)


def quantised_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Return the float32 matrices (out, in) of the model in ``folder`` that GOBO quantises."""
    weights = read_weights(folder / "model.safetensors")
    return {name: weight for name, weight in weights.items() if QUANTISED.search(name)}


@pytest.fixture(scope="session")
def bert_tiny_folder() -> Path:
    """BERT-tiny: 2 layers, hidden 128."""
    return locate("bert-tiny")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2: 6 layers, hidden 384."""
    return locate("all-minilm-l6-v2")


@pytest.fixture(scope="session")
def bert_tiny_weights(bert_tiny_folder: Path) -> dict[str, np.ndarray]:
    return quantised_tensors(bert_tiny_folder)


@pytest.fixture(scope="session")
def minilm_weights(minilm_folder: Path) -> dict[str, np.ndarray]:
    return quantised_tensors(minilm_folder)
