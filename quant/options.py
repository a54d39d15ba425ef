"""Options that say which tensors are quantised and how, shared by commands."""

from collections.abc import Callable
from typing import Any

import click

from gobo_rtl.formats import POLICIES, VALUE_FORMATS

from .errors import QuantError
from .fit import Options, OutlierRule
from .record import GRID_WIDTH
from .selection import RECIPES, Choice, select
from .source import Source

__all__ = ["plan", "quantiser_options"]


class _LayerBits(click.ParamType[Any]):
    """``PATTERN=4``: a pattern of names, and bits."""

    name = "PATTERN=BITS"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, int]:
        pattern, equals, bits = str(value).rpartition("=")
        if not equals or not pattern or bits not in ("2", "3", "4"):
            self.fail(f"{value!r} is not PATTERN=BITS with 2, 3 or 4 bits", param, ctx)
        return pattern, int(bits)


class _Rule(click.ParamType[Any]):
    """An outlier rule."""

    name = "RULE"

    def convert(self, value: Any, param: Any, ctx: Any) -> OutlierRule:
        if isinstance(value, OutlierRule):
            return value
        try:
            return OutlierRule.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def quantiser_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which tensors, how, and with how many bits."""
    bits = click.IntRange(2, 4)
    for option in reversed((
        click.option("--bits", type=bits, default=3, show_default=True, help="Bits of an index."),
        click.option("--embedding-bits", type=bits, default=4, show_default=True,
                     help="Bits of an index of word embeddings."),
        click.option("--layer-bits", type=_LayerBits(), multiple=True,
                     help="Other bits for layers whose name matches; the last match counts."),
        click.option("--recipe", type=click.Choice(list(RECIPES)),
                     help="The paper's rule for RoBERTa: value and intermediate layers of the "
                     "first 6 of 12 or 14 of 24 encoders at 4 bits."),
        click.option("--include", multiple=True, metavar="PATTERN",
                     help="Quantise the matrices whose name matches, in place of those of the "
                     "known layout."),
        click.option("--exclude", multiple=True, metavar="PATTERN",
                     help="Leave tensors as they are whose name matches."),
        click.option("--outliers", type=_Rule(), default="logpdf:-4", show_default=True,
                     help="logpdf:-4 (the paper's), zscore:3.5, share:0.1% or none."),
        click.option("--value-format", type=click.Choice(list(VALUE_FORMATS)),
                     help="Of centroids and outliers; fp16, or fp32 with --paper."),
        click.option("--policy", type=click.Choice(POLICIES), default="gobo", show_default=True,
                     help="How centroids are found."),
        click.option("--symmetric", is_flag=True, help="Make the codebook sign-symmetric."),
        click.option("--centroid-bits", type=click.IntRange(4, 12),
                     help="Bits of a centroid on the shipping grid; 12, or 9 for bf16."),
        click.option("--paper", is_flag=True,
                     help="Keep centroids and outliers in FP32, off the grid."),
    )):  # fmt: skip
        command = option(command)
    return command


def plan(source: Source, given: dict[str, Any]) -> tuple[list[Choice], Options]:
    """Return what happens to each tensor, and how, from the command line's options."""
    paper = given["paper"]
    value_format = given["value_format"] or ("fp32" if paper else "fp16")
    centroid_bits = given["centroid_bits"]
    if centroid_bits and (paper or centroid_bits > GRID_WIDTH[value_format]):
        raise QuantError(
            "--centroid-bits is for the shipping grid, which --paper does not use" if paper else
            f"--centroid-bits is at most {GRID_WIDTH[value_format]} for {value_format}"
        )  # fmt: skip
    try:
        options = Options(
            policy=given["policy"], outliers=given["outliers"], paper=paper,
            symmetric=given["symmetric"], value_format=value_format,
            centroid_width=centroid_bits,
        )  # fmt: skip
    except ValueError as error:
        raise QuantError(str(error)) from error
    names = ("bits", "embedding_bits", "layer_bits", "recipe", "include", "exclude")
    try:
        choices = select(list(source.tensors.values()), **{name: given[name] for name in names})
    except QuantError as error:
        raise QuantError(f"{source.path}: {error}") from error
    return choices, options
