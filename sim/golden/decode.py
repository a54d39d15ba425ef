"""The decode unit: two streams of beats to groups of values.

The model does what the hardware does: it knows no matrix, takes tiles as they come and stops at
the first that breaks a rule of ``docs/formats.md``, section 4.  Which rule the unit reports is
its own choice where several are broken, and so is how many groups of that tile it gives before;
:class:`Expected` says what is certain and :meth:`Expected.mismatch` holds a unit to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import TILE_HEADER

from .crc import crc16
from .tile import (
    BAD_HEADER,
    INDEX_CRC,
    INDEX_END,
    OUTLIER_CRC,
    OUTLIER_END,
    RECORD_PLACE,
    Bytes,
    Flags,
    Header,
    Records,
    beats_of,
    check_codebook,
    index_groups,
    merge,
)
from .values import Bits

__all__ = ["Expected", "Stop", "Streams", "decode_unit"]


class Streams(Protocol):
    """What the decode unit is given for one layer."""

    @property
    def index_width(self) -> int:
        """Bits of an index."""

    @property
    def codebook(self) -> Bits:
        """(2**index_width,) bit patterns."""

    @property
    def indexes(self) -> Bytes:
        """(beats, beat_bytes) index stream."""

    @property
    def indexes_last(self) -> Flags:
        """(beats,) ``last`` of the index stream."""

    @property
    def outliers(self) -> Bytes:
        """(beats, beat_bytes) outlier stream."""

    @property
    def outliers_last(self) -> Flags:
        """(beats,) ``last`` of the outlier stream."""


@dataclass(frozen=True)
class Stop:
    """The tile that the unit does not finish: it is wrong, or its beats never come.

    Parameters
    ----------
    layer, tile : int
        Its layer, and its number in the layer as the unit counts.
    codes : frozenset of int
        Rules broken there, any of which may be the ``error_code``.
    certain : bool
        The unit must report one of ``codes``: all beats of the tile are there.  Otherwise it
        waits for more, and may have found a fault in those it has.
    transfers : int
        Most transfers of the tile: the closing one is at the latest the last of these.
    values : (groups, lanes) array
        When nothing is wrong yet, the groups that can be told from the beats that came; the unit
        gives the first so many of them, perhaps none.
    """

    layer: int
    tile: int
    codes: frozenset[int]
    certain: bool
    transfers: int
    values: Bits


@dataclass(frozen=True)
class Expected:
    """What a decode unit gives for its inputs.

    Parameters
    ----------
    values : (n, lanes) array
        Bit patterns of all transfers of ``o`` up to the end of the last good tile.
    last : (n,) array
        Their ``last``; their ``error`` is 0.
    stop : Stop or None
        The tile after these, when the unit does not come to a good end.
    """

    values: Bits
    last: Flags
    stop: Stop | None

    @property
    def error_codes(self) -> frozenset[int]:
        """The values that ``error_code`` may have at the end."""
        if self.stop is None:
            return frozenset({0})
        return self.stop.codes if self.stop.certain else self.stop.codes | {0}

    def mismatch(
        self,
        values: NDArray[np.integer],
        last: Sequence[bool] | Flags,
        error: Sequence[bool] | Flags,
        error_code: int,
    ) -> str | None:
        """Return the first difference to what a unit gave, in words; None when there is none.

        ``values`` is (n, lanes), ``last`` and ``error`` are (n,), all transfers of ``o``;
        ``error_code`` is read after the inputs were taken.
        """
        lanes = self.values.shape[1]
        got = np.asarray(values, np.uint64).reshape(-1, lanes)
        closes, fails = np.asarray(last, bool), np.asarray(error, bool)
        exact = len(self.values)
        if len(got) < exact:
            return f"{len(got)} transfers came, at least {exact} are due"
        for n in np.flatnonzero((got[:exact] != self.values).any(axis=1))[:1]:
            lane = int(np.flatnonzero(got[n] != self.values[n])[0])
            want = int(self.values[n, lane])
            return f"transfer {n} lane {lane} is {int(got[n, lane]):#x}, {want:#x} is due"
        for n in np.flatnonzero(closes[:exact] != self.last)[:1]:
            return f"transfer {n} has last {int(closes[n])}, {int(self.last[n])} is due"
        for n in np.flatnonzero(fails[:exact])[:1]:
            return f"transfer {n} has error in a good tile"
        if error_code not in self.error_codes:
            return f"error_code is {error_code}, one of {sorted(self.error_codes)} is due"
        return self._mismatch_after(got[exact:], closes[exact:], fails[exact:], error_code)

    def _mismatch_after(
        self, got: NDArray[np.uint64], closes: Flags, fails: Flags, error_code: int
    ) -> str | None:
        """Compare what came after the last good tile."""
        stop, n = self.stop, len(self.values)
        if stop is None:
            return f"transfer {n} came after the last group" if len(got) else None
        where = f"layer {stop.layer} tile {stop.tile}"
        if error_code == 0:
            if closes.any() or fails.any():
                return f"{where} has last or error while it waits for beats"
            if stop.codes and not len(stop.values):
                return f"{where} is too long" if len(got) >= stop.transfers else None
            if len(got) > len(stop.values):
                return f"{where} gave {len(got)} groups, {len(stop.values)} can be known"
            wrong = np.flatnonzero((got != stop.values[: len(got)]).any(axis=1))
            return f"transfer {n + int(wrong[0])} of {where} is wrong" if len(wrong) else None
        if not len(got):
            return f"{where} has error_code {error_code} and no closing transfer"
        if not (closes[-1] and fails[-1]) or closes[:-1].any() or fails[:-1].any():
            return f"{where} must end with its only transfer that has last and error"
        if len(got) > stop.transfers:
            return f"{where} ended after {len(got)} transfers, at most {stop.transfers} are due"
        return None


def decode_unit(config: GoboConfig, layers: Sequence[Streams]) -> Expected:
    """Return what the decode unit gives for layers in a row.

    The beats of all layers follow each other, as they do in the hardware: where a layer ends is
    told by ``last`` alone, so a lost or repeated beat shows where the unit sees it.
    """
    indexes = _Source(config, [s.indexes for s in layers], [s.indexes_last for s in layers])
    outliers = _Source(config, [s.outliers for s in layers], [s.outliers_last for s in layers])
    empty = np.zeros((0, config.lanes), np.uint32 if config.value_width == 32 else np.uint16)
    groups: list[Bits] = [empty]
    layer = tile = 0
    stop = None
    while stop is None and (indexes.left or outliers.left):
        if layer == len(layers) or not outliers.left:
            stop = Stop(layer, tile, frozenset(), False, 0, empty)
            break
        values, stop = _unit_tile(config, layer, tile, layers[layer], indexes, outliers)
        if stop is None:
            groups.append(values)
            layer, tile = (layer + 1, 0) if outliers.ended else (layer, tile + 1)
    last = [np.arange(len(g)) == len(g) - 1 for g in groups]
    return Expected(np.concatenate(groups), np.concatenate(last), stop)


class _Source:
    """A stream of beats and how far it has been taken."""

    def __init__(self, config: GoboConfig, beats: Sequence[Bytes], lasts: Sequence[Flags]) -> None:
        none = [np.zeros((0, config.beat_bytes), np.uint8)]
        self.beats = np.concatenate([*none, *beats])
        self.last = np.concatenate([np.zeros(0, bool), *lasts])
        if self.last.shape != self.beats.shape[:1]:
            raise ValueError(f"{len(self.beats)} beats have {len(self.last)} last flags")
        self.at = 0
        self.ended = False

    @property
    def left(self) -> int:
        """Beats not taken yet."""
        return len(self.beats) - self.at

    def take(self, count: int) -> "_Taken":
        """Take ``count`` beats, or fewer where the stream or the layer ends before."""
        beats, last = self.beats[self.at :][:count], self.last[self.at :][:count]
        ended = bool(last.any())
        if ended:
            beats = beats[: int(np.argmax(last)) + 1]
        self.at += len(beats)
        self.ended = ended
        return _Taken(beats.tobytes(), len(beats) == count, ended)


@dataclass(frozen=True)
class _Taken:
    """Beats of a tile: ``full`` when all came, ``ended`` when the last of them has ``last``."""

    data: bytes
    full: bool
    ended: bool

    @property
    def early(self) -> bool:
        """The layer ended before the tile."""
        return self.ended and not self.full

    @property
    def waits(self) -> bool:
        """There are no more beats, though the layer has not ended."""
        return not self.ended and not self.full


def _unit_tile(
    config: GoboConfig,
    layer: int,
    tile: int,
    streams: Streams,
    indexes: _Source,
    outliers: _Source,
) -> tuple[Bits, Stop | None]:
    """Take a tile off both streams: its (groups, lanes) values, and why the unit stops there."""
    header = Header.read(outliers.beats[outliers.at].tobytes())
    count, index_width = header.group_count, streams.index_width
    if count == 0 or index_width not in config.index_widths:
        none = np.zeros((0, config.lanes), streams.codebook.dtype)
        return none, Stop(layer, tile, frozenset({BAD_HEADER}), True, max(count, 1), none)
    codebook = check_codebook(config, index_width, streams.codebook)
    group_bits = count * index_width * config.lanes
    record_bits = header.record_count * config.record_width
    records_part = outliers.take(beats_of(TILE_HEADER.width + record_bits, config))
    groups_part = indexes.take(beats_of(group_bits, config))
    body = records_part.data[TILE_HEADER.size :][: record_bits // 8]
    whole = len(body) - len(body) % (config.record_width // 8)
    records = Records.read(config, body[:whole])

    codes = {fault.code for fault in records.faults(count, records_part.full)}
    if groups_part.full and crc16(groups_part.data, group_bits) != header.index_crc16:
        codes.add(INDEX_CRC)
    if records_part.full and crc16(body, record_bits) != header.outlier_crc16:
        codes.add(OUTLIER_CRC)
    if groups_part.early:
        codes.add(INDEX_END)
    if records_part.early:
        codes.add(OUTLIER_END)
    # A stream that has not come cannot disagree yet.
    waits = groups_part.waits or records_part.waits
    if not waits and groups_part.ended != records_part.ended:
        codes |= {INDEX_END, OUTLIER_END}

    known = min(count, 8 * len(groups_part.data) // (index_width * config.lanes))
    values = merge(codebook, index_groups(config, index_width, groups_part.data, known), records)
    if not codes and not waits:
        return values, None
    if codes:
        values = values[:0]
    elif records_part.waits:
        values = values[: _groups_told(records)]
    if not records_part.full and len(records.gap) and records.group[-1] == count - 1:
        codes.add(RECORD_PLACE)  # the tile can end before it is seen that the rest does not come
    return values, Stop(layer, tile, frozenset(codes), not waits, count, values[: count - 1])


def _groups_told(records: Records) -> int:
    """Return how many groups are settled by these records when more are to come."""
    if not len(records.gap):
        return 0
    return int(records.group[-1]) + (0 if records.more[-1] else 1)
