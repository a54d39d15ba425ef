"""Area and delay of each configuration by commit, as lines of a CSV that only grows."""

import csv
import io
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synth import SynthError
from synth.files import write
from synth.library import Library

__all__ = ["COLUMNS", "append", "clean_commit"]

COLUMNS = (
    "date", "commit", "library", "clock_ns", "top", "area_um2", "flip_flops", "delay_ns",
    "delay_tool", "recipe",
)  # fmt: skip


def clean_commit(path: Path) -> str:
    """Return the commit that is checked out around a history; ``SynthError`` when any other of its
    files was changed, or there is none."""
    folder, others = path.resolve().parent, ("--", ":/", f":(exclude,literal){path.name}")
    try:
        done = [
            subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
            for words in (("rev-parse", "--short=12", "HEAD"),
                          ("status", "--porcelain", "--untracked-files=no", *others))
        ]  # fmt: skip
    except OSError as error:
        raise SynthError("a history is by commit, and there is no git") from error
    if any(each.returncode for each in done):
        raise SynthError(f"a history is by commit, and {folder} is in no repository of git")
    commit, changed = (each.stdout.strip() for each in done)
    if changed:
        first = changed.splitlines()[0].split(maxsplit=1)[1]
        raise SynthError(f"a history is by commit, and {first} was changed: commit it first")
    return commit


def append(
    path: Path, rows: Sequence[Mapping[str, Any]], library: Library, clock_ns: float, commit: str
) -> int:
    """Add a line for each of ``rows`` that the file does not have, by commit, library, clock and
    module; return how many. The file is whole at any time."""
    known: list[dict[str, str]] = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise SynthError(f"{path} is not a history: its columns are not "
                                 f"{', '.join(COLUMNS)}")  # fmt: skip
            known = list(reader)
    new = [
        {name: str(value) for name, value in (
            {name: row.get(name) or "" for name in COLUMNS}
            | {"date": datetime.now(UTC).date().isoformat(), "commit": commit,
               "library": library.name, "clock_ns": f"{clock_ns:g}"}
        ).items()}
        for row in rows
    ]  # fmt: skip
    same = ("commit", "library", "clock_ns", "top")
    there = {tuple(row[name] for name in same) for row in known}
    new = [row for row in new if tuple(row[name] for name in same) not in there]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*known, *new])
    write(path, text.getvalue())
    return len(new)
