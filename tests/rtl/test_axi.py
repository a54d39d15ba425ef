# amaranth: UnusedElaboratable=no
"""AXI4 masters: what is read and written, the shape of bursts, errors and stopping."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import CommandLayout, ResultBeatLayout
from gobo_rtl.bus.axi import AxiRead, BurstLayout, Bursts
from gobo_rtl.bus.read_arbiter import ReadArbiter
from gobo_rtl.bus.read_master import ReadMaster
from gobo_rtl.bus.write_master import WRITES, WriteMaster
from gobo_rtl.layout import BeatLayout
from sim.pysim import get, idle, put, quiet, simulate
from tests.rtl.memory import Memory

SEED = 4096
TINY = ARRAYS["tiny"]  # beats of 8 bytes, bursts of 4
CONFIGS = {
    "tiny": TINY,
    "one beat a burst": replace(TINY, burst_beats=1, reads=1),
    "bursts of 4 KB": replace(ARRAYS["wide"], beat_width=128, burst_beats=256, reads=3),
    "default": ARRAYS["default"],
}
BASE = 0x1_0000_0000
PACES = {"full speed": (0.0, 0), "pauses": (0.4, 3), "far away": (0.0, 12)}


def memory(config: ArrayConfig, size: int, **options: object) -> Memory:
    """Return a memory of random bytes."""
    data = bytearray(np.random.default_rng(SEED).bytes(size))
    return Memory(config, data, base=BASE, outstanding=config.reads, **options)


def commands_of(config: ArrayConfig, count: int, size: int) -> list[tuple[int, int]]:
    """Return random (address, beats) in a memory of ``size`` bytes."""
    rng = np.random.default_rng([SEED, config.beat_width, config.burst_beats])
    unit, most = config.beat_bytes, size // config.beat_bytes
    found = []
    for _ in range(count):
        beats = int(rng.integers(1, min(3 * config.burst_beats + 2, most)))
        found.append((BASE + unit * int(rng.integers(0, most - beats + 1)), beats))
    return found


def words(store: Memory, commands: list[tuple[int, int]]) -> list[list[int]]:
    """Return the beats of each command."""
    return [[store.word(at + n * store.size) for n in range(beats)] for at, beats in commands]


def command(config: ArrayConfig, address: int, beats: int) -> int:
    return CommandLayout(config).const({"address": address, "beats": beats}).as_bits()


@pytest.mark.parametrize(
    ("address", "beats", "bursts"),
    [
        (0x1000, 4, [(0x1000, 4)]),
        (0x0FF8, 1, [(0x0FF8, 1)]),
        (0x0FF0, 9, [(0x0FF0, 2), (0x1000, 4), (0x1020, 3)]),
        (0x1008, 3, [(0x1008, 3)]),
        (0x1018, 2, [(0x1018, 1), (0x1020, 1)]),
    ],
)
def test_bursts_end_on_multiples_of_their_size(
    address: int, beats: int, bursts: list[tuple[int, int]]
) -> None:
    dut, got = Bursts(TINY), []

    async def drive(ctx):
        await put(ctx, dut.i, command(TINY, address, beats))

    async def collect(ctx):
        for n in range(len(bursts)):
            burst = BurstLayout(TINY).from_bits(await get(ctx, dut.o))
            got.append((int(burst.address), int(burst.length) + 1))
            assert bool(burst.last) == (n == len(bursts) - 1)
        await quiet(ctx, dut.o)

    simulate(dut, drive, collect)
    assert got == bursts


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("name", CONFIGS)
def test_commands_are_read(name: str, pace: str) -> None:
    config = CONFIGS[name]
    pause, latency = PACES[pace]
    store = memory(config, 8192, pause=pause, latency=latency)
    commands = commands_of(config, 8, len(store.data))
    dut, layout, got = ReadMaster(config), BeatLayout(config.image), []

    async def drive(ctx):
        for at, beats in commands:
            await put(ctx, dut.i, command(config, at, beats))

    async def collect(ctx):
        rng = np.random.default_rng(SEED)
        for _ in commands:
            got.append([])
            while True:
                beat = layout.from_bits(await get(ctx, dut.o))
                got[-1].append(int(beat.data))
                if beat.last:
                    break
                await idle(ctx, int(rng.integers(0, 3)) if pause else 0)
        await quiet(ctx, dut.o)
        assert ctx.get(dut.idle) and not ctx.get(dut.error)

    simulate(dut, drive, collect, background=[partial(store.serve_reads, axi=dut.axi)])
    assert got == words(store, commands)
    if pace == "far away" and name != "bursts of 4 KB":
        assert store.most == config.reads


def test_a_beat_a_cycle() -> None:
    config = replace(TINY, reads=4)
    store = memory(config, 1024, latency=3)
    dut, beats = ReadMaster(config), []

    async def drive(ctx):
        for n in range(4):
            await put(ctx, dut.i, command(config, BASE + 256 * n, 32))

    async def collect(ctx):
        ctx.set(dut.o.ready, 1)
        for cycle in range(4 * 32 + 20):
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            beats.extend([cycle] * bool(valid))

    simulate(dut, drive, collect, background=[partial(store.serve_reads, axi=dut.axi)])
    assert beats == list(range(beats[0], beats[0] + 4 * 32))


def test_the_first_address_comes_two_cycles_after_its_command() -> None:
    dut, rises = ReadMaster(TINY), []

    async def bench(ctx):
        await put(ctx, dut.i, command(TINY, BASE, 1))
        for cycle in range(1, 5):
            _, _, valid = await ctx.tick().sample(dut.axi.arvalid)
            rises.extend([cycle] * bool(valid))

    simulate(dut, bench)
    assert rises == [2, 3, 4]


def test_from_a_read_error_on_no_beat_is_given() -> None:
    store = memory(TINY, 1024, bad={BASE + 40})
    dut = ReadMaster(TINY)

    async def bench(ctx):
        await put(ctx, dut.i, command(TINY, BASE, 5))
        for _ in range(5):
            await get(ctx, dut.o)
        assert not ctx.get(dut.error)
        await put(ctx, dut.i, command(TINY, BASE + 32, 40))
        await get(ctx, dut.o)  # the next is bad
        await quiet(ctx, dut.o, 60)
        assert ctx.get(dut.error) and ctx.get(dut.idle)

    simulate(dut, bench, background=[partial(store.serve_reads, axi=dut.axi)])
    assert sum(read.beats for read in store.reads) < 45


def test_a_wrong_beat_that_is_excused_is_given_and_no_error() -> None:
    store = memory(TINY, 1024, bad={BASE + 40})
    dut, got = ReadMaster(TINY), []

    async def bench(ctx):
        for beats in (40, 3):
            await put(ctx, dut.i, command(TINY, BASE, beats))
            for n in range(beats):
                ctx.set(dut.excused, n == 5)
                got.append(BeatLayout(TINY.image).from_bits(await get(ctx, dut.o)).last)
        await quiet(ctx, dut.o)
        assert ctx.get(dut.idle) and not ctx.get(dut.error)

    simulate(dut, bench, background=[partial(store.serve_reads, axi=dut.axi)])
    assert [n for n, last in enumerate(got) if last] == [39, 42]


@pytest.mark.parametrize("after", range(0, 24, 3))
@pytest.mark.parametrize("taken", [False, True])
def test_reading_stops_and_drains(after: int, taken: bool) -> None:
    store = memory(TINY, 4096, latency=2, silent=not taken)
    dut = ReadMaster(TINY)

    async def bench(ctx):
        await put(ctx, dut.i, command(TINY, BASE, 100))
        ctx.set(dut.o.ready, after % 2)
        await idle(ctx, after)
        ctx.set(dut.stop, 1)
        offered, address = ctx.get(dut.axi.arvalid), ctx.get(dut.axi.araddr)
        await idle(ctx, 5)
        assert bool(ctx.get(dut.axi.arvalid)) == (bool(offered) and not taken)
        store.silent = False
        for _ in range(60):
            await ctx.tick()
            assert not ctx.get(dut.o.valid)
        assert ctx.get(dut.idle) and not ctx.get(dut.axi.arvalid)
        assert (store.reads[-1].address if store.reads else 0) == address

    # The rule that an offered beat stays is broken on purpose by `stop`, so `o` is not watched.
    class Bare(wiring.Component):
        def __init__(self) -> None:
            super().__init__({})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            m.submodules.dut = dut
            return m

    simulate(Bare(), bench, background=[partial(store.serve_reads, axi=dut.axi)])


class Shared(wiring.Component):
    """An arbiter and its master."""

    def __init__(self, config: ArrayConfig, readers: int):
        self.config, self.readers = config, readers
        command, beat = CommandLayout(config), BeatLayout(config.image)
        super().__init__({
            "i_read": In(stream.Signature(command)).array(readers),
            "o": Out(stream.Signature(beat)).array(readers),
            "axi": Out(AxiRead(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = ReadArbiter(self.config, self.readers)
        m.submodules.master = master = ReadMaster(self.config)
        for n in range(self.readers):
            wiring.connect(m, wiring.flipped(self.i_read[n]), arbiter.i_read[n])
            wiring.connect(m, wiring.flipped(self.o[n]), arbiter.o[n])
        wiring.connect(m, arbiter.o_read, master.i)
        wiring.connect(m, master.o, arbiter.i)
        wiring.connect(m, wiring.flipped(self.axi), master.axi)
        return m


@pytest.mark.parametrize("readers", [2, 3])
@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_each_reader_gets_its_own(readers: int, pause: float) -> None:
    store = memory(TINY, 4096, pause=pause, latency=2)
    commands = [commands_of(TINY, 24, 4096)[n::readers] for n in range(readers)]
    dut = Shared(TINY, readers)
    got: list[list[list[int]]] = [[] for _ in range(readers)]

    def reader(n: int):
        async def drive(ctx):
            for at, beats in commands[n]:
                await put(ctx, dut.i_read[n], command(TINY, at, beats))

        async def collect(ctx):
            for _, beats in commands[n]:
                taken = [await get(ctx, dut.o[n]) for _ in range(beats)]
                assert [beat >> 64 for beat in taken] == [0] * (beats - 1) + [1]
                got[n].append([beat & (1 << 64) - 1 for beat in taken])
            await quiet(ctx, dut.o[n])

        return drive, collect

    benches = [bench for n in range(readers) for bench in reader(n)]
    simulate(dut, *benches, background=[partial(store.serve_reads, axi=dut.axi)])
    assert got == [words(store, mine) for mine in commands]


def test_readers_take_turns() -> None:
    dut, order = ReadArbiter(TINY, 3), []

    async def ask(ctx):
        for n in range(3):
            ctx.set(dut.i_read[n].payload.address, 8 * n)
            ctx.set(dut.i_read[n].payload.beats, 1)
            ctx.set(dut.i_read[n].valid, n != 1)
            ctx.set(dut.o[n].ready, 1)
        ctx.set(dut.i.payload.last, 1)
        ctx.set(dut.i.valid, 1)
        for turn in range(9):
            ctx.set(dut.i_read[1].valid, turn >= 4)
            order.append(CommandLayout(TINY).from_bits(await get(ctx, dut.o_read)).address // 8)

    simulate(dut, ask)
    assert order[:4] in ([2, 0, 2, 0], [0, 2, 0, 2])
    assert sorted(order[-3:]) == [0, 1, 2]


@pytest.mark.parametrize("readers", [1, 0, "2"])
def test_an_arbiter_needs_two_readers(readers: object) -> None:
    with pytest.raises(ValueError, match="readers must be at least 2"):
        ReadArbiter(TINY, readers)  # type: ignore[arg-type]


# -- writes ---------------------------------------------------------------------------------


def write_memory(config: ArrayConfig, size: int, **options: object) -> Memory:
    return Memory(config, bytearray(size), base=BASE, outstanding=WRITES, **options)


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("name", CONFIGS)
def test_commands_are_written(name: str, pace: str) -> None:
    config = CONFIGS[name]
    pause, latency = PACES[pace]
    store = write_memory(config, 8192, pause=pause, latency=latency)
    commands = commands_of(config, 6, len(store.data))
    rng = np.random.default_rng(SEED)
    layout, dut = ResultBeatLayout(config), WriteMaster(config)
    beats, wanted = [], bytearray(len(store.data))
    for at, count in commands:
        for n in range(count):
            word, keep = rng.bytes(config.beat_bytes), rng.bytes(config.beat_bytes // 8 or 1)
            beats.append({"data": int.from_bytes(word, "little"),
                          "keep": int.from_bytes(keep, "little")})  # fmt: skip
            for k in range(config.beat_bytes):
                if beats[-1]["keep"] >> k & 1:
                    wanted[at - BASE + n * config.beat_bytes + k] = word[k]

    async def drive(ctx):
        for at, count in commands:
            await put(ctx, dut.i, command(config, at, count))

    async def feed(ctx):
        for beat in beats:
            await put(ctx, dut.i_data, layout.const(beat).as_bits())
            await idle(ctx, int(rng.integers(0, 3)) if pause else 0)
        for _ in range(2000):
            await ctx.tick()
            if not ctx.get(dut.pending):
                break
        assert ctx.get(dut.idle) and not ctx.get(dut.pending) and not ctx.get(dut.error)

    simulate(dut, drive, feed, background=[partial(store.serve_writes, axi=dut.axi)])
    assert store.data == wanted
    assert sum(burst.beats for burst in store.writes) == len(beats)
    if pace == "far away" and name != "bursts of 4 KB":
        assert store.most > 1


def test_a_write_error_stays() -> None:
    store = write_memory(TINY, 1024, bad={BASE + 8})
    dut = WriteMaster(TINY)
    beat = ResultBeatLayout(TINY).const({"data": 1, "keep": 255}).as_bits()

    async def bench(ctx):
        for at, error in ((64, 0), (8, 1), (64, 1)):
            await put(ctx, dut.i, command(TINY, BASE + at, 1))
            await put(ctx, dut.i_data, beat)
            await idle(ctx, 8)
            assert not ctx.get(dut.pending) and ctx.get(dut.error) == error

    simulate(dut, bench, background=[partial(store.serve_writes, axi=dut.axi)])
    assert len(store.writes) == 3


@pytest.mark.parametrize("after", range(0, 24, 3))
@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_writing_stops_with_empty_strobes(after: int, pause: float) -> None:
    store = write_memory(TINY, 4096, latency=2, pause=pause)
    dut, given = WriteMaster(TINY), 0
    beat = ResultBeatLayout(TINY).const({"data": (1 << 64) - 1, "keep": 255}).as_bits()

    async def bench(ctx):
        nonlocal given
        await put(ctx, dut.i, command(TINY, BASE, 100))
        for _ in range(after // 2):  # fewer beats than bursts begun have
            await put(ctx, dut.i_data, beat)
            given += 1
        await idle(ctx, after)
        ctx.set(dut.stop, 1)
        ctx.set(dut.i_data.valid, 1)  # is not taken any more
        address = ctx.get(dut.axi.awaddr)
        for _ in range(200):
            await ctx.tick()
            assert not ctx.get(dut.i_data.ready)
        assert ctx.get(dut.idle) and not ctx.get(dut.axi.awvalid) and not ctx.get(dut.axi.wvalid)
        assert (store.writes[-1].address if store.writes else 0) == address

    simulate(dut, bench, background=[partial(store.serve_writes, axi=dut.axi)])
    assert bytes(store.data) == b"\xff" * 8 * given + bytes(4096 - 8 * given)
