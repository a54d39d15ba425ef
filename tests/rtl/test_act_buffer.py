"""Token tiles are given out step by step, as often as the commands say, and not lost too early."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from gobo_rtl.array.act_buffer import ActBuffer
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import ActBeatLayout, ActPassLayout, ActStepLayout
from sim.pysim import put

from .decoding import Pace
from .streaming import FULL, PACES, transfer

SEED = 20201014
TINY = replace(ARRAYS["tiny"], max_inputs=16, index_depth=16, act_depth=32)  # 8 words a bank
CONFIGS = {
    "tiny": TINY,
    "int8": replace(TINY, act_format="int8", act_width=8, columns=3, max_inputs=32, index_depth=32),
    "fp32": replace(TINY, act_format="fp32", beat_width=128, columns=1, tile_slots=2),
}
MARK, REWIND, RELEASE = 1, 2, 4  # ReplayLayout


@dataclass(frozen=True)
class Tile:
    """Activations (columns, steps) and (columns,) exponents and special flags."""

    values: np.ndarray
    exponents: list[int]
    specials: list[int]


def tile(config: ArrayConfig, rng: np.random.Generator, steps: int, columns: int) -> Tile:
    """Return a random tile of so many columns with a token."""
    top = 1 << config.act.exponent_width
    return Tile(
        rng.integers(0, 1 << config.act.width, (columns, steps), dtype=np.uint64),
        rng.integers(0, top, columns).tolist(), rng.integers(0, 2, columns).tolist(),
    )  # fmt: skip


def beats(config: ArrayConfig, rng: np.random.Generator, one: Tile) -> list[int]:
    """Return the words of ``i`` for a tile; what is past the activations is anything."""
    found, per_beat = [], config.acts_per_beat
    columns, steps = one.values.shape
    for column in range(columns):
        for at in range(0, steps, per_beat):
            row = one.values[column, at : at + per_beat].tolist()
            row += [int(rng.integers(1 << config.act.width)) for _ in range(per_beat - len(row))]
            end = at + per_beat >= steps
            found.append(ActBeatLayout(config).const({
                "data": sum(value << n * config.act.width for n, value in enumerate(row)),
                "column": column, "end": end, "last": end and column + 1 == columns,
                "scale": {"exponent": one.exponents[column] if end else 0,
                          "special": one.specials[column] if end else 0},
            }).as_bits())  # fmt: skip
    return found


def steps_of(config: ArrayConfig, one: Tile) -> list[tuple[list[int], list[tuple[int, int]], int]]:
    """Return values, scales and ``last`` of the steps of a tile."""
    scales = list(zip(one.exponents, one.specials, strict=True))
    count = one.values.shape[1]
    return [(one.values[:, n].tolist(), scales, int(n + 1 == count)) for n in range(count)]


def shown(
    config: ArrayConfig, bits: int, columns: int
) -> tuple[list[int], list[tuple[int, int]], int]:
    """Return values, scales and ``last`` of a word of ``o``, of the columns with a token."""
    step = ActStepLayout(config).from_bits(bits)
    return (
        [step.values[n] for n in range(columns)],
        [(step.scales[n].exponent, step.scales[n].special) for n in range(columns)],
        step.last,
    )


def command(config: ArrayConfig, steps: int, replay: int) -> int:
    """Return a word of ``i_pass``."""
    bits = {"mark": replay & 1, "rewind": replay >> 1 & 1, "release": replay >> 2}
    return ActPassLayout(config).const({"steps": steps, "replay": bits}).as_bits()


def passes(tiles: int, strips: int) -> list[int]:
    """Return the replay commands of a block."""
    return [
        MARK * (at == 0 and strip == 0)
        | REWIND * (at == tiles - 1 and strip != strips - 1)
        | RELEASE * (strip == strips - 1)
        for strip in range(strips)
        for at in range(tiles)
    ]


Block = tuple[list[Tile], int]
"""Tiles, and for how many strips they are given out."""


def given_out(
    config: ArrayConfig, blocks: Sequence[Block], pace: Pace
) -> tuple[list[tuple[list[int], list[tuple[int, int]], int]], list[int], list[int]]:
    """Return what ``o`` gives, the cycles, and ``too_large`` in every cycle."""
    rng = np.random.default_rng(SEED)
    commands, columns = [], []
    for tiles, strips in blocks:
        order = [one for _ in range(strips) for one in tiles]
        for one, replay in zip(order, passes(len(tiles), strips), strict=True):
            commands.append(command(config, one.values.shape[1], replay))
            columns += [one.values.shape[0]] * one.values.shape[1]
    loaded = [word for tiles, _ in blocks for one in tiles for word in beats(config, rng, one)]
    seen = transfer(
        ActBuffer(config), {"i": loaded, "i_pass": commands}, {"o": len(columns)}, pace,
        probes=["too_large"],
    )  # fmt: skip
    got = [shown(config, word, n) for word, n in zip(seen["o"].words, columns, strict=True)]
    return got, seen["o"].cycles, seen["too_large"].words


def due(
    config: ArrayConfig, blocks: Sequence[Block]
) -> list[tuple[list[int], list[tuple[int, int]], int]]:
    """Return what ``o`` is to give."""
    return [
        step
        for tiles, strips in blocks
        for _ in range(strips)
        for one in tiles
        for step in steps_of(config, one)
    ]


def test_a_tile_written_out_by_hand() -> None:
    """Two tokens of five activations, two beats each; what follows the fifth is not given."""
    one = [0x0004_0003_0002_0001, 0xFFFF_FFFF_FFFF_0005]
    other = [0x0014_0013_0012_0011, 0xFFFF_FFFF_FFFF_0015]
    # data (64), column (1), end, exponent (5), special, last
    words = [
        one[0], one[1] | 1 << 65 | 9 << 66,
        other[0] | 1 << 64, other[1] | 1 << 64 | 1 << 65 | 7 << 66 | 1 << 71 | 1 << 72,
    ]  # fmt: skip
    seen = transfer(
        ActBuffer(TINY), {"i": words, "i_pass": [command(TINY, 5, RELEASE)]}, {"o": 5}, FULL
    )
    scales = 9 << 32 | 7 << 38 | 1 << 43
    due = [n | (0x10 | n) << 16 | scales | (n == 5) << 44 for n in range(1, 6)]
    assert seen["o"].words == due


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("name", CONFIGS)
def test_tiles_come_as_often_as_the_commands_say(name: str, pace: Pace) -> None:
    config, rng = CONFIGS[name], np.random.default_rng([SEED, pace.seed])
    blocks: list[Block] = []
    for steps, tiles, strips in ((5, 1, 3), (1, 2, 3), (16, 2, 2), (4, 1, 1), (3, 2, 1), (1, 2, 1),
                                 (13, 1, 4), (8, 2, 2)):  # fmt: skip
        whole = [tile(config, rng, steps, config.columns) for _ in range(tiles - 1)]
        part = tile(config, rng, steps, int(rng.integers(1, config.columns + 1)))
        blocks.append(([*whole, part], strips))
    got, _, too_large = given_out(config, blocks, pace)
    assert got == due(config, blocks)
    assert not any(too_large)


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 16])
def test_no_bubble_within_or_between_tiles(steps: int) -> None:
    rng = np.random.default_rng([SEED, steps])
    blocks = [([tile(TINY, rng, steps, 2) for _ in range(2)], 6)]
    got, when, _ = given_out(TINY, blocks, FULL)
    assert got == due(TINY, blocks)
    first = len(beats(TINY, rng, blocks[0][0][0])) + 1  # 2 cycles after the tile's last beat
    assert when[0] == first
    tail = when[2 * steps :]  # of the second strip on, all tiles are there
    assert np.diff(tail).tolist() == [1] * (len(tail) - 1)


@pytest.mark.parametrize("steps, tiles", [(16, 2), (5, 4), (1, 4), (8, 4)])
def test_what_just_fits_is_not_too_large(steps: int, tiles: int) -> None:
    """8 words a bank, and slots for 4 tiles."""
    rng = np.random.default_rng([SEED, steps])
    blocks = [([tile(TINY, rng, steps, 2) for _ in range(tiles)], strips) for strips in (2, 1, 3)]
    for pace in PACES:
        got, _, too_large = given_out(TINY, blocks, pace)
        assert got == due(TINY, blocks)
        assert not any(too_large)


@pytest.mark.parametrize("steps, tiles", [(16, 3), (1, 5), (12, 3)])
def test_what_does_not_fit_is_told(steps: int, tiles: int) -> None:
    rng = np.random.default_rng([SEED, steps])
    block = [tile(TINY, rng, steps, 2) for _ in range(tiles)]
    dut, fits = ActBuffer(TINY), {16: 2, 1: 4, 12: 2}[steps]

    async def keep(ctx: object) -> None:
        for word in (command(TINY, steps, MARK * (n == 0)) for n in range(tiles)):
            await put(ctx, dut.i_pass, word)

    words = [word for one in block for word in beats(TINY, rng, one)]
    seen = transfer(
        dut, {"i": words}, {"o": fits * steps}, probes=["too_large"], feeds=[keep], all_taken=False
    )
    assert seen["too_large"].words[-1]
    told = seen["too_large"].words.index(1)
    assert told > seen["o"].cycles[-1]
