"""A tile of the two streams: header, records, indexes, and the rules they must keep."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import ERRORS, TILE_HEADER

from .values import Bits, words

__all__ = [
    "BAD_HEADER",
    "INDEX_CRC",
    "INDEX_END",
    "OUTLIER_CRC",
    "OUTLIER_END",
    "RECORD_ORDER",
    "RECORD_PLACE",
    "Bytes",
    "Fault",
    "Flags",
    "Header",
    "Ints",
    "Records",
    "beats_of",
    "check_codebook",
    "index_groups",
    "merge",
]  # fmt: skip

Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

# Codes of the rules that a tile may break.
INDEX_CRC = ERRORS["index_crc"]
OUTLIER_CRC = ERRORS["outlier_crc"]
RECORD_ORDER = ERRORS["record_order"]
RECORD_PLACE = ERRORS["record_place"]
INDEX_END = ERRORS["index_end"]
OUTLIER_END = ERRORS["outlier_end"]
BAD_HEADER = ERRORS["tile_header"]


@dataclass(frozen=True)
class Header:
    """The 64 bits that open a tile in the outlier stream."""

    group_count: int
    record_count: int
    index_crc16: int
    outlier_crc16: int

    @classmethod
    def read(cls, data: bytes) -> "Header":
        """Take the fields out of the first 8 bytes of ``data``."""
        whole = int.from_bytes(data[: TILE_HEADER.size], "little")
        return cls(**{f.name: whole >> f.offset & ((1 << f.width) - 1) for f in TILE_HEADER.fields})


@dataclass(frozen=True)
class Records:
    """Outlier records of a tile, fields of shape (records,)."""

    lane: Ints
    more: Flags
    gap: Ints
    value: Bits
    escape: Flags

    @classmethod
    def read(cls, config: GoboConfig, data: bytes) -> "Records":
        """Take whole records from ``data``, the bytes after the tile header."""
        raw = np.frombuffer(data, np.uint8).reshape(-1, config.record_width // 8)
        place = np.frombuffer(raw[:, :2].tobytes(), "<u2").astype(np.int64)
        gap = place >> (config.lane_bits + 1)
        return cls(
            lane=place & (config.lanes - 1),
            more=(place >> config.lane_bits & 1).astype(bool),
            gap=gap,
            value=words(config.value, raw[:, 2:].tobytes()),
            escape=gap == config.gap_escape,
        )

    @property
    def group(self) -> Ints:
        """Group of each record in its tile."""
        return np.cumsum(self.gap, dtype=np.int64)

    def faults(self, group_count: int, complete: bool) -> "list[Fault]":
        """Return what is wrong with the records' order and place.

        ``complete`` says that these are all records of the tile.  Where the page does not tell
        which of two rules is broken there is a fault for each.
        """
        linked = np.concatenate([np.zeros(1, bool), self.more])[: len(self.gap)]
        first = np.arange(len(self.gap)) == 0
        same = linked & (self.gap == 0)
        below = np.zeros_like(same)
        below[1:] = same[1:] & ~self.escape[:-1] & (self.lane[1:] <= self.lane[:-1])
        unlinked = ~first & ~linked & (self.gap == 0)
        dangling = np.zeros_like(same)
        if complete:
            dangling[-1:] = self.more[-1:]
        order, place = RECORD_ORDER, RECORD_PLACE
        rules: list[tuple[int, Flags, str]] = [
            (order, below, "its lane is not above the lane of the record before"),
            (order, linked & (self.gap != 0), "its gap is not 0 after a record with more set"),
            (order, unlinked, "its gap is 0 after a record with more clear"),
            (place, unlinked, "its gap is 0 after a record with more clear"),
            (order, dangling, "more is set in the last record of the tile"),
            (place, self.group >= group_count, f"its group is past the tile's {group_count}"),
        ]
        return [
            Fault(code, int(np.argmax(where)), text) for code, where, text in rules if where.any()
        ]


@dataclass(frozen=True)
class Fault:
    """A broken rule: its ``error_code``, the record where it was seen first, and words for it."""

    code: int
    record: int
    text: str


def index_groups(config: GoboConfig, index_width: int, data: bytes, groups: int) -> Bytes:
    """Return the (groups, lanes) indexes at the start of ``data``."""
    taken = np.frombuffer(data, np.uint8)
    bits = np.unpackbits(taken, count=groups * index_width * config.lanes, bitorder="little")
    planes = bits.reshape(groups, index_width, config.lanes)
    indexes = np.zeros((groups, config.lanes), np.uint8)
    for j in range(index_width):
        indexes |= planes[:, j] << j
    return indexes


def merge(codebook: Bits, indexes: Bytes, records: Records) -> Bits:
    """Return the (groups, lanes) values: ``codebook[index]``, or the outlier in its place."""
    values = codebook[indexes]
    group = records.group
    here = ~records.escape & (group < len(values))
    values[group[here], records.lane[here]] = records.value[here]
    return values


def check_codebook(config: GoboConfig, index_width: int, codebook: Bits) -> Bits:
    """Return the codebook as bit patterns of the value format; refuse what is none."""
    if index_width not in config.index_widths:
        raise ValueError(f"index_width must be one of {config.index_widths}, not {index_width}")
    table = np.asarray(codebook)
    if table.shape != (1 << index_width,):
        raise ValueError(f"codebook must be of shape ({1 << index_width},), not {table.shape}")
    if table.dtype.kind != "u":
        raise TypeError(f"codebook must hold unsigned bit patterns, not {table.dtype}")
    if int(table.max()) >> config.value_width:
        raise OverflowError(f"codebook must fit {config.value_width} bits, not {table.max():#x}")
    return table.astype(np.uint32 if config.value_width == 32 else np.uint16)


def beats_of(bits: int, config: GoboConfig) -> int:
    """Return the beats that ``bits`` bits take."""
    return -(-bits // config.beat_width)
