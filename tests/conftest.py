"""The real trained models that tests run on, fetched once; a test fails if one cannot be had."""

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
