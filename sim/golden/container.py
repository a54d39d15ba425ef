"""Reader of the container file: every weight of ``docs/formats.md``, section 3, as bits."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import (
    CONTAINER_KEY,
    CONTAINER_VERSION,
    LAYER_RECORD,
    LAYER_SUFFIX,
    VALUE_FORMATS,
    ValueFormat,
)

from .tile import Bytes, Flags, Ints
from .values import Bits, words

__all__ = ["Container", "StoredLayer", "read_container"]

Floats = NDArray[np.float32]

# Element types of safetensors; numpy has no BF16, whose tensors are given in FP32.
_TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "BF16": "<u2", "F16": "<f2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_GRID = 1 << 1  # of the record's flags


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """A quantised tensor.

    Parameters
    ----------
    value : ValueFormat
    unit : int or None
        Exponent of the unit of the shipping grid; None off the grid.
    codebook : (2**index_width,) array
        Bit patterns.
    index : array of the tensor's shape
        Indexes, 0 for an outlier.
    outlier : array of bool, of the tensor's shape
    matrix : array of the tensor's shape
        Bit patterns of the weights.
    """

    value: ValueFormat
    unit: int | None
    codebook: Bits
    index: Bytes
    outlier: Flags
    matrix: Bits

    @property
    def floats(self) -> Floats:
        """The weights as FP32 numbers, which hold every value of the formats."""
        if self.value.name == "fp16":
            return self.matrix.view(np.float16).astype(np.float32)
        if self.value.name == "bf16":
            return _from_bf16(self.matrix)
        return self.matrix.view(np.float32)


@dataclass(frozen=True, eq=False)
class Container:
    """A container: ``layers`` by name of the quantised tensor, all others as they are stored."""

    metadata: dict[str, Any]
    layers: dict[str, StoredLayer]
    tensors: dict[str, NDArray[Any]]


def read_container(path: Path) -> Container:
    """Read a container and decode it; ``ValueError`` names the file and what is wrong where."""
    data = Path(path).read_bytes()
    try:
        return _container(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _from_bf16(bits: Bits) -> Floats:
    """Return BF16 patterns as numbers: they are the upper halves of FP32's."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _container(data: bytes) -> Container:
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 + size or len(data) < 8:
        raise ValueError(f"header at offset 8: needs {size} bytes; is the file truncated?")
    header = json.loads(data[8 : 8 + size])
    notes = header.pop("__metadata__", {})
    if CONTAINER_KEY not in notes:
        raise ValueError(f"header at offset 8: no metadata {CONTAINER_KEY!r}, so no container")
    metadata = json.loads(notes[CONTAINER_KEY])
    if metadata["version"] > CONTAINER_VERSION:
        raise ValueError(f"version {metadata['version']}, this reader knows {CONTAINER_VERSION}")
    digest = metadata["sha256"].encode()
    if hashlib.sha256(data.replace(digest, b"0" * len(digest), 1)).hexdigest().encode() != digest:
        raise ValueError("sha256 of the file is not the one in its header; the file is corrupt")
    layers, tensors = {}, {}
    for name, entry in header.items():
        start, stop = (8 + size + offset for offset in entry["data_offsets"])
        part = data[start:stop]
        if name.endswith(LAYER_SUFFIX):
            try:
                layers[name.removesuffix(LAYER_SUFFIX)] = _layer(part)
            except ValueError as error:
                raise ValueError(f"record of {name} at offset {start}: {error}") from error
        elif entry["dtype"] in _TYPES:
            flat = np.frombuffer(part, _TYPES[entry["dtype"]])
            if entry["dtype"] == "BF16":
                flat = _from_bf16(flat)
            tensors[name] = flat.reshape(entry["shape"])
    return Container(metadata, layers, tensors)


def _layer(record: bytes) -> StoredLayer:
    """Decode a layer record."""
    whole = int.from_bytes(record[: LAYER_RECORD.size], "little")
    fields = {
        field.name: whole >> field.offset & ((1 << field.width) - 1)
        for field in LAYER_RECORD.fields
    }
    if record[: len(LAYER_RECORD.magic)] != LAYER_RECORD.magic:
        raise ValueError(f"magic must be {LAYER_RECORD.magic!r}, not {record[:4]!r}")
    summed = record[: LAYER_RECORD.size - 4] + record[LAYER_RECORD.size :]
    if crc32(summed) != fields["crc32"]:
        raise ValueError("crc32 is not that of the record; the file is corrupt")
    value = next(v for v in VALUE_FORMATS.values() if v.code == fields["value_format"])
    shape = tuple(fields[f"dim{n}"] for n in range(fields["rank"]))
    count, width = fields["outlier_count"], fields["index_width"]
    rest = math.prod(shape) - count
    sizes = (
        (1 << width) * value.width // 8,
        count * value.width // 8,
        -(-count * fields["gap_width"] // 8),
        fields["quotient_bytes"],
        -(-rest * width // 8),
    )
    sections, at = [], LAYER_RECORD.size
    for size in sizes:
        sections.append(record[at : at + size])
        at += size
    if at != len(record):
        raise ValueError(f"has {len(record)} bytes, but its sections need {at}")

    codebook, outliers = words(value, sections[0]), words(value, sections[1])
    remainders = _numbers(sections[2], fields["gap_width"], count)
    bits = np.unpackbits(np.frombuffer(sections[3], np.uint8), bitorder="little")
    quotients = np.diff(np.flatnonzero(bits), prepend=-1) - 1
    gaps = (quotients << fields["gap_width"]) + remainders
    outlier = np.zeros(math.prod(shape), bool)
    outlier[np.cumsum(gaps + 1) - 1] = True
    index = np.zeros(outlier.shape, np.uint8)
    index[~outlier] = _numbers(sections[4], width, rest)
    matrix = codebook[index]
    matrix[outlier] = outliers
    unit = fields["unit_exponent"]
    unit -= (unit >> 15) << 16  # two's complement
    return StoredLayer(
        value, unit if fields["flags"] & _GRID else None, codebook,
        index.reshape(shape), outlier.reshape(shape), matrix.reshape(shape),
    )  # fmt: skip


def _numbers(data: bytes, width: int, count: int) -> Ints:
    """Return ``count`` numbers of ``width`` bits, packed from bit 0."""
    taken = np.frombuffer(data, np.uint8)
    bits = np.unpackbits(taken, count=count * width, bitorder="little").reshape(count, width)
    numbers = np.zeros(count, np.int64)
    for j in range(width):
        numbers |= bits[:, j].astype(np.int64) << j
    return numbers
