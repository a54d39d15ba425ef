"""The two streams of a device image: groups of index planes, and outlier records, tile by tile.

Written from docs/formats.md, sections 4.1 to 4.3.
"""

import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import CRC16

__all__ = ["Tiles", "TooManyError", "crc16", "pack_tiles"]

_COUNT_LIMIT = (1 << 16) - 1  # groups and records that a tile header can count
_MIRRORED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)), bitorder="little").tobytes()
assert CRC16.polynomial == 0x8408, "binascii.crc_hqx is this polynomial, mirrored"
assert CRC16.initial == 0xFFFF, "a start that is its own mirror image"


class TooManyError(ValueError):
    """A tile has more groups or records than its header can count; the message tells which."""


@dataclass(frozen=True)
class Tiles:
    """Some tiles, packed: whole beats of both streams, and (tiles,) arrays of the headers."""

    index_stream: bytes
    outlier_stream: bytes
    index_offset: NDArray[np.int64]
    outlier_offset: NDArray[np.int64]
    group_count: NDArray[np.int64]
    record_count: NDArray[np.int64]


def pack_tiles(
    config: GoboConfig,
    index_width: int,
    indexes: NDArray[np.uint8],
    positions: NDArray[np.int64],
    values: NDArray[Any],
    first_tile: int = 0,
) -> Tiles:
    """Pack whole tiles of a matrix.

    Parameters
    ----------
    indexes : (rows, columns); 0 where the weight is an outlier.
    positions : (outliers,), row-major and flat in these rows, ascending.
    values : (outliers,), unsigned bits in the configuration's value format.
    first_tile : number of the first tile, for ``TooManyError``.
    """
    rows, columns = indexes.shape
    across = -(-columns // config.lane_columns)  # groups in a block of rows
    down = -(-rows // config.lane_rows)
    per_tile = config.tile_rows // config.lane_rows  # blocks of rows
    tile_count = -(-rows // config.tile_rows)
    groups = np.full(tile_count, per_tile * across, np.int64)
    groups[-1] = (down - per_tile * (tile_count - 1)) * across
    if groups[0] > _COUNT_LIMIT:
        raise TooManyError(
            f"tile {first_tile} has {groups[0]} groups, at most {_COUNT_LIMIT} are allowed"
        )

    blocks = np.zeros((down, config.lane_rows, across, config.lane_columns), np.uint8)
    blocks.reshape(down * config.lane_rows, -1)[:rows, :columns] = indexes
    lanes = blocks.transpose(0, 2, 1, 3).reshape(down * across, config.lanes)
    planes = np.stack([lanes >> j & 1 for j in range(index_width)], axis=1)
    index_stream, index_offset, index_crc = _pack(
        planes.reshape(-1), groups * (index_width * config.lanes), config.beat_bytes
    )

    records, record_count = _records(config, columns, across, tile_count, positions, values)
    if record_count.max(initial=0) > _COUNT_LIMIT:
        worst = int(record_count.argmax())
        raise TooManyError(
            f"tile {first_tile + worst} has {record_count[worst]} outlier records, at most "
            f"{_COUNT_LIMIT} are allowed"
        )
    bits = np.unpackbits(records.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    headers = [
        np.array(fields, "<u2").tobytes()
        for fields in zip(groups, record_count, index_crc, strict=True)
    ]
    outlier_stream, outlier_offset, _ = _pack(
        bits[:, : config.record_width].reshape(-1),
        record_count * config.record_width,
        config.beat_bytes,
        headers,
    )
    return Tiles(index_stream, outlier_stream, index_offset, outlier_offset, groups, record_count)


def crc16(data: bytes, bits: int) -> int:
    """Return the CRC-16 of the first ``bits`` bits of ``data``.

    ``binascii.crc_hqx`` runs the mirrored polynomial from the highest bit of a byte, so mirrored
    bytes go in and a mirrored sum comes out; the bits after the last whole byte follow singly.
    """
    whole = bits // 8
    mirrored = binascii.crc_hqx(data[:whole].translate(_MIRRORED), CRC16.initial)
    crc = int(f"{mirrored:016b}"[::-1], 2)
    for at in range(8 * whole, bits):
        odd = (crc ^ data[whole] >> at % 8) & 1
        crc = crc >> 1 ^ (CRC16.polynomial if odd else 0)
    return crc


def _pack(
    bits: NDArray[np.uint8],
    counts: NDArray[np.int64],
    beat_bytes: int,
    headers: list[bytes] | None = None,
) -> tuple[bytes, NDArray[np.int64], list[int]]:
    """Pack ``counts`` (tiles,) bits a tile into whole beats, each behind its header if there are.

    A header ends with the CRC-16, which is added here.  Returns the stream, where its tiles
    start, and their CRC-16.
    """
    parts, starts, sums = [], [], []
    at = place = 0
    for tile, count in enumerate(counts.tolist()):
        data = np.packbits(bits[at : at + count], bitorder="little").tobytes()
        at += count
        sums.append(crc16(data, count))
        if headers is not None:
            data = headers[tile] + sums[-1].to_bytes(2, "little") + data
        data += bytes(-len(data) % beat_bytes)
        parts.append(data)
        starts.append(place)
        place += len(data)
    return b"".join(parts), np.array(starts, np.int64), sums


def _records(
    config: GoboConfig,
    columns: int,
    across: int,
    tile_count: int,
    positions: NDArray[np.int64],
    values: NDArray[Any],
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the records of all tiles, escapes included, as numbers, and how many each tile has."""
    row, column = np.divmod(positions, columns)
    tile, row = np.divmod(row, config.tile_rows)
    block, lane_row = np.divmod(row, config.lane_rows)
    block_column, lane_column = np.divmod(column, config.lane_columns)
    group = block * across + block_column
    lane = lane_row * config.lane_columns + lane_column
    order = np.lexsort((group, tile))  # stable: lanes of a group are in order already
    tile, group, lane, value = tile[order], group[order], lane[order], values[order]

    starts = np.diff(tile, prepend=-1) != 0  # the first of a tile counts from group 0
    distance = np.where(starts, group, np.diff(group, prepend=0))
    escapes, gap = np.divmod(distance, config.gap_escape)
    # Escapes stand before the record they lead to; the last of them is in its group if gap is 0.
    at = np.cumsum(escapes + 1) - 1
    total = int(at[-1]) + 1 if at.size else 0
    word = np.full(total, config.gap_escape << (config.lane_bits + 1), np.uint64)
    word[at] = (
        lane.astype(np.uint64)
        | gap.astype(np.uint64) << np.uint64(config.lane_bits + 1)
        | value.astype(np.uint64) << np.uint64(16)
    )
    follows = np.flatnonzero((gap == 0) & ~(starts & (escapes == 0)))
    word[at[follows] - 1] |= np.uint64(1 << config.lane_bits)
    record_count = np.bincount(tile, escapes + 1, tile_count).astype(np.int64)
    return word, record_count
