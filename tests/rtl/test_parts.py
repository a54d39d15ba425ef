# amaranth: UnusedElaboratable=no
"""Layouts, configuration and the pieces of the decode unit."""

import numpy as np
import pytest
from amaranth.hdl import Const, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from gobo_rtl.config import CONFIGS, GoboConfig, named
from gobo_rtl.decode.crc import crc16_next
from gobo_rtl.decode.unpacker import Unpacker
from gobo_rtl.layout import RecordLayout, TileHeaderLayout, WeightLayout
from sim.pysim import get, put, quiet, simulate
from sim.stimulus import crc16

SEED = 8408


def test_bits_of_a_record() -> None:
    layout = RecordLayout(CONFIGS["default"])  # 4 bits of lane, 1 of more, 11 of gap
    fields = {"lane": 0xB, "more": 1, "gap": 0x5A5, "value": 0x3C00}
    assert layout.const(fields).as_bits() == 0x3C00 << 16 | 0x5A5 << 5 | 1 << 4 | 0xB


def test_bits_of_a_tile_header() -> None:
    fields = {"group_count": 1, "record_count": 2, "index_crc16": 3, "outlier_crc16": 4}
    assert TileHeaderLayout().const(fields).as_bits() == 0x0004_0003_0002_0001


def test_bits_of_a_group_of_weights() -> None:
    layout = WeightLayout(CONFIGS["tiny"])
    fields = {"values": [1, 2, 3, 4], "last": 1, "error": 0}
    assert layout.const(fields).as_bits() == 1 << 64 | 0x0004_0003_0002_0001


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"lanes": 12}, "lanes must be a power of two in 4..128"),
        ({"lanes": 2}, "lanes must be a power of two in 4..128"),
        ({"lanes": 256}, "lanes must be a power of two in 4..128"),
        ({"beat_width": 32}, "beat_width must be a power of two in 64..512"),
        ({"index_widths": (5,)}, "index_widths must be out of 2, 3 and 4 bits, not 5"),
        ({"index_widths": (3, 2)}, "ascending"),
        ({"index_widths": ()}, "not empty"),
        ({"value_format": "fp8"}, "value_format must be one of fp16, bf16, fp32, not 'fp8'"),
        ({"outliers_per_cycle": 3}, "outliers_per_cycle must be a power of two in 1..4"),
        ({"outliers_per_cycle": 4, "beat_width": 64}, "memory could never keep up"),
        ({"lane_rows": 32}, "lane_rows must be a power of two in 1..16"),
        ({"lane_rows": 8, "tile_rows": 12}, "multiple of lane_rows"),
        ({"burst_beats": 512}, "burst_beats"),
        ({"burst_beats": 256, "beat_width": 512}, "at most 4096 bytes"),
    ],
)
def test_wrong_sizes_are_refused_with_the_reason(sizes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        GoboConfig(**sizes)


@pytest.mark.parametrize("name", ["lanes", "beat_width", "tile_rows"])
def test_a_size_must_be_an_integer(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an integer, not '16'"):
        GoboConfig(**{name: "16"})


def test_an_unknown_configuration_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no configuration is called 'huge'; there are tiny, def"):
        named("huge")


class Summer(wiring.Component):
    """crc16_next as a block."""

    def __init__(self, bits: int):
        super().__init__({"remainder": In(16), "bits": In(bits), "after": Out(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.after.eq(crc16_next(self.remainder, self.bits))
        return m


@pytest.mark.parametrize("bits", [1, 12, 48, 64, 200])
def test_sum_over_several_bits_at_once(bits: int) -> None:
    rng = np.random.default_rng([SEED, bits])
    dut, sim = Summer(bits), None
    whole = rng.integers(0, 2, (40, 3 * bits))

    async def bench(ctx):
        for message in whole:
            remainder = 0xFFFF
            for part in message.reshape(3, bits):
                ctx.set(dut.remainder, remainder)
                ctx.set(dut.bits, int("".join(map(str, part[::-1])), 2))
                remainder = ctx.get(dut.after)
            assert remainder == crc16(message.tolist())

    sim = Simulator(dut)
    sim.add_testbench(bench)
    sim.run()


def test_sum_of_no_bits_is_the_remainder() -> None:
    assert len(crc16_next(Const(0x1234, 16), Const(0, 0))) == 16


@pytest.mark.parametrize(
    ("beat", "size", "start"),
    [(64, 12, 0), (64, 48, 0), (128, 48, 64), (64, 256, 0), (128, 32, 64)],
)
def test_the_unpacker_gives_a_section_in_order(beat: int, size: int, start: int) -> None:
    rng = np.random.default_rng([SEED, beat, size])
    dut = Unpacker(beat, (size,), start)
    chunks, per_section, sections = [], 7, 3
    beats: list[int] = []
    for section in range(sections):
        parts = [int.from_bytes(rng.bytes(size // 4 + 1), "little") % (1 << size)
                 for _ in range(per_section)]  # fmt: skip
        chunks += parts
        bits = sum(part << start + n * size for n, part in enumerate(parts))
        count = -(-(start + per_section * size) // beat)
        words = [bits >> n * beat & ((1 << beat) - 1) for n in range(count)]
        words[-1] |= int(section == sections - 1) << beat  # `last`
        beats += words
    got, lasts = [], []

    async def drive(ctx):
        ctx.set(dut.enable, 1)
        for word in beats:
            await put(ctx, dut.i, word)

    async def collect(ctx):
        for n in range(len(chunks)):
            ctx.set(dut.final, n % per_section == per_section - 1)
            ctx.set(dut.o.ready, 1)
            while True:
                _, _, valid, payload, last = await ctx.tick().sample(
                    dut.o.valid, dut.o.payload, dut.last
                )
                if valid:
                    break
            got.append(int(payload) % (1 << size))
            lasts.append(int(last) if n % per_section == per_section - 1 else 0)
        ctx.set(dut.final, 0)
        await quiet(ctx, dut.o)

    simulate(dut, drive, collect)
    assert got == chunks
    assert lasts == [0] * (len(chunks) - 1) + [1]


class Liar(wiring.Component):
    """A stream that breaks a rule: it takes its offer back, or changes it."""

    def __init__(self, rule: str):
        self.rule = rule
        super().__init__({"o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.o.payload.eq(self.o.payload + (self.rule == "payload"))
        m.d.sync += self.o.valid.eq(~self.o.valid if self.rule == "valid" else 1)
        return m


@pytest.mark.parametrize("rule", ["valid", "payload"])
def test_the_simulation_holds_outputs_to_the_stream_rules(rule: str) -> None:
    dut = Liar(rule)

    async def wait(ctx):
        for _ in range(8):
            await ctx.tick()

    with pytest.raises(AssertionError, match=rule):
        simulate(dut, wait)


def test_a_wait_is_bounded() -> None:
    dut = Unpacker(64, (16,))

    async def collect(ctx):
        await get(ctx, dut.o, limit=50)

    with pytest.raises(AssertionError, match="no transfer in 50 cycles"):
        simulate(dut, collect)
