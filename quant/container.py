"""The container ``*.gobo.safetensors``: docs/formats.md, section 3."""

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import CONTAINER_KEY, CONTAINER_VERSION, LAYER_SUFFIX

from . import fit
from .account import LayerSummary, summarise
from .errors import BadFileError, QuantError, cannot_read
from .fit import Layer, Options
from .output import replacing
from .record import StoredLayer, read_record, record_limit, write_record
from .selection import Choice
from .source import Source, to_float32
from .tensorfile import Entry, TensorFile, header_bytes, storage_order

__all__ = ["Container", "decode", "quantise_tensor", "read", "write"]

_DIGITS = re.compile(r"[0-9a-f]{64}")
_COPY = 1 << 22  # bytes at a time

Item = TypeVar("Item")
Result = TypeVar("Result")


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
            return read_record(name, self._file.bytes(entry.name))
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
        return self._file.bytes(name)

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


def quantise_tensor(source: Source, choice: Choice, options: Options) -> Layer:
    """Return a tensor of a model quantised; ``QuantError`` names it when it cannot be."""
    tensor = source.tensors[choice.name]
    assert choice.bits is not None
    try:
        return fit.quantise(tensor.weights(), replace(options, index_width=choice.bits))
    except ValueError as error:
        raise QuantError(f"{tensor.file}: tensor {tensor.name}: {error}") from error


def write(
    path: Path,
    source: Source,
    choices: Sequence[Choice],
    options: Options,
    *,
    jobs: int = 1,
    force: bool = False,
    done: Callable[[str], object] = lambda name: None,
) -> list[LayerSummary]:
    """Quantise a model into a container and return the figures of its layers.

    Memory holds ``jobs`` tensors at a time.  The bytes do not depend on ``jobs``.

    Parameters
    ----------
    choices : what happens to each tensor of ``source``; ``index_width`` of ``options`` is not used.
    jobs : layers that are quantised at the same time, in threads.
    done : called with the name of each tensor when it is written.
    """
    for name in source.tensors:
        if name.endswith(LAYER_SUFFIX) or name == "__metadata__":
            raise QuantError(f"{source.path}: a container cannot hold a tensor called {name!r}")
    plan = sorted(choices, key=lambda choice: _place(source, choice))
    metadata = {
        "version": CONTAINER_VERSION,
        "sha256": "0" * 64,
        "source_sha256": source.sha256(),
        "policy": options.policy,
        "outliers": str(options.rule),
        "value_format": options.value_format,
    }
    # Sizes come with the work, the header stands before them: its length is that for the largest.
    limits = [_described(source, c, _limit(source, c, options.value_format)) for c in plan]
    room = len(_header(limits, metadata))
    summaries = []
    with replacing(path, force=force) as file:
        file.write(bytes(room))
        sizes = []

        def record(choice: Choice) -> tuple[Layer, bytes] | None:
            if choice.bits is None:
                return None
            layer = quantise_tensor(source, choice, options)
            dtype = source.tensors[choice.name].dtype
            return layer, write_record(layer, dtype, embedding=choice.embedding)

        for choice, result in zip(plan, _in_order(record, plan, jobs), strict=True):
            if result is None:
                sizes.append(_copy(source.tensors[choice.name].raw(), file))
            else:
                layer, data = result
                sizes.append(file.write(data))
                summaries.append(
                    summarise(choice.name, layer, len(data), embedding=choice.embedding)
                )
            done(choice.name)
        tensors = [_described(source, c, n) for c, n in zip(plan, sizes, strict=True)]
        header = _header(tensors, metadata, room)
        assert len(header) == room, "the bound on the header holds"
        file.seek(0)
        file.write(header)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(header.index(b"0" * 64))
        file.write(digest.encode())
    return sorted(summaries, key=lambda layer: layer.name)


def _place(source: Source, choice: Choice) -> tuple[int, str]:
    if choice.bits is None:
        return storage_order(source.tensors[choice.name].dtype, choice.name)
    return storage_order("U8", choice.name + LAYER_SUFFIX)


def _limit(source: Source, choice: Choice, value_format: str) -> int:
    """Return the most bytes that the tensor can take in the container."""
    tensor = source.tensors[choice.name]
    if choice.bits is None:
        return tensor.raw().size
    return record_limit(tensor.size, choice.bits, value_format)


def _described(
    source: Source, choice: Choice, nbytes: int
) -> tuple[str, str, tuple[int, ...], int]:
    """Return name, dtype, shape and bytes of what the container holds of a tensor."""
    if choice.bits is None:
        tensor = source.tensors[choice.name]
        return tensor.name, tensor.dtype, tensor.shape, nbytes
    return choice.name + LAYER_SUFFIX, "U8", (nbytes,), nbytes


def _header(
    tensors: Iterable[tuple[str, str, tuple[int, ...], int]],
    metadata: dict[str, Any],
    room: int = 0,
) -> bytes:
    text = json.dumps(metadata, separators=(",", ":"))
    return header_bytes(tensors, {CONTAINER_KEY: text}, room)


def _copy(data: NDArray[np.uint8], file: BinaryIO) -> int:
    for at in range(0, data.size, _COPY):
        file.write(data[at : at + _COPY].tobytes())
    return data.size


def _in_order(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int
) -> Iterator[Result]:
    """Map in threads (numpy lets go of the interpreter), with ``jobs`` items under way."""
    if jobs == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


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
        if not isinstance(value, str) or (
            key.endswith("sha256") and not _DIGITS.fullmatch(value)
        ):
            raise BadFileError(file.path, where, f"{key} is {value!r}")
    return metadata


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
