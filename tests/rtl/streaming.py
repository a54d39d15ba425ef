"""Any component driven with lists of payloads: what its streams give, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Value
from amaranth.lib import wiring

from sim.pysim import Bench, put, simulate

from .decoding import Pace

__all__ = ["FULL", "PACES", "Transfers", "transfer"]

FULL = Pace()
PACES = [FULL, Pace(0.4, 0.0, 2), Pace(0.0, 0.5, 3), Pace(0.3, 0.3, 4)]


@dataclass
class Transfers:
    """The payloads of a stream in order, and the cycle of each transfer."""

    words: list[int] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)


def transfer(
    dut: wiring.Component,
    given: Mapping[str, Sequence[int]],
    due: Mapping[str, int],
    pace: Pace = FULL,
    *,
    probes: Sequence[str] = (),
    constants: Mapping[str, int] | None = None,
    feeds: Sequence[Bench] = (),
    after: int = 20,
    all_taken: bool = True,
) -> dict[str, Transfers]:
    """Drive every stream of ``given`` and return what the streams of ``due`` give.

    Ends ``after`` cycles after as many transfers as are due; more than these fail, and so does,
    with ``all_taken``, an input that was not taken. The words of a stream in ``given`` are its
    payloads, and its cycles those of its transfers. ``probes`` are other outputs: their value in
    every cycle. ``constants`` are other inputs. ``feeds`` drive what lists cannot.
    """
    seen = {name: Transfers() for name in (*given, *due, *probes)}
    cycle = 0

    async def count(ctx: Any) -> None:
        nonlocal cycle
        for name, value in (constants or {}).items():
            ctx.set(getattr(dut, name), value)
        ports = [Value.cast(getattr(dut, name)) for name in probes]
        while True:
            _, _, *values = await ctx.tick().sample(*ports)
            for name, value in zip(probes, values, strict=True):
                seen[name].words.append(int(value))
                seen[name].cycles.append(cycle)
            cycle += 1

    def driver(number: int, name: str) -> Any:
        async def drive(ctx: Any) -> None:
            rest = pace.rests(number, pace.idle)
            for word in given[name]:
                while next(rest):
                    await ctx.tick()
                await put(ctx, getattr(dut, name), word, limit=1_000_000)
                seen[name].words.append(word)
                seen[name].cycles.append(cycle - 1)

        return drive

    def collector(number: int, name: str) -> Any:
        async def collect(ctx: Any) -> None:
            port, rest, waited = getattr(dut, name), pace.rests(number, pace.stall), 0
            fixed = port.signature.always_ready
            got, now = seen[name], 0
            while len(got.words) < due[name] or waited < after:
                ready = fixed or not next(rest)
                if not fixed:
                    ctx.set(port.ready, ready)
                _, _, valid, payload = await ctx.tick().sample(
                    port.valid, Value.cast(port.payload)
                )
                if valid and ready:
                    assert len(got.words) < due[name], f"{name} gives more than is due"
                    got.words.append(int(payload))
                    got.cycles.append(now)
                now += 1
                if len(got.words) == due[name]:
                    waited += 1

        return collect

    drivers = [driver(n, name) for n, name in enumerate(given)]
    collectors = [collector(100 + n, name) for n, name in enumerate(due)]
    simulate(dut, *collectors, background=[count, *drivers, *feeds], limit=20_000)
    for name in given if all_taken else ():
        assert len(seen[name].words) == len(given[name]), f"{name} was not taken"
    return seen
