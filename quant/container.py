"""Reading the container ``*.gobo.safetensors``: docs/formats.md, section 3."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import CONTAINER_KEY, CONTAINER_VERSION, LAYER_SUFFIX

from . import fit
from .account import LayerSummary, summarise
from .encoding import to_float32
from .errors import BadFileError, cannot_read
from .record import StoredLayer, read_record
from .tensorfile import Entry, TensorFile

__all__ = ["Container", "decode", "read"]

_DIGITS = re.compile(r"[0-9a-f]{64}")
_COPY = 1 << 22  # bytes at a time


class Container:
    """An open container; layers are read when they are asked for.

    Attributes
    ----------
    path : where it is.
    metadata : ``version``, ``sha256``, ``source_sha256``, ``policy``, ``outliers`` and
        ``value_format``.
    layers : names of the quantised tensors, in order.
    stored : entries of the tensors that are as they were, by name.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = TensorFile(path)
        self.metadata = _metadata(self._file)
        _check_sha256(self._file, self.metadata["sha256"])
        entries = self._file.entries
        self.layers = [
            name.removesuffix(LAYER_SUFFIX) for name in entries if name.endswith(LAYER_SUFFIX)
        ]
        self.stored = {n: e for n, e in entries.items() if not n.endswith(LAYER_SUFFIX)}
        for name in self.layers:
            entry = entries[name + LAYER_SUFFIX]
            if entry.dtype != "U8" or len(entry.shape) != 1 or name in self.stored:
                raise BadFileError(path, f"tensor {entry.name}", "this is not a layer record")

    @property
    def file_bytes(self) -> int:
        return self._file.file_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of the tensors that are as they were."""
        return sum(entry.nbytes for entry in self.stored.values())

    def layer(self, name: str) -> StoredLayer:
        """Return a quantised tensor; ``BadFileError`` when its record is damaged."""
        entry = self._file.entries[name + LAYER_SUFFIX]
        try:
            return read_record(name, self._file.data(entry.name))
        except ValueError as error:
            where = f"tensor {entry.name} at offset {entry.start}"
            raise BadFileError(self.path, where, str(error)) from error

    def weights(self, name: str) -> NDArray[np.float32]:
        """Return the decoded weights of a quantised tensor in its shape."""
        stored = self.layer(name)
        try:
            return fit.decode(stored.layer)
        except ValueError as error:
            raise BadFileError(self.path, f"tensor {name}{LAYER_SUFFIX}", str(error)) from error

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Return the bytes of a tensor that is as it was."""
        return self._file.data(name)

    def summaries(self) -> list[LayerSummary]:
        """Return the figures of all layers."""
        return [
            summarise(name, stored.layer, stored.nbytes, embedding=stored.embedding)
            for name, stored in ((name, self.layer(name)) for name in self.layers)
        ]


def read(path: str | Path) -> Container:
    """Open a container and check its SHA-256; ``QuantError`` says what is wrong with it."""
    return Container(Path(path))


def decode(container: Container) -> dict[str, NDArray[Any]]:
    """Return the whole quantised model: float32 weights, and other tensors as they were.

    BF16 tensors come as float32, of the same values; those of 8-bit floats as their bytes.
    """
    tensors: dict[str, NDArray[Any]] = {n: container.weights(n) for n in container.layers}
    for name, entry in container.stored.items():
        tensors[name] = _array(container.raw(name), entry)
    return tensors


def _metadata(file: TensorFile) -> dict[str, Any]:
    """Return the checked metadata of a container."""
    where = f"metadata {CONTAINER_KEY!r}"
    if CONTAINER_KEY not in file.metadata:
        raise BadFileError(
            file.path, where, "not there: a safetensors file, but not one that `quantize` wrote"
        )
    try:
        metadata = json.loads(file.metadata[CONTAINER_KEY])
    except (ValueError, RecursionError) as error:
        raise BadFileError(file.path, where, f"the JSON is damaged: {error}") from error
    version = metadata.get("version") if isinstance(metadata, dict) else None
    if type(version) is not int or version < 1:
        raise BadFileError(file.path, where, "it must be an object with a version")
    if version > CONTAINER_VERSION:
        raise BadFileError(
            file.path, where, f"version {version} is newer than the {CONTAINER_VERSION} that this "
            "program reads; update it"
        )  # fmt: skip
    for key in ("sha256", "source_sha256", "policy", "outliers", "value_format"):
        value = metadata.get(key)
        if not isinstance(value, str) or (key.endswith("sha256") and not _DIGITS.fullmatch(value)):
            raise BadFileError(file.path, where, f"{key} is {value!r}")
    return dict(metadata)


def _check_sha256(file: TensorFile, expected: str) -> None:
    """Compare a file with the SHA-256 in its own header, read as zeros there."""
    digits = expected.encode()
    if file.header.count(digits) != 1:
        raise BadFileError(file.path, f"metadata {CONTAINER_KEY!r}", "sha256 must be there once")
    digest = hashlib.sha256(len(file.header).to_bytes(8, "little"))
    digest.update(file.header.replace(digits, b"0" * len(digits)))
    try:
        with open(file.path, "rb") as stream:
            stream.seek(8 + len(file.header))
            while block := stream.read(_COPY):
                digest.update(block)
    except OSError as error:
        raise cannot_read(file.path, error) from error
    if digest.hexdigest() != expected:
        raise BadFileError(
            file.path, "checksum mismatch", "the file is damaged (its SHA-256 is not the one in "
            "its header); make or copy it again"
        )  # fmt: skip


def _array(raw: NDArray[np.uint8], entry: Entry) -> NDArray[Any]:
    if entry.dtype in ("F32", "F16", "BF16", "F64"):
        kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
        flat = raw.view(kinds[entry.dtype]) if entry.dtype in kinds else to_float32(raw, "BF16")
    elif entry.dtype in ("BOOL", "C64"):
        flat = raw.view({"BOOL": "?", "C64": "<c8"}[entry.dtype])
    elif entry.dtype[0] in "IU":
        flat = raw.view(f"<{entry.dtype[0].lower()}{int(entry.dtype[1:]) // 8}")
    else:
        return raw
    return flat.reshape(entry.shape)
