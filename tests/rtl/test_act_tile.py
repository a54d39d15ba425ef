# amaranth: UnusedElaboratable=no
"""Token tiles of activations: given out weight tile by weight tile, and again for each pass."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from gobo_rtl.array_layout import ActBeatLayout, PassLayout
from gobo_rtl.host_config import HOSTS
from gobo_rtl.hosts.act_tile import ActTile
from gobo_rtl.hosts.layout import ActWordLayout

from .hosting import act_words
from .streaming import FULL, PACES, transfer

SEED = 1936
TINY = {name: config for name, config in HOSTS.items() if name.endswith("_tiny")}
CONFIGS = {
    **TINY,
    "words of two beats": replace(HOSTS["tpu_tiny"], size=8),
    "a token": replace(HOSTS["tpu_tiny"], tokens=1),
}
# Inputs, tokens, strips: the tile is given out once a strip.
SHAPES = [(11, 6, 2), (4, 1, 1), (1, 3, 3), (8, 5, 1), (17, 6, 2), (2, 6, 1), (33, 1, 2)]


def tile_beats(config, acts):
    """Return the payloads in which a token tile's activations (tokens, inputs) come; rubbish past
    the inputs."""
    layout, size = ActBeatLayout(config.array), config.beat_width // 16
    rng = np.random.default_rng(SEED)
    found = []
    for token, row in enumerate(acts.tolist()):
        row = row + rng.integers(0, 1 << 16, -len(row) % size).tolist()
        beats = [row[at : at + size] for at in range(0, len(row), size)]
        for n, beat in enumerate(beats):
            end = n == len(beats) - 1
            found.append(layout.const({
                "data": sum(value << 16 * k for k, value in enumerate(beat)), "column": token,
                "end": end, "scale": {"exponent": 3, "special": 0},
                "last": end and token == len(acts) - 1,
            }).as_bits())  # fmt: skip
    return found


def passes(config, acts, strips):
    """Return the payloads of a token tile's passes."""
    tokens, inputs = acts.shape
    return [
        PassLayout(config.array).const({
            "acts": {"steps": inputs, "replay": {"release": n == strips - 1}},
            "result": {"columns": tokens},
        }).as_bits()
        for n in range(strips)
    ]  # fmt: skip


def used(config, bits):
    """Return a word without the activations that are not of the matrix or of a token."""
    layout = ActWordLayout(config)
    word = layout.from_bits(bits)
    values = [[int(v) for v in token] for token in word["values"]]
    return (
        [[v if word.uses >> n & 1 else 0 for n, v in enumerate(token)] for token in values],
        *(int(word[name]) for name in (
            "uses", "slot", "done", "begins", "ends", "first", "last", "tokens")),
    )


def run(config, shapes, pace=FULL):
    rng = np.random.default_rng([SEED, pace.seed])
    beats, given, due = [], [], []
    for inputs, tokens, strips in shapes:
        acts = rng.integers(0, 1 << 16, (min(tokens, config.tokens), inputs), np.uint16)
        beats += tile_beats(config, acts)
        given += passes(config, acts, strips)
        groups = -(-len(acts) // config.act_banks)
        for word in act_words(config, acts, np.random.default_rng(0)) * strips:
            values, *rest = used(config, word)
            # Tokens that are not there give anything.
            slot = rest[1]
            there = min(len(acts) - slot * config.act_banks, config.act_banks)
            assert slot < groups
            due.append((values[:there], *rest))
    seen = transfer(
        ActTile(config), {"i": beats, "i_pass": given}, {"o": len(due)}, pace,
        probes=("too_large",),
    )  # fmt: skip
    assert not any(seen["too_large"].words)
    for bits, (values, *rest) in zip(seen["o"].words, due, strict=True):
        found, *others = used(config, bits)
        assert (found[: len(values)], others) == (values, rest)
    return seen


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("name", CONFIGS)
def test_words_of_tiles_in_a_row(name, pace):
    run(CONFIGS[name], SHAPES * 2, pace)


def test_a_ring_that_is_hardly_larger_than_a_tile():
    config = replace(TINY["tpu_tiny"], act_depth=16)
    run(config, [(11, 5, 2), (12, 5, 1), (4, 6, 3), (16, 4, 2), (13, 4, 1)])


def test_a_word_in_every_cycle_and_two_from_the_last_beat():
    config = TINY["tpu_tiny"]
    seen = run(config, [(16, 6, 5)])
    assert np.diff(seen["o"].cycles).tolist() == [1] * (4 * 6 * 5 - 1)
    assert np.diff(seen["i"].cycles).tolist() == [1] * (4 * 6 - 1)
    assert seen["o"].cycles[0] == seen["i"].cycles[-1] + 2


def test_a_tile_is_read_while_the_one_before_is_there():
    config = replace(TINY["tpu_tiny"], act_depth=32)
    seen = run(config, [(16, 4, 6), (16, 4, 6)])
    gaps = [after - before for before, after in pairwise(seen["o"].cycles)]
    assert set(gaps) == {1}


def test_a_tile_that_can_never_fit_is_too_large():
    config = replace(TINY["tpu_tiny"], act_depth=16)
    acts = np.zeros((4, 17), np.uint16)
    seen = transfer(
        ActTile(config), {"i": tile_beats(config, acts), "i_pass": passes(config, acts, 1)},
        {"o": 0}, probes=("too_large",), all_taken=False, after=60,
    )  # fmt: skip
    assert len(seen["i"].words) == 16
    assert seen["too_large"].words[-1] == 1
