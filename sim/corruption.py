"""Corrupted streams for the benches, each with the rules of ``docs/formats.md`` that it breaks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .stimulus import Layer, Record, Tile, spans

__all__ = ["CORRUPTIONS", "Corruption", "corrupt"]


@dataclass(frozen=True)
class Corruption:
    """Layers of which one is corrupted.

    Parameters
    ----------
    name : str
        One of :data:`CORRUPTIONS`.
    layers : list of Layer
        What to drive, in order.
    rules : frozenset of int
        Error codes, at least one of which the corruption makes due.
    exact : bool
        No other rule is broken in the first wrong tile.
    place : (int, int)
        Layer and tile that were corrupted: all before them are good.
    """

    name: str
    layers: "list[Layer]"
    rules: frozenset[int]
    exact: bool
    place: tuple[int, int]


@dataclass(frozen=True)
class _Beats:
    """The streams of a layer as arrays, to be cut and changed."""

    indexes: np.ndarray
    outliers: np.ndarray
    indexes_last: np.ndarray
    outliers_last: np.ndarray


def _with_beats(layer: Layer, beats: _Beats) -> Layer:
    """Return the layer with other streams than its tiles make."""
    copy = replace(layer)
    copy.__dict__.update(vars(beats))  # cached properties of a frozen class
    return copy


_INDEX, _OUTLIER = 0, 1
_Done = tuple[Layer, frozenset[int], bool]
"""A corrupted layer, the rules, whether exactly these are broken."""

_Change = Callable[[np.random.Generator, Layer, int], _Done | None]
"""Corrupts a tile of a layer; None if it cannot."""

CORRUPTIONS: dict[str, _Change] = {}
"""Ways to corrupt a tile, by name."""


def _corruption(function: _Change) -> _Change:
    """Enter a function into :data:`CORRUPTIONS` under its name."""
    name = function.__name__.removeprefix("_").replace("_", "-")
    CORRUPTIONS[name] = function
    return function


def corrupt(
    rng: np.random.Generator, name: str, layers: Sequence[Layer], place: tuple[int, int]
) -> Corruption | None:
    """Corrupt the tile ``place`` (layer, tile) in the way called ``name``.

    None where that cannot be done there: no record to change, a single beat, and so on.  A good
    layer must follow, or a unit may wait for beats that never come.
    """
    at, tile = place
    done = CORRUPTIONS[name](rng, layers[at], tile)
    if done is None:
        return None
    layer, rules, exact = done
    return Corruption(name, [*layers[:at], layer, *layers[at + 1 :]], rules, exact, place)


def _edit(layer: Layer, number: int, tile: Tile) -> Layer:
    """Return the layer with another tile ``number``."""
    return replace(layer, tiles=(*layer.tiles[:number], tile, *layer.tiles[number + 1 :]))


def _flip(layer: Layer, stream: int, bit: int) -> Layer:
    """Flip a bit of a stream."""
    beats = [layer.indexes.copy(), layer.outliers.copy()]
    flat = beats[stream].reshape(-1)
    flat[bit // 8] ^= 1 << bit % 8
    lasts = layer.indexes_last, layer.outliers_last
    return _with_beats(layer, _Beats(beats[0], beats[1], *lasts))


def _first_bit(layer: Layer, tile: int, stream: int) -> int:
    """Return the position of a tile's first bit in a stream."""
    return int(spans(layer, tile)[stream].start) * layer.config.beat_width


@_corruption
def _flip_index(rng: np.random.Generator, layer: Layer, tile: int) -> _Done:
    bits = len(layer.tiles[tile].groups) * layer.index_width * layer.config.lanes
    at = _first_bit(layer, tile, _INDEX) + int(rng.integers(bits))
    return _flip(layer, _INDEX, at), frozenset({1}), True


@_corruption
def _flip_outlier_value(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    config, records = layer.config, layer.tiles[tile].records
    if not records:
        return None
    at = int(rng.integers(len(records))) * config.record_width + 16
    at += 64 + int(rng.integers(config.value_width))
    return _flip(layer, _OUTLIER, _first_bit(layer, tile, _OUTLIER) + at), frozenset({2}), True


@_corruption
def _flip_outlier_place(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    config, records = layer.config, layer.tiles[tile].records
    if not records:
        return None
    at = 64 + int(rng.integers(len(records))) * config.record_width + int(rng.integers(16))
    return _flip(layer, _OUTLIER, _first_bit(layer, tile, _OUTLIER) + at), frozenset({2}), False


@_corruption
def _flip_index_crc(rng: np.random.Generator, layer: Layer, tile: int) -> _Done:
    at = _first_bit(layer, tile, _OUTLIER) + 32 + int(rng.integers(16))
    return _flip(layer, _OUTLIER, at), frozenset({1}), True


@_corruption
def _flip_outlier_crc(rng: np.random.Generator, layer: Layer, tile: int) -> _Done:
    at = _first_bit(layer, tile, _OUTLIER) + 48 + int(rng.integers(16))
    return _flip(layer, _OUTLIER, at), frozenset({2}), True


@_corruption
def _zero_groups(rng: np.random.Generator, layer: Layer, tile: int) -> _Done:
    return _edit(layer, tile, replace(layer.tiles[tile], group_count=0)), frozenset({7}), True


@_corruption
def _index_width(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    widths = layer.config.index_widths
    if tile or len(widths) == 1:  # it is told once a layer, where there is a choice
        return None
    other = int(rng.choice([width for width in range(8) if width not in widths]))
    bad = replace(layer, index_width=other)
    streams = layer.indexes, layer.outliers, layer.indexes_last, layer.outliers_last
    return _with_beats(bad, _Beats(*streams)), frozenset({7}), True


@_corruption
def _group_more(rng: np.random.Generator, layer: Layer, tile: int) -> _Done:
    count = len(layer.tiles[tile].groups) + 1
    bad = replace(layer.tiles[tile], group_count=count)
    return _edit(layer, tile, bad), frozenset({1, 5}), False


@_corruption
def _group_less(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    count = len(layer.tiles[tile].groups) - 1
    bad = replace(layer.tiles[tile], group_count=count)
    return (_edit(layer, tile, bad), frozenset({1}), False) if count else None


@_corruption
def _record_more(rng: np.random.Generator, layer: Layer, tile: int) -> _Done:
    bad = replace(layer.tiles[tile], record_count=len(layer.tiles[tile].records) + 1)
    return _edit(layer, tile, bad), frozenset({2, 6}), False


@_corruption
def _record_less(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    count = len(layer.tiles[tile].records) - 1
    bad = replace(layer.tiles[tile], record_count=count)
    return (_edit(layer, tile, bad), frozenset({2}), False) if count >= 0 else None


def _with_record(layer: Layer, tile: int, n: int, record: Record) -> Layer:
    """Change record ``n`` of a tile; the sums are those of the changed records."""
    records = layer.tiles[tile].records
    changed = (*records[:n], record, *records[n + 1 :])
    return _edit(layer, tile, replace(layer.tiles[tile], records=changed))


def _pick(rng: np.random.Generator, choices: list[int]) -> int | None:
    """Return one of ``choices``, None if there is none."""
    return int(rng.choice(choices)) if choices else None


def _pairs(layer: Layer, tile: int) -> list[int]:
    """Return the outliers that have another outlier before them in their group."""
    records, escape = layer.tiles[tile].records, layer.config.gap_escape
    return [
        n for n in range(1, len(records))
        if records[n - 1].more and records[n - 1].gap != escape
    ]  # fmt: skip


@_corruption
def _lane_twice(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    records, n = layer.tiles[tile].records, _pick(rng, _pairs(layer, tile))
    if n is None:
        return None
    bad = replace(records[n], lane=records[n - 1].lane)
    return _with_record(layer, tile, n, bad), frozenset({3}), True


@_corruption
def _lane_below(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    records = layer.tiles[tile].records
    n = _pick(rng, [n for n in _pairs(layer, tile) if records[n - 1].lane])
    if n is None:
        return None
    bad = replace(records[n], lane=int(rng.integers(records[n - 1].lane)))
    return _with_record(layer, tile, n, bad), frozenset({3}), True


@_corruption
def _gap_after_more(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    records, n = layer.tiles[tile].records, _pick(rng, _pairs(layer, tile))
    if n is None:
        return None
    return _with_record(layer, tile, n, replace(records[n], gap=1)), frozenset({3}), False


@_corruption
def _more_at_the_end(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    records = layer.tiles[tile].records
    if not records:
        return None
    bad = _with_record(layer, tile, len(records) - 1, replace(records[-1], more=1))
    return bad, frozenset({3}), True


@_corruption
def _more_missing(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    records = layer.tiles[tile].records
    n = _pick(rng, [n for n, record in enumerate(records) if record.more])
    if n is None:
        return None
    return _with_record(layer, tile, n, replace(records[n], more=0)), frozenset({3, 4}), True


@_corruption
def _gap_past_the_tile(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    whole, escape = layer.tiles[tile], layer.config.gap_escape
    left = len(whole.groups) - sum(record.gap for record in whole.records)
    records = list(whole.records)
    while left >= escape:
        records.append(Record(0, int(left == escape), escape, 0))
        left -= escape
    records.append(Record(int(rng.integers(layer.config.lanes)), 0, left, 0))
    return _edit(layer, tile, replace(whole, records=tuple(records))), frozenset({4}), True


@_corruption
def _escape_past_the_tile(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    whole, escape = layer.tiles[tile], layer.config.gap_escape
    left = len(whole.groups) - sum(record.gap for record in whole.records)
    added = -(-left // escape) * (Record(0, 0, escape, 0),)
    bad = replace(whole, records=whole.records + added)
    return _edit(layer, tile, bad), frozenset({4}), True


def _resize(
    layer: Layer, tile: int, stream: int, rng: np.random.Generator, times: int
) -> Layer | None:
    """Drop (0 times) or repeat (2 times) a beat of a tile of one stream."""
    span = spans(layer, tile)[stream]
    # The last beat of a tile, come twice, would only harm the next.
    next_tile = times == 2 and tile != len(layer.tiles) - 1
    at = _pick(rng, list(range(span.start, span.stop - int(next_tile))))
    beats = [layer.indexes, layer.outliers]
    lasts = [layer.indexes_last, layer.outliers_last]
    if at is None or len(beats[stream]) + times < 2:
        return None
    repeat = np.ones(len(beats[stream]), int)
    repeat[at] = times
    beats[stream] = np.repeat(beats[stream], repeat, axis=0)
    # The flag stays with the last beat there is, as a sender with a wrong count would have it.
    lasts[stream] = np.arange(len(beats[stream])) == len(beats[stream]) - 1
    return _with_beats(layer, _Beats(beats[0], beats[1], lasts[0], lasts[1]))


@_corruption
def _drop_index_beat(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    bad = _resize(layer, tile, _INDEX, rng, 0)
    return bad and (bad, frozenset({1, 5}), False)


@_corruption
def _repeat_index_beat(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    bad = _resize(layer, tile, _INDEX, rng, 2)
    return bad and (bad, frozenset({1, 5}), False)


@_corruption
def _drop_outlier_beat(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    bad = _resize(layer, tile, _OUTLIER, rng, 0)
    return bad and (bad, frozenset(range(1, 8)), False)


@_corruption
def _repeat_outlier_beat(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    bad = _resize(layer, tile, _OUTLIER, rng, 2)
    return bad and (bad, frozenset(range(1, 8)), False)


def _set_last(layer: Layer, stream: int, at: int, flag: bool) -> Layer:
    """Set ``last`` of a beat of a stream."""
    lasts = [layer.indexes_last.copy(), layer.outliers_last.copy()]
    lasts[stream][at] = flag
    return _with_beats(layer, _Beats(layer.indexes, layer.outliers, *lasts))


def _early(
    layer: Layer, tile: int, stream: int, rng: np.random.Generator, code: int
) -> _Done | None:
    """Set ``last`` in a tile before its end, or at its end where the layer goes on."""
    span = spans(layer, tile)[stream]
    final = tile == len(layer.tiles) - 1
    choices = range(span.start, span.stop - int(final))
    at = _pick(rng, list(choices))
    if at is None:
        return None
    return _set_last(layer, stream, at, True), frozenset({code}), False


@_corruption
def _index_last_early(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    return _early(layer, tile, _INDEX, rng, 5)


@_corruption
def _outlier_last_early(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    return _early(layer, tile, _OUTLIER, rng, 6)


def _missing(layer: Layer, tile: int, stream: int) -> _Done | None:
    """Clear ``last`` of one stream of the layer."""
    if tile != len(layer.tiles) - 1:
        return None
    return _set_last(layer, stream, -1, False), frozenset({5, 6}), True


@_corruption
def _index_last_missing(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    return _missing(layer, tile, _INDEX)


@_corruption
def _outlier_last_missing(rng: np.random.Generator, layer: Layer, tile: int) -> _Done | None:
    return _missing(layer, tile, _OUTLIER)
