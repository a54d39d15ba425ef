"""The array of any host driven with passes: what goes in, and what is to come out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gobo_rtl.array_layout import SumsLayout
from gobo_rtl.host_config import HostConfig
from gobo_rtl.hosts.core import HostCore
from gobo_rtl.hosts.layout import ActWordLayout
from gobo_rtl.layout import WeightLayout
from sim.golden.hosts.engine import words

from .decoding import Pace
from .streaming import FULL, Transfers, transfer

__all__ = [
    "SHAPES", "Kind", "act_words", "any_bits", "batch", "check_sums", "halves", "run_array",
    "sum_words", "weight_words",
]  # fmt: skip

SEED = 1978

SHAPES = [(4, 11, 6), (3, 4, 1), (8, 5, 3), (4, 1, 2), (1, 17, 6), (4, 8, 4), (4, 2, 1)]
"""Rows, inputs and tokens of passes in a row."""


@dataclass(frozen=True)
class Kind:
    """An array, its golden model and its sizes."""

    array: Callable[[Any], HostCore]
    golden: Callable[..., np.ndarray]
    config: HostConfig


def halves(values):
    """Return FP16 patterns."""
    return np.asarray(values, np.float16).view(np.uint16)


def weight_words(config, weights, passes=1):
    """Return the payloads of a weight source for a matrix (rows, k), given ``passes`` times."""
    layout, found = WeightLayout(config.image), words(config, weights)
    strip = len(found) // -(-len(weights) // config.rows)
    once = [
        layout.const({"values": word.tolist(), "last": n % strip == strip - 1, "error": 0})
        for n, word in enumerate(found)
    ]  # fmt: skip
    return [word.as_bits() for word in once] * passes


def act_words(config, acts, rubbish):
    """Return the payloads of a pass of acts (tokens, k): tile by tile, token by token, a word after
    the other. What is past the tokens and inputs is rubbish."""
    layout = ActWordLayout(config)
    tokens, inputs = acts.shape
    groups, steps = -(-tokens // config.act_banks), -(-inputs // config.act_word)
    whole = rubbish.integers(0, 1 << 16, (groups * config.act_banks, steps * config.act_word))
    whole[:tokens, :inputs] = acts
    per_tile = config.tile_inputs // config.act_word
    found = []
    for tile in range(0, steps, per_tile):
        places = [(g, w) for g in range(groups) for w in range(tile, min(tile + per_tile, steps))]
        for group, word in places:
            at, token = word * config.act_word, group * config.act_banks
            part = whole[token : token + config.act_banks, at : at + config.act_word]
            found.append(layout.const({
                "values": part.tolist(), "uses": (1 << min(inputs - at, config.act_word)) - 1,
                "slot": group, "tokens": tokens,
                "done": word == min(tile + per_tile, steps) - 1, "first": tile == 0,
                "begins": (group, word) == places[0], "ends": (group, word) == places[-1],
                "last": tile + per_tile >= steps and (group, word) == places[-1],
            }).as_bits())  # fmt: skip
    return found


def sum_words(config, sums):
    """Return the payloads in which the sums (tokens, rows) of passes leave; rows past the last are
    None."""
    layout, lanes = SumsLayout(config.array), config.array.drain_lanes
    found = []
    for strip in range(0, sums.shape[1], config.rows):
        part = sums[:, strip : strip + config.rows]
        for token, row in enumerate(part):
            for at in range(0, config.rows, lanes):
                last = token == len(part) - 1 and at + lanes == config.rows
                found.append((row[at : at + lanes].tolist(), layout, last))
    return found


def check_sums(due, seen):
    """Compare sums, those of rows in the matrix."""
    assert len(seen) == len(due)
    for (row, layout, last), bits in zip(due, seen, strict=True):
        found = layout.from_bits(bits)
        assert [found.sums[n] for n in range(len(row))] == row
        assert found.last == last


def run_array(
    kind: Kind, batches: list[tuple[np.ndarray, np.ndarray]], pace: Pace = FULL
) -> dict[str, Transfers]:
    """Run passes of (weights, acts) of one strip or more and compare their sums; return what the
    streams did."""
    config, rubbish = kind.config, np.random.default_rng(SEED)
    given: list[int] = []
    acts_given: list[int] = []
    due = []
    for weights, acts in batches:
        given += weight_words(config, weights)
        acts_given += act_words(config, acts, rubbish) * -(-len(weights) // config.rows)
        due += sum_words(config, kind.golden(config, weights, acts))
    seen = transfer(
        kind.array(config), {"i_weights": given, "i": acts_given}, {"o": len(due)}, pace,
        probes=("busy", "stall_weights", "stall_drain"), after=60,
    )  # fmt: skip
    check_sums(due, seen["o"].words)
    return seen


def batch(rng, rows, inputs, tokens):
    """Return random weights and activations whose sums depend on their order."""
    return tuple(
        halves(rng.normal(0, 1, (n, inputs)) * 2.0 ** rng.integers(-9, 9, (n, inputs)))
        for n in (rows, tokens)
    )


def any_bits(rng, rows, inputs, tokens, count):
    """Return weights and activations of any bits: many are NaN and infinities; of every other pair
    few are, and many are zeros and subnormals."""
    found = []
    for n in range(count):
        pair = [rng.integers(0, 1 << 16, (size, inputs), np.uint16) for size in (rows, tokens)]
        if n % 2:
            pair = [np.where(rng.random(x.shape) < 0.9, x & 0x83FF, x) for x in pair]
        found.append(tuple(pair))
    return found
