"""Which tests run, and the real trained models that they run on.

Models are fetched once; a test fails if one cannot be had. ``make test`` leaves out what is marked
``slow``: it runs where its folder or its file is named, as `make proof` and `make sim` do.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from sim.model.bert import read_weights
from sim.model.fetch import locate

# A slow or busy machine is no fault of a test.
settings.register_profile("unhurried", settings.get_profile(settings.get_current_profile_name()),
                          deadline=None)  # fmt: skip
settings.load_profile("unhurried")

# What GOBO quantises: the encoder's FC matrices, the pooler's and the word embeddings.
QUANTISED = re.compile(
    r"(encoder\.layer\.\d+\.(attention\.self\.(query|key|value)|(attention\.output|intermediate"
    r"|output)\.dense)|pooler\.dense|embeddings\.word_embeddings)\.weight$"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes longer than `make test` should")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = {(config.invocation_params.dir / name.split("::")[0]).resolve() for name in config.args}
    out = [
        item
        for item in items
        if item.get_closest_marker("slow") and named.isdisjoint({item.path, item.path.parent})
    ]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


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
