"""Scoring and its command line."""

import csv
import math
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from sim.model import ModelError
from sim.model.__main__ import main
from sim.model.bert import read_weights
from sim.model.fetch import sha256
from sim.model.score import Pairs, read_pairs, similarity_score, spearman
from sim.model.sentence import SentenceModel, sample_sentences

ROWS = [
    ("The soup needs salt.", 'The soup, it needs "salt".', 4.5),
    ("Rain.", "The judge asked the witness to speak up.", 0.0),
    ("A fox crossed the road.", "A wolf crossed the road.", 3.0),
    ("The invoice was paid twice.", "Somebody sings,\nbadly.", 0.25),
]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pairs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(ROWS)
    return path


def test_ties_share_their_mean_rank():
    # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5, squares 4.5 and 5.
    got = spearman(np.array([1.0, 2.0, 2.0, 4.0]), np.array([10.0, 30.0, 20.0, 1e9]))
    assert got == pytest.approx(4.5 / math.sqrt(4.5 * 5), abs=8 * np.finfo(float).eps)


@pytest.mark.parametrize(("b", "expected"), [([1, 8, 27, 64], 1), ([4, 3, 1, 0], -1)])
def test_only_the_order_counts(b, expected):
    got = spearman(np.arange(4.0), np.array(b, float))
    assert got == pytest.approx(expected, abs=8 * np.finfo(float).eps)


def test_pairs_are_read_with_quotes_commas_and_line_breaks(table):
    pairs = read_pairs(table)
    assert list(zip(pairs.first, pairs.second, pairs.score, strict=True)) == ROWS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,1\nc,d\n", "line 2: sentence, sentence, score expected, but there are 2 fields"),
        ("a,b,1\nc,d,good\n", "line 2: the score must be a number, not 'good'"),
        ("a,b,1\nc,d,nan\n", "line 2: the score must be a number, not 'nan'"),
        ("", "at least two pairs of different score"),
        ("a,b,1\nc,d,1\n", "at least two pairs of different score"),
        ('a,"b', "not a CSV file in UTF-8"),
    ],
)
def test_bad_tables_are_refused(text, message, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(ModelError, match=message):
        read_pairs(path)


def test_binary_table_is_refused(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(b"a,b,\xff\n")
    with pytest.raises(ModelError, match="not a CSV file in UTF-8"):
        read_pairs(path)


def test_score_is_the_rank_correlation_of_the_cosines(bert_tiny_folder):
    model = SentenceModel.load(bert_tiny_folder)
    sentences = sample_sentences()
    first, second = sentences[:24], sentences[24:]
    cosines = [float(a @ b) for a, b in zip(model.embed(first), model.embed(second), strict=True)]
    order = [float(cosine) for cosine in np.argsort(np.argsort(cosines))]
    near = 8 * np.finfo(float).eps
    assert similarity_score(model, Pairs(first, second, order)) == pytest.approx(1, abs=near)
    backwards = [-score for score in order]
    assert similarity_score(model, Pairs(first, second, backwards)) == pytest.approx(-1, abs=near)


def test_command_scores_folders_and_files_alike(table, bert_tiny_folder, tmp_path, capsys):
    decoded, report = tmp_path / "decoded.safetensors", tmp_path / "new" / "report.md"
    save_file(read_weights(bert_tiny_folder / "model.safetensors"), decoded)
    status = main(
        [
            "score",
            "bert-tiny",
            str(decoded),
            "--base",
            "bert-tiny",
            "--csv",
            str(table),
            str(table),
            "--report",
            str(report),
        ]
    )
    assert status == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    score = 100 * similarity_score(SentenceModel.load(bert_tiny_folder), read_pairs(table))
    for name in ("bert-tiny", "decoded.safetensors"):
        row = f"| {name} | {score:.2f} | {score:.2f} |"
        assert row in shown.out.splitlines()
        assert row in report.read_text().splitlines()
    for fact in (
        sha256(decoded),
        sha256(table),
        "commit: ",
        "date: ",
        f"numpy {np.__version__}",
        "python -m sim.model score bert-tiny",
    ):
        assert fact in report.read_text()


def test_command_prints_the_folder_that_it_fetched(bert_tiny_folder, capsys):
    assert main(["fetch", "bert-tiny"]) == 0
    assert capsys.readouterr().out == f"{bert_tiny_folder}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "absent", "--csv", "TABLE"], "there is no file or folder absent"),
        (["score", "bert-tiny", "--csv", "absent.csv"], "cannot read absent.csv: No such file"),
        (["score", "FOLDER", "--csv", "TABLE"], "cannot read .*config.json: No such file"),
        (
            ["score", "TABLE", "--base", "bert-tiny", "--csv", "TABLE"],
            "not a whole safetensors file",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(arguments, message, table, tmp_path, capsys):
    known = {"TABLE": str(table), "FOLDER": str(tmp_path)}
    assert main([known.get(word, word) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
