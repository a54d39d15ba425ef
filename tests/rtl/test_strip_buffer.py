"""Strips are given out step by step, as often as the commands say, and never lost too early."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from gobo_rtl.array.strip_buffer import StripBuffer
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import IndexWordLayout, OutlierWordLayout, WeightStepLayout
from sim.pysim import idle, put, simulate

from .decoding import Pace
from .streaming import FULL, PACES, transfer

SEED = 20201014
TINY = replace(ARRAYS["tiny"], max_inputs=16, index_depth=16, outlier_depth=16)
WIDE = replace(
    TINY, rows=8, outliers_per_step=4, beat_width=128, index_depth=32, index_widths=(2, 3)
)
CONFIGS = {"tiny": TINY, "wide": WIDE}
MARK, REWIND, RELEASE = 1, 2, 4  # ReplayLayout
Entry = tuple[int, int]  # row and value


@dataclass(frozen=True)
class Strip:
    """Indexes (planes of each step, as bits) and the outliers of each step."""

    planes: list[int]
    outliers: list[list[Entry]]


def strip(config: ArrayConfig, rng: np.random.Generator, steps: int, share: float) -> Strip:
    """Return a random strip; each weight is an outlier with probability ``share``."""
    bits = config.rows * config.index_width
    planes = [int(rng.integers(1 << bits)) for _ in range(steps)]
    outliers = [
        [
            (row, int(rng.integers(1 << config.value.width)))
            for row in range(config.rows)
            if rng.random() < share
        ]
        for _ in range(steps)
    ]
    return Strip(planes, outliers)


def sets(config: ArrayConfig, entries: list[Entry]) -> list[list[Entry]]:
    """Cut the outliers of a step into those of a word."""
    n = config.outliers_per_step
    return [entries[at : at + n] for at in range(0, len(entries), n)]


def packed(config: ArrayConfig, entries: Sequence[Entry]) -> list[dict[str, int]]:
    """Return the entries of a word."""
    held = [{"valid": 1, "row": row, "value": value} for row, value in entries]
    return held + [{"valid": 0}] * (config.outliers_per_step - len(held))


def words(config: ArrayConfig, strips: Sequence[Strip]) -> Iterator[tuple[str, int]]:
    """Yield the words of strips with the input that each is for; outliers before their index."""
    for one in strips:
        final = len(one.planes) - 1
        for step, (planes, entries) in enumerate(zip(one.planes, one.outliers, strict=True)):
            several = sets(config, entries) or ([[]] if step == final else [])
            for n, some in enumerate(several):
                more = n + 1 < len(several)
                yield "i_outliers", OutlierWordLayout(config).const({
                    "step": step, "more": more, "last": step == final and not more,
                    "entries": packed(config, some),
                }).as_bits()  # fmt: skip
            bits = IndexWordLayout(config).const({"last": step == final}).as_bits()
            yield "i_indexes", bits | planes


def cycles(config: ArrayConfig, one: Strip) -> list[int]:
    """Return the words of ``o`` for a strip, without the values of entries that are not valid."""
    found = []
    for step, (planes, entries) in enumerate(zip(one.planes, one.outliers, strict=True)):
        several = sets(config, entries) or [[]]
        for n, some in enumerate(several):
            done = n + 1 == len(several)
            found.append(planes | WeightStepLayout(config).const({
                "plain": done, "entries": packed(config, some), "done": done,
                "first": step == 0 and n == 0, "last": step + 1 == len(one.planes) and done,
            }).as_bits())  # fmt: skip
    return found


def shown(config: ArrayConfig, bits: int) -> int:
    """Return a word of ``o`` with nothing in the entries that are not valid."""
    entries = WeightStepLayout(config)["entries"]
    width = entries.width // config.outliers_per_step
    for n in range(config.outliers_per_step):
        at = entries.offset + n * width
        if not bits >> at & 1:
            bits &= ~(((1 << width) - 1) << at)
    return bits


def replayed(commands: Sequence[int]) -> list[int]:
    """Return the numbers of the strips given out."""
    at = mark = 0
    order = []
    for command in commands:
        order.append(at)
        mark = at if command & MARK else mark
        at = mark if command & REWIND else at + 1
    return order


def passes(strips: int, tiles: int, *, resident: bool = False) -> list[int]:
    """Return the commands of a block of ``tiles``; or of ``tiles`` blocks that keep the layer."""
    if not resident:
        return [
            MARK * (tile == 0) | (RELEASE if tile == tiles - 1 else REWIND)
            for _ in range(strips)
            for tile in range(tiles)
        ]
    return [
        MARK * (at == 0 and tile == 0)
        | REWIND * (at == strips - 1 and tile != tiles - 1)
        | RELEASE * (tile == tiles - 1)
        for tile in range(tiles)
        for at in range(strips)
    ]


def given_out(
    config: ArrayConfig, strips: list[Strip], commands: list[int], pace: Pace, lead: int = 0
) -> tuple[list[int], list[int], list[int]]:
    """Return the words of ``o``, their cycles, and ``too_large`` in every cycle.

    With ``lead`` no command comes before that cycle, so that the strips are there.
    """
    dut = StripBuffer(config)
    left = list(words(config, strips))
    rest = pace.rests(7, pace.idle)

    async def feed(ctx: Any) -> None:
        while left:
            if next(rest):
                await ctx.tick()
            else:
                name, word = left[0]
                await put(ctx, getattr(dut, name), word)
                left.pop(0)

    async def command(ctx: Any) -> None:
        await idle(ctx, lead)
        for word in commands:
            await put(ctx, dut.i_pass, word)

    count = sum(len(cycles(config, strips[n])) for n in replayed(commands))
    seen = transfer(dut, {}, {"o": count}, pace, probes=["too_large"], feeds=[feed, command])
    assert not left, "words were not taken"
    got = [shown(config, word) for word in seen["o"].words]
    return got, seen["o"].cycles, seen["too_large"].words


def due(config: ArrayConfig, strips: list[Strip], commands: list[int]) -> list[int]:
    """Return what ``o`` is to give."""
    return [word for n in replayed(commands) for word in cycles(config, strips[n])]


def test_a_strip_written_out_by_hand() -> None:
    """Two steps, an outlier of value 0x7bff in row 2 of the second, given out twice."""
    one = Strip([0xABC, 0x123], [[], [(2, 0x7BFF)]])
    got, _, _ = given_out(TINY, [one], [MARK | REWIND, RELEASE], FULL)
    # planes 16 bits; plain; entry of valid, row (2), value (16); done, first, last
    entry = (1 | 2 << 1 | 0x7BFF << 3) << 17
    first = 0xABC | 1 << 16 | 1 << 36 | 1 << 37
    second = 0x123 | 1 << 16 | entry | 1 << 36 | 1 << 38
    assert got == [first, second] * 2


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("name", CONFIGS)
def test_strips_come_as_often_as_the_commands_say(name: str, pace: Pace) -> None:
    config, rng = CONFIGS[name], np.random.default_rng([SEED, pace.seed])
    strips: list[Strip] = []
    commands: list[int] = []
    for steps, count, tiles, share in ((5, 3, 3, 0.1), (1, 4, 2, 0.5), (16, 2, 1, 0.0),
                                       (7, 1, 4, 0.3), (1, 1, 1, 0.0), (2, 3, 1, 0.9)):  # fmt: skip
        strips += [strip(config, rng, steps, share) for _ in range(count)]
        commands += passes(count, tiles)
    for steps, count, tiles in ((2, 5, 3), (1, 8, 2), (3, 3, 1)):  # kept as a whole
        strips += [strip(config, rng, steps, 0.1) for _ in range(count)]
        commands += passes(count, tiles, resident=True)
    got, _, too_large = given_out(config, strips, commands, pace)
    assert got == due(config, strips, commands)
    assert not any(too_large)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_no_bubble_within_or_between_strips(steps: int, share: float) -> None:
    rng = np.random.default_rng([SEED, steps])
    config = replace(TINY, outlier_depth=64)
    strips = [strip(config, rng, steps, share) for _ in range(3)]
    commands = passes(2, 4) + passes(1, 5, resident=True)
    got, when, _ = given_out(config, strips, commands, FULL, lead=100)
    assert got == due(config, strips, commands)
    assert np.diff(when).tolist() == [1] * (len(when) - 1)


def test_a_word_takes_three_cycles() -> None:
    got, when, _ = given_out(TINY, [Strip([1], [[]])], [RELEASE], FULL)
    # The outlier word comes in cycle 0, the index word in cycle 1.
    assert (len(got), when) == (1, [4])


@pytest.mark.parametrize("steps, share, count, resident", [
    (16, 0.0, 1, False), (8, 0.0, 2, True), (4, 1.0, 1, False), (2, 1.0, 2, True),
    (1, 0.0, 16, True),
])  # fmt: skip
def test_what_just_fits_is_not_too_large(
    steps: int, share: float, count: int, resident: bool
) -> None:
    """16 words of indexes, or 16 of outliers: one a row of four, in each of four steps."""
    rng = np.random.default_rng([SEED, steps])
    strips = [strip(TINY, rng, steps, share) for _ in range(2 * count)]
    commands = 2 * passes(count, 3, resident=resident)
    for pace in PACES[::3]:
        got, _, too_large = given_out(TINY, strips, commands, pace)
        assert got == due(TINY, strips, commands)
        assert not any(too_large)


TOO_LARGE = {  # outliers in each step of each strip
    "indexes of a layer that is to stay": [[0] * 6] * 3,
    "outliers of a strip": [[4] * 5],
    "outliers of a layer that is to stay": [[4, 4]] * 3,
    "indexes, before the outlier that is waited for": [[0] * 9] * 2,
    "outliers, before the index that is waited for": [[4, 4, 4, 1, 4]],
}


@pytest.mark.parametrize("name", TOO_LARGE)
@pytest.mark.parametrize("pace", PACES[::3])
def test_what_does_not_fit_is_told(name: str, pace: Pace) -> None:
    """16 words of each fit; a strip of indexes always does."""
    strips = [
        Strip([0] * len(counts), [[(row, row) for row in range(count)] for count in counts])
        for counts in TOO_LARGE[name]
    ]
    dut, left = StripBuffer(TINY), list(words(TINY, strips))

    async def feed(ctx: Any) -> None:
        for name, word in list(left):
            await put(ctx, getattr(dut, name), word)
            left.pop(0)

    async def command(ctx: Any) -> None:
        for word in passes(len(strips), 2, resident=len(strips) > 1):
            await put(ctx, dut.i_pass, word)

    async def watch(ctx: Any) -> None:
        rest = pace.rests(3, pace.stall)
        for _ in range(300):
            ctx.set(dut.o.ready, not next(rest))
            await ctx.tick()
        assert left and ctx.get(dut.too_large)

    simulate(dut, watch, background=[feed, command])
