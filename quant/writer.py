"""Writing the container: a model's tensors one at a time, quantised or as they are."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import CONTAINER_KEY, CONTAINER_VERSION, LAYER_SUFFIX

from .account import LayerSummary, summarise
from .errors import QuantError
from .fit import Layer, Options, quantise
from .output import replacing
from .record import record_limit, write_record
from .selection import Choice
from .source import Source
from .tensorfile import header_bytes, storage_order

__all__ = ["in_order", "quantise_tensor", "write"]

_COPY = 1 << 22  # bytes at a time

Item = TypeVar("Item")
Result = TypeVar("Result")


def quantise_tensor(source: Source, choice: Choice, options: Options) -> Layer:
    """Return a tensor of a model quantised; ``QuantError`` names it when it cannot be."""
    tensor = source.tensors[choice.name]
    assert choice.bits is not None
    try:
        return quantise(tensor.weights(), replace(options, index_width=choice.bits))
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

        for choice, result in zip(plan, in_order(record, plan, jobs), strict=True):
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


def in_order(
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
