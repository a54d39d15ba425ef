"""What goes into a host's array and comes out of it, as payloads."""

import numpy as np

from gobo_rtl.array_layout import SumsLayout
from gobo_rtl.hosts.layout import ActWordLayout
from gobo_rtl.layout import WeightLayout
from sim.golden.hosts.engine import words

__all__ = ["act_words", "check_sums", "halves", "sum_words", "weight_words"]


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
                "slot": group, "begins": (group, word) == places[0],
                "ends": (group, word) == places[-1], "first": tile == 0,
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
