"""Semantic textual similarity: how well cosines of embeddings rank the pairs as people did."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from sim.model import ModelError
from sim.model.sentence import SentenceModel


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs and the score that people gave each; the three lists are equally long."""

    first: list[str]
    second: list[str]
    score: list[float]


def read_pairs(path: Path) -> Pairs:
    """Return the pairs of a CSV file without header: sentence 1, sentence 2, score."""
    pairs = Pairs([], [], [])
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                if len(row) != 3:
                    raise ModelError(
                        f"{where}: sentence, sentence, score expected, "
                        f"but there are {len(row)} fields"
                    )
                try:
                    score = float(row[2])
                except ValueError:
                    score = math.nan
                if not math.isfinite(score):
                    raise ModelError(f"{where}: the score must be a number, not {row[2]!r}")
                pairs.first.append(row[0])
                pairs.second.append(row[1])
                pairs.score.append(score)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if len(set(pairs.score)) < 2:
        raise ModelError(f"{path}: ranking needs at least two pairs of different score")
    return pairs


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of the ranks of a (n,) and b (n,), ties at their mean rank."""
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def similarity_score(
    model: SentenceModel, pairs: Pairs, advance: Callable[[int], object] = lambda count: None
) -> float:
    """Return Spearman's correlation of the model's cosines and the pairs' scores, in -1..1."""
    embeddings = model.embed(pairs.first + pairs.second, advance)
    first, second = np.split(embeddings, 2)
    return spearman((first * second).sum(axis=1), np.array(pairs.score))
