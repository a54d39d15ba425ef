"""The biases of each strip come once a block, in order, and never ask for more than has room."""

from typing import Any

import pytest

from gobo_rtl.array.bias_loader import STRIPS, BiasLoader
from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.array_layout import CommandLayout
from gobo_rtl.layout import BeatLayout
from sim.pysim import get, idle, put, simulate

from .decoding import Pace
from .streaming import PACES, transfer
from .test_schedule import CONFIGS, LAYERS


def beats_of(config: ArrayConfig, address: int, beats: int) -> list[int]:
    """Return the beats of a command from a memory that holds each beat's number."""
    layout, first = BeatLayout(config.image), address // config.beat_bytes
    return [
        layout.const({"data": first + n, "last": n == beats - 1}).as_bits() for n in range(beats)
    ]


def memory(config: ArrayConfig, dut: BiasLoader, asked: list[tuple[int, int]]) -> Any:
    """Return a bench that answers commands and keeps them."""

    async def answer(ctx: Any) -> None:
        while True:
            word = await get(ctx, dut.o_read, limit=1_000_000)
            command = CommandLayout(config).from_bits(word)
            asked.append((command.address, command.beats))
            await idle(ctx, 3)
            for beat in beats_of(config, *asked[-1]):
                await put(ctx, dut.i, beat, limit=1)  # it never waits

    return answer


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("name", CONFIGS)
def test_biases_come_strip_by_strip_once_a_block(name: str, pace: Pace) -> None:
    config = CONFIGS[name]
    dut, asked = BiasLoader(config), []
    size = config.rows * 4
    due = [
        (64 * layer.rows + strip * size, size // config.beat_bytes)
        for layer in LAYERS
        if layer.has_bias
        for _ in range(0, layer.tiles(config), layer.block)
        for strip in range(layer.strips(config))
    ]
    words = [beat for command in due for beat in beats_of(config, *command)]
    given = {"i_layer": [layer.word(config) for layer in LAYERS]}
    seen = transfer(dut, given, {"o": len(words)}, pace, feeds=[memory(config, dut, asked)])
    assert asked == due
    assert seen["o"].words == words


def test_it_asks_only_for_what_has_room() -> None:
    config = CONFIGS["tiny"]
    layer = next(layer for layer in LAYERS if layer.has_bias and layer.strips(config) > STRIPS)
    dut, asked = BiasLoader(config), []

    async def drive(ctx: Any) -> None:
        ctx.set(dut.i_layer.payload.as_value(), layer.word(config))
        ctx.set(dut.i_layer.valid, 1)
        await idle(ctx, 100)
        assert len(asked) == STRIPS
        beats = config.rows * 4 // config.beat_bytes
        for n in range(beats):
            assert len(asked) == STRIPS, n
            await get(ctx, dut.o)
        await idle(ctx, 10)
        assert len(asked) == STRIPS + 1

    simulate(dut, drive, background=[memory(config, dut, asked)])
