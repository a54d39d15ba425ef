"""Records of ``gobo_rtl.formats`` to bytes and back, by the tables there."""

import struct
from typing import Any

from gobo_rtl.formats import Record

__all__ = ["pack_record", "unpack_record"]

_FLOATS = {4: "<f", 8: "<d"}


def pack_record(record: Record, **fields: Any) -> bytes:
    """Return a record with these fields; ``magic`` is known, fields left out are zero."""
    data = bytearray(record.size)
    values = {"magic": record.magic, **fields} if record.magic else fields
    for name, value in values.items():
        field = record.field(name)
        at, size = field.offset // 8, field.width // 8
        if field.kind == "bytes":
            part = bytes(value)
            assert len(part) == size, f"{record.name}: {name} has {size} bytes"
        elif field.kind == "float":
            part = struct.pack(_FLOATS[size], value)
        else:
            part = int(value).to_bytes(size, "little", signed=field.kind == "signed")
        data[at : at + size] = part
    return bytes(data)


def unpack_record(record: Record, data: bytes) -> dict[str, Any]:
    """Return the fields of a record.

    ``ValueError``, with the offset in the record, for a wrong magic or bits outside its fields.
    """
    fields: dict[str, Any] = {}
    rest = bytearray(data[: record.size])
    if len(rest) < record.size:
        raise ValueError(f"{len(rest)} bytes are too few for a {record.name} of {record.size}")
    for field in record.fields:
        at, size = field.offset // 8, field.width // 8
        part = bytes(rest[at : at + size])
        rest[at : at + size] = bytes(size)
        if field.kind == "bytes":
            fields[field.name] = part
        elif field.kind == "float":
            (fields[field.name],) = struct.unpack(_FLOATS[size], part)
        else:
            fields[field.name] = int.from_bytes(part, "little", signed=field.kind == "signed")
    if record.magic and fields["magic"] != record.magic:
        raise ValueError(f"magic at offset 0 is {fields['magic']!r}, not {record.magic!r}")
    for at, byte in enumerate(rest):
        if byte:
            raise ValueError(f"byte at offset {at} must be zero, not {byte:#04x}")
    return fields
