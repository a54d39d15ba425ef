# amaranth: UnusedElaboratable=no
"""The registers: their map, their files, and what the bus and the hardware see of them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gobo_rtl.array_config import ARRAYS
from gobo_rtl.bus.axi_lite import Registers
from gobo_rtl.bus.registers import (
    ACCESSES,
    ADDRESS_WIDTH,
    REGISTERS,
    as_json,
    c_header,
    constants,
    page,
)
from gobo_rtl.cli import main
from gobo_rtl.formats import ARRAY_ERRORS, COMPLETION, JOB
from sim.pysim import idle, simulate

SEED = 32
OKAY, SLVERR = 0, 2
TINY = ARRAYS["tiny"]
OFFSETS = {register.name: register.offset for register in REGISTERS}
WORDS = {r.offset + 4 * n for r in REGISTERS for n in range(r.width // 32)}


async def write(ctx: Any, dut: Registers, address: int, word: int, strobes: int = 15,
                order: str = "both") -> int:  # fmt: skip
    """Write a word and return the response; ``order`` says what comes first."""
    axi = dut.axi
    ctx.set(axi.awaddr, address)
    ctx.set(axi.wdata, word)
    ctx.set(axi.wstrb, strobes)
    ctx.set(axi.bready, 1)
    left = {"both": [("aw", "w")], "address": [("aw",), ("w",)], "data": [("w",), ("aw",)]}[order]
    for channels in left:
        for channel in channels:
            ctx.set(getattr(axi, f"{channel}valid"), 1)
            assert ctx.get(getattr(axi, f"{channel}ready"))
        await ctx.tick()
        for channel in channels:
            ctx.set(getattr(axi, f"{channel}valid"), 0)
        if channels is not left[-1]:
            await idle(ctx, 2)
    for _ in range(4):
        if ctx.get(axi.bvalid):
            response = ctx.get(axi.bresp)
            await ctx.tick()
            assert not ctx.get(axi.bvalid)
            return int(response)
        await ctx.tick()
    raise AssertionError("no response")


async def read(ctx: Any, dut: Registers, address: int) -> tuple[int, int]:
    """Return the word at ``address`` and the response."""
    axi = dut.axi
    ctx.set(axi.araddr, address)
    ctx.set(axi.arvalid, 1)
    ctx.set(axi.rready, 1)
    assert ctx.get(axi.arready)
    await ctx.tick()
    ctx.set(axi.arvalid, 0)
    assert ctx.get(axi.rvalid)
    word, response = ctx.get(axi.rdata), ctx.get(axi.rresp)
    await ctx.tick()
    assert not ctx.get(axi.rvalid)
    return int(word), int(response)


# -- the description ------------------------------------------------------------------------


def test_registers_and_fields_have_places_of_their_own() -> None:
    assert len(WORDS) == sum(register.width // 32 for register in REGISTERS)
    assert max(WORDS) < 1 << ADDRESS_WIDTH
    ports = [field.port for register in REGISTERS for field in register.fields]
    assert len(set(ports)) == len(ports)
    for register in REGISTERS:
        assert register.offset % (register.width // 8) == 0
        taken = 0
        for field in register.fields:
            assert field.access in ACCESSES
            bits = (1 << field.width) - 1 << field.low
            assert not bits & taken and bits < 1 << register.width
            taken |= bits


@pytest.mark.parametrize("name", ARRAYS)
def test_constants_fit_their_fields(name: str) -> None:
    values = constants(ARRAYS[name])
    fields = [f for r in REGISTERS for f in r.fields if f.access == "constant"]
    assert set(values) == {field.port for field in fields}
    assert all(0 <= values[field.port] < 1 << field.width for field in fields)


def test_the_page_is_up_to_date() -> None:
    text = (Path(__file__).parents[2] / "docs" / "registers.md").read_text(encoding="utf-8")
    assert text == page(), "docs/registers.md is old: python -m gobo_rtl registers -o docs"


def test_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registers", "-o", str(tmp_path)]) == 0
    names = ["gobo_registers.h", "gobo_registers.json", "registers.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "gobo_registers.h").read_text() == c_header()
    assert main(["registers", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("(unchanged)") == 3


def test_the_json_has_every_register() -> None:
    about = json.loads(as_json())
    assert {entry["name"]: entry["offset"] for entry in about["registers"]} == OFFSETS


def test_the_header_compiles_and_says_what_is_so(tmp_path: Path) -> None:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "g++", "clang"))), None)
    assert compiler, "a C compiler is needed (Verilator needs one, too)"
    (tmp_path / "gobo_registers.h").write_text(c_header())
    claims = {
        "GOBO_CONTROL": 0x40, "GOBO_CONTROL_CLEAR_MASK": 2, "GOBO_CONTROL_CLEAR_SHIFT": 1,
        "GOBO_SHAPE_COLUMNS_MASK": 0xFFFF0000, "GOBO_E_WRITE": ARRAY_ERRORS["write"],
        "GOBO_JOB_TAG": JOB.field("tag").offset // 8, "GOBO_JOB_FLAG_RESIDENT": 4,
        "GOBO_COMPLETION_CYCLES": COMPLETION.field("cycles").offset // 8,
        "GOBO_JOB_MAGIC_VALUE": 0x4A424F47,
    }  # fmt: skip
    lines = ['#include "gobo_registers.h"']
    lines += [f"typedef char claim_{n}[({name} == {value}u) ? 1 : -1];"
              for n, (name, value) in enumerate(claims.items())]  # fmt: skip
    (tmp_path / "claims.c").write_text("\n".join([*lines, ""]))
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-c", "claims.c"], cwd=tmp_path,
                   check=True)  # fmt: skip
    defined = re.findall(r"^#define (\w+)", c_header(), re.MULTILINE)
    assert len(set(defined)) == len(defined)


# -- the slave ------------------------------------------------------------------------------


def test_constants_and_unknown_addresses() -> None:
    dut = Registers(TINY)

    async def bench(ctx):
        assert await read(ctx, dut, OFFSETS["ID"]) == (0x41424F47, OKAY)
        assert await read(ctx, dut, OFFSETS["SHAPE"]) == (2 << 16 | 4, OKAY)
        assert await read(ctx, dut, OFFSETS["BUS"] + 3) == (40 << 24 | 4 << 8 | 8, OKAY)
        for address in range(0, 1 << ADDRESS_WIDTH, 4):
            word, response = await read(ctx, dut, address)
            assert response == (OKAY if address in WORDS else SLVERR)
            assert address in WORDS or word == 0
            wrote = await write(ctx, dut, address, 0)
            assert wrote == (OKAY if address in WORDS else SLVERR)
        assert await read(ctx, dut, OFFSETS["ID"]) == (0x41424F47, OKAY)

    simulate(dut, bench)


@pytest.mark.parametrize("order", ["both", "address", "data"])
def test_held_fields_take_the_bytes_that_are_strobed(order: str) -> None:
    dut, rng = Registers(TINY), np.random.default_rng(SEED)
    ports = {"QUEUE_BASE": dut.queue_base, "QUEUE_SLOTS": dut.queue_slots,
             "QUEUE_PRODUCED": dut.queue_produced}  # fmt: skip
    places = [("QUEUE_BASE", 0), ("QUEUE_BASE", 1), ("QUEUE_SLOTS", 0), ("QUEUE_PRODUCED", 0)]

    async def bench(ctx):
        assert ctx.get(dut.queue_slots) == 1
        held = {place: int(place[0] == "QUEUE_SLOTS") for place in places}
        for _ in range(24):
            name, n = place = places[int(rng.integers(len(places)))]
            word, strobes = int(rng.integers(1 << 32)), int(rng.integers(16))
            assert await write(ctx, dut, OFFSETS[name] + 4 * n, word, strobes, order) == OKAY
            mask = sum(0xFF << 8 * byte for byte in range(4) if strobes >> byte & 1)
            held[place] = held[place] & ~mask | word & mask
            for (other, part), value in held.items():
                assert ctx.get(ports[other]) >> 32 * part & 0xFFFFFFFF == value
            assert await read(ctx, dut, OFFSETS[name] + 4 * n) == (held[place], OKAY)

    simulate(dut, bench)


def test_pulses_last_a_cycle_and_enable_stays() -> None:
    dut, seen = Registers(TINY), []

    async def watch(ctx):
        async for _, _, clear, counters, enable in ctx.tick().sample(
            dut.control_clear, dut.control_clear_counters, dut.control_enable
        ):
            seen.append((clear, counters, enable))

    async def bench(ctx):
        await write(ctx, dut, OFFSETS["CONTROL"], 3)
        await write(ctx, dut, OFFSETS["CONTROL"], 6, strobes=14)  # not their byte
        await idle(ctx, 4)
        assert (await read(ctx, dut, OFFSETS["CONTROL"]))[0] == 1
        await write(ctx, dut, OFFSETS["CONTROL"], 4)
        await idle(ctx, 4)

    simulate(dut, bench, background=[watch])
    assert [sum(column) for column in list(zip(*seen, strict=True))[:2]] == [1, 1]
    assert seen[-1][2] == 0 and any(enable for _, _, enable in seen)


def test_events_stay_until_a_one_is_written() -> None:
    dut = Registers(TINY)

    async def bench(ctx):
        await write(ctx, dut, OFFSETS["INTERRUPT_ENABLE"], 2)
        for port, bit in ((dut.interrupt_done, 1), (dut.interrupt_error, 2)):
            ctx.set(port, 1)
            await ctx.tick()
            ctx.set(port, 0)
            assert bool(ctx.get(dut.interrupt)) == (bit == 2)
            assert (await read(ctx, dut, OFFSETS["INTERRUPT"]))[0] & bit
        await write(ctx, dut, OFFSETS["INTERRUPT"], 2)
        assert not ctx.get(dut.interrupt)
        assert (await read(ctx, dut, OFFSETS["INTERRUPT"]))[0] == 1
        await write(ctx, dut, OFFSETS["INTERRUPT_ENABLE"], 1)
        assert ctx.get(dut.interrupt)
        ctx.set(dut.interrupt_done, 1)  # an event is not lost to a write
        await write(ctx, dut, OFFSETS["INTERRUPT"], 3)
        ctx.set(dut.interrupt_done, 0)
        assert ctx.get(dut.interrupt)
        await write(ctx, dut, OFFSETS["INTERRUPT"], 3)
        assert not ctx.get(dut.interrupt)

    simulate(dut, bench)


def test_hardware_fields_follow_the_hardware() -> None:
    dut = Registers(TINY)

    async def bench(ctx):
        ctx.set(dut.status_stopped, 1)
        ctx.set(dut.error_code, 13)
        ctx.set(dut.error_tag, 0xDEADBEEF)
        ctx.set(dut.queue_completed, 0x12345678)
        for name, word in (("STATUS", 2), ("ERROR", 13), ("ERROR_TAG", 0xDEADBEEF),
                           ("QUEUE_COMPLETED", 0x12345678)):  # fmt: skip
            assert await write(ctx, dut, OFFSETS[name], 0) == OKAY
            assert await read(ctx, dut, OFFSETS[name]) == (word, OKAY)

    simulate(dut, bench)


def test_counters_count_and_are_read_whole() -> None:
    dut = Registers(TINY)
    names = [name for name in OFFSETS if name.startswith("COUNT_")]
    assert len(names) == 13

    async def whole(ctx, name):
        low, _ = await read(ctx, dut, OFFSETS[name])
        await idle(ctx, 3)
        high, _ = await read(ctx, dut, OFFSETS[name] + 4)
        return high << 32 | low

    async def bench(ctx):
        for n, name in enumerate(names):
            ctx.set(getattr(dut, name.lower()), n % 8)
        await idle(ctx, 10)
        for name in names:
            ctx.set(getattr(dut, name.lower()), 0)
        for n, name in enumerate(names):
            assert await whole(ctx, name) == 10 * (n % 8)
        # A carry between the two reads does not tear the number.
        ctx.set(dut.held["count_cycles"], (5 << 32) - 1)
        ctx.set(dut.count_cycles, 1)
        assert await whole(ctx, "COUNT_CYCLES") in ((5 << 32) - 1, 5 << 32)
        assert await whole(ctx, "COUNT_CYCLES") > 5 << 32
        ctx.set(dut.count_cycles, 0)
        await write(ctx, dut, OFFSETS["CONTROL"], 4)
        for name in names:
            assert await whole(ctx, name) == 0

    simulate(dut, bench)


def test_answers_wait_and_reads_come_one_a_cycle() -> None:
    dut = Registers(TINY)

    async def bench(ctx):
        axi = dut.axi
        ctx.set(axi.arvalid, 1)
        ctx.set(axi.araddr, OFFSETS["ID"])
        await ctx.tick()
        ctx.set(axi.araddr, OFFSETS["VERSION"])
        for _ in range(3):  # not taken
            await ctx.tick()
            assert ctx.get(axi.rvalid) and ctx.get(axi.rdata) == 0x41424F47
            assert not ctx.get(axi.arready)
        ctx.set(axi.rready, 1)
        await ctx.tick()
        assert ctx.get(axi.rvalid) and ctx.get(axi.rdata) == 1
        ctx.set(axi.araddr, OFFSETS["SHAPE"])
        await ctx.tick()
        assert ctx.get(axi.rvalid) and ctx.get(axi.rdata) == 2 << 16 | 4
        ctx.set(axi.arvalid, 0)
        # A second write waits for the first one's answer.
        ctx.set(axi.awaddr, OFFSETS["QUEUE_PRODUCED"])
        ctx.set(axi.wstrb, 15)
        ctx.set(axi.awvalid, 1)
        ctx.set(axi.wvalid, 1)
        for word in (7, 8):
            ctx.set(axi.wdata, word)
            await ctx.tick()
            await ctx.tick()
        await idle(ctx, 3)
        assert ctx.get(axi.bvalid) and ctx.get(dut.queue_produced) == 7
        ctx.set(axi.awvalid, 0)
        ctx.set(axi.wvalid, 0)
        ctx.set(axi.bready, 1)
        await ctx.tick()
        assert ctx.get(axi.bvalid) and ctx.get(dut.queue_produced) == 8
        await ctx.tick()
        assert not ctx.get(axi.bvalid)

    simulate(dut, bench)
