"""Lines by commit that are only added."""

import subprocess
from pathlib import Path

import pytest

from synth import SynthError, history
from synth.library import load

TOY = Path(__file__).parent / "toy.lib"
ROW = {
    "top": "decode_tiny", "area_um2": 64.0, "flip_flops": 3, "delay_ns": None,
    "delay_tool": None, "recipe": "small",
}  # fmt: skip


def test_a_line_is_added_once_for_each_commit_library_and_clock(tmp_path: Path) -> None:
    path, library = tmp_path / "new" / "history.csv", load(TOY, tmp_path)
    assert history.append(path, [ROW], library, 2.5, "abc") == 1
    assert history.append(path, [ROW], library, 2.5, "abc") == 0
    assert history.append(path, [ROW], library, 2.0, "abc") == 1
    assert history.append(path, [ROW, ROW | {"top": "other"}], library, 2.5, "def") == 2
    head, first, *rest = path.read_text().splitlines()
    assert head == ",".join(history.COLUMNS) and len(rest) == 3
    assert first.split(",")[1:] == ["abc", library.name, "2.5", "decode_tiny", "64.0", "3", "", "",
                                    "small"]  # fmt: skip


def test_a_file_that_is_no_history_is_told_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(SynthError, match="is not a history: its columns are not date, commit"):
        history.append(path, [ROW], load(TOY, tmp_path), 2.5, "abc")
    assert path.read_text() == "a,b\n1,2\n"


def test_only_a_commit_without_changes_has_a_history(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    path = tmp_path / "history.csv"
    with pytest.raises(SynthError, match="is in no repository of git"):
        history.clean_commit(path)
    git("init")
    (tmp_path / "a file").write_text("1")
    path.write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    (tmp_path / "untracked").write_text("1")
    path.write_text("2")  # as a run before this one leaves it
    assert len(history.clean_commit(path)) == 12
    (tmp_path / "a file").write_text("2")
    with pytest.raises(SynthError, match='"a file" was changed: commit it first'):
        history.clean_commit(path)
