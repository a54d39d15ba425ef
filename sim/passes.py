"""Passes of an array: as steps on its input, and what its ports see in every cycle."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Const, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from numpy.typing import NDArray

from gobo_rtl.array.array import Array
from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.array_layout import StepLayout
from sim.golden.align import scale
from sim.pysim import simulate

__all__ = ["Pass", "Trace", "cycles_of", "record"]

_IDLE = 16  # cycles before the first step, in which every pipeline runs empty


@dataclass(frozen=True)
class Pass:
    """A strip by a token tile.

    ``index`` is (rows, K); ``outlier`` (rows, K) where ``value``, bits in the value format, takes
    the centroid's place; ``acts`` (columns, K) bits of activations; ``codebook`` integers, or bits
    where the PEs compute in floating point.
    """

    codebook: NDArray[Any]
    unit: int
    index: NDArray[Any]
    outlier: NDArray[Any]
    value: NDArray[Any]
    acts: NDArray[Any]
    act_exponent: int = 0

    @property
    def index_width(self) -> int:
        """Bits of an index."""
        return len(self.codebook).bit_length() - 1


def cycles_of(config: ArrayConfig, work: Pass) -> Iterator[int]:
    """Yield the payloads of the steps of a pass, a cycle each."""
    layout, most = StepLayout(config), config.outliers_per_step
    token = scale(config, work.acts)
    scales = [
        {"exponent": int(e), "special": int(s)}
        for e, s in zip(token.exponent, token.special, strict=True)
    ]
    codebook = np.zeros(config.bins, np.int64)
    codebook[: len(work.codebook)] = work.codebook
    steps = work.index.shape[1]
    for k in range(steps):
        rows = np.flatnonzero(work.outlier[:, k]).tolist()
        entries = [
            {"valid": 1, "row": row, "value": int(work.value[row, k])} for row in rows
        ]
        words = [entries[n : n + most] for n in range(0, max(1, len(entries)), most)]
        for n, word in enumerate(words):
            done = n == len(words) - 1
            index = work.index[:, k]
            planes = [
                sum(int(bit) << row for row, bit in enumerate(index >> plane & 1))
                for plane in range(config.index_width)
            ]
            word = word + [{"valid": 0}] * (most - len(word))
            yield layout.const({
                "planes": planes, "plain": int(done), "entries": word,
                "values": [int(bits) for bits in work.acts[:, k]], "scales": scales,
                "first": int(k == 0 and n == 0), "last": int(k == steps - 1 and done),
                "index_width": work.index_width, "codebook": [int(c) for c in codebook],
                "unit": work.unit, "act_exponent": work.act_exponent,
            }).as_bits()  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """The ports of a block in every cycle from reset on, as they are before the clock's edge.

    Parameters
    ----------
    inputs, outputs : dict
        By name of the port, as its Verilog has it: (cycles, width) array of bits, lowest first.
    window : tuple of int
        The cycles that count for power, the first and the one after the last: with several passes
        those of the last one's steps, in which the results of the one before leave, as in any pass
        of a layer; all cycles otherwise.
    """

    inputs: dict[str, NDArray[np.uint8]]
    outputs: dict[str, NDArray[np.uint8]]
    window: tuple[int, int]


def record(config: ArrayConfig, passes: Sequence[Pass]) -> dict[str, Trace]:
    """Return what an array, and its first column, see in passes one after the other.

    Results are taken as they come. The traces are of blocks ``array`` and ``column``.
    """
    array = Array(config)
    made: list[wiring.Component] = []

    class Column(array.column):  # type: ignore[misc, name-defined]
        def __init__(self, config: ArrayConfig):
            super().__init__(config)
            made.append(self)

    array.column = Column
    words: list[int | None] = [None] * _IDLE
    for work in passes:
        begin = len(words)
        words += cycles_of(config, work)
    last = 1 << StepLayout(config)["last"].offset
    rows: list[tuple[int, ...]] = []
    signals: list[tuple[str, str, bool, Value]] = []
    given: list[int] = []  # the cycle of each word

    async def drive(ctx: Any) -> None:
        for block, component in (("array", array), ("column", made[0])):
            for path, member, value in component.signature.flatten(component):
                signal = Value.cast(value)
                if not isinstance(signal, Const):
                    name = "__".join(map(str, path))
                    signals.append((block, name, member.flow is In, signal))
        ctx.set(array.o.ready, 1)
        left = len(passes) * config.columns * config.rows // config.drain_lanes
        at = 0
        while left:
            word = words[at] if at < len(words) else None
            waits = word is not None and word & last and not ctx.get(array.last_ready)
            ctx.set(array.i.valid, word is not None and not waits)
            if word is not None:
                ctx.set(array.i.payload.as_value(), word)
            if not waits:
                given.append(len(rows))
            at += not waits
            left -= ctx.get(array.o.valid)
            _, _, *values = await ctx.tick().sample(*(signal for *_, signal in signals))
            rows.append(tuple(map(int, values)))

    simulate(array, drive)
    window = (given[begin], given[len(words) - 1] + 1) if len(passes) > 1 else (0, len(rows))
    traces = {block: Trace({}, {}, window) for block in ("array", "column")}
    for (block, name, is_input, signal), values in zip(
        signals, zip(*rows, strict=True), strict=True
    ):
        into = traces[block].inputs if is_input else traces[block].outputs
        into[name] = _bits(values, len(signal))
    return traces


def record_steps(pe: Any, steps: Sequence[dict[str, int]]) -> Trace:
    """Return what a PE by itself, with ``valid`` and ``step``, sees in steps in a row."""
    ports = [(name, member.flow is In, Value.cast(getattr(pe, name)))
             for name, member in pe.signature.members.items()]  # fmt: skip
    rows: list[tuple[int, ...]] = []

    async def drive(ctx: Any) -> None:
        for step in [None] * _IDLE + list(steps) + [None] * (pe.latency + 2):
            ctx.set(pe.valid, step is not None)
            if step is not None:
                ctx.set(pe.step, step)
            _, _, *values = await ctx.tick().sample(*(signal for *_, signal in ports))
            rows.append(tuple(map(int, values)))

    simulate(pe, drive)
    trace = Trace({}, {}, (0, len(rows)))
    for (name, is_input, signal), values in zip(ports, zip(*rows, strict=True), strict=True):
        (trace.inputs if is_input else trace.outputs)[name] = _bits(values, len(signal))
    return trace


def _bits(values: Sequence[int], width: int) -> NDArray[np.uint8]:
    """Return numbers, negative ones in two's complement, as (numbers, width) bits."""
    size, mask = -(-width // 8), (1 << width) - 1
    text = b"".join((value & mask).to_bytes(size, "little") for value in values)
    table = np.frombuffer(text, np.uint8).reshape(len(values), size)
    return np.unpackbits(table, axis=1, count=width, bitorder="little")
