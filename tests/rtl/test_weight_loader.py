"""The streams of a layer become the words of its strips, and all their rules are checked."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from gobo_rtl.array.weight_loader import WeightLoader
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import CommandLayout, IndexWordLayout, LayerLayout, OutlierWordLayout
from gobo_rtl.formats import ERRORS
from sim import stimulus
from sim.corruption import CORRUPTIONS, corrupt
from sim.golden.decode import decode_unit

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
    """Return an outlier word with nothing in the entries that are not valid."""
    word, layout = OutlierWordLayout(config).from_bits(bits), OutlierWordLayout(config)
    width = layout["entries"].width // config.outliers_per_step
    for n in range(config.outliers_per_step):
        if not word.entries[n].valid:
            bits &= ~(((1 << width) - 1) << (layout["entries"].offset + n * width))
    return bits


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


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("name", CONFIGS)
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
