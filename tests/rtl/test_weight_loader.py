"""The streams of a layer become the words of its strips, and all their rules are checked."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, ResetInserter, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from gobo_rtl.array.weight_loader import WeightLoader
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import CommandLayout, IndexWordLayout, LayerLayout, OutlierWordLayout
from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import ERRORS
from sim import stimulus
from sim.corruption import CORRUPTIONS, Corruption, corrupt
from sim.golden.decode import decode_unit
from sim.pysim import simulate

from .decoding import Pace, beat_bits
from .streaming import FULL, PACES, Transfers, transfer

SEED = 20201014
TINY = ARRAYS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "four": replace(TINY, rows=8, outliers_per_step=4, beat_width=128, index_widths=(3, 4)),
    "bf16": replace(TINY, rows=8, outliers_per_step=2, value_format="bf16", index_widths=(3,)),
}


@dataclass(frozen=True)
class Job:
    """A layer's streams, and how often they are read."""

    layer: stimulus.Layer
    blocks: int = 1
    resident: bool = False

    @property
    def times(self) -> int:
        """How often the streams are read."""
        return 1 if self.resident else self.blocks

    def word(self, config: ArrayConfig) -> int:
        """Return the layer as a payload; each but the last block has three tiles."""
        return LayerLayout(config).const({
            "inputs": self.layer.columns, "strips": len(self.layer.tiles),
            "tiles": self.blocks if self.resident else 3 * self.blocks - 1,
            "block": 1 if self.resident else 3,
            "resident": self.resident, "index_width": self.layer.index_width,
            "index_address": 0x10_0000 + self.layer.rows, "index_beats": len(self.layer.indexes),
            "outlier_address": 0x20_0000, "outlier_beats": len(self.layer.outliers),
        }).as_bits()  # fmt: skip


def index_words(config: ArrayConfig, job: Job) -> list[int]:
    """Return the index words of a layer."""
    words = []
    for tile in job.layer.tiles:
        for n, group in enumerate(tile.groups):
            planes = [
                sum((index >> j & 1) << row for row, index in enumerate(group))
                for j in range(config.index_width)
            ]
            last = n + 1 == len(tile.groups)
            words.append(IndexWordLayout(config).const({"planes": planes, "last": last}).as_bits())
    return words * job.times


def outlier_words(config: ArrayConfig, job: Job) -> list[int]:
    """Return the outlier words of a layer, from its matrix."""
    layer, words = job.layer, []
    for top in range(0, layer.rows, config.rows):
        rows = range(top, min(top + config.rows, layer.rows))
        for step in range(layer.columns):
            held = [
                {"valid": 1, "row": row - top, "value": int(layer.values[row, step])}
                for row in rows
                if layer.outlier[row, step]
            ]
            final, size = step + 1 == layer.columns, config.outliers_per_step
            if not held and not final:
                continue
            for at in range(0, max(1, len(held)), size):
                some = held[at : at + size]
                more = at + size < len(held)
                words.append(OutlierWordLayout(config).const({
                    "step": step, "more": more, "last": final and not more,
                    "entries": some + [{"valid": 0}] * (size - len(some)),
                }).as_bits())  # fmt: skip
    return words * job.times


def shown(config: ArrayConfig, bits: int) -> int:
    """Return an outlier word with its entries side by side, and nothing in the others."""
    word = OutlierWordLayout(config).from_bits(bits)
    held = [
        {"valid": 1, "row": entry.row, "value": entry.value}
        for entry in word.entries
        if entry.valid
    ]
    return OutlierWordLayout(config).const({
        "step": word.step, "more": word.more, "last": word.last,
        "entries": held + [{"valid": 0}] * (config.outliers_per_step - len(held)),
    }).as_bits()  # fmt: skip


def commands(config: ArrayConfig, job: Job, stream: str) -> list[int]:
    """Return the read commands for a stream."""
    layer = job.layer
    address, beats = {
        "indexes": (0x10_0000 + layer.rows, layer.indexes),
        "outliers": (0x20_0000, layer.outliers),
    }[stream]
    word = CommandLayout(config).const({"address": address, "beats": len(beats)}).as_bits()
    return [word] * job.times


def loaded(
    config: ArrayConfig, jobs: list[Job], pace: Pace, due: dict[str, int], *,
    all_taken: bool = True,
) -> dict[str, Transfers]:  # fmt: skip
    """Drive the jobs' streams, and return what comes."""
    streams = [job.layer for job in jobs for _ in range(job.times)]
    given = {
        "i_layer": [job.word(config) for job in jobs],
        "i_indexes": [b for y in streams for b in beat_bits(y.indexes, y.indexes_last)],
        "i_outliers": [b for y in streams for b in beat_bits(y.outliers, y.outliers_last)],
    }
    return transfer(
        WeightLoader(config), given, due, pace, probes=["error_code"], all_taken=all_taken,
        after=40 if all_taken else 400,
    )  # fmt: skip


def layer(
    config: ArrayConfig, seed: int, rows: int, columns: int, pattern: str
) -> stimulus.Layer:
    """Return a random layer."""
    rng = np.random.default_rng([SEED, seed])
    width = int(rng.choice(config.index_widths))
    return stimulus.layer(config.image, rng, rows, columns, width, pattern)


def jobs_of(config: ArrayConfig, seed: int) -> list[Job]:
    """Return layers of all kinds in a row."""
    n = config.rows
    return [
        Job(layer(config, seed, 2 * n + 1, 9, "share:0.1"), blocks=2),
        Job(layer(config, seed + 1, 1, 1, "none")),
        Job(layer(config, seed + 2, n, 6, "all"), blocks=3, resident=True),
        Job(layer(config, seed + 3, 3 * n, 1, "share:0.3"), blocks=2),
        Job(layer(config, seed + 4, 2 * n - 1, 13, "tile-last"), blocks=1),
        Job(layer(config, seed + 5, 2 * n, 7, "none"), blocks=2),
        Job(layer(config, seed + 6, n + 1, 30, "stall")),
        Job(layer(config, seed + 7, 1, 2, "first"), blocks=4),
    ]


@pytest.mark.parametrize("name, pace", [
    *(("tiny", pace) for pace in PACES), ("four", PACES[1]), ("four", PACES[2]), ("bf16", PACES[3]),
])
def test_layers_in_a_row_become_words(name: str, pace: Pace) -> None:
    config = CONFIGS[name]
    jobs = jobs_of(config, 10 * pace.seed)
    indexes = [word for job in jobs for word in index_words(config, job)]
    outliers = [word for job in jobs for word in outlier_words(config, job)]
    reads = [word for job in jobs for word in commands(config, job, "indexes")]
    outlier_reads = [word for job in jobs for word in commands(config, job, "outliers")]
    due = {"o_indexes": len(indexes), "o_outliers": len(outliers),
           "o_read_indexes": len(reads), "o_read_outliers": len(outlier_reads)}  # fmt: skip
    seen = loaded(config, jobs, pace, due)
    assert seen["o_indexes"].words == indexes
    assert [shown(config, word) for word in seen["o_outliers"].words] == outliers
    assert seen["o_read_indexes"].words == reads
    assert seen["o_read_outliers"].words == outlier_reads
    assert not any(seen["error_code"].words)


class ShortEscape(GoboConfig):
    """An image whose escape is a gap of 3, so that short layers have some."""

    @property
    def gap_escape(self) -> int:
        return 3


class ShortEscapes(ArrayConfig):
    """An array for such images."""

    @cached_property
    def image(self) -> GoboConfig:
        return ShortEscape(**asdict(CONFIGS["four"].image))


@pytest.mark.parametrize("pace", PACES[::3])
def test_escapes_are_no_outliers(pace: Pace) -> None:
    config = ShortEscapes(**asdict(CONFIGS["four"]))
    jobs = [Job(layer(config, n, 2 * config.rows, 33, "share:0.03")) for n in range(3)]
    records = [record for job in jobs for tile in job.layer.tiles for record in tile.records]
    assert {record.more for record in records if record.gap == 3} == {0, 1}
    indexes = [word for job in jobs for word in index_words(config, job)]
    outliers = [word for job in jobs for word in outlier_words(config, job)]
    due = {"o_indexes": len(indexes), "o_outliers": len(outliers), "o_read_indexes": 3,
           "o_read_outliers": 3}  # fmt: skip
    seen = loaded(config, jobs, pace, due)
    assert seen["o_indexes"].words == indexes
    assert [shown(config, word) for word in seen["o_outliers"].words] == outliers
    assert not any(seen["error_code"].words)


READS = {"o_read_indexes": 1, "o_read_outliers": 1}


def test_two_steps_written_out_by_hand() -> None:
    """Indexes 0..3 and 7..4 of four rows; row 2 of the second step is the outlier 0x7bff."""
    mask = np.zeros((4, 2), bool)
    mask[2, 1] = True
    one = stimulus.layer(TINY.image, np.random.default_rng(SEED), 4, 2, 3, mask)
    groups = ((0, 1, 2, 3), (7, 6, 0, 4))
    record = stimulus.Record(lane=2, more=0, gap=1, value=0x7BFF)
    one = replace(one, tiles=(stimulus.Tile(groups, (record,)),))
    seen = loaded(TINY, [Job(one)], FULL, {"o_indexes": 2, "o_outliers": 1, **READS})
    # planes of 4 bits, four of them; last
    assert seen["o_indexes"].words == [0x00CA, 0x0B31 | 1 << 16]
    # step (9), more, last, entry of valid, row (2), value (16)
    assert seen["o_outliers"].words == [1 | 1 << 10 | (1 | 2 << 1 | 0x7BFF << 3) << 11]
    # The beat goes with its second group; a word leaves 2 cycles after its group.
    gone = seen["i_indexes"].cycles[0]
    assert seen["o_indexes"].cycles == [gone + 1, gone + 2]


@pytest.mark.parametrize("pattern", ["none", "lane-last"])
def test_a_step_in_every_cycle(pattern: str) -> None:
    """With up to one outlier a step, across strips and layers."""
    config = replace(CONFIGS["four"], beat_width=256)
    jobs = [Job(layer(config, n, 2 * config.rows, 24, pattern)) for n in range(2)]
    due = {"o_indexes": 96, "o_outliers": sum(len(outlier_words(config, job)) for job in jobs)}
    seen = loaded(config, jobs, FULL, {**due, "o_read_indexes": 2, "o_read_outliers": 2})
    assert np.diff(seen["o_indexes"].cycles).tolist() == [1] * 95


class Clearable(wiring.Component):
    """A loader that ``clear`` resets; what its inputs offer then is dropped."""

    def __init__(self, config: ArrayConfig) -> None:
        self.loader = WeightLoader(config)
        super().__init__({**self.loader.signature.members, "clear": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.loader = ResetInserter(self.clear)(self.loader)
        for name, member in self.loader.signature.members.items():
            if member.is_signature:
                inner, outer = getattr(self.loader, name), getattr(self, name)
                wiring.connect(m, inner, wiring.flipped(outer))
                if member.flow == In:
                    m.d.comb += outer.ready.eq(inner.ready | self.clear)
        m.d.comb += self.error_code.eq(self.loader.error_code)
        return m


def told_of(
    config: ArrayConfig, cases: list[list[tuple[Job, int]]], cycles: int = 200
) -> list[tuple[list[int], list[int]]]:
    """Drive layers (each with its ``i_layer``) case by case, and reset in between.

    Return for each case the index words given and ``error_code`` in every cycle.
    """
    dut, found = Clearable(config), []
    ins, outs = ("i_layer", "i_indexes", "i_outliers"), ("o_indexes", "o_outliers",
                                                         "o_read_indexes", "o_read_outliers")

    async def drive(ctx: Any) -> None:
        for number, case in enumerate(cases):
            streams = [job.layer for job, _ in case]
            left = {
                "i_layer": [word for _, word in case],
                "i_indexes": [b for y in streams for b in beat_bits(y.indexes, y.indexes_last)],
                "i_outliers": [b for y in streams for b in beat_bits(y.outliers, y.outliers_last)],
            }
            pace = PACES[number % len(PACES)]
            rests = {name: pace.rests(n, pace.idle) for n, name in enumerate(ins)}
            stall = pace.rests(9, pace.stall)
            offered = dict.fromkeys(ins, False)
            words: list[int] = []
            codes: list[int] = []
            for _ in range(cycles):
                for name in ins:
                    offered[name] |= bool(left[name]) and not next(rests[name])
                    port = getattr(dut, name)
                    ctx.set(port.valid, offered[name])
                    ctx.set(Value.cast(port.payload), left[name][0] if left[name] else 0)
                ready = not next(stall)
                for name in outs:
                    ctx.set(getattr(dut, name).ready, ready)
                code, valid, word, *taken = (await ctx.tick().sample(
                    dut.error_code, dut.o_indexes.valid, Value.cast(dut.o_indexes.payload),
                    *(getattr(dut, name).ready for name in ins),
                ))[2:]  # fmt: skip
                codes.append(int(code))
                if valid and ready:
                    words.append(int(word))
                for name, take in zip(ins, taken, strict=True):
                    if offered[name] and take:
                        left[name].pop(0)
                        offered[name] = False
            found.append((words, codes))
            for name in outs:  # what waits is taken, so that no stream breaks its rules
                ctx.set(getattr(dut, name).ready, 1)
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)

    simulate(dut, drive)
    return found


def corrupted(config: ArrayConfig, kind: str) -> tuple[list[stimulus.Layer], Corruption]:
    """Return three layers, and the same with one of them corrupted; where that ends the outliers
    too early, it is within a tile."""
    for attempt in range(40):
        rng = np.random.default_rng([SEED, attempt, list(CORRUPTIONS).index(kind)])
        pattern = str(rng.choice(["share:0.1", "full-rate", "burst"]))
        seeds = range(50 * attempt, 50 * attempt + 3)
        layers = [layer(config, seed, config.rows + 1, 9, pattern) for seed in seeds]
        done = corrupt(rng, kind, layers, (int(rng.integers(2)), int(rng.integers(2))))
        if done is None:
            continue
        stop = decode_unit(config.image, done.layers).stop
        if done.rules != {ERRORS["outlier_end"]} or (stop and stop.codes == done.rules):
            return layers, done
    raise AssertionError("the corruption was never possible")


KINDS = [kind for kind in CORRUPTIONS if kind != "index-width"]  # the width is the layer's


@pytest.mark.parametrize("name", ["tiny", "four"])
def test_a_corrupt_stream_is_told_and_ends_the_words(name: str) -> None:
    """Of the words, those of the strips before are given, and nothing after the error."""
    config = CONFIGS[name]
    kinds = KINDS if name == "tiny" else KINDS[::4]
    cases = [corrupted(config, kind) for kind in kinds]
    jobs = [[Job(one) for one in corruption.layers] for _, corruption in cases]
    told = told_of(config, [[(job, job.word(config)) for job in case] for case in jobs])
    seen = set()
    for kind, (layers, corruption), (words, codes) in zip(kinds, cases, told, strict=True):
        stop = decode_unit(config.image, corruption.layers).stop
        assert stop is not None
        # A tile's length is also held against the layer's columns, and its place to the strips.
        also = {ERRORS["tile_header"]} if not corruption.exact else set()
        also |= {ERRORS["index_end"]} if corruption.rules & {5, 6} else set()
        assert codes[-1] in stop.codes | also, kind
        assert set(codes[codes.index(codes[-1]) :]) == {codes[-1]}, kind
        seen.add(codes[-1])
        at, tile = corruption.place
        good = [word for job in map(Job, layers) for word in index_words(config, job)]
        sure = sum(len(one.tiles) for one in layers[:at]) * 9 + 9 * tile
        # The next header is read while a strip's last step waits.
        assert len(words) >= sure - 2, kind
        assert words[:sure] == good[: min(sure, len(words))], kind
        assert len(words) < len(good), kind
    assert name != "tiny" or seen == set(range(1, 8)), "every rule is broken by some corruption"


@pytest.mark.parametrize("columns, strips, code", [
    (8, 3, "tile_header"), (10, 3, "tile_header"), (9, 2, "index_end"), (9, 4, "index_end"),
    (9, 3, "none"),
])  # fmt: skip
def test_a_stream_of_another_shape_than_the_layer_is_told(
    columns: int, strips: int, code: str
) -> None:
    job = Job(layer(TINY, 1, 12, 9, "share:0.1"))
    fields = {
        "inputs": columns, "strips": strips, "tiles": 1, "block": 1,
        "index_width": job.layer.index_width, "index_beats": 1, "outlier_beats": 1,
    }  # fmt: skip
    word = LayerLayout(TINY).const(fields).as_bits()
    ((_, codes),) = told_of(TINY, [[(job, word), (job, job.word(TINY))]])
    assert codes[-1] == ERRORS[code]


def test_a_word_does_not_wait_for_records_past_the_last() -> None:
    config = CONFIGS["four"]
    one = layer(config, 1, config.rows, 9, "share:0.1")
    bad = corrupt(np.random.default_rng(SEED), "more-at-the-end", [one], (0, 0))
    assert bad is not None
    job = Job(bad.layers[0])
    ((_, codes),) = told_of(config, [[(job, job.word(config))]])
    assert codes[-1] == ERRORS["record_order"]
