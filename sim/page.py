"""Results as pages in Markdown and as JSON, each with all it takes to repeat it."""

import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quant.output import replacing
from sim.model.fetch import sha256

__all__ = ["share", "table", "write_json", "write_page", "write_text"]


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table; integers get commas."""
    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells)]


def share(part: float, whole: float) -> str:
    """Return a quotient in percent."""
    return f"{100 * part / whole:.2f} %"


def write_page(
    path: Path,
    title: str,
    lines: Sequence[str],
    command: str,
    tools: Sequence[str],
    inputs: Sequence[Path] = (),
) -> None:
    """Write ``lines`` under ``title``, and what they come from: command, commit, date, versions of
    the packages ``tools``, machine, sha256 of ``inputs``.

    ``QuantError`` when the page cannot be written, ``ModelError`` when an input cannot be read; a
    page that is there is then as it was.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in tools)
    text = [
        f"# {title}",
        "",
        *lines,
        "",
        f"- command: `{command}`",
        f"- commit: {_commit()}; date: {datetime.now(UTC):%Y-%m-%d}",
        f"- Python {platform.python_version()}, {versions}; {platform.machine()} "
        f"{platform.system()}, {os.cpu_count()} cores",
        *(f"- sha256 of {name}: {sha256(path)}" for name, path in _named(inputs).items()),
        "",
    ]
    write_text(path, "\n".join(text))


def write_json(
    path: Path,
    document: dict[str, Any],
    command: str,
    tools: Sequence[str],
    inputs: Sequence[Path] = (),
) -> None:
    """Write ``document`` as JSON after what it comes from, as :func:`write_page` does."""
    made = {
        "command": command,
        "commit": _commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "tools": {"python": platform.python_version()} | {name: version(name) for name in tools},
        "sha256": {name: sha256(path) for name, path in _named(inputs).items()},
    }
    write_text(path, json.dumps(made | document, indent=1) + "\n")


def _named(inputs: Sequence[Path]) -> dict[str, Path]:
    """Return files by name, those of one name with their folder's before it."""
    times = Counter(path.name for path in inputs)
    return {
        path.name if times[path.name] == 1 else f"{path.parent.name}/{path.name}": path
        for path in inputs
    }


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"


def write_text(path: Path, text: str) -> None:
    """Write a file and the folders that it is in, all of it or nothing; ``QuantError`` says why
    not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, force=True) as file:
        file.write(text.encode())
