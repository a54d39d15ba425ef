"""Images of plain weights for the host arrays: docs/hosts.md, section 2."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.formats import IMAGE_HEADER, IMAGE_VERSION, LAYER_DESCRIPTOR, Record
from gobo_rtl.host_config import HostConfig

from .jobs import pack

__all__ = ["PlainLayer", "plain_image", "plain_words"]

PlainLayer = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Weights (rows, inputs) and biases (rows,)."""


def plain_words(config: HostConfig, weights: NDArray[np.float32]) -> bytes:
    """Return the weight words of weights (rows, inputs) in the host's format and order."""
    dtype = np.dtype({"fp16": "<f2", "fp32": "<f4"}[config.weights])
    rows, inputs = weights.shape
    size = config.word_inputs
    with np.errstate(over="ignore"):
        stored = weights.astype(dtype)
    parts = []
    for top in range(0, rows, config.rows):
        strip = np.zeros((config.rows, -(-inputs // size) * size), dtype)
        part = stored[top : top + config.rows]
        strip[: len(part), :inputs] = part
        parts += [strip[:, at : at + size].tobytes() for at in range(0, strip.shape[1], size)]
    return b"".join(parts)


def plain_image(config: HostConfig, layers: Sequence[PlainLayer]) -> bytes:
    """Return an image of plain layers; ``ValueError`` for a host behind the front end."""
    if config.weights == "gobo":
        raise ValueError("weights of the host are 'gobo': its image is packed by quant, not plain")
    packed = config.image
    place = IMAGE_HEADER.size + len(layers) * LAYER_DESCRIPTOR.size
    body, descriptors = bytearray(), []

    def add(data: bytes) -> int:
        """Append a section on a burst boundary and return its offset."""
        body.extend(bytes(-(place + len(body)) % packed.burst_bytes))
        offset = place + len(body)
        body.extend(data)
        return offset

    for weights, bias in layers:
        rows, inputs = weights.shape
        strips = -(-rows // config.rows)
        words = plain_words(config, weights)
        offset = add(words)
        fields = {
            "index_width": config.stored.width, "value_format": config.stored.code, "rows": rows,
            "columns": inputs, "tile_count": strips, "index_offset": offset,
            "index_bytes": len(words),
        }  # fmt: skip
        if bias is not None:
            padded = np.zeros(strips * config.rows, "<f4")
            padded[:rows] = bias
            data = padded.tobytes()
            data += bytes(-len(data) % packed.beat_bytes)
            fields |= {"bias_offset": add(data), "bias_bytes": len(data)}
        fields["payload_crc32"] = crc32(body[offset - place :])
        descriptors.append(_with_crc(LAYER_DESCRIPTOR, fields))
    add(b"")
    rest = b"".join(descriptors) + bytes(body)
    header = {
        "version": IMAGE_VERSION, "value_format": config.stored.code, "lanes": packed.lanes,
        "lane_rows": packed.lane_rows, "tile_rows": packed.tile_rows,
        "beat_width": packed.beat_width, "burst_beats": packed.burst_beats,
        "layer_count": len(layers), "file_bytes": IMAGE_HEADER.size + len(rest),
        "body_crc32": crc32(rest),
    }  # fmt: skip
    return _with_crc(IMAGE_HEADER, header) + rest


def _with_crc(record: Record, fields: dict[str, int]) -> bytes:
    """Return a record whose last four bytes are the CRC-32 of those before."""
    return pack(record, **fields, crc32=crc32(pack(record, **fields)[:-4]))
