"""Payload layouts of the streams, from the field tables of ``docs/formats.md``."""

from amaranth.lib import data

from .config import GoboConfig
from .formats import TILE_HEADER

__all__ = [
    "BeatLayout", "CodebookLayout", "GroupLayout", "RecordLayout", "TileHeaderLayout",
    "TileLayout", "WeightLayout", "WindowLayout", "several_widths",
]  # fmt: skip

_COUNT = TILE_HEADER.field("group_count").width
_CRC = TILE_HEADER.field("index_crc16").width


def several_widths(config: GoboConfig) -> bool:
    """Return whether the index width is chosen for each layer, so that payloads carry it."""
    return len(config.index_widths) > 1


def _index_width(config: GoboConfig) -> dict[str, int]:
    return {"index_width": 3} if several_widths(config) else {}


class BeatLayout(data.StructLayout):
    """A memory beat; ``last`` ends the layer's stream."""

    def __init__(self, config: GoboConfig):
        super().__init__({"data": config.beat_width, "last": 1})


class CodebookLayout(data.StructLayout):
    """A layer's centroids, ascending, and the bits of its indexes."""

    def __init__(self, config: GoboConfig):
        entries = data.ArrayLayout(config.value_width, config.bins)
        super().__init__({"entries": entries, **_index_width(config)})


class WeightLayout(data.StructLayout):
    """A group of decoded weights; ``last`` ends a tile, ``error`` condemns it."""

    def __init__(self, config: GoboConfig):
        values = data.ArrayLayout(config.value_width, config.lanes)
        super().__init__({"values": values, "last": 1, "error": 1})


class TileHeaderLayout(data.StructLayout):
    """The first 64 bits of a tile in the outlier stream."""

    def __init__(self) -> None:
        super().__init__({field.name: field.width for field in TILE_HEADER.fields})


class RecordLayout(data.StructLayout):
    """An outlier, or an escape when ``gap`` is all ones."""

    def __init__(self, config: GoboConfig):
        super().__init__({
            "lane": config.lane_bits, "more": 1, "gap": config.gap_width,
            "value": config.value_width,
        })  # fmt: skip


class WindowLayout(data.StructLayout):
    """A record, whether it is an escape, whether it is its tile's last (``end``), and then whether
    the tile ends the layer (``last``)."""

    def __init__(self, config: GoboConfig):
        super().__init__({"record": RecordLayout(config), "escape": 1, "end": 1, "last": 1})


class TileLayout(data.StructLayout):
    """What the index side needs of a tile: groups, their CRC-16, whether it has no records, and
    then whether it ends the outlier stream of the layer; a ``colour`` that its neighbours have
    not."""

    def __init__(self) -> None:
        super().__init__({
            "group_count": _COUNT, "index_crc16": _CRC, "empty": 1, "last": 1, "colour": 1,
        })  # fmt: skip


class GroupLayout(data.StructLayout):
    """The index planes of a group (above the layer's index width they are 0) and its place: first
    of its layer, first and last of its tile, and whether its tile ends the index stream of the
    layer (``end``, with ``last``); then what the tile's header says."""

    def __init__(self, config: GoboConfig):
        planes = data.ArrayLayout(config.lanes, config.index_width)
        super().__init__({
            "planes": planes, "first": 1, "start": 1, "last": 1, "end": 1,
            "empty": 1, "outliers_end": 1, "colour": 1, **_index_width(config),
        })  # fmt: skip
