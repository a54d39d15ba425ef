"""Which tensors of a model are quantised, with how many bits, and why.

Known layouts are told by the names of their tensors.  Quantised are the FC matrices of the encoder
and the pooler, and the word embeddings; everything else stays as it is.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from gobo_rtl.formats import SOURCE_TYPES

from .errors import QuantError

__all__ = ["LAYOUTS", "RECIPES", "Choice", "select"]


class HasShape(Protocol):
    """What is looked at in a tensor."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Choice:
    """What happens to a tensor: ``bits`` of an index, or None when it stays; and why."""

    name: str
    bits: int | None
    why: str
    embedding: bool = False
    role: str = ""
    encoder: int | None = None


@dataclass(frozen=True)
class Layout:
    """Names of a family of models.

    ``prefix`` is a pattern, and models without their task head have none; ``roles`` maps a role
    to the pattern of a weight without ``.weight``; ``#`` is the number of an encoder, ``*`` any.
    """

    name: str
    prefix: str
    roles: dict[str, str]

    def match(self, tensor: str) -> tuple[str, int | None] | None:
        """Return role and encoder of a tensor that is quantised, or None."""
        for role, pattern in self.roles.items():
            body = re.escape(pattern).replace(r"\#", r"(\d+)").replace(r"\*", r"\d+")
            if found := re.fullmatch(rf"(?:{self.prefix})?{body}\.weight", tensor):
                number = found.groups()
                return role, int(number[0]) if number else None
        return None


_EMBEDDINGS = {"word embeddings": "embeddings.word_embeddings"}
_DENSE = {
    "attention output": "encoder.layer.#.attention.output.dense",
    "intermediate": "encoder.layer.#.intermediate.dense",
    "output": "encoder.layer.#.output.dense",
    "pooler": "pooler.dense",
}

LAYOUTS = (
    Layout("BERT, RoBERTa, ELECTRA or SpanBERT", r"bert\.|roberta\.|electra\.", {
        **{role: f"encoder.layer.#.attention.self.{role}" for role in ("query", "key", "value")},
        **_DENSE,
        "embeddings to encoder": "embeddings_project",  # ELECTRA
        **_EMBEDDINGS,
    }),
    Layout("DistilBERT", r"distilbert\.", {
        **{role: f"transformer.layer.#.attention.{role[0]}_lin"
           for role in ("query", "key", "value")},
        "attention output": "transformer.layer.#.attention.out_lin",
        "intermediate": "transformer.layer.#.ffn.lin1",
        "output": "transformer.layer.#.ffn.lin2",
        **_EMBEDDINGS,
    }),
    Layout("ALBERT", r"albert\.", {
        **{role: f"encoder.albert_layer_groups.#.albert_layers.*.attention.{role}"
           for role in ("query", "key", "value")},
        "attention output": "encoder.albert_layer_groups.#.albert_layers.*.attention.dense",
        "intermediate": "encoder.albert_layer_groups.#.albert_layers.*.ffn",
        "output": "encoder.albert_layer_groups.#.albert_layers.*.ffn_output",
        "embeddings to encoder": "encoder.embedding_hidden_mapping_in",
        "pooler": "pooler",
        **_EMBEDDINGS,
    }),
    Layout("MPNet", r"mpnet\.", {
        **{role: f"encoder.layer.#.attention.attn.{role[0]}" for role in ("query", "key", "value")},
        **_DENSE,
        "attention output": "encoder.layer.#.attention.attn.o",
        **_EMBEDDINGS,
    }),
)  # fmt: skip

# Why a tensor stays: the first pattern that its name has.
_STAYS = (
    (r"LayerNorm|layer_norm", "LayerNorm: one number a channel"),
    (r"\.bias$", "bias: added in full precision"),
    (r"position_embeddings|relative_attention_bias", "position embeddings: few, and sensitive"),
    (r"token_type_embeddings", "token type embeddings: a few rows"),
    (r"", "task head, or no part of encoder and pooler"),
)

# The paper's mixed rule: bits of the sensitive roles in the first encoders, by encoders of all.
_SENSITIVE = ("value", "intermediate")
_SENSITIVE_BITS = 4
RECIPES = {"roberta-mixed": {12: 6, 24: 14}}


def select(
    tensors: Sequence[HasShape],
    *,
    bits: int = 3,
    embedding_bits: int = 4,
    layer_bits: Sequence[tuple[str, int]] = (),
    recipe: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[Choice]:
    """Return a choice for each tensor, in the same order.

    With ``include``, exactly the matrices that match one of its patterns are quantised, in place of
    those that the layout gives; ``exclude`` then takes some away.  Bits come from the last of
    ``layer_bits`` that matches, else from the recipe, else ``embedding_bits`` or ``bits``.
    ``QuantError`` for an unknown layout, a pattern without a match, or nothing to quantise.
    """
    names = [tensor.name for tensor in tensors]
    layout = recognise(names)
    if layout is None and not include:
        raise QuantError(
            "the tensors' names are of no known layout "
            f"({', '.join(layout.name for layout in LAYOUTS)}); choose weight matrices by name: "
            "--include 'PATTERN', as in --include '*.mlp.*.weight'"
        )
    _check_patterns("--include", include, names)
    _check_patterns("--exclude", exclude, names)
    choices = [_choose(tensor, layout, include, exclude) for tensor in tensors]
    chosen = [choice for choice in choices if choice.bits is not None]
    if not chosen:
        raise QuantError("nothing to quantise: no tensor is left that is a matrix of weights")
    _check_patterns("--layer-bits", [p for p, _ in layer_bits], [c.name for c in chosen])
    sensitive = _sensitive_encoders(recipe, chosen)

    def width(choice: Choice) -> int:
        for pattern, number in reversed(layer_bits):
            if fnmatchcase(choice.name, pattern):
                return number
        if choice.role in _SENSITIVE and choice.encoder is not None and choice.encoder < sensitive:
            return _SENSITIVE_BITS
        return embedding_bits if choice.embedding else bits

    return [
        choice if choice.bits is None else Choice(
            choice.name, width(choice), choice.why, choice.embedding, choice.role, choice.encoder
        )
        for choice in choices
    ]  # fmt: skip


def recognise(names: Iterable[str]) -> Layout | None:
    """Return the layout of a model with these tensors: the one that knows its encoders."""
    names = list(names)
    for layout in LAYOUTS:
        matches = [layout.match(name) for name in names]
        if any(match and match[1] is not None and match[0] == "query" for match in matches):
            return layout
    return None


def _choose(
    tensor: HasShape, layout: Layout | None, include: Sequence[str], exclude: Sequence[str]
) -> Choice:
    """Return the choice for a tensor, with 0 bits where the number is not settled yet."""
    name = tensor.name
    role, encoder = (layout and layout.match(name)) or ("", None)
    wanted = any(fnmatchcase(name, pattern) for pattern in include) if include else bool(role)
    if tensor.dtype not in SOURCE_TYPES:
        return Choice(name, None, f"numbers of type {tensor.dtype}, not weights")
    if not wanted:
        if include:
            return Choice(name, None, "no --include matches")
        return Choice(name, None, next(why for has, why in _STAYS if re.search(has, name)))
    if any(fnmatchcase(name, pattern) for pattern in exclude):
        return Choice(name, None, "--exclude matches")
    if not 2 <= len(tensor.shape) <= 4:
        return Choice(name, None, f"{len(tensor.shape)} dimensions: not a matrix of weights")
    if 0 in tensor.shape or max(tensor.shape) >= 1 << 32:
        return Choice(name, None, "its size is out of the container's range")
    embedding = role == "word embeddings" or (not role and "embed" in name)
    why = (role if encoder is None else f"encoder {encoder}, {role}") or "--include matches"
    if tensor.dtype == "F64":
        why += "; rounded to FP32 first"
    return Choice(name, 0, why, embedding, role, encoder)


def _check_patterns(option: str, patterns: Iterable[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise QuantError(
                f"{option} '{pattern}' matches no tensor{_of_those(option)}; names are as in "
                f"{names[0]!r}, and `python -m quant explain MODEL` lists them"
            )


def _of_those(option: str) -> str:
    return " of those that are quantised" if option == "--layer-bits" else ""


def _sensitive_encoders(recipe: str | None, chosen: Sequence[Choice]) -> int:
    """Return how many encoders, from the first, the recipe gives more bits."""
    if recipe is None:
        return 0
    encoders = len({choice.encoder for choice in chosen if choice.encoder is not None})
    table = RECIPES[recipe]
    if encoders not in table:
        raise QuantError(
            f"the recipe {recipe} is for {' or '.join(map(str, table))} encoders, and this model "
            f"has {encoders} with recognised names; use --layer-bits 'PATTERN=4' instead"
        )
    return table[encoders]
