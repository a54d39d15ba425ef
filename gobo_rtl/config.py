"""Sizes of the hardware, and the named configurations.

A :class:`GoboConfig` is all that a block, its golden model and the packer of the device image
have to agree on.  Every derived width is a property, so each is computed in one place.
"""

from dataclasses import asdict, dataclass
from typing import Any

from .formats import VALUE_FORMATS, ValueFormat

__all__ = ["CONFIGS", "GoboConfig", "named"]


def _power_of_two(name: str, value: int, low: int, high: int, unit: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high or value & (value - 1):
        raise ValueError(f"{name} must be a power of two in {low}..{high} {unit}, not {value}")


@dataclass(frozen=True, kw_only=True)
class GoboConfig:
    """Sizes of a decode unit and of the device image that it reads.

    Parameters
    ----------
    lanes : int
        Weights decoded in a cycle, a *group*; a power of two in 4..128.
    index_widths : tuple of int
        Index widths in bits that a layer may have, ascending, out of 2, 3 and 4.
    value_format : str
        Format of a decoded weight: ``fp16``, ``bf16`` or ``fp32``.
    beat_width : int
        Bits in a memory beat; a power of two in 64..512.
    outliers_per_cycle : int
        Outliers of one group merged without a stall: 1, 2 or 4, at most ``lanes``.
    lane_rows : int
        Rows of the matrix that a group spans; a group is a block of ``lane_rows`` rows by
        ``lane_columns`` columns.  A power of two, at most ``lanes``.
    tile_rows : int
        Rows of the matrix in a tile; a multiple of ``lane_rows``, at most 1024.
    burst_beats : int
        Beats in a memory burst; streams in the device image start on a multiple of it.  A power
        of two in 1..256, and a burst is at most 4096 bytes.
    """

    lanes: int = 16
    index_widths: tuple[int, ...] = (3,)
    value_format: str = "fp16"
    beat_width: int = 128
    outliers_per_cycle: int = 1
    lane_rows: int = 1
    tile_rows: int = 16
    burst_beats: int = 16

    def __post_init__(self) -> None:
        _power_of_two("lanes", self.lanes, 4, 128, "weights a cycle")
        _power_of_two("beat_width", self.beat_width, 64, 512, "bits")
        _power_of_two("outliers_per_cycle", self.outliers_per_cycle, 1, 4, "outliers")
        _power_of_two("lane_rows", self.lane_rows, 1, self.lanes, "rows (at most lanes)")
        _power_of_two("burst_beats", self.burst_beats, 1, 256, "beats")
        if not isinstance(self.index_widths, tuple):
            raise TypeError(f"index_widths must be a tuple of bits, not {self.index_widths!r}")
        if not self.index_widths or sorted(set(self.index_widths)) != list(self.index_widths):
            raise ValueError(
                f"index_widths must be ascending and not empty, not {self.index_widths}"
            )
        for width in self.index_widths:
            if width not in (2, 3, 4):
                raise ValueError(f"index_widths must be out of 2, 3 and 4 bits, not {width}")
        if self.value_format not in VALUE_FORMATS:
            raise ValueError(
                f"value_format must be one of {', '.join(VALUE_FORMATS)}, "
                f"not {self.value_format!r}"
            )
        if not isinstance(self.tile_rows, int) or isinstance(self.tile_rows, bool):
            raise TypeError(f"tile_rows must be an integer, not {self.tile_rows!r}")
        if not 1 <= self.tile_rows <= 1024 or self.tile_rows % self.lane_rows:
            raise ValueError(
                f"tile_rows must be a multiple of lane_rows ({self.lane_rows}) in 1..1024 rows, "
                f"not {self.tile_rows}"
            )
        if self.burst_bytes > 4096:
            raise ValueError(
                f"a burst must be at most 4096 bytes, not burst_beats x beat_width = "
                f"{self.burst_bytes} bytes"
            )
        if self.outliers_per_cycle * self.record_width > self.beat_width:
            raise ValueError(
                f"outliers_per_cycle x {self.record_width} bits a record must fit a beat of "
                f"{self.beat_width} bits, or memory could never keep up; {self.outliers_per_cycle} "
                f"records take {self.outliers_per_cycle * self.record_width} bits"
            )

    # -- groups and tiles -------------------------------------------------------------------

    @property
    def lane_columns(self) -> int:
        """Columns of the matrix that a group spans."""
        return self.lanes // self.lane_rows

    @property
    def lane_bits(self) -> int:
        """Bits that number a lane."""
        return self.lanes.bit_length() - 1

    # -- values -----------------------------------------------------------------------------

    @property
    def value(self) -> ValueFormat:
        """Format of a decoded weight."""
        return VALUE_FORMATS[self.value_format]

    @property
    def value_width(self) -> int:
        """Bits of a decoded weight."""
        return self.value.width

    @property
    def index_width(self) -> int:
        """Bits of the widest index."""
        return self.index_widths[-1]

    @property
    def bins(self) -> int:
        """Centroids in the codebook of the widest index."""
        return 1 << self.index_width

    @property
    def codebook_width(self) -> int:
        """Bits of a whole codebook, one transfer."""
        return self.bins * self.value_width

    # -- the outlier stream -----------------------------------------------------------------

    @property
    def gap_width(self) -> int:
        """Bits of the group gap in an outlier record."""
        return 15 - self.lane_bits

    @property
    def gap_escape(self) -> int:
        """The group gap that moves on without an outlier: all ones."""
        return (1 << self.gap_width) - 1

    @property
    def record_width(self) -> int:
        """Bits of an outlier record: 16 of position and the value."""
        return 16 + self.value_width

    # -- memory -----------------------------------------------------------------------------

    @property
    def beat_bytes(self) -> int:
        """Bytes in a memory beat."""
        return self.beat_width // 8

    @property
    def burst_bytes(self) -> int:
        """Bytes in a memory burst, the alignment of a stream in the device image."""
        return self.burst_beats * self.beat_bytes

    def as_dict(self) -> dict[str, Any]:
        """Return the chosen sizes, JSON-ready."""
        return {**asdict(self), "index_widths": list(self.index_widths)}


CONFIGS: dict[str, GoboConfig] = {
    # Small enough to simulate and prove.
    "tiny": GoboConfig(lanes=4, beat_width=64, lane_rows=4, tile_rows=4, burst_beats=4),
    # Sixteen FP16 weights a cycle, one a row: the order of an output-stationary array.
    "default": GoboConfig(lanes=16, lane_rows=16, tile_rows=16),
    # The same rate along a row, every index width, for hosts that read plain rows.
    "rows": GoboConfig(lanes=16, index_widths=(2, 3, 4), outliers_per_cycle=2),
    # 4 x 4 blocks of weights, the operand of a 4 x 4 x 4 dot-product unit.
    "block": GoboConfig(lanes=16, lane_rows=4, tile_rows=16),
    # One row of 64 weights in BF16.
    "bf16": GoboConfig(
        lanes=64, value_format="bf16", beat_width=256, lane_rows=64, tile_rows=64,
        index_widths=(3, 4), outliers_per_cycle=2,
    ),
    # What the paper's FP32 figures count.
    "fp32": GoboConfig(lanes=16, value_format="fp32"),
    # The widest: a full memory beat of 4-bit indexes a cycle.
    "wide": GoboConfig(
        lanes=128, index_widths=(2, 3, 4), beat_width=512, outliers_per_cycle=4,
        lane_rows=128, tile_rows=128, burst_beats=8,
    ),
}  # fmt: skip


def named(name: str) -> GoboConfig:
    """Return the configuration called ``name``; ``ValueError`` lists the names there are."""
    if name not in CONFIGS:
        raise ValueError(f"no configuration is called {name!r}; there are {', '.join(CONFIGS)}")
    return CONFIGS[name]
