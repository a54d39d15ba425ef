"""Passes of the array: made from a seed, as steps on its input, and what must come out."""

from dataclasses import dataclass, field

import numpy as np

from gobo_rtl.array.array import Array
from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.array_layout import StepLayout, SumsLayout
from sim.golden.align import align
from sim.golden.array import drain, floating_sums, sums
from sim.golden.outlier import integers
from sim.passes import Pass, cycles_of
from sim.pysim import quiet, simulate


def weights(config: ArrayConfig, work: Pass) -> np.ndarray:
    """Return the weights (rows, K) as integers in the unit."""
    outliers = integers(config.value, np.where(work.outlier, work.value, 0), work.unit)
    return np.where(work.outlier, outliers, work.codebook[work.index])


def act_bits(config: ArrayConfig, rng: np.random.Generator, steps: int, spread: int) -> np.ndarray:
    """Return finite activations (columns, K) whose exponents are within ``spread``."""
    act, shape = config.act, (config.columns, steps)
    word = {8: np.uint8, 16: np.uint16, 32: np.uint32}[act.width]
    if act.integer:
        return rng.integers(0, 1 << act.width, shape).astype(word)
    fraction = act.width - 1 - act.exponent_width
    top = rng.integers(1, (1 << act.exponent_width) - 1, (config.columns, 1))
    exponent = np.maximum(top - rng.integers(0, spread + 1, shape), 0)
    sign = rng.integers(0, 2, shape)
    bits = sign << act.width - 1 | exponent << fraction | rng.integers(0, 1 << fraction, shape)
    return bits.astype(word)


def value_bits(config: ArrayConfig, numbers: np.ndarray) -> np.ndarray:
    """Return the bits of numbers that the value format has exactly."""
    if config.value_format == "fp16":
        return numbers.astype(np.float16).view(np.uint16)
    return (numbers.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def make_pass(
    config: ArrayConfig,
    rng: np.random.Generator,
    steps: int,
    *,
    index_width: int,
    share: float = 0.1,
    spread: int = 6,
) -> Pass:
    """Return a random pass; the rows' sums of magnitudes are within the array's."""
    grid, room = (1 << config.grid_width - 1) - 1, (1 << config.weight_sum_width) - 1
    shape = config.rows, steps
    codebook = rng.integers(-grid, grid + 1, 1 << index_width)
    codebook = np.minimum(codebook, room // steps)
    codebook = np.maximum(codebook, -(room // steps))
    if config.symmetric:
        codebook[len(codebook) // 2 :] = -codebook[: len(codebook) // 2][::-1]
    index = rng.integers(0, 1 << index_width, shape)
    outlier = rng.random(shape) < share
    count = np.maximum(outlier.sum(axis=1, keepdims=True), 1)
    plain = np.abs(np.where(outlier, 0, codebook[index])).sum(axis=1, keepdims=True)
    most = (room - plain) // count  # of an outlier in the row
    precision = config.value.fraction_width + 1
    length = np.floor(np.log2(np.maximum(most, 1))).astype(np.int64)  # 2^length fits
    shift = rng.integers(0, np.broadcast_to(length, shape) + 1)
    significand = rng.integers(0, 1 << np.minimum(precision, length - shift + 1) , shape)
    number = np.minimum(significand << shift, 1 << length) * np.where(most > 0, 1, 0)
    unit = int(rng.integers(-24, -9))
    signs = rng.choice([-1, 1], shape)
    value = value_bits(config, signs * number * 2.0**unit)
    acts = act_bits(config, rng, steps, spread)
    exponent = int(rng.integers(-40, 40)) if config.act.integer else 0
    return Pass(codebook, unit, index, outlier, value, acts, exponent)


@dataclass(frozen=True)
class Transfer:
    """A transfer on ``o``; ``sums`` is None where the token is special. Those of PEs that compute
    in floating point have no ``exponent`` and no ``special``: None."""

    sums: tuple[int, ...] | None
    exponent: int | None
    special: bool | None
    last: bool


def expected(config: ArrayConfig, work: Pass) -> list[Transfer]:
    """Return the transfers that a pass makes."""
    if config.floating:
        codebook = work.codebook.astype(np.uint16)
        stored = np.where(work.outlier, work.value, codebook[work.index])
        total = floating_sums(config, codebook, work.index, work.outlier, stored, work.acts)
        rows = drain(config, total).tolist()
        return [Transfer(tuple(row), None, None, n == len(rows) - 1) for n, row in enumerate(rows)]
    token = align(config, work.acts, work.act_exponent)
    total = drain(config, sums(token.values, weights(config, work)))
    groups = config.rows // config.drain_lanes
    found = []
    for n, row in enumerate(total.tolist()):
        special = bool(token.special[n // groups])
        found.append(Transfer(
            None if special else tuple(row), int(token.exponent[n // groups]) + work.unit,
            special, n == len(total) - 1,
        ))  # fmt: skip
    return found


@dataclass
class Seen:
    """Transfers of ``o`` and their cycles; ``last`` are the cycles of the steps with ``last``."""

    transfers: list[Transfer] = field(default_factory=list)
    cycle: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)


def rtl_sums(
    config: ArrayConfig, passes: list[Pass], *, idle: float = 0.0, stall: float = 0.0, seed: int = 1
) -> Seen:
    """Drive passes in a row through the array; shares of the cycles rest."""
    dut, seen = Array(config), Seen()
    layout, last_bit = SumsLayout(config), 1 << StepLayout(config)["last"].offset
    words = [word for work in passes for word in cycles_of(config, work)]
    due = len(passes) * config.columns * config.rows // config.drain_lanes

    async def drive(ctx):
        rng = np.random.default_rng([seed, 1])
        queue = iter(words)
        word, now = next(queue, None), 0
        while len(seen.transfers) < due or word is not None:
            go = word is not None and rng.random() >= idle
            go = bool(go and (not word & last_bit or ctx.get(dut.last_ready)))
            ctx.set(dut.i.valid, go)
            ctx.set(dut.i.payload.as_value(), word if go else int(rng.integers(0, 1 << 60)))
            if go:
                if word & last_bit:
                    seen.last.append(now)
                word = next(queue, None)
            await ctx.tick()
            now += 1
        ctx.set(dut.i.valid, 0)

    async def collect(ctx):
        rng = np.random.default_rng([seed, 2])
        for cycle in range(100 * (len(words) + 10 * due)):
            if len(seen.transfers) == due:
                break
            ready = rng.random() >= stall
            ctx.set(dut.o.ready, ready)
            _, _, valid, bits = await ctx.tick().sample(dut.o.valid, dut.o.payload.as_value())
            if valid and ready:
                payload = layout.from_bits(int(bits))
                exponent = special = None
                if not config.floating:
                    exponent, special = payload.exponent, bool(payload.special)
                seen.transfers.append(Transfer(
                    None if special else tuple(payload.sums), exponent, special,
                    bool(payload.last),
                ))  # fmt: skip
                seen.cycle.append(cycle)
        await quiet(ctx, dut.o)

    simulate(dut, drive, collect)
    return seen
