"""Reader of the device image file: every field of ``docs/formats.md``, section 4.4, checked."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import (
    IMAGE_HEADER,
    IMAGE_VERSION,
    LAYER_DESCRIPTOR,
    LAYER_FLAGS,
    TILE_ENTRY,
    VALUE_FORMATS,
    Record,
)

from .matrix import Tile, decode_tiles
from .tile import Bytes, Flags
from .values import Bits, finite, on_grid, order, row_sums, words

__all__ = ["Image", "Layer", "read_image"]

_BIAS = VALUE_FORMATS["fp32"]
_SUM_LIMIT = (1 << LAYER_DESCRIPTOR.field("weight_sum").width) - 1


@dataclass(frozen=True)
class Layer:
    """A layer of a device image.

    Parameters
    ----------
    index_width : int
    unit_exponent : int
    rows, columns : int
    outlier_count : int
    symmetric, on_grid : bool
        The descriptor's flags.
    weight_sum : int
        The greatest of the rows' sums of magnitudes, in units; 0 when there is none.
    codebook : (2**index_width,) array
        Bit patterns.
    biases : (rows,) array or None
        FP32 bit patterns.
    indexes, outliers : (beats, beat_bytes) arrays
        The two streams.
    tiles : tuple of Tile
        Tiles with their offsets in the streams and their weights.
    """

    index_width: int
    unit_exponent: int
    rows: int
    columns: int
    outlier_count: int
    symmetric: bool
    on_grid: bool
    weight_sum: int
    codebook: Bits
    biases: Bits | None
    indexes: Bytes
    outliers: Bytes
    tiles: tuple[Tile, ...]

    @cached_property
    def matrix(self) -> Bits:
        """The (rows, columns) bit patterns of the weights."""
        return np.concatenate([tile.values for tile in self.tiles])

    @property
    def indexes_last(self) -> Flags:
        """The (beats,) ``last`` of the index stream."""
        return _final(len(self.indexes))

    @property
    def outliers_last(self) -> Flags:
        """The (beats,) ``last`` of the outlier stream."""
        return _final(len(self.outliers))


@dataclass(frozen=True)
class Image:
    """A device image: ``config`` has the sizes it was packed for (``outliers_per_cycle`` 1)."""

    config: GoboConfig
    container_sha256: bytes
    layers: tuple[Layer, ...]


def _final(count: int) -> Flags:
    """Return (count,) flags of which the last is set."""
    flags = np.zeros(count, bool)
    flags[-1:] = True
    return flags


class _File:
    """Bytes of an image, and how to complain about them."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data

    def error(self, what: str, offset: int, text: str) -> ValueError:
        """Return the error to raise about a field at ``offset``."""
        return ValueError(f"{self.name}: {what} at offset {offset}: {text}")

    def refuse(self, record: Record, at: int, field: str, text: str) -> ValueError:
        """Return the error to raise about a field of the record at ``at``."""
        where = at + record.field(field).offset // 8
        return self.error(f"{record.name}, {field}", where, text)

    def part(self, what: str, at: int, size: int) -> bytes:
        """Return ``size`` bytes at ``at``; they must be there."""
        if at + size > len(self.data):
            text = f"needs {size} bytes, but the file ends at {len(self.data)}; is it truncated?"
            raise self.error(what, at, text)
        return self.data[at : at + size]

    def zero(self, what: str, start: int, stop: int) -> None:
        """Check that the bytes between two parts are there and zero."""
        gap = self.part(what, start, stop - start)
        if any(gap):
            at = start + next(n for n, byte in enumerate(gap) if byte)
            raise self.error(what, at, f"must be 0, not {self.data[at]:#04x}")

    def record(self, record: Record, at: int) -> dict[str, int]:
        """Return the fields of a record; bytes as little-endian integers.

        Magic, CRC-32 and bits that no field covers are checked where the record has them.
        """
        raw = self.part(record.name, at, record.size)
        if record.magic and raw[: len(record.magic)] != record.magic:
            text = f"must be {record.magic!r}, not {raw[: len(record.magic)]!r}"
            raise self.refuse(record, at, "magic", text)
        whole = int.from_bytes(raw, "little")
        fields = {}
        for field in record.fields:
            number = whole >> field.offset & ((1 << field.width) - 1)
            whole &= ~(((1 << field.width) - 1) << field.offset)
            if field.kind == "signed" and number >> (field.width - 1):
                number -= 1 << field.width
            fields[field.name] = number
        if record is IMAGE_HEADER and fields["version"] != IMAGE_VERSION:
            text = f"{fields['version']}, but this reader knows version {IMAGE_VERSION} only"
            raise self.refuse(record, at, "version", text)
        if "crc32" in fields:
            self.sum(record, at, "crc32", fields["crc32"], raw[: record.size - 4])
        if whole:
            where = at + ((whole & -whole).bit_length() - 1) // 8
            raise self.error(f"{record.name}, unused bytes", where, "must be 0")
        return fields

    def sum(self, record: Record, at: int, field: str, given: int, data: bytes) -> None:
        """Check a CRC-32."""
        if (found := crc32(data)) != given:
            text = f"is {given:#010x}, but that of the data is {found:#010x}; the file is corrupt"
            raise self.refuse(record, at, field, text)


def read_image(source: str | Path | bytes) -> Image:
    """Read a device image from a path or from its bytes, check all of it and decode it.

    ``ValueError`` names file, field and offset in the file (for weights: layer and tile too).
    """
    if isinstance(source, bytes):
        file = _File("image", source)
    else:
        file = _File(str(source), Path(source).read_bytes())
    start = file.data[: len(IMAGE_HEADER.magic)]
    if not IMAGE_HEADER.magic.startswith(start):
        text = f"not a device image: it begins with {start!r}, not {IMAGE_HEADER.magic!r}"
        raise file.refuse(IMAGE_HEADER, 0, "magic", text)
    header = file.record(IMAGE_HEADER, 0)
    config = _config(file, header)
    if header["file_bytes"] != len(file.data):
        text = f"is {header['file_bytes']}, but the file has {len(file.data)} bytes"
        hint = "truncated?" if len(file.data) < header["file_bytes"] else "something is appended"
        raise file.refuse(IMAGE_HEADER, 0, "file_bytes", f"{text}; {hint}")
    body = file.data[IMAGE_HEADER.size :]
    file.sum(IMAGE_HEADER, 0, "body_crc32", header["body_crc32"], body)

    end = IMAGE_HEADER.size + header["layer_count"] * LAYER_DESCRIPTOR.size
    if end > len(file.data):
        text = f"{header['layer_count']} descriptors do not fit {len(file.data)} bytes"
        raise file.refuse(IMAGE_HEADER, 0, "layer_count", text)
    layers = []
    for number in range(header["layer_count"]):
        layer, end = _layer(file, config, number, end)
        layers.append(layer)
    file.zero("bytes after the last layer", end, _align(end, config.burst_bytes))
    if len(file.data) != _align(end, config.burst_bytes):
        raise file.refuse(IMAGE_HEADER, 0, "file_bytes", f"the last layer's burst ends at {end}")
    sha256 = header["container_sha256"].to_bytes(hashlib.sha256().digest_size, "little")
    return Image(config, sha256, tuple(layers))


def _align(at: int, multiple: int) -> int:
    """Return the least multiple that is not below ``at``."""
    return -(-at // multiple) * multiple


def _config(file: _File, header: dict[str, int]) -> GoboConfig:
    """Return the configuration that the header tells."""
    formats = {value.code: name for name, value in VALUE_FORMATS.items()}
    if header["value_format"] not in formats:
        text = f"must be one of {sorted(formats)}, not {header['value_format']}"
        raise file.refuse(IMAGE_HEADER, 0, "value_format", text)
    widths = tuple(bit for bit in range(8) if header["index_widths"] >> bit & 1)
    sizes = ("lanes", "lane_rows", "tile_rows", "beat_width", "burst_beats")
    try:
        return GoboConfig(
            value_format=formats[header["value_format"]],
            index_widths=widths,
            **{name: header[name] for name in sizes},
        )
    except ValueError as error:
        named = [name for name in ("index_widths", *sizes) if str(error).startswith(name)]
        field = named[0] if named else "burst_beats"
        raise file.refuse(IMAGE_HEADER, 0, field, str(error)) from None


def _layer(file: _File, config: GoboConfig, number: int, end: int) -> tuple[Layer, int]:
    """Read layer ``number``, the one before it ending at ``end``; return it and its own end."""
    at = IMAGE_HEADER.size + number * LAYER_DESCRIPTOR.size
    descriptor = file.record(LAYER_DESCRIPTOR, at)

    def expect(field: str, right: int) -> int:
        if descriptor[field] != right:
            text = f"layer {number} must have {right}, not {descriptor[field]}"
            raise file.refuse(LAYER_DESCRIPTOR, at, field, text)
        return right

    width, rows, columns = (descriptor[name] for name in ("index_width", "rows", "columns"))
    if width not in config.index_widths:
        text = f"layer {number} must have one of {config.index_widths}, not {width}"
        raise file.refuse(LAYER_DESCRIPTOR, at, "index_width", text)
    expect("value_format", config.value.code)
    for field in ("rows", "columns"):
        if not descriptor[field]:
            raise file.refuse(LAYER_DESCRIPTOR, at, field, f"layer {number} has none")
    tile_count = expect("tile_count", -(-rows // config.tile_rows))

    # Where everything is follows from the sizes: nothing overlaps and nothing is hidden.
    codebook_at = expect("codebook_offset", _align(end, config.burst_bytes))
    file.zero("bytes before the codebook", end, codebook_at)
    codebook_end = codebook_at + (1 << width) * config.value_width // 8
    table_at = expect("tile_table_offset", _align(codebook_end, TILE_ENTRY.size))
    file.zero("bytes after the codebook", codebook_end, table_at)
    table_end = table_at + tile_count * TILE_ENTRY.size
    index_at = expect("index_offset", _align(table_end, config.burst_bytes))
    file.zero("bytes after the tile table", table_end, index_at)
    index_end = index_at + expect("index_bytes", _index_bytes(config, rows, columns, width))
    outlier_at = expect("outlier_offset", _align(index_end, config.burst_bytes))
    file.zero("bytes after the index stream", index_end, outlier_at)
    outlier_end = outlier_at + descriptor["outlier_bytes"]
    if descriptor["outlier_bytes"] % config.beat_bytes:
        text = f"layer {number} must have whole beats of {config.beat_bytes} bytes"
        raise file.refuse(LAYER_DESCRIPTOR, at, "outlier_bytes", text)
    bias_at = bias_end = outlier_end  # where there are none
    if descriptor["bias_offset"] or descriptor["bias_bytes"]:
        bias_at = expect("bias_offset", _align(outlier_end, config.burst_bytes))
        size = _align(tile_count * config.tile_rows * _BIAS.width // 8, config.beat_bytes)
        bias_end = bias_at + expect("bias_bytes", size)
        file.zero("bytes after the outlier stream", outlier_end, bias_at)
    indexes = file.part("index stream", index_at, index_end - index_at)
    outliers = file.part("outlier stream", outlier_at, outlier_end - outlier_at)
    file.part("biases", bias_at, bias_end - bias_at)
    payload = file.data[codebook_at:bias_end]
    file.sum(LAYER_DESCRIPTOR, at, "payload_crc32", descriptor["payload_crc32"], payload)

    biases = None
    if bias_end > bias_at:
        last = bias_at + rows * _BIAS.width // 8
        file.zero("bytes after the biases", last, bias_end)
        biases = words(_BIAS, file.data[bias_at:last])
    codebook = words(config.value, file.data[codebook_at:codebook_end])
    symmetric, on_grid = _check_flags(file, number, at, descriptor, order(config.value, codebook))
    unit = descriptor["unit_exponent"]
    _check_codebook(file, config, number, codebook_at, codebook, unit if on_grid else None)
    tiles = tuple(
        decode_tiles(
            config, rows, columns, width, codebook, indexes, outliers,
            name=f"{file.name}: layer {number}", index_base=index_at, outlier_base=outlier_at,
        )
    )  # fmt: skip
    for n, tile in enumerate(tiles):
        entry_at = table_at + n * TILE_ENTRY.size
        for field, found in file.record(TILE_ENTRY, entry_at).items():
            if found != getattr(tile, field):
                text = f"layer {number}, tile {n} has {getattr(tile, field)}, not {found}"
                raise file.refuse(TILE_ENTRY, entry_at, field, text)
    expect("outlier_count", sum(tile.outlier_count for tile in tiles))
    layer = Layer(
        width, unit, rows, columns, descriptor["outlier_count"], symmetric, on_grid,
        descriptor["weight_sum"], codebook, biases, _beats(config, indexes),
        _beats(config, outliers), tiles,
    )  # fmt: skip
    if not finite(config.value, layer.matrix).all():
        row, column = np.argwhere(~finite(config.value, layer.matrix))[0]
        text = f"layer {number}: the weight at row {row}, column {column} is infinite or NaN"
        raise file.error("outlier stream", outlier_at, text)
    sums = row_sums(config.value, layer.matrix, unit) if on_grid else None
    greatest = 0 if sums is None else max(1, int(sums.max()))
    expect("weight_sum", greatest if greatest <= _SUM_LIMIT else 0)
    return layer, bias_end


def _check_flags(
    file: _File, number: int, at: int, descriptor: dict[str, int], rank: NDArray[np.int64]
) -> tuple[bool, bool]:
    """Check a descriptor's flags and unit against the ``order`` of its codebook.

    Return whether the codebook is symmetric, and whether it is on the grid.
    """
    flags, unit = descriptor["flags"], descriptor["unit_exponent"]
    symmetric, on_grid = (bool(flags >> LAYER_FLAGS[name] & 1) for name in ("symmetric", "grid"))
    text = f"layer {number} has {flags:#04x}, "
    if unknown := flags & ~sum(1 << bit for bit in LAYER_FLAGS.values()):
        text += f"of which {unknown:#04x} is not known"
        raise file.refuse(LAYER_DESCRIPTOR, at, "flags", text)
    if symmetric != np.array_equal(rank, -rank[::-1]):
        text += f"but the codebook is {'not ' if symmetric else ''}sign-symmetric"
        raise file.refuse(LAYER_DESCRIPTOR, at, "flags", text)
    if unit and (not on_grid or not rank.any()):
        why = "all of its centroids are 0" if on_grid else "it is not on the grid"
        text = f"layer {number} must have 0, as {why}, not {unit}"
        raise file.refuse(LAYER_DESCRIPTOR, at, "unit_exponent", text)
    return symmetric, on_grid


def _index_bytes(config: GoboConfig, rows: int, columns: int, index_width: int) -> int:
    """Return the bytes of a layer's index stream."""

    def tile(height: int) -> int:
        count = -(-height // config.lane_rows) * -(-columns // config.lane_columns)
        return _align(count * index_width * config.lanes, config.beat_width) // 8

    whole, rest = divmod(rows, config.tile_rows)
    return whole * tile(config.tile_rows) + (tile(rest) if rest else 0)


def _beats(config: GoboConfig, data: bytes) -> NDArray[np.uint8]:
    """Return a stream as (beats, beat_bytes)."""
    return np.frombuffer(data, np.uint8).reshape(-1, config.beat_bytes)


def _check_codebook(
    file: _File, config: GoboConfig, number: int, at: int, codebook: Bits, unit: int | None
) -> None:
    """Check that centroids are finite, ascending, and, where there is a unit, on its grid."""
    value, size = config.value, config.value_width // 8
    rank = order(value, codebook)
    for n, bits in enumerate(codebook.tolist()):
        what = f"layer {number}, codebook entry {n}"
        if not finite(value, codebook[n : n + 1])[0]:
            raise file.error(what, at + n * size, f"{bits:#x} is infinite or NaN")
        if n and rank[n] < rank[n - 1]:
            raise file.error(what, at + n * size, f"{bits:#x} is below the entry before")
        if unit is not None and not on_grid(value, bits, unit):
            text = f"{bits:#x} is not on the grid of 2^{unit}"
            raise file.error(what, at + n * size, text)
