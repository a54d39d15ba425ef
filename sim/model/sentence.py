"""Sentence embeddings: tokens in, mean over the tokens, unit length out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import BertWordPieceTokenizer, Tokenizer

from sim.model import ModelError
from sim.model.bert import Array, Bert, BertConfig, Linear, matmul, read_weights

BATCH_TOKENS = 1024  # a batch's FFN states then stay near the caches: 6 MB at width 1536


def sample_sentences() -> list[str]:
    """Return the sentences of this repository, of diverse length and topic."""
    return Path(__file__).with_name("sentences.txt").read_text(encoding="utf-8").splitlines()


def read_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    """Return the tokenizer in ``folder``: sentences cut to ``max_tokens``, never padded.

    Read from ``tokenizer.json``, or else built on ``vocab.txt`` as BERT's WordPiece.
    """
    whole, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    try:
        if whole.exists():
            tokenizer = Tokenizer.from_file(str(whole))
        elif vocabulary.exists():
            options = folder / "tokenizer_config.json"
            entries = json.loads(options.read_text("utf-8")) if options.exists() else {}
            lowercase = bool(entries.get("do_lower_case", True))
            tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=lowercase)
        else:
            raise ModelError(f"{folder} has neither tokenizer.json nor vocab.txt")
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length=max_tokens)
    except ModelError:
        raise
    except Exception as error:  # the library raises plain Exception for a malformed file
        raise ModelError(f"cannot read the tokenizer in {folder}: {error}") from error
    return tokenizer


@dataclass(frozen=True)
class SentenceModel:
    """An encoder and its tokenizer."""

    encoder: Bert
    tokenizer: Tokenizer

    @classmethod
    def load(
        cls,
        folder: Path,
        weights: Path | Mapping[str, Array] | None = None,
        linear: Linear = matmul,
    ) -> SentenceModel:
        """Return the model in ``folder`` (config.json, tokenizer, model.safetensors).

        ``weights`` takes the place of model.safetensors: another file, or arrays by tensor name.
        """
        config = BertConfig.read(folder / "config.json")
        if weights is None:
            weights = folder / "model.safetensors"
        if isinstance(weights, Path):
            weights = read_weights(weights)
        tokenizer = read_tokenizer(folder, config.max_position_embeddings)
        return cls(Bert(config, weights, linear), tokenizer)

    def embed(
        self, sentences: Sequence[str], advance: Callable[[int], object] = lambda count: None
    ) -> Array:
        """Return the (sentences, hidden) embeddings, each of unit length.

        Only sentences of equal token count share a batch, so there is no padding to mask.
        ``advance`` is called after each batch with the number of sentences in it.
        """
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(sentences))]
        rows = np.empty((len(ids), self.encoder.config.hidden_size), self.encoder.dtype)
        for batch in equal_length_batches([len(tokens) for tokens in ids]):
            states = self.encoder(np.array([ids[n] for n in batch]))
            rows[batch] = states.mean(axis=1)
            advance(len(batch))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def equal_length_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield all indexes into ``lengths``, in batches of one length and at most BATCH_TOKENS."""
    groups: dict[int, list[int]] = defaultdict(list)
    for n, length in enumerate(lengths):
        groups[length].append(n)
    for length, group in sorted(groups.items()):
        size = max(1, BATCH_TOKENS // length)
        for start in range(0, len(group), size):
            yield group[start : start + size]


def compare(reference: SentenceModel, other: SentenceModel, sentences: Sequence[str]) -> Array:
    """Return the (sentences,) cosines between the embeddings of the two models."""
    products = reference.embed(sentences) * other.embed(sentences)
    return np.asarray(products.sum(axis=1))
