"""What the self-test keeps in block RAM: a memory with a job, and the words that are due."""

from collections.abc import Sequence
from dataclasses import dataclass

from gobo_rtl.array_config import ArrayConfig

__all__ = ["Stored"]


@dataclass(frozen=True)
class Stored:
    """A layer for the decode unit and for the accelerator, and what both must make of it.

    Addresses are in bytes from the beginning of the memory, on a beat; places, counts and all
    words are in beats.

    Parameters
    ----------
    config : ArrayConfig
        The accelerator; the decode unit is that of its device image.
    memory : sequence of int
        Beats from address 0 on: a queue with one job, the image, activations, room for results.
    codebook, index_width : int
        The layer's: all centroids as bits, the lowest first; bits of an index.
    indexes, outliers : (address, beats)
        The layer's streams in the image.
    groups : sequence of int
        Transfers of the decode unit that are due, as bits: weights, ``last``, ``error``.
    results : address
        Of the job's results, which lie there without a gap.
    result_beats : sequence of int
        The results that are due.
    """

    config: ArrayConfig
    memory: Sequence[int]
    codebook: int
    index_width: int
    indexes: tuple[int, int]
    outliers: tuple[int, int]
    groups: Sequence[int]
    results: int
    result_beats: Sequence[int]

    @property
    def words(self) -> int:
        """Words that a run compares: decoded weights and results."""
        results = len(self.result_beats) * (self.config.beat_width // self.config.result.width)
        return len(self.groups) * self.config.image.lanes + results
