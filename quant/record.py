"""The layer record of a container: docs/formats.md, section 3.2."""

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import (
    CONTAINER_VERSION,
    LAYER_RECORD,
    OUTLIER_RULES,
    POLICIES,
    SOURCE_TYPES,
    VALUE_FORMATS,
)

from .encoding import value_bits, value_numbers
from .fields import pack_record, unpack_record
from .fit import Layer, Options, OutlierRule
from .packing import packed_size, rice_decode, rice_encode, unpack
from .ranks import MAX_WEIGHTS

__all__ = ["GRID_WIDTH", "StoredLayer", "read_record", "record_limit", "write_record"]

# Bits of a grid number, sign included: section 1.
GRID_WIDTH = {"fp16": 12, "bf16": 9, "fp32": 12}

_SYMMETRIC, _ON_GRID, _EMBEDDING = 1, 2, 4
_FORMATS = {value.code: value.name for value in VALUE_FORMATS.values()}
_CRC = slice(LAYER_RECORD.field("crc32").offset // 8, LAYER_RECORD.size)


@dataclass(frozen=True)
class StoredLayer:
    """A layer as it comes out of a container, with what only a file knows of it.

    ``layer.centroids`` is the codebook: what they were before the grid is not stored.
    """

    name: str
    layer: Layer
    source_type: str
    embedding: bool
    nbytes: int

    @property
    def size(self) -> int:
        """Weights."""
        return math.prod(self.layer.shape)

    def indexes(self) -> NDArray[np.uint8]:
        """Return the indexes in the layer's shape, 0 where the weight is an outlier."""
        indexes = np.zeros(self.size, np.uint8)
        group = np.ones(self.size, np.bool_)
        group[self.layer.positions] = False
        width = self.layer.options.index_width
        indexes[group] = unpack(self.layer.indexes, width, self.size - self.layer.positions.size)
        return indexes.reshape(self.layer.shape)


def write_record(layer: Layer, source_type: str, *, embedding: bool) -> bytes:
    """Return the record of a layer."""
    options = layer.options
    gap_width, remainders, quotients = rice_encode(layer.positions)
    flags = (_SYMMETRIC * options.symmetric | _ON_GRID * (layer.unit is not None)
             | _EMBEDDING * embedding)  # fmt: skip
    shape = (*layer.shape, 0, 0, 0)
    header = pack_record(
        LAYER_RECORD,
        version=CONTAINER_VERSION,
        index_width=options.index_width,
        value_format=VALUE_FORMATS[options.value_format].code,
        source_type=SOURCE_TYPES.index(source_type),
        policy=POLICIES.index(options.policy),
        outlier_rule=OUTLIER_RULES.index(options.rule.kind),
        flags=flags,
        gap_width=gap_width,
        unit_exponent=layer.unit or 0,
        iterations=layer.iterations,
        rank=len(layer.shape),
        **{f"dim{n}": shape[n] for n in range(4)},
        outlier_count=layer.positions.size,
        quotient_bytes=quotients.size,
        mean=layer.mean,
        deviation=layer.deviation,
        threshold=options.rule.parameter,
        l1=layer.l1,
        max_error=layer.max_error,
        squared_error=layer.squared_error,
    )
    values = [
        value_bits(part, options.value_format).tobytes()
        for part in (layer.codebook, layer.outliers)
    ]
    body = [*values, remainders.tobytes(), quotients.tobytes(), layer.indexes.tobytes()]
    record = bytearray(b"".join([header, *body]))
    record[_CRC] = _crc(record).to_bytes(4, "little")
    return bytes(record)


def record_limit(size: int, index_width: int, value_format: str) -> int:
    """Return bytes that the record of ``size`` weights cannot exceed, whatever its outliers."""
    width = VALUE_FORMATS[value_format].width
    # A weight takes an index or a value, and with gap width 0 all gaps together a bit a weight.
    return LAYER_RECORD.size + (1 << index_width) * width // 8 + size * (width + 1) // 8 + 8


def read_record(name: str, data: NDArray[np.uint8]) -> StoredLayer:
    """Return the layer of a record; ``ValueError`` says at which field or offset it is wrong."""
    fields = unpack_record(LAYER_RECORD, data[: LAYER_RECORD.size].tobytes())
    if fields["version"] > CONTAINER_VERSION:
        raise ValueError(
            f"version at offset 4 is {fields['version']}, newer than the {CONTAINER_VERSION} "
            "that this program reads; update it"
        )
    if fields["crc32"] != _crc(data):
        raise ValueError("checksum mismatch (crc32 at offset 100): the record is damaged")
    shape = _check(fields)
    size, count = math.prod(shape), fields["outlier_count"]
    index_width, gap_width = fields["index_width"], fields["gap_width"]
    value = VALUE_FORMATS[_FORMATS[fields["value_format"]]]
    sizes = {
        "codebook": (1 << index_width) * value.width // 8,
        "outlier values": count * value.width // 8,
        "gap remainders": packed_size(count, gap_width),
        "gap quotients": fields["quotient_bytes"],
        "indexes": packed_size(size - count, index_width),
    }
    if LAYER_RECORD.size + sum(sizes.values()) != data.size:
        raise ValueError(
            f"the record has {data.size} bytes, its header says "
            f"{LAYER_RECORD.size + sum(sizes.values())}"
        )
    sections, at = {}, LAYER_RECORD.size
    for section, nbytes in sizes.items():
        sections[section] = np.asarray(data[at : at + nbytes])
        at += nbytes
    codebook = value_numbers(sections["codebook"], value.name)
    outliers = value_numbers(sections["outlier values"], value.name)
    on_grid = bool(fields["flags"] & _ON_GRID)
    symmetric = bool(fields["flags"] & _SYMMETRIC)
    unit = fields["unit_exponent"]
    _check_codebook(codebook, value.name, unit if on_grid else None, symmetric)
    if not np.isfinite(outliers).all():
        raise ValueError("outlier values: one is not finite")
    try:
        positions = rice_decode(
            gap_width, sections["gap remainders"], sections["gap quotients"], count
        )
    except ValueError as error:
        raise ValueError(f"gaps: {error}") from error
    if count and gap_width != (best := rice_encode(positions)[0]):
        raise ValueError(f"gap_width at offset 11 is {gap_width}, and {best} is shorter")
    if count and positions[-1] >= size:
        raise ValueError(f"gaps: an outlier at position {positions[-1]} of {size}")
    options = Options(
        index_width=index_width,
        policy=POLICIES[fields["policy"]],
        outliers=OutlierRule(OUTLIER_RULES[fields["outlier_rule"]], fields["threshold"]),
        symmetric=symmetric,
        value_format=value.name,
        paper=value.name == "fp32" and not on_grid,
    )
    layer = Layer(
        options=options,
        shape=shape,
        mean=fields["mean"],
        deviation=fields["deviation"],
        centroids=codebook.astype(np.float64),
        codebook=codebook,
        unit=unit if on_grid else None,
        iterations=fields["iterations"],
        indexes=sections["indexes"],
        positions=positions,
        outliers=outliers,
        l1=fields["l1"],
        max_error=fields["max_error"],
        squared_error=fields["squared_error"],
        outlier_error=math.nan,
    )
    source_type = SOURCE_TYPES[fields["source_type"]]
    return StoredLayer(name, layer, source_type, bool(fields["flags"] & _EMBEDDING), data.size)


def _crc(record: bytearray | NDArray[np.uint8]) -> int:
    """Return the CRC-32 of a record without its last header field."""
    view = memoryview(record)  # type: ignore[arg-type]  # Python 3.11 has no Buffer
    return zlib.crc32(view[_CRC.stop :], zlib.crc32(view[: _CRC.start]))


def _check(fields: dict[str, Any]) -> tuple[int, ...]:
    """Check a header's fields by themselves; return the shape."""
    allowed: dict[str, tuple[int, int]] = {
        "version": (CONTAINER_VERSION, CONTAINER_VERSION),
        "index_width": (2, 4),
        "value_format": (0, len(_FORMATS) - 1),
        "source_type": (0, len(SOURCE_TYPES) - 1),
        "policy": (0, len(POLICIES) - 1),
        "outlier_rule": (0, len(OUTLIER_RULES) - 1),
        "flags": (0, _SYMMETRIC | _ON_GRID | _EMBEDDING),
        "gap_width": (0, 31 if fields["outlier_count"] else 0),
        "rank": (1, 4),
    }
    for name, (low, high) in allowed.items():
        if not low <= fields[name] <= high:
            at = LAYER_RECORD.field(name).offset // 8
            raise ValueError(f"{name} at offset {at} is {fields[name]}, not in {low}..{high}")
    dims = tuple(fields[f"dim{n}"] for n in range(4))
    shape = dims[: fields["rank"]]
    if 0 in shape or any(dims[fields["rank"] :]) or math.prod(shape) > MAX_WEIGHTS:
        raise ValueError(f"dimensions at offset 20 are {dims} for rank {fields['rank']}")
    if fields["outlier_count"] > math.prod(shape):
        raise ValueError(
            f"outlier_count at offset 36 is {fields['outlier_count']}, more than the weights"
        )
    if not fields["flags"] & _ON_GRID and fields["unit_exponent"]:
        raise ValueError("unit_exponent at offset 12 must be 0 when flag bit 1 is clear")
    policy, rule = POLICIES[fields["policy"]], OUTLIER_RULES[fields["outlier_rule"]]
    if policy == "minmax" and (rule != "none" or fields["outlier_count"]):
        raise ValueError("policy at offset 8 is minmax, which has no outliers")
    if rule == "none" and (fields["threshold"] or fields["outlier_count"]):
        raise ValueError("outlier_rule at offset 9 is none, and there is a threshold or an outlier")
    for name in ("mean", "deviation", "threshold", "l1", "max_error", "squared_error"):
        if not math.isfinite(fields[name]):
            at = LAYER_RECORD.field(name).offset // 8
            raise ValueError(f"{name} at offset {at} is {fields[name]}")
    return shape


def _check_codebook(
    codebook: NDArray[np.float32], value_format: str, unit: int | None, symmetric: bool
) -> None:
    if not np.isfinite(codebook).all() or (np.diff(codebook) < 0).any():
        raise ValueError("codebook: the centroids must be finite and ascending")
    if symmetric and not np.array_equal(codebook, -codebook[::-1]):
        raise ValueError("codebook: flag bit 0 says sign-symmetric, and it is not")
    if unit is not None:
        limit = (1 << (GRID_WIDTH[value_format] - 1)) - 1
        with np.errstate(all="ignore"):
            numbers = np.rint(np.ldexp(codebook.astype(np.float64), -unit))
            same = np.ldexp(numbers, unit) == codebook
        if not same.all() or np.abs(numbers).max() > limit:
            raise ValueError(f"codebook: a centroid is not on the grid of unit 2^{unit}")
