"""Layers are cut into passes in the order of docs/accelerator.md section 3, with what is kept."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from gobo_rtl.array.schedule import Schedule
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import LayerLayout, PassLayout

from .decoding import Pace
from .streaming import FULL, PACES, transfer

SEED = 20201014
CONFIGS = {"tiny": ARRAYS["tiny"], "odd": replace(ARRAYS["tiny"], columns=3, rows=8)}


@dataclass(frozen=True)
class Layer:
    """What of a layer makes its passes."""

    rows: int
    tokens: int
    inputs: int
    block: int
    resident: bool = False
    has_bias: bool = True

    def strips(self, config: ArrayConfig) -> int:
        """Return the strips."""
        return -(-self.rows // config.rows)

    def tiles(self, config: ArrayConfig) -> int:
        """Return the token tiles."""
        return -(-self.tokens // config.columns)

    def word(self, config: ArrayConfig) -> int:
        """Return the layer as a payload."""
        return LayerLayout(config).const({
            "rows": self.rows, "tokens": self.tokens, "inputs": self.inputs, "block": self.block,
            "strips": self.strips(config), "tiles": self.tiles(config),
            "resident": self.resident, "has_bias": self.has_bias, "bias_address": 64 * self.rows,
        }).as_bits()  # fmt: skip


def passes(config: ArrayConfig, layer: Layer) -> list[int]:
    """Return the passes of a layer."""
    found, strips, tiles = [], layer.strips(config), layer.tiles(config)
    order = [
        (block, strip, tile)
        for block in range(0, tiles, layer.block)
        for strip in range(strips)
        for tile in range(block, min(block + layer.block, tiles))
    ]
    for n, (block, strip, tile) in enumerate(order):
        opens, closes = tile == block, tile in (block + layer.block - 1, tiles - 1)
        if layer.resident:  # read once, from the beginning for each tile, gone in the last
            weights = {
                "mark": n == 0, "release": tile == tiles - 1,
                "rewind": strip == strips - 1 and tile != tiles - 1,
            }  # fmt: skip
        else:
            weights = {"mark": opens, "rewind": not closes, "release": closes}
        acts = {
            "mark": opens and strip == 0, "rewind": closes and strip != strips - 1,
            "release": strip == strips - 1,
        }  # fmt: skip
        found.append(PassLayout(config).const({
            "weights": weights, "acts": {"steps": layer.inputs, "replay": acts}, "first": n == 0,
            "result": {
                "strip": strip, "tile": tile, "new_strip": opens, "has_bias": layer.has_bias,
                "rows": min(config.rows, layer.rows - strip * config.rows),
                "columns": min(config.columns, layer.tokens - tile * config.columns),
                "last": n + 1 == len(order),
            },
        }).as_bits())  # fmt: skip
    return found


LAYERS = [
    Layer(1, 1, 1, 1), Layer(9, 7, 5, 2), Layer(8, 6, 512, 1), Layer(17, 13, 3, 3),
    Layer(5, 2, 8, 9, has_bias=False), Layer(12, 9, 4, 1, resident=True),
    Layer(3, 7, 4, 1, resident=True), Layer(16, 12, 2, 4), Layer(16, 1, 2, 1, resident=True),
]  # fmt: skip


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("name", CONFIGS)
def test_layers_in_a_row_are_cut_into_passes(name: str, pace: Pace) -> None:
    config = CONFIGS[name]
    due = [word for layer in LAYERS for word in passes(config, layer)]
    given = {"i": [layer.word(config) for layer in LAYERS]}
    seen = transfer(Schedule(config), given, {"o": len(due)}, pace)
    assert seen["o"].words == due


def test_two_strips_by_three_tiles_written_out_by_hand() -> None:
    """6 rows by 5 tokens on 4 x 2, two tiles a block: edges of 2 rows and of 1 token."""
    config = CONFIGS["tiny"]
    seen = transfer(Schedule(config), {"i": [Layer(6, 5, 3, 2).word(config)]}, {"o": 6})
    got = [PassLayout(config).from_bits(word) for word in seen["o"].words]

    def replay(word: Any) -> str:
        return "m" * word.mark + "w" * word.rewind + "l" * word.release

    assert [(p.result.strip, p.result.tile, p.result.rows, p.result.columns) for p in got] == [
        (0, 0, 4, 2), (0, 1, 4, 2), (1, 0, 2, 2), (1, 1, 2, 2), (0, 2, 4, 1), (1, 2, 2, 1),
    ]  # fmt: skip
    assert [replay(p.weights) for p in got] == ["mw", "l", "mw", "l", "ml", "ml"]
    assert [replay(p.acts.replay) for p in got] == ["m", "w", "l", "l", "mw", "l"]
    assert [p.result.last for p in got] == [0, 0, 0, 0, 0, 1]


def test_a_pass_a_cycle() -> None:
    config = CONFIGS["tiny"]
    due = [word for layer in LAYERS for word in passes(config, layer)]
    given = {"i": [layer.word(config) for layer in LAYERS]}
    when = transfer(Schedule(config), given, {"o": len(due)}, FULL)["o"].cycles
    assert when == list(range(len(due)))


def test_passes_of_a_random_layer() -> None:
    config, rng = CONFIGS["odd"], np.random.default_rng(SEED)
    layers = []
    for _ in range(30):
        resident = bool(rng.integers(2))
        block = 1 if resident else int(rng.integers(1, 9))
        layers.append(Layer(*rng.integers(1, 40, 2).tolist(), int(rng.integers(1, 513)), block,
                            resident, bool(rng.integers(2))))  # fmt: skip
    due = [word for layer in layers for word in passes(config, layer)]
    given = {"i": [layer.word(config) for layer in layers]}
    assert transfer(Schedule(config), given, {"o": len(due)})["o"].words == due
