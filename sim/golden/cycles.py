"""Cycles and beats of jobs on the array: docs/accelerator.md, section 6."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.formats import COMPLETION, JOB, LAYER_DESCRIPTOR, TILE_HEADER

from .arith import Flags, Ints
from .schedule import passes
from .steps import extra_cycles, outlier_counts

__all__ = ["Work", "beats", "cycles", "pass_cycles", "records", "stall_drain", "turnaround"]

BIAS_WIDTH = 32

_PE_CYCLES = {"products": 6, "mac": 6, "bins_fp16": 5}
"""From the activation of a step to its place in the registers of finished sums."""
_PIECE = 8  # bits of a bin that are added in one cycle, at most


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """A job, by what decides its cycles and its beats.

    Parameters
    ----------
    outlier : (rows, columns) array of bool
        Where the layer has outliers.
    index_width : int
    tokens, block_tiles, resident
        Of the job.
    has_bias : bool
    """

    outlier: Flags
    index_width: int
    tokens: int
    block_tiles: int = 1
    resident: bool = False
    has_bias: bool = True

    @property
    def rows(self) -> int:
        """Outputs."""
        return len(self.outlier)

    @property
    def inputs(self) -> int:
        """Columns of the matrix."""
        return int(self.outlier.shape[1])


def turnaround(config: ArrayConfig) -> int:
    """Return the fewest cycles from the end of a pass to the end of the next.

    The sums of a pass are in the registers that leave when the alignment of its last activations
    and an outlier's decoding (3 cycles; none where PEs compute in floating point) and its PEs are
    done; they leave by ``drain_lanes``, and a cycle later the next may end.
    """
    start = 0 if config.floating else 3
    pieces = -(-config.bin_width // _PIECE)
    pe = 4 + pieces if config.pe == "bins" else _PE_CYCLES[config.pe]
    drain = config.columns * config.rows // config.drain_lanes
    return start + pe + drain + 1


def pass_cycles(config: ArrayConfig, work: Work) -> Ints:
    """Return the (passes,) cycles of a job's passes in their order, without any stall but that of
    outliers."""
    strips = work.inputs + extra_cycles(config, work.outlier)
    order = passes(config, work.rows, work.tokens, work.block_tiles)
    return np.array([strips[each.strip] for each in order], np.int64)


def stall_drain(config: ArrayConfig, works: Sequence[Work]) -> int:
    """Return the cycles for which ends of passes wait when nothing else ever makes one wait."""
    lengths = np.concatenate([pass_cycles(config, work) for work in works])
    return int(np.maximum(turnaround(config) - lengths[1:], 0).sum())


def cycles(config: ArrayConfig, works: Sequence[Work]) -> int:
    """Return the cycles from the first step of jobs to the last one when nothing but outliers and
    the drain makes a step wait."""
    total = sum(int(pass_cycles(config, work).sum()) for work in works)
    return total + stall_drain(config, works)


def records(config: ArrayConfig, outlier: Flags) -> Ints:
    """Return the (strips,) records of the outlier stream, escapes included."""
    counts = outlier_counts(config, outlier)
    escape = (1 << config.image.gap_width) - 1
    escapes = np.zeros(len(counts), np.int64)
    for strip, of_strip in enumerate(counts):
        steps = np.flatnonzero(of_strip)
        gaps = np.diff(steps, prepend=0)
        escapes[strip] = (gaps // escape).sum()
    return np.asarray(counts.sum(axis=1) + escapes, np.int64)


def beats(config: ArrayConfig, work: Work) -> dict[str, int]:
    """Return the beats that a job moves on each channel; ``job`` with its own record, descriptor
    and codebook, ``result`` with its completion."""

    def whole(bits: int) -> int:
        return -(-bits // config.beat_width)

    tiles = -(-work.tokens // config.columns)
    blocks = -(-tiles // work.block_tiles)
    reads = 1 if work.resident else blocks
    strips = -(-work.rows // config.rows)
    last = work.rows - (strips - 1) * config.rows
    streams = [TILE_HEADER.width + int(n) * config.image.record_width
               for n in records(config, work.outlier)]  # fmt: skip
    width = config.result.width
    return {
        "index": reads * strips * whole(work.inputs * config.rows * work.index_width),
        "outlier": reads * sum(map(whole, streams)),
        "act": work.tokens * whole(work.inputs * config.act.width),
        "job": whole(JOB.width) + whole(LAYER_DESCRIPTOR.width)
        + whole((1 << work.index_width) * config.value.width)
        + work.has_bias * blocks * strips * whole(config.rows * BIAS_WIDTH),
        "result": work.tokens * ((strips - 1) * whole(config.rows * width) + whole(last * width))
        + whole(COMPLETION.width),
    }  # fmt: skip
