"""Forward pass of a BERT encoder whose linear layers are a function of the caller's choice."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from scipy.special import erf

from sim.model import ModelError

Array = NDArray[np.floating[Any]]

#: ``linear(name, x, weight, bias)`` returns the (tokens, out) product of x (tokens, in) and
#: weight (out, in), plus bias (out,). ``name`` is the weight's tensor name in the model file.
Linear = Callable[[str, Array, Array, Array], Array]


def matmul(name: str, x: Array, weight: Array, bias: Array) -> Array:
    """Return x @ weight.T + bias in the type of the operands: the linear layer of the host."""
    return x @ weight.T + bias


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The fields of a Hugging Face ``config.json`` that the forward pass depends on."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    position_embedding_type: str = "absolute"

    def __post_init__(self) -> None:
        if self.hidden_act != "gelu":
            raise ValueError(f"hidden_act must be gelu, not {self.hidden_act!r}")
        if self.position_embedding_type != "absolute":
            raise ValueError(
                f"position_embedding_type must be absolute, not {self.position_embedding_type!r}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )

    @classmethod
    def read(cls, path: Path) -> BertConfig:
        """Return the configuration in the JSON file ``path``; ModelError if it is not a BERT's."""
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            known = {field.name for field in fields(cls)}
            return cls(**{name: entries[name] for name in known & entries.keys()})
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise ModelError(f"{path} does not describe a BERT encoder: {error}") from error

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of every tensor of the encoder, names as in ``BertModel``."""
        hidden, inner = self.hidden_size, self.intermediate_size

        def norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
            yield f"{name}.weight", (hidden,)
            yield f"{name}.bias", (hidden,)

        def dense(name: str, out: int, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
            yield f"{name}.weight", (out, width)
            yield f"{name}.bias", (out,)

        yield "embeddings.word_embeddings.weight", (self.vocab_size, hidden)
        yield "embeddings.position_embeddings.weight", (self.max_position_embeddings, hidden)
        yield "embeddings.token_type_embeddings.weight", (self.type_vocab_size, hidden)
        yield from norm("embeddings.LayerNorm")
        for n in range(self.num_hidden_layers):
            layer = f"encoder.layer.{n}"
            for part in ("query", "key", "value"):
                yield from dense(f"{layer}.attention.self.{part}", hidden, hidden)
            yield from dense(f"{layer}.attention.output.dense", hidden, hidden)
            yield from norm(f"{layer}.attention.output.LayerNorm")
            yield from dense(f"{layer}.intermediate.dense", inner, hidden)
            yield from dense(f"{layer}.output.dense", hidden, inner)
            yield from norm(f"{layer}.output.LayerNorm")


def read_weights(path: Path) -> dict[str, Array]:
    """Return the floating-point tensors of a safetensors file as float32, by name."""
    weights = {}
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            for name in names:
                dtype = file.get_slice(name).get_dtype()
                if dtype in ("F16", "F32", "F64"):
                    weights[name] = file.get_tensor(name).astype(np.float32, copy=False)
                elif dtype == "BF16":
                    raise ModelError(f"{path}: tensor {name} is BF16; give the model in FP32")
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{path} is not a whole safetensors file: {error}") from error
    return weights


class Bert:
    """A BERT encoder, from token ids to the hidden states of its last layer.

    Parameters
    ----------
    config : BertConfig
    weights : mapping of tensor name to array
        With or without the prefix ``bert.``, LayerNorm as ``weight`` and ``bias`` or as ``gamma``
        and ``beta``; others are ignored. All arithmetic is in the type of these arrays.
    linear : Linear
        Called once for each of the 6 weight matrices of each layer, in the order query, key,
        value, attention output, intermediate, output.
    """

    def __init__(
        self, config: BertConfig, weights: Mapping[str, Array], linear: Linear = matmul
    ) -> None:
        self.config = config
        self.linear = linear
        prefix = "bert." if "bert.embeddings.word_embeddings.weight" in weights else ""
        self._source: dict[str, str] = {}
        self._weights: dict[str, Array] = {}
        for name, shape in config.tensors():
            source = prefix + name
            if source not in weights and "LayerNorm" in name:
                source = source.replace(".weight", ".gamma").replace(".bias", ".beta")
            if source not in weights:
                raise ModelError(f"the model has no tensor {source}: is it a BERT encoder?")
            if weights[source].shape != shape:
                raise ModelError(
                    f"tensor {source} has shape {weights[source].shape}; config.json says {shape}"
                )
            self._source[name] = source
            self._weights[name] = weights[source]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._weights["embeddings.word_embeddings.weight"].dtype

    def __call__(
        self,
        ids: NDArray[np.integer[Any]],
        mask: NDArray[np.bool_] | None = None,
        types: NDArray[np.integer[Any]] | None = None,
    ) -> Array:
        """Return the (batch, tokens, hidden) states for the (batch, tokens) ``ids``.

        ``mask`` is False where a token is padding, which no other token then sees; the states at
        those places mean nothing. ``types`` are the token types, 0 if left out.
        """
        batch, tokens = ids.shape
        if tokens > self.config.max_position_embeddings:
            raise ValueError(
                f"{tokens} tokens do not fit {self.config.max_position_embeddings} positions"
            )
        if ids.min() < 0 or ids.max() >= self.config.vocab_size:
            raise ValueError(f"token ids must be in 0..{self.config.vocab_size - 1}")
        word, position, kind = (
            self._weights[f"embeddings.{part}_embeddings.weight"]
            for part in ("word", "position", "token_type")
        )
        x = word[ids] + kind[0 if types is None else types] + position[:tokens]
        x = self._norm("embeddings.LayerNorm", x.reshape(batch * tokens, -1))
        for n in range(self.config.num_hidden_layers):
            layer = f"encoder.layer.{n}"
            context = self._attention(f"{layer}.attention.self", x, batch, mask)
            attended = self._dense(f"{layer}.attention.output.dense", context)
            x = self._norm(f"{layer}.attention.output.LayerNorm", attended + x)
            inner = gelu(self._dense(f"{layer}.intermediate.dense", x))
            outer = self._dense(f"{layer}.output.dense", inner)
            x = self._norm(f"{layer}.output.LayerNorm", outer + x)
        return x.reshape(batch, tokens, -1)

    def _dense(self, name: str, x: Array) -> Array:
        weight, bias = f"{name}.weight", f"{name}.bias"
        return self.linear(self._source[weight], x, self._weights[weight], self._weights[bias])

    def _norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        unit = centred / np.sqrt(variance + self.config.layer_norm_eps)
        return unit * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _attention(self, name: str, x: Array, batch: int, mask: NDArray[np.bool_] | None) -> Array:
        """Return the (batch * tokens, hidden) contexts of all heads side by side."""
        heads = self.config.num_attention_heads

        def split(part: str) -> Array:  # (batch, heads, tokens, hidden / heads)
            projected = self._dense(f"{name}.{part}", x)
            return projected.reshape(batch, -1, heads, x.shape[1] // heads).swapaxes(1, 2)

        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.swapaxes(2, 3) / math.sqrt(query.shape[3])
        if mask is not None:
            scores = np.where(mask[:, None, None, :], scores, -np.inf)
        share = np.exp(scores - scores.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        return (share @ value).swapaxes(1, 2).reshape(x.shape)


def gelu(x: Array) -> Array:
    """Return x times the standard normal distribution function of x."""
    return x * (0.5 * (1.0 + erf(x * math.sqrt(0.5))))
