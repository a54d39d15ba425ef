"""The layout of a safetensors file: a checked header in front of bytes that are mapped, not read.

Own code and not the ``safetensors`` library, for three things it does not give: the offsets (for
errors, checksums and sizes), BF16 without torch, and writing without holding all tensors.
"""

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BadFileError, cannot_read

__all__ = ["DTYPE_BITS", "Entry", "TensorFile", "header_bytes", "storage_order"]

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
    "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip

_HEADER_LIMIT = 100_000_000  # bytes; what the safetensors library accepts


@dataclass(frozen=True)
class Entry:
    """A tensor of a file: bytes ``start`` to ``stop``, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        return self.stop - self.start

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)


class TensorFile:
    """A safetensors file whose header has been checked in every field.

    Raises ``BadFileError``, with the place in the file, when it is not a whole safetensors file.

    Attributes
    ----------
    header : bytes of the header, without its length.
    entries : tensors by name, in order of name.
    metadata : the strings of ``__metadata__``.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with open(path, "rb") as file:
                self.file_bytes = file.seek(0, 2)
                file.seek(0)
                self.header = self._read_header(file.read(8), file)
        except OSError as error:
            raise cannot_read(path, error) from error
        self.entries, self.metadata = self._parse()

    def data(self, name: str) -> NDArray[np.uint8]:
        """Return the bytes of a tensor, mapped: memory is used only for what is looked at."""
        entry = self.entries[name]
        if not entry.nbytes:
            return np.empty(0, np.uint8)
        try:
            return np.asarray(np.memmap(self.path, np.uint8, "r", entry.start, (entry.nbytes,)))
        except OSError as error:
            raise cannot_read(self.path, error) from error

    def _bad(self, where: str, what: str) -> BadFileError:
        return BadFileError(self.path, where, what)

    def _read_header(self, start: bytes, file: Any) -> bytes:
        if len(start) < 8:
            raise self._bad("offset 0", f"{len(start)} bytes are too few for a safetensors file")
        (size,) = struct.unpack("<Q", start)
        if size > _HEADER_LIMIT:
            raise self._bad("offset 0", "this is not a safetensors file (a header this long: "
                            f"{size} bytes)")  # fmt: skip
        if size > self.file_bytes - 8:
            raise self._bad(
                "offset 0", f"the file is cut off: a header of {size} bytes, {self.file_bytes} "
                "bytes in the file"
            )  # fmt: skip
        header: bytes = file.read(size)
        if not header.startswith(b"{"):
            raise self._bad("offset 8", "this is not a safetensors file (no { starts the header)")
        return header

    def _parse(self) -> tuple[dict[str, Entry], dict[str, str]]:
        try:
            parsed = json.loads(self.header.decode(), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise self._bad("header", f"the JSON is damaged: {error}") from error
        metadata = parsed.pop("__metadata__", {})
        if not isinstance(metadata, dict) or any(not isinstance(v, str) for v in metadata.values()):
            raise self._bad("header", "__metadata__ must hold strings")
        base = 8 + len(self.header)
        entries = sorted((self._entry(n, e, base) for n, e in parsed.items()), key=_by_place)
        end = base
        for entry in entries:
            if entry.start != end:
                kind = "overlaps the tensor before" if entry.start < end else "leaves a hole before"
                raise self._bad(
                    f"tensor {entry.name}", f"{kind}: it starts at offset {entry.start}, not {end}"
                )
            end = entry.stop
        if end != self.file_bytes:
            state = "cut off" if end > self.file_bytes else "too long"
            raise self._bad(
                f"offset {min(end, self.file_bytes)}",
                f"the file is {state}: {self.file_bytes} bytes, the header says {end}",
            )
        return {entry.name: entry for entry in sorted(entries, key=lambda e: e.name)}, metadata

    def _entry(self, name: str, entry: Any, base: int) -> Entry:
        where = f"tensor {name}"
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise self._bad(where, "the header must give dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
            raise self._bad(where, f"the dtype {dtype!r} is not known")
        if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
            raise self._bad(where, "shape and data_offsets must be lists of whole numbers")
        start, stop = offsets
        bits = math.prod(shape) * DTYPE_BITS[dtype]
        if 8 * (stop - start) != bits:
            raise self._bad(where, f"{stop - start} bytes do not hold the shape {shape} of {dtype}")
        return Entry(name, dtype, tuple(shape), base + start, base + stop)


def header_bytes(
    tensors: Iterable[tuple[str, str, tuple[int, ...], int]],
    metadata: dict[str, str],
    room: int = 0,
) -> bytes:
    """Return the start of a safetensors file, its length field included.

    Parameters
    ----------
    tensors : (name, dtype, shape, bytes), in the order in which their bytes follow.
    metadata : strings of ``__metadata__``.
    room : bytes to fill up to with spaces; in any case a multiple of 8 is filled.
    """
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, dtype, shape, nbytes in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    size = max(-(-len(text) // 8) * 8, room - 8)
    return struct.pack("<Q", size) + text.ljust(size)


def storage_order(dtype: str, name: str) -> tuple[int, str]:
    """Sort key of tensors in a file: widest elements first, so that each starts aligned."""
    return -DTYPE_BITS[dtype], name


def _by_place(entry: Entry) -> tuple[int, int]:
    return entry.start, entry.stop


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dictionary; refuse names that occur twice or are not Unicode."""
    for key, _ in pairs:
        key.encode()  # a lone surrogate could be read but never written or shown
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
