"""A container as a plain model again: decoded weights in the source's dtype."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .container import Container
from .encoding import from_float32
from .errors import QuantError
from .output import replacing
from .tensorfile import DTYPE_BITS, header_bytes, storage_order

__all__ = ["export", "export_state_dict"]

_COPY = 1 << 22  # bytes at a time


def export(
    container: Container,
    path: Path,
    *,
    dtype: str | None = None,
    force: bool = False,
    done: Callable[[str], object] = lambda name: None,
) -> list[str]:
    """Write a safetensors model with one decoded tensor at a time in memory.

    ``dtype`` replaces that of the source for quantised tensors.  Returns the names of the tensors
    with weights that their dtype had to round.
    """
    tensors = []
    for name in container.layers:
        stored = container.layer(name)
        kind = dtype or stored.source_type
        tensors.append((name, kind, stored.layer.shape, stored.size * DTYPE_BITS[kind] // 8))
    for name, entry in container.stored.items():
        tensors.append((name, entry.dtype, entry.shape, entry.nbytes))
    tensors.sort(key=lambda tensor: storage_order(tensor[1], tensor[0]))
    rounded = []
    with replacing(path, force=force) as file:
        file.write(header_bytes(tensors, {"format": "pt"}))  # what transformers asks for
        for name, kind, _, _ in tensors:
            if name in container.stored:
                data = container.raw(name)
            else:
                data, exact = _decoded(container, name, kind)
                if not exact:
                    rounded.append(name)
            for at in range(0, data.size, _COPY):
                file.write(data[at : at + _COPY].tobytes())
            done(name)
    return rounded


def export_state_dict(exported: Path, path: Path, *, force: bool = False) -> None:
    """Write the tensors of an exported model, bit for bit, as a PyTorch state dict."""
    try:
        import torch
        from safetensors.torch import load_file
    except ImportError as error:
        raise QuantError(
            "a state dict needs PyTorch: `make test-torch` or `pip install -e .[torch]` installs "
            "it; the safetensors file needs nothing"
        ) from error
    with replacing(path, force=force) as file:
        torch.save(load_file(exported), file)


def _decoded(container: Container, name: str, dtype: str) -> tuple[NDArray[np.uint8], bool]:
    """Return a decoded tensor's bytes, and whether the dtype held every weight exactly."""
    layer = container.layer(name).layer
    try:
        data = from_float32(container.weights(name), dtype)
        values = np.concatenate([layer.codebook, layer.outliers])
        return data, _holds(values, dtype)
    except OverflowError as error:
        raise QuantError(
            f"{container.path}: tensor {name}: {error}; export with --dtype F32"
        ) from error


def _holds(values: NDArray[np.float32], dtype: str) -> bool:
    if dtype == "BF16":
        return not (values.view(np.uint32) & 0xFFFF).any()
    with np.errstate(under="ignore"):
        return dtype != "F16" or np.array_equal(values.astype(np.float16), values)
