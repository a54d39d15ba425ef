"""The page of a sweep, one file that needs nothing else, and the picture of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from synth.plot import AXES, BOTTOM, HEIGHT, LEFT, PLOTS, RIGHT, TOP, WIDTH, Row, plot

__all__ = ["page", "picture"]


@dataclass(frozen=True)
class Column:
    """A column of the table: ``about`` is told when one points at its head."""

    name: str
    label: str
    unit: str = ""
    number: bool = True
    places: int = 0
    about: str = ""


COLUMNS = (
    Column("name", "point", number=False),
    Column("pe", "PE", number=False),
    Column("act_width", "bits", about="bits of an activation"),
    Column("rows", "rows", about="PEs of a column"),
    Column("symmetric", "symmetric", number=False, about="takes sign-symmetric codebooks only"),
    Column("area_um2", "area", "µm²", about="of a PE: the column's over its rows"),
    Column("flip_flops", "flip-flops", places=1, about="of a PE"),
    Column("delay_ns", "path", "ns", places=2, about="critical path of the column"),
    Column("density", "rate", "G/s/mm²", places=2, about="steps in each critical path, by area"),
    Column("pj_per_mac", "energy", "pJ", places=3, about="of a multiply-accumulate"),
    Column("error", "error", about="of the arithmetic, mean"),
    Column("layer_error", "layer", "%", places=3, about="error of the layer against FP32, mean"),
    Column("score", "score", places=2, about="Spearman x 100 of the STS Benchmark, whole model"),
    Column("seconds", "took", "s", about="to measure"),
    Column("command", "rebuild", number=False),
)
FILTERS = (("pe", "PE"), ("act_width", "bits"), ("rows", "rows"), ("symmetric", "codebook"))
_SIZE = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP,
         "bottom": HEIGHT - BOTTOM}  # fmt: skip
_MISSING = {
    "pj_per_mac": "No energy was measured: --no-energy, or columns of more than 16 rows only.",
    "error": "No errors are known: give --accuracy.",
    "delay_ns": "No delay is known: the library has no timing.",
}


def _cell(row: Row, name: str) -> str:
    """Return what the table shows of a row."""
    value = row.get(name)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if name == "error":
        return f"{value:.2g}"
    places = next(column.places for column in COLUMNS if column.name == name)
    percent = name in AXES and AXES[name].percent
    return f"{100 * value if percent else value:,.{places}f}"


def _sort_value(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value)


def _filter_value(row: Row, name: str) -> str:
    value = row[name]
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"


def _filters(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the fields in which rows differ, each with its values."""
    found = []
    for name, label in FILTERS:
        values: list[Any] = (
            _kinds(rows) if name == "pe" else sorted({row[name] for row in rows})
        )
        words = ("free", "symmetric") if name == "symmetric" else None
        choices = [
            (_filter_value({name: value}, name), words[value] if words else str(value))
            for value in values
        ]
        if len(choices) > 1 or name in ("pe", "symmetric"):  # those two are the plots' keys as well
            found.append({"name": name, "label": label, "choices": choices})
    return found


def _kinds(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["pe"] for row in rows))


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("synth"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=False, keep_trailing_newline=True,
    )  # fmt: skip


def page(rows: Sequence[Row], made: Mapping[str, Any]) -> str:
    """Return the page of rows; those with a ``failure`` have no figures and are told apart.

    ``made`` has ``library``, ``errors``, where errors come from, and ``terms``, pairs of words on
    how the rows were made.
    """
    good = [row for row in rows if not row.get("failure")]
    plots = [each for x, y in PLOTS if (each := plot(good, x, y))]
    return _templates().get_template("explore.html.j2").render(
        rows=good,
        failed=[row for row in rows if row.get("failure")],
        made=made,
        plots=plots,
        columns=COLUMNS,
        filters=_filters(good),
        has_energy=any(row.get("pj_per_mac") for row in good),
        has_error=any(row.get("error") for row in good),
        missing=[text for name, text in _MISSING.items() if not any(row.get(name) for row in good)],
        size=_SIZE,
        cell=_cell,
        sort_value=_sort_value,
        filter_value=_filter_value,
    )


def picture(rows: Sequence[Row], made: Mapping[str, Any]) -> str:
    """Return an SVG of two of the plots, the same for the same rows."""
    good = [row for row in rows if not row.get("failure")]
    has_energy = any(row.get("pj_per_mac") for row in good)
    pairs = [("area_um2", "error"), ("pj_per_mac", "density") if has_energy
             else ("area_um2", "delay_ns")]  # fmt: skip
    return _templates().get_template("picture.svg.j2").render(
        plots=[each for x, y in pairs if (each := plot(good, x, y))],
        kinds=_kinds(good),
        made=made,
        size=_SIZE,
    )
