"""Small models with the tensor names of real ones, and files made of them."""

import json
import struct
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file

SEED = 20201017


def bert(prefix: str = "bert.", hidden: int = 8, layers: int = 2, seed: int = SEED) -> dict:
    """Return the float32 tensors of a BERT, weights of deviation 0.05 with two planted outliers."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        weights = rng.normal(0.001, 0.05, (rows, columns)).astype(np.float32)
        weights.reshape(-1)[rng.choice(weights.size, 2, replace=False)] = [0.9, -1.25]
        return weights

    tensors = {
        "embeddings.word_embeddings.weight": matrix(30, hidden),
        "embeddings.position_embeddings.weight": matrix(16, hidden),
        "embeddings.token_type_embeddings.weight": matrix(2, hidden),
        "embeddings.position_ids": np.arange(16)[None],
        "embeddings.LayerNorm.weight": np.ones(hidden, np.float32),
        "pooler.dense.weight": matrix(hidden, hidden),
        "pooler.dense.bias": np.zeros(hidden, np.float32),
    }
    for n in range(layers):
        for role in ("query", "key", "value"):
            tensors[f"encoder.layer.{n}.attention.self.{role}.weight"] = matrix(hidden, hidden)
        tensors[f"encoder.layer.{n}.attention.output.dense.weight"] = matrix(hidden, hidden)
        tensors[f"encoder.layer.{n}.intermediate.dense.weight"] = matrix(4 * hidden, hidden)
        tensors[f"encoder.layer.{n}.output.dense.weight"] = matrix(hidden, 4 * hidden)
        tensors[f"encoder.layer.{n}.output.dense.bias"] = np.zeros(hidden, np.float32)
    named = {prefix + name: tensor for name, tensor in tensors.items()}
    return {**named, "classifier.weight": matrix(3, hidden)}


def save(folder: Path, tensors: dict, name: str = "model.safetensors") -> Path:
    """Write a model with the safetensors library; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / name, {"format": "pt"})
    return folder


def save_sharded(folder: Path, tensors: dict, shards: int = 3) -> Path:
    """Write a model in shards with an index; return its folder."""
    names = sorted(tensors)
    where = {name: f"model-{n % shards + 1:05}-of-{shards:05}.safetensors"
             for n, name in enumerate(names)}  # fmt: skip
    for file in set(where.values()):
        save(folder, {name: tensors[name] for name in names if where[name] == file}, file)
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def bf16_file(path: Path, tensors: dict) -> Path:
    """Write float32 tensors, cut to BF16, with the safetensors library; return the file."""
    halves = {
        name: (np.ascontiguousarray(tensor).view(np.uint32) >> 16).astype("<u2")
        for name, tensor in tensors.items()
    }
    data = {
        name: safetensors.TensorSpec(
            dtype="bfloat16", shape=half.shape, data_ptr=half.ctypes.data, data_len=half.nbytes
        )
        for name, half in halves.items()
    }
    safetensors.serialize_file(data, path)
    return path


def raw_file(path: Path, header: object, data: bytes = b"", size: int | None = None) -> Path:
    """Write a safetensors file by hand: ``header`` is JSON or bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + data)
    return path
