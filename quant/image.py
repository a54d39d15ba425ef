"""The device image: docs/formats.md, section 4."""

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import (
    IMAGE_HEADER,
    IMAGE_VERSION,
    LAYER_DESCRIPTOR,
    LAYER_FLAGS,
    SOURCE_TYPES,
    TILE_ENTRY,
)

from .array import check_array, row_sums, symmetric
from .container import Container
from .encoding import to_float32, value_bits
from .errors import QuantError
from .fields import pack_record
from .output import replacing
from .record import StoredLayer
from .tiles import TooManyError, pack_tiles

__all__ = ["choose_layers", "contents_path", "write_image"]

_CHUNK = 1 << 22  # weights packed at a time
_SUM_LIMIT = (1 << LAYER_DESCRIPTOR.field("weight_sum").width) - 1
_SMALLER_TILES = {
    "configuration": "a configuration with fewer tile_rows or more lanes",
    "array": "an array with fewer rows",
}
# Value formats of a layer that a configuration takes exactly.
_EXACT = {"fp16": ("fp16",), "bf16": ("bf16",), "fp32": ("fp16", "bf16", "fp32")}


def contents_path(image: Path) -> Path:
    """Return where the table of contents of an image is."""
    return image.with_suffix(".json")


def choose_layers(
    container: Container, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[str]:
    """Return the layers that go into an image: FC matrices, or those that ``include`` matches.

    ``QuantError`` for a pattern that matches no layer, or when none is left.
    """
    for pattern in (*include, *exclude):
        if not any(fnmatchcase(name, pattern) for name in container.layers):
            raise QuantError(
                f"{container.path}: '{pattern}' matches no layer; `python -m quant inspect` "
                "lists them"
            )
    chosen = []
    for name in container.layers:
        if include:
            wanted = any(fnmatchcase(name, pattern) for pattern in include)
        else:
            layer = container.layer(name)
            wanted = not layer.embedding and len(layer.layer.shape) == 2
        if wanted and not any(fnmatchcase(name, pattern) for pattern in exclude):
            chosen.append(name)
    if not chosen:
        raise QuantError(f"{container.path}: no layer is left for the image")
    return chosen


def write_image(
    path: Path,
    container: Container,
    names: Sequence[str],
    target: GoboConfig | ArrayConfig,
    target_name: str = "",
    *,
    force: bool = False,
    done: Callable[[str], object] = lambda name: None,
) -> dict[str, Any]:
    """Write the image of these layers and its table of contents; return the latter.

    ``target`` is a configuration, or an array: then the image is packed for the array, and every
    layer is proved to run on it.  ``QuantError`` says which layer and tile, row or strip it
    cannot hold, and what to do.
    """
    config = target.image if isinstance(target, ArrayConfig) else target
    array = target if isinstance(target, ArrayConfig) else None
    if contents_path(path) == path:
        raise QuantError(f"{path}: the table of contents takes the name *.json; name it *.bin")
    names = sorted(names)
    kind = "array" if array else "configuration"
    for name in names:
        _check_fits(container.layer(name), config, kind, container.path)
    with (
        replacing(path, force=force) as file,
        replacing(contents_path(path), force=force) as contents,
    ):
        file.write(bytes(IMAGE_HEADER.size + len(names) * LAYER_DESCRIPTOR.size))
        descriptors = []
        for name in names:
            try:
                descriptors.append(_write_layer(file, container, name, config, array))
            except TooManyError as error:
                raise QuantError(
                    f"{container.path}: layer {name}: {error}; choose {_SMALLER_TILES[kind]}, "
                    "or leave the layer out: --exclude"
                ) from error
            done(name)
        _align(file, config.burst_bytes)
        header = {
            "version": IMAGE_VERSION,
            "value_format": config.value.code,
            "index_widths": sum(1 << width for width in config.index_widths),
            "lanes": config.lanes,
            "lane_rows": config.lane_rows,
            "tile_rows": config.tile_rows,
            "beat_width": config.beat_width,
            "burst_beats": config.burst_beats,
            "layer_count": len(names),
            "file_bytes": file.tell(),
            "container_sha256": bytes.fromhex(container.metadata["sha256"]),
        }
        file.seek(IMAGE_HEADER.size)
        for descriptor in descriptors:
            file.write(_with_crc(LAYER_DESCRIPTOR, descriptor))
        header["body_crc32"] = _crc32(file, IMAGE_HEADER.size, file.seek(0, 2))
        file.seek(0)
        file.write(_with_crc(IMAGE_HEADER, header))
        table = {
            "format": "gobo device image",
            kind: {"name": target_name, **target.as_dict()},
            "header": {**header, "container_sha256": container.metadata["sha256"]},
            "layers": [
                {"name": name, **descriptor}
                for name, descriptor in zip(names, descriptors, strict=True)
            ],
        }
        contents.write((json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode())
    return table


def _check_fits(stored: StoredLayer, config: GoboConfig, kind: str, path: Path) -> None:
    """Refuse a layer that the configuration (of a ``kind`` of hardware) cannot hold."""
    options, where = stored.layer.options, f"{path}: layer {stored.name}"
    if len(stored.layer.shape) != 2:
        raise QuantError(
            f"{where} has {len(stored.layer.shape)} dimensions, an image takes matrices; leave it "
            "out: --exclude"
        )
    if options.index_width not in config.index_widths:
        widths = " or ".join(map(str, config.index_widths))
        raise QuantError(
            f"{where} has {options.index_width}-bit indexes, the {kind} takes {widths}; "
            f"choose another {kind}, quantise with other --bits, or --exclude the layer"
        )
    if options.value_format not in _EXACT[config.value_format]:
        raise QuantError(
            f"{where} has values in {options.value_format}, the {kind} takes "
            f"{config.value_format}; quantise with --value-format {config.value_format}, or choose "
            f"another {kind}"
        )


def _biases(
    container: Container, stored: StoredLayer, array: ArrayConfig | None
) -> NDArray[np.float32] | None:
    """Return the (rows,) biases of a layer, rounded to FP32; None when it has none.

    ``QuantError`` when an array would compute without what seems to be the layer's bias.
    """
    rows, _ = stored.layer.shape
    name = stored.name.removesuffix(".weight") + ".bias"
    if not stored.name.endswith(".weight"):
        return None
    entry = container.stored.get(name)
    if entry and entry.dtype in SOURCE_TYPES and entry.shape == (rows,):
        return to_float32(container.raw(name), entry.dtype)
    if array and (entry or name in container.layers):
        raise QuantError(
            f"{container.path}: layer {stored.name} has {rows} outputs (rows), but {name} is not "
            f"{rows} plain numbers; the array takes matrices of outputs by inputs: leave it out: "
            "--exclude"
        )
    return None


def _write_layer(
    file: BinaryIO, container: Container, name: str, config: GoboConfig, array: ArrayConfig | None
) -> dict[str, int]:
    """Write a layer's codebook, tile table, streams and biases; return its descriptor's fields."""
    stored = container.layer(name)
    layer = stored.layer
    rows, columns = layer.shape
    tile_count = -(-rows // config.tile_rows)
    indexes = stored.indexes()
    sums = row_sums(layer, indexes)
    if array:
        check_array(array, layer, sums, f"{container.path}: layer {name}")
    greatest = 0 if sums is None else max(1, int(sums.max()))
    weight_sum = greatest if greatest <= _SUM_LIMIT else 0
    biases = _biases(container, stored, array)

    start = _align(file, config.burst_bytes)
    file.write(value_bits(layer.codebook, config.value_format).tobytes())
    table_at = _align(file, 16)
    file.seek(tile_count * TILE_ENTRY.size, 1)
    index_at = _align(file, config.burst_bytes)

    values = value_bits(layer.outliers, config.value_format)
    step = max(1, _CHUNK // (columns * config.tile_rows))  # tiles
    entries: list[tuple[Any, ...]] = []
    index_bytes = outlier_bytes = 0
    outlier_parts = []
    for tile in range(0, tile_count, step):
        low, high = tile * config.tile_rows, min(rows, (tile + step) * config.tile_rows)
        first, last = np.searchsorted(layer.positions, (low * columns, high * columns))
        tiles = pack_tiles(
            config, layer.options.index_width, indexes[low:high],
            layer.positions[first:last] - low * columns, values[first:last], tile,
        )  # fmt: skip
        file.write(tiles.index_stream)
        outlier_parts.append(tiles.outlier_stream)
        entries += zip(tiles.index_offset + index_bytes, tiles.outlier_offset + outlier_bytes,
                       tiles.group_count, tiles.record_count, strict=True)  # fmt: skip
        index_bytes += len(tiles.index_stream)
        outlier_bytes += len(tiles.outlier_stream)
    outlier_at = _align(file, config.burst_bytes)
    for part in outlier_parts:
        file.write(part)
    bias_at = bias_bytes = 0
    if biases is not None:
        bias_at = _align(file, config.burst_bytes)
        padded = np.zeros(tile_count * config.tile_rows, "<f4")
        padded[:rows] = biases
        file.write(padded.tobytes())
        bias_bytes = _align(file, config.beat_bytes) - bias_at
    end = file.tell()
    file.seek(table_at)
    file.write(_tile_table(entries))
    payload_crc32 = _crc32(file, start, end)
    file.seek(end)
    return {
        "index_width": layer.options.index_width,
        "value_format": config.value.code,
        "unit_exponent": layer.unit or 0,
        "rows": rows,
        "columns": columns,
        "tile_count": tile_count,
        "outlier_count": int(layer.positions.size),
        "codebook_offset": start,
        "tile_table_offset": table_at,
        "index_offset": index_at,
        "index_bytes": index_bytes,
        "outlier_offset": outlier_at,
        "outlier_bytes": outlier_bytes,
        "bias_offset": bias_at,
        "bias_bytes": bias_bytes,
        "weight_sum": weight_sum,
        "flags": symmetric(layer) << LAYER_FLAGS["symmetric"]
        | (layer.unit is not None) << LAYER_FLAGS["grid"],
        "payload_crc32": payload_crc32,
    }


def _tile_table(entries: Iterable[tuple[Any, ...]]) -> bytes:
    names = [field.name for field in TILE_ENTRY.fields]
    return b"".join(
        pack_record(TILE_ENTRY, **dict(zip(names, entry, strict=True))) for entry in entries
    )


def _with_crc(record: Any, fields: dict[str, Any]) -> bytes:
    """Return a record whose last field, ``crc32``, is that of the bytes before."""
    crc = zlib.crc32(pack_record(record, **fields)[:-4])
    fields["crc32"] = crc
    return pack_record(record, **fields)


def _align(file: BinaryIO, nbytes: int) -> int:
    """Fill with zeros up to a multiple of ``nbytes``; return the place."""
    file.write(bytes(-file.tell() % nbytes))
    return file.tell()


def _crc32(file: BinaryIO, start: int, stop: int) -> int:
    """Return the CRC-32 of bytes ``start`` to ``stop`` of the file."""
    file.seek(start)
    crc = 0
    while at := stop - file.tell():
        crc = zlib.crc32(file.read(min(at, _CHUNK)), crc)
    return crc
