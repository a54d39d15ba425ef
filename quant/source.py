"""Models in the Hugging Face layout: a folder, a file, or a name of the hub.

Tensors are mapped and handed out one at a time, so a model is never in memory as a whole.  PyTorch
is imported only for ``.bin`` files, ``huggingface_hub`` only for a name of the hub.
"""

import hashlib
import json
import math
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import CONTAINER_KEY

from .encoding import to_float32
from .errors import BadFileError, QuantError, cannot_read
from .tensorfile import TensorFile

__all__ = ["Source", "Tensor", "file_sha256", "open_model"]

# In a folder, the first of these that is there.
MODEL_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a model: ``dtype`` as safetensors calls it; ``raw()`` maps its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    raw: Callable[[], NDArray[np.uint8]]

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    def weights(self) -> NDArray[np.float32]:
        """Return the values in the tensor's shape; ``F64`` is rounded to float32."""
        return to_float32(self.raw(), self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Source:
    """A model: where it was found, the files of its weights and its tensors by name."""

    path: Path
    files: tuple[Path, ...]
    tensors: dict[str, Tensor]

    def sha256(self) -> str:
        """Return the digest of docs/formats.md, section 3.1; reads every file once."""
        digests = [(path.name, file_sha256(path)) for path in sorted(self.files)]
        if len(digests) == 1:
            return digests[0][1]
        lines = "".join(f"{digest}  {name}\n" for name, digest in digests)
        return hashlib.sha256(lines.encode()).hexdigest()


def open_model(model: str) -> Source:
    """Open a model by folder, file or hub name; ``QuantError`` says what is wrong with it."""
    path = Path(model)
    try:
        if not path.exists():
            path = _from_hub(model)
        found = [path / name for name in MODEL_FILES if (path / name).exists()]
    except OSError as error:
        raise cannot_read(path, error) from error
    if path.is_dir():
        if not found:
            raise QuantError(
                f"{path}: there is no model in this folder; looked for {', '.join(MODEL_FILES)}"
            )
        path = found[0]
    if path.name.endswith(".index.json"):
        return _open_shards(path)
    return Source(path, (path,), _by_name(_open_file(path)))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise cannot_read(path, error) from error


def _by_name(tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in sorted(tensors, key=lambda t: t.name)}


def _open_file(path: Path) -> list[Tensor]:
    if path.suffix in (".bin", ".pt", ".pth"):
        return _open_torch(path)
    file = TensorFile(path)
    if CONTAINER_KEY in file.metadata:
        raise QuantError(f"{path} is a quantised container; give the model that it was made from")
    return [
        Tensor(name, entry.dtype, entry.shape, path, lambda name=name: file.data(name))  # type: ignore[misc]
        for name, entry in file.entries.items()
    ]


def _open_shards(path: Path) -> Source:
    """Open the shards that an index names; both must list the same tensors."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        shards: dict[str, str] = index["weight_map"]
        names = sorted(set(shards.values()))
    except OSError as error:
        raise cannot_read(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadFileError(path, "weight_map", "must name the file of each tensor") from error
    tensors: dict[str, Tensor] = {}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise BadFileError(path, "weight_map", f"{name!r} is not the name of a file beside it")
        for tensor in _open_file(path.parent / name):
            if shards.get(tensor.name) != name:
                raise BadFileError(
                    path.parent / name, f"tensor {tensor.name}", f"{path.name} does not name it"
                )
            tensors[tensor.name] = tensor
    if missing := sorted(set(shards) - set(tensors)):
        raise BadFileError(
            path.parent / shards[missing[0]], f"tensor {missing[0]}", f"named by {path.name}, "
            "but is not in the file"
        )  # fmt: skip
    return Source(path, tuple(path.parent / name for name in names), _by_name(tensors.values()))


def _open_torch(path: Path) -> list[Tensor]:
    """Open a state dict of PyTorch with ``weights_only``: no code of the file is run."""
    if not path.is_file():
        raise cannot_read(path, FileNotFoundError(2, "no such file"))
    try:
        import torch
    except ImportError as error:
        raise QuantError(
            f"{path} is a PyTorch file, and reading it needs PyTorch: `make test-torch` or "
            "`pip install -e .[torch]` installs it; model.safetensors needs nothing"
        ) from error
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # the format before 2020 cannot be mapped
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own, zip's, pickle's: all mean a file of another kind
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BadFileError(path, "torch.load", reason[0]) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise BadFileError(path, "contents", "not a state dict (a tensor for each name)")
    names = {
        torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64",
        torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
        torch.uint8: "U8", torch.bool: "BOOL",
    }  # fmt: skip
    for name, tensor in state.items():
        if tensor.dtype not in names:
            raise BadFileError(path, f"tensor {name}", f"the dtype {tensor.dtype} is not known")

    def raw(tensor: Any) -> NDArray[np.uint8]:
        flat: NDArray[np.uint8] = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        return flat

    return [
        Tensor(str(name), names[t.dtype], tuple(t.shape), path, lambda t=t: raw(t))  # type: ignore[misc]
        for name, t in state.items()
    ]


def _from_hub(model: str) -> Path:
    """Fetch a model's file from the hub, or say why it is not there either."""
    missing = f"there is no file or folder {model}"
    if not _HUB_NAME.fullmatch(model) or Path(model).suffix in (".safetensors", ".bin", ".json"):
        raise QuantError(missing)
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise QuantError(
            f"{missing}; to fetch it from the hub by that name, `pip install huggingface_hub`"
        ) from error
    online = _answers(constants.ENDPOINT)  # the library would try for minutes
    try:
        for name in MODEL_FILES:
            try:
                path = Path(hf_hub_download(model, name, local_files_only=not online))
            except EntryNotFoundError:
                continue
            if name.endswith(".index.json"):
                for shard in sorted(set(json.loads(path.read_text())["weight_map"].values())):
                    hf_hub_download(model, shard, local_files_only=not online)
            return path
    except Exception as error:  # no network, no such model, no right to it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise QuantError(f"{missing}, and the hub does not give it: {reason}") from error
    if not online:
        raise QuantError(f"{missing}, and {constants.ENDPOINT} cannot be reached to look for it")
    raise QuantError(f"{model} on the hub has none of {', '.join(MODEL_FILES)}")


def _answers(address: str) -> bool:
    """Tell whether there is a server at an address, whatever it answers."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
