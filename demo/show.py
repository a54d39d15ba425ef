"""What the demo tells a person: a line a step, a table at the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from quant.account import LayerSummary
from quant.show import shape_text

__all__ = ["Steps", "result_table"]

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


def result_table(
    layers: Sequence[LayerSummary], words: dict[str, int], mismatches: dict[str, int]
) -> Table:
    """Return the table of layers: bits, outliers, error, and words that the Verilog decoded.

    FC matrices first, then their total, then embeddings, then the total of all.  The error is the
    root mean square over the deviation of the weights.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for heading in ("layer", "shape", "bits/weight", "outliers", "error", "words", "wrong"):
        left = heading == "layer"
        table.add_column(heading, justify="left" if left else "right", no_wrap=not left,
                         overflow="fold")  # fmt: skip

    def add(name: str, shape: str, part: Sequence[LayerSummary], style: str = "") -> None:
        size = sum(layer.size for layer in part)
        error = sum(layer.squared_error for layer in part)
        spread = sum(layer.size * layer.deviation**2 for layer in part)
        compared = [layer.name for layer in part if layer.name in words]
        table.add_row(
            escape(name), shape, f"{8 * sum(layer.nbytes for layer in part) / size:.3f}",
            f"{sum(layer.outlier_count for layer in part) / size:.3%}",
            f"{(error / spread) ** 0.5 if spread else 0:.4f}",
            f"{sum(words[name] for name in compared):,}" if compared else "-",
            f"{sum(mismatches[name] for name in compared):,}" if compared else "-",
            style=style,
        )  # fmt: skip

    matrices = [layer for layer in layers if not layer.embedding]
    tables = [layer for layer in layers if layer.embedding]
    for part, what in ((matrices, "FC matrices"), (tables, "")):
        for layer in part:
            add(layer.name.removesuffix(".weight"), shape_text(layer.shape), [layer])
        if what and part:
            count = sum(layer.size for layer in part)
            add(f"{len(part)} {what}", f"{count:,}", part, "bold")
    add("all", f"{sum(layer.size for layer in layers):,}", layers, "bold")
    return table
