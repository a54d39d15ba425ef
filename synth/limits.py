"""Upper limits of area and delay, a table per library and module in limits.toml."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synth import SynthError
from synth.files import write

__all__ = ["FILE", "SLACK", "over", "read", "update"]

FILE = Path(__file__).parent / "limits.toml"
SLACK = 0.02  # what another version of a tool or of the emitted names may cost
UNITS = {"area_um2": "um2", "delay_ns": "ns"}

Limits = dict[str, dict[str, dict[str, float]]]


def read(path: Path = FILE) -> Limits:
    """Return {start of a library's name: {module: {measure: limit}}}."""
    limits: Limits = tomllib.loads(path.read_text(encoding="utf-8"))
    for library, configs in limits.items():
        for config, measures in configs.items():
            for measure, limit in measures.items():
                if measure not in UNITS or not isinstance(limit, int | float) or limit <= 0:
                    raise SynthError(
                        f"{path}: [{library}.{config}] {measure} = {limit!r} is not a limit; "
                        f"there are {' and '.join(UNITS)}, above 0"
                    )
    return limits


def update(library: str, rows: Iterable[Mapping[str, Any]], path: Path = FILE) -> None:
    """Make what was measured the limits of its modules, whatever they were; all else stays."""
    limits = read(path)
    name = next((start for start in limits if library.startswith(start)), library)
    for row in rows:
        limits.setdefault(name, {})[row["top"]] = {
            measure: row[measure] for measure in UNITS if row[measure] is not None
        }
    text = path.read_text(encoding="utf-8")
    lines = [text[: text.index("\n[")].rstrip() if "\n[" in text else text.rstrip()]
    for start, modules in limits.items():
        for module, measures in modules.items():
            lines += ["", f"[{start}.{module}]"]
            lines += [f"{measure} = {limit:.6g}" for measure, limit in measures.items()]
    write(path, "\n".join(lines) + "\n")


def over(limits: Limits, library: str, row: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each limit of ``library`` that the result ``row`` is above."""
    sentences = []
    for start, configs in limits.items():
        if not library.startswith(start):
            continue
        for measure, limit in configs.get(row["top"], {}).items():
            value = row[measure]
            if value is not None and value > limit * (1 + SLACK):
                sentences.append(
                    f"{row['top']}: {measure} is {value:,.6g} {UNITS[measure]}, "
                    f"{100 * (value / limit - 1):.1f} % above the limit of {limit:,.6g} "
                    f"{UNITS[measure]} for {start} ({100 * SLACK:.0f} % allowed)"
                )
    return sentences
