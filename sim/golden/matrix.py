"""Matrices out of their two streams, with every rule of ``docs/formats.md``, section 4, checked."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import TILE_HEADER

from .crc import crc16
from .tile import (
    RECORD_ORDER,
    Fault,
    Header,
    Records,
    beats_of,
    check_codebook,
    index_groups,
    merge,
)
from .values import Bits

__all__ = ["Tile", "decode_tiles"]


@dataclass(frozen=True)
class Tile:
    """A tile of a matrix: where it was, what its header says and the weights it holds."""

    index_offset: int
    outlier_offset: int
    group_count: int
    record_count: int
    outlier_count: int
    values: Bits
    """(rows in the tile, columns) bit patterns."""


def _unblock(config: GoboConfig, groups: NDArray[np.generic], columns: int) -> NDArray[np.generic]:
    """Lay (groups, lanes) out as rows and columns, padding lanes included."""
    across = -(-columns // config.lane_columns)
    blocks = groups.reshape(-1, across, config.lane_rows, config.lane_columns)
    return blocks.transpose(0, 2, 1, 3).reshape(-1, across * config.lane_columns)


def decode_tiles(
    config: GoboConfig,
    rows: int,
    columns: int,
    index_width: int,
    codebook: Bits,
    indexes: bytes,
    outliers: bytes,
    *,
    name: str = "layer",
    index_base: int = 0,
    outlier_base: int = 0,
) -> Iterator[Tile]:
    """Yield the tiles of a (rows, columns) matrix from its two streams.

    Every rule of section 4 is checked.  ``ValueError`` starts with ``name`` and tells tile, field
    and offset; the offsets are counted from ``index_base`` and ``outlier_base``.
    """
    table = check_codebook(config, index_width, codebook)
    if rows < 1 or columns < 1:
        raise ValueError(f"{name}: rows and columns must be at least 1, not {rows} x {columns}")
    record_bytes = config.record_width // 8
    index_at = outlier_at = 0
    for tile, first_row in enumerate(range(0, rows, config.tile_rows)):
        height = min(config.tile_rows, rows - first_row)
        count = -(-height // config.lane_rows) * -(-columns // config.lane_columns)

        def refuse(field: str, at: int, text: str, tile: int = tile) -> ValueError:
            return ValueError(f"{name}, tile {tile}: {field} at offset {at}: {text}")

        header_at = outlier_base + outlier_at
        data = _cut(outliers, outlier_at, TILE_HEADER.width, config)
        if data is None:
            raise refuse("tile header", header_at, "the outlier stream ends before it")
        header = Header.read(data)
        if header.group_count != count:
            raise refuse("group_count", header_at, f"{header.group_count}, but must be {count}")
        record_bits = TILE_HEADER.width + header.record_count * config.record_width
        data = _cut(outliers, outlier_at, record_bits, config)
        if data is None:
            text = f"{header.record_count} records run past the end of the outlier stream"
            raise refuse("record_count", header_at + 2, text)
        group_bits = count * index_width * config.lanes
        packed = _cut(indexes, index_at, group_bits, config)
        if packed is None:
            text = f"{count} groups run past the end of the index stream"
            raise refuse("indexes", index_base + index_at, text)

        body = data[TILE_HEADER.size : record_bits // 8]
        if (found := crc16(packed, group_bits)) != header.index_crc16:
            text = f"{header.index_crc16:#06x}, but the groups' is {found:#06x}"
            raise refuse("index_crc16", header_at + 4, text)
        if (found := crc16(body, 8 * len(body))) != header.outlier_crc16:
            text = f"{header.outlier_crc16:#06x}, but the records' is {found:#06x}"
            raise refuse("outlier_crc16", header_at + 6, text)
        if any(data[record_bits // 8 :]):
            raise refuse("padding", header_at + record_bits // 8, "bits after the records are set")
        if int.from_bytes(packed, "little") >> group_bits:
            at = index_base + index_at + group_bits // 8
            raise refuse("padding", at, "bits after the groups are set")

        records = Records.read(config, body)
        faults = records.faults(count, True)
        bad_escape = records.escape & ((records.lane != 0) | (records.value != 0))
        if bad_escape.any():
            text = "an escape's lane and value must be 0"
            faults.append(Fault(RECORD_ORDER, int(np.argmax(bad_escape)), text))
        if faults:
            first = min(faults, key=lambda fault: fault.record)
            at = header_at + TILE_HEADER.size + first.record * record_bytes
            raise refuse(f"record {first.record}", at, first.text)

        groups = index_groups(config, index_width, packed, count)
        taken = np.zeros(groups.shape, bool)
        taken[records.group[~records.escape], records.lane[~records.escape]] = True
        used = _unblock(config, (groups != 0) | taken, columns)
        if used[height:].any() or used[:, columns:].any():
            text = "a lane outside the matrix has an index or an outlier"
            raise refuse("groups", index_base + index_at, text)
        values = _unblock(config, merge(table, groups, records), columns)
        yield Tile(
            index_at, outlier_at, count, header.record_count, int(np.sum(~records.escape)),
            np.asarray(values[:height, :columns], table.dtype),
        )  # fmt: skip
        index_at += len(packed)
        outlier_at += len(data)
    for stream, data, at, base in (
        ("index", indexes, index_at, index_base),
        ("outlier", outliers, outlier_at, outlier_base),
    ):
        if len(data) != at:
            raise ValueError(
                f"{name}: {stream} stream at offset {base + at}: {len(data) - at} bytes follow "
                f"the last tile"
            )


def _cut(stream: bytes, at: int, bits: int, config: GoboConfig) -> bytes | None:
    """Return the whole beats at ``at`` that hold ``bits`` bits, or None when there are fewer."""
    size = beats_of(bits, config) * config.beat_bytes
    data = stream[at : at + size]
    return data if len(data) == size else None
