"""The decode unit driven with layers: what a bench sees of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from gobo_rtl.config import GoboConfig
from gobo_rtl.decode import DecodeUnit
from sim.golden.decode import Streams
from sim.pysim import LIMIT, put, simulate

LONG = 600  # cycles without a transfer of `o` after which the inputs are taken to be held
STREAMS = ("i_codebook", "i_indexes", "i_outliers")


@dataclass(frozen=True)
class Pace:
    """Shares of the cycles in which each input idles and the output stalls, from a seed."""

    idle: float = 0.0
    stall: float = 0.0
    seed: int = 1

    def rests(self, number: int, share: float) -> Iterator[bool]:
        """Yield for cycle after cycle whether stream ``number`` rests."""
        rng = np.random.default_rng([self.seed, number])
        while True:
            yield from (rng.random(64) < share).tolist()


@dataclass
class Seen:
    """Transfers of ``o`` with the cycle of each, and what was left at the end.

    ``values`` is (n, lanes) bit patterns; ``cycle`` counts from the first cycle of the
    simulation; ``taken`` says how many transfers each input made.
    """

    values: np.ndarray
    last: list[bool] = field(default_factory=list)
    error: list[bool] = field(default_factory=list)
    cycle: list[int] = field(default_factory=list)
    error_code: int = 0
    taken: dict[str, int] = field(default_factory=dict)


def beat_bits(beats: np.ndarray, lasts: np.ndarray) -> list[int]:
    """Return the payloads of a stream of beats (n, beat_bytes) with their ``last`` (n,)."""
    return [
        int.from_bytes(bytes(beat), "little") | int(last) << 8 * beats.shape[1]
        for beat, last in zip(beats, lasts, strict=True)
    ]


def codebook_bits(config: GoboConfig, layer: Streams) -> int:
    """Return the payload of a layer's codebook."""
    bits = sum(int(value) << n * config.value_width for n, value in enumerate(layer.codebook))
    if len(config.index_widths) > 1:
        bits |= layer.index_width << config.codebook_width
    return bits


def payloads(config: GoboConfig, layers: Sequence[Streams]) -> dict[str, list[int]]:
    """Return what each input is given for ``layers`` in a row."""
    return {
        "i_codebook": [codebook_bits(config, layer) for layer in layers],
        "i_indexes": [b for y in layers for b in beat_bits(y.indexes, y.indexes_last)],
        "i_outliers": [b for y in layers for b in beat_bits(y.outliers, y.outliers_last)],
    }


def groups_of(config: GoboConfig, words: list[int]) -> tuple[np.ndarray, list[bool], list[bool]]:
    """Return values (n, lanes), ``last`` and ``error`` of the payloads of ``o``."""
    width, lanes = config.value_width, config.lanes
    mask = (1 << width) - 1
    values = [[word >> n * width & mask for n in range(lanes)] for word in words]
    flags = [word >> lanes * width for word in words]
    return (
        np.array(values, np.uint64).reshape(-1, lanes),
        [bool(flag & 1) for flag in flags],
        [bool(flag >> 1) for flag in flags],
    )


def rtl_decode(
    config: GoboConfig,
    layers: Sequence[Streams],
    pace: Pace | None = None,
    *,
    after: Sequence[Streams] = (),
    patience: int = 60,
) -> Seen:
    """Drive ``layers`` through the decode unit and return what comes out.

    Ends when all inputs are taken, or nothing moves, and nothing came for ``patience`` cycles that
    the output was ready. With ``after``, ``clear`` is pulsed then and those layers follow, and what
    came before is not returned.
    """
    pace, dut = pace or Pace(), DecodeUnit(config)
    given = payloads(config, layers), payloads(config, after)
    words: list[int] = []
    cycles: list[int] = []
    seen = Seen(np.empty((0, config.lanes)), taken=dict.fromkeys(STREAMS, 0))
    phase = 0

    def driver(number: int, name: str):
        async def drive(ctx):
            rest = pace.rests(number, pace.idle)
            for turn, queue in enumerate(given):
                while phase < turn:
                    await ctx.tick()
                for payload in queue[name]:
                    while next(rest):
                        await ctx.tick()
                    await put(ctx, getattr(dut, name), payload, limit=100 * LIMIT)
                    seen.taken[name] += 1

        return drive

    async def collect(ctx):
        nonlocal phase
        rest, quiet, cycle = pace.rests(9, pace.stall), 0, 0
        while True:
            ready = not next(rest)
            ctx.set(dut.o.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload.as_value())
            if valid and ready:
                words.append(int(payload))
                cycles.append(cycle)
                quiet = 0
            elif ready:
                quiet += 1
            cycle += 1
            if quiet < patience:
                continue
            if quiet < LONG and any(len(given[phase][name]) > n for name, n in seen.taken.items()):
                continue
            if phase == 1 or not after:
                break
            words.clear()
            cycles.clear()
            seen.taken = dict.fromkeys(STREAMS, 0)
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            phase, quiet = 1, 0
        seen.error_code = int(ctx.get(dut.error_code))

    drivers = [driver(number, name) for number, name in enumerate(STREAMS)]
    simulate(dut, collect, background=drivers)
    seen.values, seen.last, seen.error = groups_of(config, words)
    seen.cycle = cycles
    return seen
