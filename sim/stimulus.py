"""Seeded layers for the benches: weights, outliers, and the streams that the unit takes.

The packer is the bench's own: lists of bits and plain loops, straight from sections 4 and 5 of
``docs/formats.md``, so that a mistake in another packer or reader has nothing to hide behind.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np

from gobo_rtl.config import GoboConfig

__all__ = [
    "PATTERNS", "Layer", "Record", "Tile", "columns_for", "image", "layer", "order", "pattern",
    "spans",
]  # fmt: skip


# -- bits -----------------------------------------------------------------------------------


def bits_of(number: int, width: int) -> list[int]:
    """Return the ``width`` bits of ``number``, lowest first."""
    return [number >> i & 1 for i in range(width)]


def crc16(bits: Sequence[int]) -> int:
    """Return the CRC-16 of ``bits``, one step a bit as the page writes it."""
    r = 0xFFFF
    for d in bits:
        r = (r >> 1) ^ (0x8408 if (r ^ d) & 1 else 0)
    return r


def bytes_of(bits: Sequence[int], multiple: int) -> bytes:
    """Return ``bits`` as bytes, filled up with zero bits to a multiple of ``multiple`` bytes."""
    size = -(-len(bits) // (8 * multiple)) * multiple
    number = int("".join("01"[bit] for bit in reversed(bits)) or "0", 2)
    return number.to_bytes(size, "little")


# -- layers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """A record of the outlier stream, escapes too."""

    lane: int
    more: int
    gap: int
    value: int


@dataclass(frozen=True)
class Tile:
    """What a tile holds; a header field that is None is written as it should be."""

    groups: tuple[tuple[int, ...], ...]
    records: tuple[Record, ...]
    group_count: int | None = None
    record_count: int | None = None
    index_crc16: int | None = None
    outlier_crc16: int | None = None

    def index_bits(self, index_width: int) -> list[int]:
        """Return the bits of the groups, plane after plane."""
        return [
            index >> j & 1 for group in self.groups for j in range(index_width) for index in group
        ]

    def record_bits(self, config: GoboConfig) -> list[int]:
        """Return the bits of the records."""
        bits = []
        for record in self.records:
            bits += bits_of(record.lane, config.lane_bits) + bits_of(record.more, 1)
            bits += bits_of(record.gap, config.gap_width)
            bits += bits_of(record.value, config.value_width)
        return bits

    def header_bits(self, config: GoboConfig, index_width: int) -> list[int]:
        """Return the 64 bits of the header."""
        right = (
            (self.group_count, len(self.groups)),
            (self.record_count, len(self.records)),
            (self.index_crc16, crc16(self.index_bits(index_width))),
            (self.outlier_crc16, crc16(self.record_bits(config))),
        )
        return [b for given, own in right for b in bits_of(own if given is None else given, 16)]


@dataclass(frozen=True)
class Layer:
    """A quantised matrix and its streams; the streams follow from ``tiles``.

    Parameters
    ----------
    config : GoboConfig
    index_width : int
    codebook : (2**index_width,) array
        Bit patterns, ascending as numbers.
    index : (rows, columns) array
        Indexes, those under outliers included.
    outlier : (rows, columns) array of bool
    values : (rows, columns) array
        Bit patterns that the layer decodes to.
    tiles : tuple of Tile
    """

    config: GoboConfig
    index_width: int
    codebook: np.ndarray
    index: np.ndarray
    outlier: np.ndarray
    values: np.ndarray
    tiles: tuple[Tile, ...]

    @property
    def rows(self) -> int:
        """Rows of the matrix."""
        return self.values.shape[0]

    @property
    def columns(self) -> int:
        """Columns of the matrix."""
        return self.values.shape[1]

    @cached_property
    def indexes(self) -> np.ndarray:
        """The (beats, beat_bytes) index stream."""
        return self._beats(tile.index_bits(self.index_width) for tile in self.tiles)

    @cached_property
    def outliers(self) -> np.ndarray:
        """The (beats, beat_bytes) outlier stream."""
        return self._beats(
            tile.header_bits(self.config, self.index_width) + tile.record_bits(self.config)
            for tile in self.tiles
        )

    @cached_property
    def indexes_last(self) -> np.ndarray:
        """The (beats,) ``last`` of the index stream."""
        return np.arange(len(self.indexes)) == len(self.indexes) - 1

    @cached_property
    def outliers_last(self) -> np.ndarray:
        """The (beats,) ``last`` of the outlier stream."""
        return np.arange(len(self.outliers)) == len(self.outliers) - 1

    @property
    def codebook_payload(self) -> int:
        """The codebook as ``i_codebook`` takes it: entry n at bits [n v, n v + v)."""
        width = self.config.value_width
        return sum(int(entry) << n * width for n, entry in enumerate(self.codebook))

    def groups(self) -> np.ndarray:
        """Return the (groups, lanes) bit patterns due at ``o``; padding is ``codebook[0]``."""
        due = [
            [self.codebook[0] if place is None else self.values[place] for place in group]
            for tile in order(self.config, self.rows, self.columns)
            for group in tile
        ]
        return np.array(due, self.values.dtype)

    def _beats(self, tiles: Iterator[list[int]]) -> np.ndarray:
        """Put each tile's bits on beats of its own."""
        size = self.config.beat_bytes
        data = b"".join(bytes_of(bits, size) for bits in tiles)
        return np.frombuffer(data, np.uint8).reshape(-1, size)


Place = tuple[int, int]
"""Row and column of a weight."""


def order(config: GoboConfig, rows: int, columns: int) -> Iterator[list[list[Place | None]]]:
    """Yield for each tile its groups, each the places of its lanes; None is padding."""
    for top in range(0, rows, config.tile_rows):
        bottom = min(top + config.tile_rows, rows)
        groups: list[list[Place | None]] = []
        for row0 in range(top, bottom, config.lane_rows):
            for column0 in range(0, columns, config.lane_columns):
                group: list[Place | None] = []
                for lane in range(config.lanes):
                    row = row0 + lane // config.lane_columns
                    column = column0 + lane % config.lane_columns
                    group.append((row, column) if row < bottom and column < columns else None)
                groups.append(group)
        yield groups


def layer(
    config: GoboConfig,
    rng: np.random.Generator,
    rows: int,
    columns: int,
    index_width: int,
    outliers: "str | np.ndarray" = "none",
    *,
    scribble: bool = False,
) -> Layer:
    """Return a random layer of (rows, columns) weights.

    ``outliers`` is a name for :func:`pattern` or a (rows, columns) mask.  Codebook and outliers
    are any finite values, zeros and subnormals included.  With ``scribble`` the don't-care indexes
    under outliers are random, else 0 as a packer writes them.
    """
    codebook = np.array(sorted(finite(config, rng, 1 << index_width), key=_key(config)))
    index = rng.integers(0, 1 << index_width, (rows, columns))
    mask = pattern(config, rng, rows, columns, outliers) if isinstance(outliers, str) else outliers
    values = np.where(mask, finite(config, rng, rows * columns).reshape(rows, columns),
                      codebook[index])  # fmt: skip
    if not scribble:
        index = np.where(mask, 0, index)
    tiles = []
    for groups in order(config, rows, columns):
        if len(groups) > 0xFFFF:
            raise ValueError(f"a tile has at most 65535 groups, not {len(groups)}")
        held = tuple(tuple(0 if p is None else int(index[p]) for p in group) for group in groups)
        records = tuple(_records(config, groups, mask, values))
        if len(records) > 0xFFFF:
            raise ValueError(f"a tile has at most 65535 records, not {len(records)}")
        tiles.append(Tile(held, records))
    return Layer(config, index_width, codebook, index, mask, values, tuple(tiles))


def finite(config: GoboConfig, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return (count,) finite bit patterns: any, with zeros and subnormals among them."""
    form = config.value
    top = (1 << form.exponent_width) - 2
    exponent = rng.integers(0, top, count, endpoint=True)
    exponent = np.where(rng.random(count) < 0.1, 0, exponent)
    fraction = rng.integers(0, 1 << form.fraction_width, count)
    fraction = np.where(rng.random(count) < 0.1, 0, fraction)
    sign = rng.integers(0, 2, count)
    bits = sign << (form.width - 1) | exponent << form.fraction_width | fraction
    return bits.astype(np.uint32 if form.width == 32 else np.uint16)


def _key(config: GoboConfig) -> Callable[[int], int]:
    """Return a function that maps a bit pattern to an integer that sorts as its number."""
    sign = 1 << (config.value_width - 1)
    return lambda bits: -(int(bits) & (sign - 1)) if int(bits) & sign else int(bits)


def _records(
    config: GoboConfig, groups: list[list[Place | None]], mask: np.ndarray, values: np.ndarray
) -> Iterator[Record]:
    """Yield the records of a tile, escapes where a gap is too long."""
    found = [
        (number, lane, int(values[place]))
        for number, group in enumerate(groups)
        for lane, place in enumerate(group)
        if place is not None and mask[place]
    ]
    before = 0
    for n, (number, lane, value) in enumerate(found):
        gap = number - before
        while gap >= config.gap_escape:
            gap -= config.gap_escape
            yield Record(0, int(gap == 0), config.gap_escape, 0)
        more = n + 1 < len(found) and found[n + 1][0] == number
        yield Record(lane, int(more), gap, value)
        before = number


# -- where outliers are ---------------------------------------------------------------------

PATTERNS = (
    "none", "all", "first", "last", "corners", "tile-first", "tile-last", "burst", "lane-first",
    "lane-last", "full-rate", "stall", "escape-1", "escape", "escape+1", "escape*2", "escape*2+1",
    "share:0.003", "share:0.1",
)  # fmt: skip
"""Names for :func:`pattern`; ``share:P`` takes any share."""


def columns_for(config: GoboConfig, groups: int) -> int:
    """Return the columns with which ``lane_rows`` rows make ``groups`` groups."""
    return groups * config.lane_columns


def pattern(
    config: GoboConfig, rng: np.random.Generator, rows: int, columns: int, name: str
) -> np.ndarray:
    """Return the (rows, columns) mask of the outlier pattern called ``name``.

    none, all; first, last: one weight, at that end of the matrix; corners: all four; tile-first,
    tile-last: the first and last weight of each tile in order of consumption; burst: one to three
    groups on end in each tile, every lane; lane-first, lane-last: that lane of every group;
    full-rate: ``outliers_per_cycle`` in every group; stall: one more in about a third of them;
    escape-1, escape, escape+1, escape*2, escape*2+1: two outliers in a tile just so many groups
    apart, where a gap of ``escape`` is the one that cannot be written (each tile must have that
    many groups and one more); share:P: each weight with probability P.
    """
    mask = np.zeros((rows, columns), bool)
    if name == "all":
        mask[:] = True
    elif name == "first":
        mask[0, 0] = True
    elif name == "last":
        mask[-1, -1] = True
    elif name == "corners":
        mask[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    elif name.startswith("share:"):
        mask[:] = rng.random(mask.shape) < float(name.removeprefix("share:"))
    elif name != "none":
        if name not in PATTERNS:
            raise ValueError(f"no pattern is called {name!r}; there are {', '.join(PATTERNS)}")
        for groups in order(config, rows, columns):
            used = [[place for place in group if place is not None] for group in groups]
            for place in _tile_pattern(config, rng, used, name):
                mask[place] = True
    return mask


def _tile_pattern(
    config: GoboConfig, rng: np.random.Generator, groups: list[list[Place]], name: str
) -> Iterator[Place]:
    """Yield the places of a tile's outliers; ``groups`` has no padding."""
    count = len(groups)
    if name == "tile-first":
        yield groups[0][0]
    elif name == "tile-last":
        yield groups[-1][-1]
    elif name == "burst":
        start = int(rng.integers(count))
        for group in groups[start : start + int(rng.integers(1, 4))]:
            yield from group
    elif name == "lane-first":
        yield from (group[0] for group in groups)
    elif name == "lane-last":
        yield from (group[-1] for group in groups)
    elif name in ("full-rate", "stall"):
        for group in groups:
            extra = int(name == "stall" and rng.random() < 0.34)
            size = min(config.outliers_per_cycle + extra, len(group))
            for lane in rng.choice(len(group), size, replace=False):
                yield group[lane]
    else:
        distance = {
            "escape-1": config.gap_escape - 1,
            "escape": config.gap_escape,
            "escape+1": config.gap_escape + 1,
            "escape*2": 2 * config.gap_escape,
            "escape*2+1": 2 * config.gap_escape + 1,
        }[name]
        if count <= distance:
            raise ValueError(
                f"{name} needs tiles of more than {distance} groups, not {count}; "
                f"{columns_for(config, distance + 1)} columns make them"
            )
        start = int(rng.integers(count - distance))
        for group in (groups[start], groups[start + distance]):
            yield group[int(rng.integers(len(group)))]


# -- the device image ----------------------------------------------------------------------


def spans(layer: Layer, tile: int) -> tuple[slice, slice]:
    """Return the beats of a tile in the index and in the outlier stream."""
    width, config = layer.config.beat_width, layer.config
    ends_i, ends_o = [0], [0]
    for t in layer.tiles:
        bits = len(t.groups) * layer.index_width * config.lanes
        ends_i.append(ends_i[-1] + -(-bits // width))
        bits = 64 + len(t.records) * config.record_width
        ends_o.append(ends_o[-1] + -(-bits // width))
    return slice(ends_i[tile], ends_i[tile + 1]), slice(ends_o[tile], ends_o[tile + 1])


def image(
    config: GoboConfig, layers: Sequence[Layer], container_sha256: bytes = bytes(32)
) -> bytes:
    """Return the device image file of ``layers``, not on the shipping grid."""

    def fields(size: int, *parts: tuple[int, int, int]) -> bytearray:
        record = bytearray(size)
        for offset, width, number in parts:
            record[offset : offset + width] = number.to_bytes(width, "little")
        return record

    def align(to: int) -> None:
        body.extend(bytes(-(128 + len(body)) % to))

    form = config.value.code
    body = bytearray(128 * len(layers))
    for n, layer in enumerate(layers):
        align(config.burst_bytes)
        codebook_at = 128 + len(body)
        for entry in layer.codebook:
            body += int(entry).to_bytes(config.value_width // 8, "little")
        align(16)
        table_at = 128 + len(body)
        for number, tile in enumerate(layer.tiles):
            at_i, at_o = (s.start * config.beat_bytes for s in spans(layer, number))
            body += fields(16, (0, 4, at_i), (4, 4, at_o), (8, 4, len(tile.groups)),
                           (12, 4, len(tile.records)))  # fmt: skip
        align(config.burst_bytes)
        index_at = 128 + len(body)
        body += layer.indexes.tobytes()
        align(config.burst_bytes)
        outlier_at = 128 + len(body)
        body += layer.outliers.tobytes()
        payload = body[codebook_at - 128 :]
        descriptor = fields(
            128, (0, 4, int.from_bytes(b"GOBD", "little")), (4, 1, layer.index_width), (5, 1, form),
            (8, 4, layer.rows), (12, 4, layer.columns), (16, 4, len(layer.tiles)),
            (20, 4, int(layer.outlier.sum())), (24, 8, codebook_at), (32, 8, table_at),
            (40, 8, index_at), (48, 8, layer.indexes.size), (56, 8, outlier_at),
            (64, 8, layer.outliers.size), (120, 4, crc32(payload)),
        )  # fmt: skip
        descriptor[124:] = crc32(descriptor[:124]).to_bytes(4, "little")
        body[128 * n : 128 * (n + 1)] = descriptor
    align(config.burst_bytes)
    header = fields(
        128, (0, 8, int.from_bytes(b"GOBOIMG\0", "little")), (8, 2, 1), (10, 1, form),
        (11, 1, sum(1 << width for width in config.index_widths)), (12, 2, config.lanes),
        (14, 2, config.lane_rows), (16, 2, config.tile_rows), (18, 2, config.beat_width),
        (20, 2, config.burst_beats), (24, 4, len(layers)), (32, 8, 128 + len(body)),
        (40, 32, int.from_bytes(container_sha256, "little")), (120, 4, crc32(body)),
    )  # fmt: skip
    header[124:] = crc32(header[:124]).to_bytes(4, "little")
    return bytes(header + body)
