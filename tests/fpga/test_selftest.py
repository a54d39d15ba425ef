# amaranth: UnusedElaboratable=no
"""The self-test: on a real layer as emitted Verilog, and small in Amaranth's simulator, where
every part of what is stored is made wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.lib.memory import Memory

from fpga.compare import Compare
from fpga.layer import LAYER, image_of, store, stored_layer
from fpga.line import Line
from fpga.ram import Ram
from fpga.selftest import BAUD, SelfTest
from fpga.stored import Stored
from fpga.uart import Transmitter
from gobo_rtl.array_config import ARRAYS
from gobo_rtl.formats import JOB
from sim import cosim
from sim.golden.image import read_image
from sim.jobs import unpack
from sim.pysim import get, idle, put, quiet, simulate
from tests.accelerating import Shape, activations, make_image

SEED = 20261128
TINY, EDGE = ARRAYS["tiny"], ARRAYS["edge"]
DIVISOR = 2  # cycles of a bit


@pytest.fixture(scope="module")
def small() -> Stored:
    """A random layer of three strips for the smallest array, on three tokens."""
    image, _ = make_image(TINY, [Shape(rows=12, columns=16, pattern="share:0.1")], SEED)
    acts = activations(TINY, np.random.default_rng(SEED), 3, 16, "normal")
    return store(TINY, image, acts)


async def byte(ctx: Any, tx: Any, limit: int = 40_000) -> int:
    """Return the next byte on a serial line."""
    for _ in range(limit):
        if not ctx.get(tx):
            break
        await ctx.tick()
    else:
        raise AssertionError("nothing is said")
    bits = []
    for _ in range(10):
        bits.append(ctx.get(tx))
        await idle(ctx, DIVISOR)
    assert (bits[0], bits[9]) == (0, 1)
    return sum(bit << n for n, bit in enumerate(bits[1:9]))


BEAT = TINY.beat_width // 8
GROUP = TINY.image.lanes * TINY.image.value_width  # bits before ``last``



def activation(dut: SelfTest) -> tuple[Memory, int, int]:
    """Return where the greatest bit of the first activation's exponent is."""
    job = b"".join(beat.to_bytes(BEAT, "little") for beat in dut.stored.memory[: JOB.size // BEAT])
    return dut.ram.memory, unpack(JOB, job)["act_address"] // BEAT, 14


# Which bit of which word is made wrong, and what the line says then: words that came and wrong
# ones; nothing where the hardware itself finds the fault and does not come to the end.
WRONG: dict[str, tuple[Callable[[SelfTest], tuple[Memory, int, int]], tuple[int, int] | None]] = {
    "a weight that is due": (lambda dut: (dut.decode.compare.memory, 17, 19), (228, 1)),
    "the end of a tile that is due": (
        lambda dut: (dut.decode.compare.memory, 15, GROUP), (228, 4)),
    "the last result that is due": (
        lambda dut: (dut.results.compare.memory, len(dut.stored.result_beats) - 1, 63), (228, 1)),
    "an activation": (activation, (228, 12)),
    "an index": (lambda dut: (dut.ram.memory, dut.stored.indexes[0] // BEAT + 1, 0), None),
    "the job": (lambda dut: (dut.ram.memory, 0, 0), None),
}  # fmt: skip


def test_good_runs_pass_and_whatever_is_wrong_the_run_fails(small: Stored):
    dut = SelfTest(small, "GOBO tiny", clock_hz=DIVISOR * BAUD, limit=1_000)
    assert small.words == 12 * 16 + 12 * 3 == 228

    async def run(ctx: Any) -> str:
        text = b""
        while not text.endswith(b"\r\n"):
            text += bytes([await byte(ctx, dut.tx)])
            assert ctx.get(dut.running)
        passed = text.endswith(b"PASS\r\n")
        assert (ctx.get(dut.passed), ctx.get(dut.failed)) == (passed, not passed)
        return text[:-2].decode("ascii")

    def flip(ctx: Any, memory: Memory, place: int, bit: int) -> None:
        ctx.set(memory.data[place], ctx.get(memory.data[place]) ^ 1 << bit)

    async def listen(ctx: Any) -> None:
        good = "GOBO tiny: 228 words, 0 wrong: PASS"
        ctx.set(dut.again, 1)
        assert await run(ctx) == good
        first, beats = dut.stored.results // BEAT, dut.stored.result_beats
        rows = [dut.ram.memory.data[first + n] for n in range(len(beats))]
        assert [ctx.get(row) for row in rows] == beats
        for _ in range(100):  # the next run does not see these results
            await ctx.tick()
            if all(ctx.get(row) == (1 << TINY.beat_width) - 1 for row in rows):
                break
        else:
            raise AssertionError("the results of the run before stay in memory")
        ctx.set(dut.plant, 1)
        assert await run(ctx) == "GOBO tiny: 228 words, 2 wrong: FAIL"
        ctx.set(dut.plant, 0)
        for what, (where, due) in WRONG.items():
            flip(ctx, *where(dut))
            line = await run(ctx)
            flip(ctx, *where(dut))
            if due:
                assert line == f"GOBO tiny: {due[0]} words, {due[1]} wrong: FAIL", what
            else:
                words = int(line.removeprefix("GOBO tiny: ").split()[0])
                assert line.endswith("FAIL") and words < small.words, what
        assert await run(ctx) == good

    simulate(dut, listen)


# -- the real layer -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(bert_tiny_folder: Path) -> Stored:
    """What the board has."""
    return stored_layer(bert_tiny_folder, EDGE)


def test_what_is_due_of_the_decode_unit_is_the_layer(real: Stored, bert_tiny_folder: Path):
    (layer,) = read_image(image_of(bert_tiny_folder, EDGE, LAYER)).layers
    width, lanes = EDGE.image.value_width, EDGE.image.lanes
    weights = [[group >> n * width & (1 << width) - 1 for n in range(lanes)]
               for group in real.groups]  # fmt: skip
    strips = np.array(weights).reshape(-1, layer.columns, lanes)
    assert np.array_equal(np.concatenate([strip.T for strip in strips]), layer.matrix)


def test_the_boards_design_says_pass_and_with_a_planted_fault_fail(real: Stored):
    cosim.run(
        SelfTest(real, "GOBO edge"), "tests.fpga.bench_selftest", tests=1,
        build_dir=Path("build/cosim"), environment={"GOBO_DUE": str(real.words)},
    )  # fmt: skip


# -- parts ----------------------------------------------------------------------------------


def test_counts_are_said_in_decimal_without_leading_zeros():
    dut, said = Line("A"), []
    cases = [(0, 0, 0), (7, 10, 1), (1_048_575, 100_200, 0)]

    async def drive(ctx: Any) -> None:
        for words, wrong, passed in cases:
            for port, value in ((dut.words, words), (dut.wrong, wrong), (dut.passed, passed)):
                ctx.set(port, value)
            ctx.set(dut.go, 1)
            await ctx.tick()
            ctx.set(dut.go, 0)
            for _ in range(21):
                assert not ctx.get(dut.o.valid) and not ctx.get(dut.idle)
                await ctx.tick()
            assert ctx.get(dut.o.valid)
            text = b""
            while not text.endswith(b"\n"):
                text += bytes([await get(ctx, dut.o)])
            said.append(text.decode("ascii"))
        await quiet(ctx, dut.o)
        assert ctx.get(dut.idle)

    simulate(dut, drive)
    assert said == [f"A: {words} words, {wrong} wrong: {('FAIL', 'PASS')[passed]}\r\n"
                    for words, wrong, passed in cases]  # fmt: skip


def test_a_byte_takes_ten_bits_with_the_lowest_first():
    dut, seen = Transmitter(3), []

    async def send(ctx: Any) -> None:
        for byte in (0x35, 0x00):
            await put(ctx, dut.i, byte)

    async def listen(ctx: Any) -> None:
        async for _, _, tx in ctx.tick().sample(dut.tx):
            seen.append(tx)
            if len(seen) == 70:
                return

    simulate(dut, send, listen)
    frames = "".join(map(str, seen)).strip("1").split("1111")
    bits = [0, *(0x35 >> n & 1 for n in range(8)), 1]
    assert seen[1:31] == [bit for bit in bits for _ in range(3)], frames


def test_compare_counts_every_word_that_differs_or_is_too_many():
    dut = Compare(4, 2, 1, [0x0_21, 0x1_43])

    async def drive(ctx: Any) -> None:
        counts = []
        for transfer in (0x0_21, 0x1_53, 0x0_21):  # the last as if it began again
            await put(ctx, dut.i, transfer)
            counts.append((ctx.get(dut.words), ctx.get(dut.wrong), ctx.get(dut.done)))
        assert counts == [(2, 0, 0), (4, 1, 1), (4, 3, 1)]

    simulate(dut, drive)


def test_a_comparison_of_nothing_or_of_too_much_is_refused():
    for due in ([], [0] * (1 << 18)):
        with pytest.raises(ValueError, match=r"between 1 and 1048575 words must be due, not \d+"):
            Compare(8, 4, 0, due)
    with pytest.raises(ValueError, match="divisor must be at least 2 cycles, not 1"):
        Transmitter(1)


def test_a_channel_that_waits_holds_up_no_other():
    init = list(range(100, 132))
    dut = Ram(TINY, init, 2)
    size = TINY.beat_bytes

    async def read(ctx: Any, n: int, first: int, beats: int) -> list[int]:
        axi, got = dut.reads[n], []
        ctx.set(axi.araddr, first * size)
        ctx.set(axi.arlen, beats - 1)
        ctx.set(axi.arvalid, 1)
        await ctx.tick()
        ctx.set(axi.arvalid, 0)
        ctx.set(axi.rready, 1)
        await idle(ctx, 2)
        for n in range(beats):  # from the third cycle on, one a cycle
            _, _, valid, data, last = await ctx.tick().sample(axi.rvalid, axi.rdata, axi.rlast)
            assert valid and last == (n == beats - 1)
            got.append(data)
        ctx.set(axi.rready, 0)
        return got

    async def drive(ctx: Any) -> None:
        axi = dut.reads[0]
        ctx.set(axi.arlen, 31)
        ctx.set(axi.arvalid, 1)
        await ctx.tick()
        ctx.set(axi.arvalid, 0)
        await idle(ctx, 20)  # nobody takes the first channel's beats
        assert await read(ctx, 1, 5, 9) == init[5:14]
        write = dut.write
        for port, value in ((write.awaddr, 6 * size), (write.awlen, 0), (write.awvalid, 1)):
            ctx.set(port, value)
        await ctx.tick()
        ctx.set(write.awvalid, 0)
        for port, value in ((write.wdata, 0xABCD), (write.wstrb, 2), (write.wlast, 1),
                            (write.wvalid, 1), (write.bready, 1)):  # fmt: skip
            ctx.set(port, value)
        await ctx.tick()
        ctx.set(write.wvalid, 0)
        assert ctx.get(write.bvalid)
        await ctx.tick()
        assert not ctx.get(write.bvalid)
        ctx.set(dut.place, 7)
        ctx.set(dut.wipe, 1)
        await ctx.tick()
        ctx.set(dut.wipe, 0)
        written = 0xAB00 | init[6] & 0xFF
        assert await read(ctx, 1, 5, 4) == [init[5], written, (1 << TINY.beat_width) - 1, init[8]]

    simulate(dut, drive)
