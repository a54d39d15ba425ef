"""What the demo tells a person: a line a step, a table and figures at the end, a report."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from quant.account import LayerSummary
from quant.show import shape_text

__all__ = ["Steps", "conclusion", "equal", "layer_rows", "layer_table", "report"]

HEADINGS = ("layer", "shape", "bits/weight", "outliers", "error", "words", "wrong")
LEGEND = (
    "error: root mean square, over the deviation of the layer's weights",
    "words, wrong: decoded by the Verilog and compared with the container's weights",
)

_WIDTH = 120  # columns where there is no terminal


class Steps:
    """Numbers the steps; shows a bar while one runs (on a terminal only), then a line."""

    def __init__(self, count: int):
        self.count = count
        self.number = 0
        plain = Console()
        self.console = plain if plain.is_terminal else Console(width=_WIDTH)

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator["Step"]:
        """Run a step of ``total`` parts; without a total the bar only shows that time goes by."""
        self.number += 1
        head = f"{self.number}/{self.count} {what:10}"
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        begun = time.monotonic()
        with Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as bar:
            task = bar.add_task(head, total=total)
            step = Step(lambda: bar.advance(task))
            yield step
        seconds = time.monotonic() - begun
        for n, line in enumerate(step.lines):
            front, end = (head, f"  {seconds:.1f} s") if n == 0 else (" " * len(head), "")
            self.say(f"{front} {line}{end}")

    def say(self, text: str) -> None:
        """Print a line as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Step:
    """A step under way: ``done`` moves the bar by a part, ``tell`` says what came out."""

    def __init__(self, advance: Callable[[], object]):
        self._advance = advance
        self.lines: list[str] = []

    def done(self, _: object = None) -> None:
        self._advance()

    def tell(self, line: str) -> None:
        self.lines.append(line)


def layer_rows(
    layers: Sequence[LayerSummary], words: dict[str, int], mismatches: dict[str, int]
) -> list[tuple[str, ...]]:
    """Return a row of texts a layer, by HEADINGS.

    FC matrices first, then their total, then embeddings, then the total of all.
    """

    def row(name: str, shape: str, *part: LayerSummary) -> tuple[str, ...]:
        size = sum(layer.size for layer in part)
        error = sum(layer.squared_error for layer in part)
        spread = sum(layer.size * layer.deviation**2 for layer in part)
        compared = [layer.name for layer in part if layer.name in words]
        return (
            name, shape, f"{8 * sum(layer.nbytes for layer in part) / size:.3f}",
            f"{sum(layer.outlier_count for layer in part) / size:.3%}",
            f"{(error / spread) ** 0.5 if spread else 0:.4f}",
            f"{sum(words[name] for name in compared):,}" if compared else "-",
            f"{sum(mismatches[name] for name in compared):,}" if compared else "-",
        )  # fmt: skip

    def rows(part: Sequence[LayerSummary]) -> list[tuple[str, ...]]:
        return [row(x.name.removesuffix(".weight"), shape_text(x.shape), x) for x in part]

    matrices = [layer for layer in layers if not layer.embedding]
    embeddings = [layer for layer in layers if layer.embedding]
    total = row(f"{len(matrices)} FC matrices", f"{sum(x.size for x in matrices):,}", *matrices)
    return [
        *rows(matrices), total, *rows(embeddings),
        row("all", f"{sum(x.size for x in layers):,}", *layers),
    ]  # fmt: skip


def layer_table(rows: Sequence[Sequence[str]]) -> Table:
    """Return the rows as a table for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        name = heading == "layer"
        table.add_column(
            heading, justify="left" if name else "right", no_wrap=not name, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(escape, row), style="" if " x " in row[1] else "bold")
    return table


def conclusion(of: dict[str, Any]) -> list[str]:
    """Return the figures of the summary in words."""
    wrong, words = of["rtl_mismatches"], of["rtl_words_compared"]
    computed = "left out, see above"
    if of["accelerator_words_compared"] is not None:
        computed = (
            f"{of['accelerator_words_compared']:,} words compared, "
            f"{of['accelerator_mismatches']:,} mismatches; {of['accelerator_cycles']:,} cycles; "
            f"{of['accelerator_error']:.2%} from the model in FP32"
        )
    return [
        f"size       {of['bits_per_weight']:.3f} bits a weight, all headers included (bound "
        f"{of['bound_bits_per_weight']:.3f}): {of['ratio_fp32']:.2f} times smaller than FP32",
        f"container  {of['weights']:,} weights compared, {of['container_mismatches']:,} mismatches",
        f"decoder    {words:,} words compared, {wrong:,} mismatches; "
        f"{words / max(of['rtl_cycles'], 1):.2f} words a cycle",
        f"computed   {computed}",
        f"area       {of['decoder_area_um2']:,.0f} um2 in {of['area_library']}",
        f"sentences  cosine of embeddings, FP32 to 3 bits: {of['embedding_cosine_mean']:.4f} on "
        f"average, {of['embedding_cosine_min']:.4f} at least",
        f"{'all equal' if equal(of) else 'NOT EQUAL'}; {of['seconds']:.0f} s",
    ]


def equal(summary: dict[str, Any]) -> bool:
    """Return whether nothing that was compared differs."""
    parts = ("container", "rtl", "accelerator")
    return not any(summary[f"{part}_mismatches"] for part in parts)


def report(summary: dict[str, Any], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return table and figures as the lines of a page."""
    return [
        *(f"    {line}" for line in conclusion(summary)),
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|---|{'---:|' * (len(HEADINGS) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(f"- {line}" for line in LEGEND),
        "",
        *(f"- `{key}`: {value}" for key, value in summary.items()),
    ]
