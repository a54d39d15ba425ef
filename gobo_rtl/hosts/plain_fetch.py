"""Jobs of the queue to checked layers whose weights are plain."""

from amaranth.hdl import Cat, Value

from ..host_config import HostConfig
from ..top.fetch import Fetch, aligned
from ..top.record import RecordReader

__all__ = ["PlainFetch"]

CODEBOOK = 4  # cycles that reading and checking one takes, besides its values
_ABSENT = (
    "unit_exponent", "codebook_offset", "outlier_offset", "outlier_bytes", "weight_sum", "flags",
)  # fmt: skip


class PlainFetch(Fetch):
    """Reads jobs and layer descriptors, and checks them. There is no codebook.

    Paper
    -----
    Our own choice: docs/hosts.md section 2.

    Parameters
    ----------
    config : HostConfig
        Sizes that jobs and layers must fit; ``weights`` is ``fp16`` or ``fp32``.
    """

    has_codebook = False

    def __init__(self, config: HostConfig):
        self.host = config
        super().__init__(config.array)

    def latency(self, index_width: int) -> int:
        """Return the cycles that a job takes besides those of memory."""
        return super().latency(0) - 1 - CODEBOOK

    def layer_fields(self, widths: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """Return the bits that are kept of a descriptor's fields, out of ``widths``, and the fields
        that must have a value."""
        return {**widths, "index_width": 6}, {"value_format": self.host.stored.code}

    def layer_is_good(self, reader: RecordReader) -> Value:
        """Return whether the descriptor is one that the host takes."""
        layer, config = reader.fields, self.config
        strips = (layer.rows + (config.rows - 1)) >> config.row_bits
        return Cat(
            ~reader.bad, layer.index_width == self.host.stored.width,
            layer.rows != 0, layer.columns != 0, layer.columns <= config.max_inputs,
            layer.tile_count == strips, layer.index_bytes != 0,
            *(aligned(value, config.beat_bytes)
              for value in (layer.index_offset, layer.index_bytes, layer.bias_offset)),
            *(layer[name] == 0 for name in _ABSENT),
        ).all()  # fmt: skip
