"""The decode unit driven with layers: what a bench sees of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gobo_rtl.config import GoboConfig
from gobo_rtl.decode import DecodeUnit
from sim.golden.decode import Streams
from sim.pysim import put, simulate


@dataclass
class Pace:
    """How often inputs idle and the output stalls: probabilities of a cycle, from a seed."""

    idle: float = 0.0
    stall: float = 0.0
    seed: int = 1

    def gaps(self, number: int, share: float) -> Iterator[bool]:
        """Yield for cycle after cycle whether it is an idle one of stream ``number``."""
        rng = np.random.default_rng([self.seed, number])
        while True:
            yield from (rng.random(64) < share).tolist()


@dataclass
class Seen:
    """Every transfer of ``o``, with the cycle it came in, and the error code at the end."""

    values: np.ndarray
    last: list[bool]
    error: list[bool]
    cycle: list[int]
    error_code: int


def beat_bits(beats: np.ndarray, lasts: np.ndarray) -> list[int]:
    """Return the payload bits of a stream of beats."""
    return [
        int.from_bytes(bytes(beat), "little") | int(last) << beats.shape[1] * 8
        for beat, last in zip(beats, lasts, strict=True)
    ]


def codebook_bits(config: GoboConfig, layer: Streams) -> int:
    """Return the payload bits of a layer's codebook."""
    bits = sum(int(v) << n * config.value_width for n, v in enumerate(layer.codebook))
    if len(config.index_widths) > 1:
        bits |= layer.index_width << config.codebook_width
    return bits


def rtl_decode(
    config: GoboConfig,
    layers: Sequence[Streams],
    pace: Pace | None = None,
    *,
    due: int | None = None,
    patience: int = 60,
    dut: DecodeUnit | None = None,
) -> Seen:
    """Drive ``layers`` through the decode unit and return what comes out.

    Stops when all inputs are taken and nothing came for ``patience`` cycles, or when ``due``
    transfers came and nothing more did.
    """
    pace = pace or Pace()
    dut = dut or DecodeUnit(config)
    seen = Seen(np.empty(0), [], [], [], 0)
    words: list[int] = []
    left = {"i_codebook": 0, "i_indexes": 0, "i_outliers": 0}

    def driver(number: int, name: str, payloads: list[int]):
        left[name] = len(payloads)

        async def drive(ctx):
            pause = pace.gaps(number, pace.idle)
            for payload in payloads:
                while next(pause):
                    await ctx.tick()
                await offer(ctx, getattr(dut, name), payload)
                left[name] -= 1

        async def offer(ctx, port, payload):
            # Beats after a wait that never ends are not a fault of the bench: `collect` ends it.
            await put(ctx, port, payload, limit=1_000_000)

        return drive

    async def collect(ctx):
        stall, quiet, cycle = pace.gaps(9, pace.stall), 0, 0
        while quiet < patience:
            ready = not next(stall)
            ctx.set(dut.o.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload.as_value())
            if valid and ready:
                words.append(int(payload))
                seen.cycle.append(cycle)
                quiet = 0
            elif ready:
                quiet += 1
            cycle += 1
        seen.error_code = int(ctx.get(dut.error_code))
        stuck.set_done()

    class Stuck(Exception):
        """Ends the simulation, whatever the drivers still offer."""

    class Done:
        def set_done(self):
            raise Stuck

    stuck = Done()
    try:
        simulate(
            dut,
            driver(1, "i_codebook", [codebook_bits(config, layer) for layer in layers]),
            driver(2, "i_indexes", [b for y in layers for b in beat_bits(y.indexes, y.indexes_last)]),
            driver(
                3, "i_outliers", [b for y in layers for b in beat_bits(y.outliers, y.outliers_last)]
            ),
            collect,
        )
    except Stuck:
        pass
    width, lanes = config.value_width, config.lanes
    mask = (1 << width) - 1
    seen.values = np.array(
        [[w >> n * width & mask for n in range(lanes)] for w in words], np.uint64
    ).reshape(-1, lanes)
    seen.last = [bool(w >> lanes * width & 1) for w in words]
    seen.error = [bool(w >> lanes * width + 1 & 1) for w in words]
    del due
    return seen
