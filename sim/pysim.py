"""Driving and watching streams in Amaranth's simulator.

Benches are coroutines of ``simulate``; they wait in loops over ``ctx.tick()``.
"""

import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import product
from typing import Any

from amaranth.hdl import Value
from amaranth.lib import stream, wiring
from amaranth.sim import Simulator

__all__ = ["LIMIT", "Bench", "get", "idle", "put", "quiet", "simulate"]

Bench = Callable[[Any], Awaitable[None]]

LIMIT = 10_000
"""Cycles that a transfer may take before the bench fails."""


async def idle(ctx: Any, cycles: int) -> None:
    """Let ``cycles`` clock cycles pass."""
    for _ in range(cycles):
        await ctx.tick()


async def put(ctx: Any, port: stream.Interface, payload: int, limit: int = LIMIT) -> None:
    """Offer ``payload`` (its bits) on ``port`` until it is taken."""
    ctx.set(Value.cast(port.payload), payload)
    ctx.set(port.valid, 1)
    for _ in range(limit):
        _, _, ready = await ctx.tick().sample(port.ready)
        if ready:
            ctx.set(port.valid, 0)
            return
    raise AssertionError(f"no transfer in {limit} cycles")


async def get(ctx: Any, port: stream.Interface, limit: int = LIMIT) -> int:
    """Take the next transfer of ``port`` and return its bits."""
    ctx.set(port.ready, 1)
    for _ in range(limit):
        _, _, valid, payload = await ctx.tick().sample(port.valid, Value.cast(port.payload))
        if valid:
            ctx.set(port.ready, 0)
            return int(payload)
    raise AssertionError(f"no transfer in {limit} cycles")


async def quiet(ctx: Any, port: stream.Interface, cycles: int = 20) -> None:
    """Take what comes on ``port`` for some cycles; anything is an error."""
    ctx.set(port.ready, 1)
    for _ in range(cycles):
        _, _, valid = await ctx.tick().sample(port.valid)
        assert not valid, "a transfer came after the last one due"


def _output_streams(dut: wiring.Component) -> Iterator[tuple[str, stream.Interface]]:
    """Yield name and interface of every stream among the members, those of arrays singly."""
    for name, member in dut.signature.members.items():
        if member.is_signature and isinstance(member.signature, stream.Signature):
            for place in product(*map(range, member.dimensions)):
                port = getattr(dut, name)
                for n in place:
                    port = port[n]
                yield f"{name}{list(place) or ''}", port


async def _watch(ctx: Any, name: str, port: stream.Interface) -> None:
    """Hold an output stream to the rules: what is offered stays until it is taken."""
    waiting, offered = False, 0
    async for _, rst, valid, ready, payload in ctx.tick().sample(
        port.valid, port.ready, Value.cast(port.payload)
    ):
        assert rst or not waiting or valid, f"{name}.valid fell before the transfer"
        assert rst or not waiting or payload == offered, f"{name}.payload changed while it waits"
        waiting, offered = valid and not ready, payload


def simulate(
    dut: wiring.Component,
    *benches: Bench,
    background: Sequence[Bench] = (),
    limit: int = 1_000_000,
) -> None:
    """Run ``benches`` on ``dut`` until all have ended; at most ``limit`` cycles.

    Those in the ``background`` run beside them and need not end. Every output stream of ``dut`` is
    held to Amaranth's stream rules meanwhile.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sim = Simulator(dut)
    sim.add_clock(1e-6)
    for name, port in _output_streams(dut):

        async def watch(ctx: Any, name: str = name, port: stream.Interface = port) -> None:
            await _watch(ctx, name, port)

        sim.add_testbench(watch, background=True)
    left = len(benches)
    for bench in benches:

        async def run(ctx: Any, bench: Bench = bench) -> None:
            nonlocal left
            await bench(ctx)
            left -= 1

        sim.add_testbench(run)

    for bench in background:
        sim.add_testbench(bench, background=True)

    async def guard(ctx: Any) -> None:
        for _ in range(limit):
            await ctx.tick()
        raise AssertionError(f"the benches did not end within {limit} cycles")

    sim.add_testbench(guard, background=True)
    sim.run()
    assert left == 0, f"{left} benches did not end"
