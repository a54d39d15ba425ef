"""Tables, sizes and progress for a person at a terminal; plain text, and no bar, elsewhere."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .account import LayerSummary, total_bound

__all__ = ["layer_table", "print_table", "progress", "say", "shape_text", "size_text"]

_WIDTH = 200  # columns of a table in a file or a pipe


def say(text: str) -> None:
    """Print a line to standard output."""
    _console().print(text, markup=False, highlight=False, soft_wrap=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; columns whose heading starts with a space are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        number = heading.startswith(" ")
        table.add_column(heading.strip(), justify="right" if number else "left", no_wrap=number,
                         overflow="fold")  # fmt: skip
    for row in rows:
        table.add_row(*map(escape, row))
    _console().print(table)


def layer_table(layers: Sequence[LayerSummary]) -> None:
    """Print the figures of layers, and of all together."""
    rows = [
        (x.name, shape_text(x.shape), str(x.index_width), f"{x.outlier_share:.3%}",
         f"{x.bits_per_weight:.3f}", f"{x.bound:.3f}", f"{x.relative_error:.4f}",
         f"{x.max_error:.3g}", str(x.iterations))
        for x in layers
    ]  # fmt: skip
    size = sum(x.size for x in layers)
    rows.append(
        (f"{len(layers)} layers", f"{size:,}", "", f"{_outliers(layers) / size:.3%}",
         f"{8 * sum(x.nbytes for x in layers) / size:.3f}", f"{total_bound(layers):.3f}",
         "", f"{max(x.max_error for x in layers):.3g}", "")
    )  # fmt: skip
    print_table(
        ("layer", " shape", " bits", " outliers", " bits a weight", " bound", " rms error / s",
         " max error", " iterations"), rows,
    )  # fmt: skip


def shape_text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def size_text(nbytes: float) -> str:
    """Return a size for a person: 10.97 MB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= scale:
            return f"{nbytes / scale:.2f} {unit}"
    return f"{nbytes:.0f} bytes"


@contextmanager
def progress(what: str, sizes: dict[str, int]) -> Iterator[Callable[[str], object]]:
    """Show a bar with rate and time left on a terminal; give the function to call with a name.

    ``sizes`` are elements by name of tensor.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), _Rate(), TimeRemainingColumn())
    quiet = not console.is_terminal
    with Progress(*columns, console=console, disable=quiet, transient=True) as bar:
        task = bar.add_task(what, total=sum(sizes.values()))
        yield lambda name: bar.advance(task, sizes.get(name, 0))


class _Rate(ProgressColumn):
    """Elements a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{(task.speed or 0) / 1e6:5.1f} M weights/s")


def _outliers(layers: Iterable[LayerSummary]) -> int:
    return sum(layer.outlier_count for layer in layers)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for the command line to handle, not to exit with status 1


def _console() -> Console:
    console = _Console()
    return console if console.is_terminal else _Console(width=_WIDTH)
