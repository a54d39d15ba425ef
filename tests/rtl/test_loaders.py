"""Commands and beats of activations: the token's place, end and scale with each beat."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from gobo_rtl.array.act_loader import ActLoader
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import ActBeatLayout, CommandLayout, LayerLayout
from sim.pysim import idle, put, simulate

from .decoding import Pace
from .streaming import FULL, PACES, transfer

SEED = 20201014
TINY = ARRAYS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "fp32": replace(TINY, act_format="fp32", columns=3, beat_width=128),
    "int8": replace(TINY, act_format="int8", act_width=8, columns=1),
    "int16": replace(TINY, act_format="int16", columns=4),
}


@dataclass(frozen=True)
class Batch:
    """Activations (tokens, inputs) of a layer as bits."""

    values: np.ndarray
    address: int
    stride: int
    fence: bool = False

    def layer(self, config: ArrayConfig) -> int:
        """Return the layer as a payload."""
        tokens, inputs = self.values.shape
        return LayerLayout(config).const({
            "inputs": inputs, "tokens": tokens, "act_address": self.address,
            "act_stride": self.stride, "fence": self.fence,
        }).as_bits()  # fmt: skip


def batch(config: ArrayConfig, rng: np.random.Generator, tokens: int, inputs: int) -> Batch:
    """Return random activations; of each token small ones, a few great, a few NaN or infinite."""
    act = config.act
    values = rng.integers(0, 1 << act.width, (tokens, inputs), dtype=np.uint64)
    if act.exponent_width:
        fraction = act.width - 1 - act.exponent_width
        mask = ((1 << act.exponent_width) - 1) << fraction
        top = rng.integers(1, 1 << act.exponent_width, (tokens, 1), dtype=np.uint64)
        field = rng.integers(0, top, (tokens, inputs), dtype=np.uint64)
        special = rng.random((tokens, inputs)) < 0.3 / inputs
        field = np.where(special, (1 << act.exponent_width) - 1, field)
        values = (values & np.uint64(~mask & (1 << act.width) - 1)) | field << np.uint64(fraction)
    stride = config.beat_bytes * int(rng.integers(1, 999))
    return Batch(values, config.beat_bytes * int(rng.integers(1 << 20)), stride)


def due(config: ArrayConfig, one: Batch) -> tuple[list[int], list[int], list[int]]:
    """Return the commands, the beats that come from memory, and the beats given."""
    rng, act = np.random.default_rng(SEED), config.act
    commands, beats, given = [], [], []
    tokens, inputs = one.values.shape
    for token, row in enumerate(one.values.tolist()):
        count = -(-inputs // config.acts_per_beat)
        address = (one.address + token * one.stride) % (1 << config.address_width)
        commands.append(CommandLayout(config).const({"address": address, "beats": count}).as_bits())
        exponent = special = 0
        if act.exponent_width:
            fraction = act.width - 1 - act.exponent_width
            fields = [value >> fraction & ((1 << act.exponent_width) - 1) for value in row]
            exponent = max(1, *fields)
            special = int((1 << act.exponent_width) - 1 in fields)
        # past the activations, what would be the greatest of all
        row = row + [(1 << act.width) - 1] * (count * config.acts_per_beat - inputs)
        for n in range(count):
            some = row[n * config.acts_per_beat : (n + 1) * config.acts_per_beat]
            bits = sum(value << at * act.width for at, value in enumerate(some))
            end, column = n + 1 == count, token % config.columns
            beats.append(bits | int(end and rng.random() < 0.5) << config.beat_width)
            given.append(ActBeatLayout(config).const({
                "data": bits, "column": column, "end": end,
                "scale": {"exponent": exponent, "special": special} if end else {},
                "last": end and (column + 1 == config.columns or token + 1 == tokens),
            }).as_bits())  # fmt: skip
    return commands, beats, given


def shown(config: ArrayConfig, bits: int) -> int:
    """Return a word of ``o`` without the scale of a beat that is not the token's last."""
    layout = ActBeatLayout(config)
    if layout.from_bits(bits).end:
        return bits
    scale = layout["scale"]
    return bits & ~(((1 << scale.width) - 1) << scale.offset)


SHAPES = [(1, 1), (3, 5), (4, 8), (2, 16), (5, 1), (7, 13), (1, 40)]


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("name", CONFIGS)
def test_activations_of_layers_in_a_row(name: str, pace: Pace) -> None:
    config, rng = CONFIGS[name], np.random.default_rng([SEED, pace.seed])
    batches = [batch(config, rng, *shape) for shape in SHAPES]
    commands, beats, given = ([x for b in batches for x in due(config, b)[n]] for n in range(3))
    seen = transfer(
        ActLoader(config),
        {"i_layer": [one.layer(config) for one in batches], "i": beats},
        {"o_read": len(commands), "o": len(given)}, pace, constants={"fence_open": 1},
    )  # fmt: skip
    assert seen["o_read"].words == commands
    assert [shown(config, word) for word in seen["o"].words] == given


def test_a_token_written_out_by_hand() -> None:
    """2.0, subnormal, 1.0, -0.0 and then -4.0: exponent 17. A NaN behind is not the token's."""
    beats = [0x8000_3C00_0001_4000, 0x7E00_7E00_7E00_C400]
    layer = Batch(np.zeros((1, 5)), 0x1230, 64).layer(TINY)
    seen = transfer(
        ActLoader(TINY), {"i_layer": [layer], "i": beats}, {"o_read": 1, "o": 2},
        constants={"fence_open": 1},
    )  # fmt: skip
    assert seen["o_read"].words == [0x1230 | 2 << 40]
    first, second = seen["o"].words
    # data (64), column (1), end, exponent (5), special, last
    assert first & ~(63 << 66) == beats[0]
    assert second == beats[1] | 1 << 65 | 17 << 66 | 1 << 72
    assert seen["o"].cycles[0] == seen["i"].cycles[0] + 1


def test_a_command_and_a_beat_in_every_cycle() -> None:
    rng = np.random.default_rng(SEED)
    batches = [batch(TINY, rng, 6, 8), batch(TINY, rng, 3, 16)]
    commands, beats, given = ([x for b in batches for x in due(TINY, b)[n]] for n in range(3))
    seen = transfer(
        ActLoader(TINY), {"i_layer": [one.layer(TINY) for one in batches], "i": beats},
        {"o_read": len(commands), "o": len(given)}, FULL, constants={"fence_open": 1},
    )  # fmt: skip
    assert np.diff(seen["o_read"].cycles).tolist() == [1] * (len(commands) - 1)
    assert np.diff(seen["o"].cycles).tolist() == [1] * (len(given) - 1)


@pytest.mark.parametrize("fence", [0, 1])
def test_a_fenced_layer_waits_for_the_jobs_before(fence: int) -> None:
    rng, dut = np.random.default_rng(SEED), ActLoader(TINY)
    one = replace(batch(TINY, rng, 3, 4), fence=bool(fence))

    async def offer(ctx: Any) -> None:
        await put(ctx, dut.i_layer, one.layer(TINY))

    async def watch(ctx: Any) -> None:
        await idle(ctx, 10)
        assert ctx.get(dut.o_read.valid) == (not fence)
        ctx.set(dut.fence_open, 1)
        assert ctx.get(dut.o_read.valid)
        assert int(ctx.get(dut.o_read.payload.address)) == one.address

    simulate(dut, watch, background=[offer])
