"""Listens to the self-test's serial line, and plants a fault by its button."""

import os
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer, with_timeout

from fpga.selftest import BAUD

PERIOD = 40  # ns, 25 MHz
BIT = 10**9 / BAUD  # ns
LONGEST = 60  # ms to the end of a line, when a run takes all the time that it may


async def start(dut: Any, *, plant: int = 0) -> None:
    """Let the clock run, ``again`` pressed, and reset for some cycles."""
    dut.again.value, dut.plant.value, dut.rst.value = 1, plant, 1
    Clock(dut.clk, PERIOD, unit="ns").start(start_high=False)
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.rst.value = 0


async def line(dut: Any) -> str:
    """Return the next line, without its end; every bit is read in its middle."""
    text = b""
    while not text.endswith(b"\r\n"):
        await with_timeout(FallingEdge(dut.tx), LONGEST, "ms")
        await Timer(round(0.5 * BIT), unit="ns")
        bits = [int(dut.tx.value)]
        for _ in range(9):
            await Timer(round(BIT), unit="ns")
            bits.append(int(dut.tx.value))
        assert (bits[0], bits[9]) == (0, 1), f"no frame of 8 bits: {bits} after {text!r}"
        text += bytes([sum(bit << n for n, bit in enumerate(bits[1:9]))])
    return text[:-2].decode("ascii")


def lamps(dut: Any) -> tuple[int, int]:
    """Return ``passed`` and ``failed``."""
    return int(dut.passed.value), int(dut.failed.value)


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def every_run_says_what_is_due(dut: Any) -> None:
    """Good runs pass, those with a fault planted fail, and good ones then pass again."""
    due = int(os.environ["GOBO_DUE"])
    await start(dut)
    await RisingEdge(dut.clk)
    assert lamps(dut) == (0, 0) and dut.running.value == 1 and dut.tx.value == 1
    for plant in (0, 1, 0):
        dut.plant.value = plant
        verdict = "FAIL" if plant else "PASS"
        assert await line(dut) == f"GOBO edge: {due} words, {2 * plant} wrong: {verdict}"
        assert lamps(dut) == (1 - plant, plant)
