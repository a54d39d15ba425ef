"""A reader of containers made from docs/formats.md alone: one bit at a time, no numpy, no quant."""

import hashlib
import json
import struct
import zlib
from fractions import Fraction
from math import prod
from pathlib import Path

FORMATS = {0: (16, 5), 1: (16, 8), 2: (32, 8)}  # code: bits, exponent bits
FIELDS = [
    ("magic", "4s"), ("version", "B"), ("index_width", "B"), ("value_format", "B"),
    ("source_type", "B"), ("policy", "B"), ("outlier_rule", "B"), ("flags", "B"),
    ("gap_width", "B"), ("unit_exponent", "h"), ("iterations", "H"), ("rank", "B"), ("", "3s"),
    ("dim0", "I"), ("dim1", "I"), ("dim2", "I"), ("dim3", "I"), ("outlier_count", "I"),
    ("quotient_bytes", "I"), ("", "4s"), ("mean", "d"), ("deviation", "d"), ("threshold", "d"),
    ("l1", "d"), ("max_error", "d"), ("squared_error", "d"), ("", "4s"), ("crc32", "I"),
]  # fmt: skip


def read(path: Path) -> dict:
    """Return ``metadata``, ``layers`` by name (see :func:`layer`) and ``stored`` bytes by name."""
    data = Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = json.loads(header.pop("__metadata__")["gobo"])
    digest = metadata["sha256"].encode()
    assert hashlib.sha256(data.replace(digest, b"0" * 64)).hexdigest().encode() == digest
    layers, stored = {}, {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        part = data[8 + size + start : 8 + size + stop]
        if name.endswith(".gobo"):
            layers[name[:-5]] = layer(part)
        else:
            stored[name] = part
    return {"metadata": metadata, "layers": layers, "stored": stored}


def layer(record: bytes) -> dict:
    """Return the fields of a record, its codebook, and of each weight its value and index."""
    values = struct.unpack("<" + "".join(kind for _, kind in FIELDS), record[:104])
    fields = {name: value for (name, _), value in zip(FIELDS, values, strict=True) if name}
    assert fields["crc32"] == zlib.crc32(record[:100] + record[104:])
    shape = [fields[f"dim{n}"] for n in range(fields["rank"])]
    count, total = fields["outlier_count"], prod(shape)
    width, exponent = FORMATS[fields["value_format"]]
    b, gap_width = fields["index_width"], fields["gap_width"]

    at = 8 * 104

    def bits(number: int) -> int:
        nonlocal at
        taken = sum((record[i // 8] >> i % 8 & 1) << i - at for i in range(at, at + number))
        at += number
        return taken

    def align() -> None:
        assert bits(-at % 8) == 0

    codebook = [value(bits(width), width, exponent) for _ in range(2**b)]
    outliers = [value(bits(width), width, exponent) for _ in range(count)]
    remainders = [bits(gap_width) for _ in range(count)]
    align()
    end = at + 8 * fields["quotient_bytes"]
    positions, last = [], -1
    for remainder in remainders:
        quotient = 0
        while not bits(1):
            quotient += 1
        last += 1 + (quotient << gap_width | remainder)
        positions.append(last)
    align()
    assert at == end
    at_position = dict(zip(positions, outliers, strict=True))
    indexes = [None if p in at_position else bits(b) for p in range(total)]
    align()
    assert at == 8 * len(record)
    weights = [at_position[p] if i is None else codebook[i] for p, i in enumerate(indexes)]
    return {
        **fields, "shape": shape, "codebook": codebook, "positions": positions,
        "outliers": outliers, "indexes": indexes, "weights": weights,
    }  # fmt: skip


def value(bits: int, width: int, exponent_width: int) -> Fraction:
    """Return the number that an IEEE 754 encoding means, exactly."""
    fraction_width = width - 1 - exponent_width
    sign = -1 if bits >> (width - 1) else 1
    exponent = bits >> fraction_width & ((1 << exponent_width) - 1)
    fraction = bits & ((1 << fraction_width) - 1)
    assert exponent + 1 < 1 << exponent_width, "finite"
    if exponent:
        fraction |= 1 << fraction_width
    bias = (1 << (exponent_width - 1)) - 1
    return sign * fraction * Fraction(2) ** (max(exponent, 1) - bias - fraction_width)
