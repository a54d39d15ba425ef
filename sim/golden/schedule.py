"""The order of a layer's passes."""

from collections.abc import Iterator
from typing import NamedTuple

from gobo_rtl.array_config import ArrayConfig

__all__ = ["Pass", "passes"]


class Pass(NamedTuple):
    """A strip by a token tile, and how many of the array's rows and columns are in the matrix."""

    strip: int
    tile: int
    rows: int
    columns: int
    new_strip: bool
    """It is the first of its strip in a row of passes: its biases come next."""


def passes(config: ArrayConfig, rows: int, tokens: int, block_tiles: int) -> Iterator[Pass]:
    """Yield the passes of a layer of ``rows`` outputs: ``for block: for strip: for token tile``."""
    strips, tiles = -(-rows // config.rows), -(-tokens // config.columns)
    for block in range(0, tiles, block_tiles):
        for strip in range(strips):
            for tile in range(block, min(block + block_tiles, tiles)):
                yield Pass(
                    strip, tile, min(config.rows, rows - strip * config.rows),
                    min(config.columns, tokens - tile * config.columns), tile == block,
                )  # fmt: skip
