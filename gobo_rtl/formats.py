"""Fields of the container, the device image and the streams, as plain data.

``docs/formats.md`` explains them; a test compares that page with these tables.  Offsets and
widths are in bits, little-endian: bit ``i`` of a file is bit ``i % 8`` of byte ``i // 8``, and
bit ``i`` of a memory beat is bit ``i`` of the file counted from the first byte of the beat.
"""

from dataclasses import dataclass

__all__ = [
    "ACT_FORMATS",
    "ARRAY_ERRORS",
    "COMPLETION",
    "CONTAINER_KEY",
    "CONTAINER_VERSION",
    "CRC16",
    "ERRORS",
    "IMAGE_HEADER",
    "IMAGE_VERSION",
    "JOB",
    "JOB_FLAGS",
    "JOB_SLOT",
    "LAYER_DESCRIPTOR",
    "LAYER_FLAGS",
    "LAYER_RECORD",
    "LAYER_SUFFIX",
    "OUTLIER_RULES",
    "POLICIES",
    "RESULT_FORMATS",
    "SOURCE_TYPES",
    "TILE_ENTRY",
    "TILE_HEADER",
    "VALUE_FORMATS",
    "ActFormat",
    "Field",
    "Record",
    "ValueFormat",
]  # fmt: skip


@dataclass(frozen=True)
class ValueFormat:
    """An IEEE 754 style number: sign, exponent, fraction, from the highest bit down."""

    name: str
    code: int
    exponent_width: int
    fraction_width: int

    @property
    def width(self) -> int:
        """Bits of a value."""
        return 1 + self.exponent_width + self.fraction_width


VALUE_FORMATS: dict[str, ValueFormat] = {
    "fp16": ValueFormat("fp16", 0, 5, 10),
    "bf16": ValueFormat("bf16", 1, 8, 7),
    "fp32": ValueFormat("fp32", 2, 8, 23),
}

RESULT_FORMATS: tuple[str, ...] = ("fp16", "fp32")


@dataclass(frozen=True)
class ActFormat:
    """An activation in memory: an IEEE 754 number, or a two's complement integer."""

    name: str
    code: int
    width: int
    exponent_width: int  # 0 for an integer

    @property
    def integer(self) -> bool:
        """Whether it is an integer."""
        return self.exponent_width == 0


ACT_FORMATS: dict[str, ActFormat] = {
    "fp16": ActFormat("fp16", 0, 16, 5),
    "fp32": ActFormat("fp32", 1, 32, 8),
    "int8": ActFormat("int8", 2, 8, 0),
    "int16": ActFormat("int16", 3, 16, 0),
}

# Codes of the byte fields ``policy``, ``outlier_rule`` and ``source_type``.
POLICIES: tuple[str, ...] = ("gobo", "kmeans", "linear", "equal", "minmax")
OUTLIER_RULES: tuple[str, ...] = ("none", "logpdf", "zscore", "share")
SOURCE_TYPES: tuple[str, ...] = ("F32", "F16", "BF16", "F64")


@dataclass(frozen=True)
class Field:
    """A field of a record: ``kind`` is ``bytes``, ``unsigned``, ``signed`` or ``float``."""

    name: str
    offset: int
    width: int
    kind: str = "unsigned"


@dataclass(frozen=True)
class Record:
    """A fixed-size record; bits that no field covers are zero."""

    name: str
    width: int
    magic: bytes
    fields: tuple[Field, ...]

    @property
    def size(self) -> int:
        """Bytes of the record."""
        return self.width // 8

    def field(self, name: str) -> Field:
        """Return the field called ``name``."""
        return next(field for field in self.fields if field.name == name)


def _record(name: str, size: int, magic: bytes, *fields: tuple[str, int, int, str]) -> Record:
    """Build a record from byte offsets and byte sizes."""
    return Record(
        name, 8 * size, magic, tuple(Field(n, 8 * at, 8 * of, kind) for n, at, of, kind in fields)
    )


# -- container ------------------------------------------------------------------------------

CONTAINER_VERSION = 1
CONTAINER_KEY = "gobo"  # in the metadata of the safetensors header
LAYER_SUFFIX = ".gobo"  # a U8 tensor with this ending holds a layer record

LAYER_RECORD = _record(
    "layer record", 104, b"GOBL",
    ("magic", 0, 4, "bytes"),
    ("version", 4, 1, "unsigned"),
    ("index_width", 5, 1, "unsigned"),
    ("value_format", 6, 1, "unsigned"),
    ("source_type", 7, 1, "unsigned"),
    ("policy", 8, 1, "unsigned"),
    ("outlier_rule", 9, 1, "unsigned"),
    ("flags", 10, 1, "unsigned"),  # bit 0 symmetric, bit 1 on the grid, bit 2 embedding
    ("gap_width", 11, 1, "unsigned"),
    ("unit_exponent", 12, 2, "signed"),
    ("iterations", 14, 2, "unsigned"),
    ("rank", 16, 1, "unsigned"),
    ("dim0", 20, 4, "unsigned"),
    ("dim1", 24, 4, "unsigned"),
    ("dim2", 28, 4, "unsigned"),
    ("dim3", 32, 4, "unsigned"),
    ("outlier_count", 36, 4, "unsigned"),
    ("quotient_bytes", 40, 4, "unsigned"),
    ("mean", 48, 8, "float"),
    ("deviation", 56, 8, "float"),
    ("threshold", 64, 8, "float"),
    ("l1", 72, 8, "float"),
    ("max_error", 80, 8, "float"),
    ("squared_error", 88, 8, "float"),
    ("crc32", 100, 4, "unsigned"),
)  # fmt: skip

# -- device image ---------------------------------------------------------------------------

IMAGE_VERSION = 1

IMAGE_HEADER = _record(
    "image header", 128, b"GOBOIMG\0",
    ("magic", 0, 8, "bytes"),
    ("version", 8, 2, "unsigned"),
    ("value_format", 10, 1, "unsigned"),
    ("index_widths", 11, 1, "unsigned"),  # bit b set: a layer may have b-bit indexes
    ("lanes", 12, 2, "unsigned"),
    ("lane_rows", 14, 2, "unsigned"),
    ("tile_rows", 16, 2, "unsigned"),
    ("beat_width", 18, 2, "unsigned"),
    ("burst_beats", 20, 2, "unsigned"),
    ("layer_count", 24, 4, "unsigned"),
    ("file_bytes", 32, 8, "unsigned"),
    ("container_sha256", 40, 32, "bytes"),
    ("body_crc32", 120, 4, "unsigned"),
    ("crc32", 124, 4, "unsigned"),
)  # fmt: skip

LAYER_DESCRIPTOR = _record(
    "layer descriptor", 128, b"GOBD",
    ("magic", 0, 4, "bytes"),
    ("index_width", 4, 1, "unsigned"),
    ("value_format", 5, 1, "unsigned"),
    ("unit_exponent", 6, 2, "signed"),
    ("rows", 8, 4, "unsigned"),
    ("columns", 12, 4, "unsigned"),
    ("tile_count", 16, 4, "unsigned"),
    ("outlier_count", 20, 4, "unsigned"),
    ("codebook_offset", 24, 8, "unsigned"),
    ("tile_table_offset", 32, 8, "unsigned"),
    ("index_offset", 40, 8, "unsigned"),
    ("index_bytes", 48, 8, "unsigned"),
    ("outlier_offset", 56, 8, "unsigned"),
    ("outlier_bytes", 64, 8, "unsigned"),
    ("bias_offset", 72, 8, "unsigned"),  # 0: no biases
    ("bias_bytes", 80, 8, "unsigned"),
    ("weight_sum", 88, 4, "unsigned"),  # the largest of the rows', in units; 0 off the grid
    ("flags", 92, 1, "unsigned"),  # LAYER_FLAGS
    ("payload_crc32", 120, 4, "unsigned"),
    ("crc32", 124, 4, "unsigned"),
)  # fmt: skip

# Bits of ``flags`` in a layer descriptor.
LAYER_FLAGS: dict[str, int] = {"symmetric": 0, "grid": 1}

TILE_ENTRY = _record(
    "tile entry", 16, b"",
    ("index_offset", 0, 4, "unsigned"),
    ("outlier_offset", 4, 4, "unsigned"),
    ("group_count", 8, 4, "unsigned"),
    ("record_count", 12, 4, "unsigned"),
)  # fmt: skip

# First 64 bits of every tile in the outlier stream.
TILE_HEADER = _record(
    "tile header", 8, b"",
    ("group_count", 0, 2, "unsigned"),
    ("record_count", 2, 2, "unsigned"),
    ("index_crc16", 4, 2, "unsigned"),
    ("outlier_crc16", 6, 2, "unsigned"),
)  # fmt: skip


@dataclass(frozen=True)
class Crc16:
    """A reflected CRC-16: ``polynomial`` with its bits reversed, and the first remainder."""

    polynomial: int
    initial: int


# Catalogue name CRC-16/MCRF4XX; the check value of b"123456789" is 0x6F91.
CRC16 = Crc16(polynomial=0x8408, initial=0xFFFF)

# Codes of the decode unit's ``error_code``, docs/formats.md section 5.
ERRORS: dict[str, int] = {
    "none": 0,
    "index_crc": 1,
    "outlier_crc": 2,
    "record_order": 3,
    "record_place": 4,
    "index_end": 5,
    "outlier_end": 6,
    "tile_header": 7,
}

# -- jobs of the accelerator, docs/accelerator.md section 5 -----------------------------------

JOB_SLOT = 128
"""Bytes from one job to the next in the queue: the job, and at 64 its completion."""

JOB = _record(
    "job", 64, b"GOBJ",
    ("magic", 0, 4, "bytes"),
    ("flags", 4, 1, "unsigned"),  # JOB_FLAGS
    ("act_format", 5, 1, "unsigned"),
    ("result_format", 6, 1, "unsigned"),  # code of VALUE_FORMATS
    ("tag", 8, 4, "unsigned"),
    ("tokens", 12, 4, "unsigned"),
    ("image_address", 16, 8, "unsigned"),
    ("layer_offset", 24, 4, "unsigned"),
    ("block_tiles", 28, 2, "unsigned"),
    ("act_exponent", 30, 2, "signed"),
    ("act_address", 32, 8, "unsigned"),
    ("act_stride", 40, 4, "unsigned"),
    ("result_stride", 44, 4, "unsigned"),
    ("result_address", 48, 8, "unsigned"),
)  # fmt: skip

# Bits of ``flags`` in a job.
JOB_FLAGS: dict[str, int] = {"interrupt": 0, "fence": 1, "resident": 2}

COMPLETION = _record(
    "completion", 16, b"GOBC",
    ("magic", 0, 4, "bytes"),
    ("tag", 4, 4, "unsigned"),
    ("cycles", 8, 6, "unsigned"),
    ("error", 14, 1, "unsigned"),  # ARRAY_ERRORS
)  # fmt: skip

# Codes of the accelerator's errors: the decode unit's, then its own.
ARRAY_ERRORS: dict[str, int] = {
    **ERRORS,
    "job": 8,
    "layer": 9,
    "layer_crc": 10,
    "codebook": 11,
    "too_large": 12,
    "read": 13,
    "write": 14,
}
