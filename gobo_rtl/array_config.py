"""Sizes of the accelerator, and the named arrays.

An :class:`ArrayConfig` is all that the array's blocks, their golden models and the packer of its
device image have to agree on.  Words and rules: docs/accelerator.md.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from .config import GoboConfig
from .formats import ACT_FORMATS, RESULT_FORMATS, VALUE_FORMATS, ActFormat, ValueFormat

__all__ = [
    "ARRAYS", "MAX_OUTPUTS", "PES", "ArrayConfig", "check_choice", "check_integer",
    "check_power_of_two", "named_array",
]  # fmt: skip

PES: tuple[str, ...] = ("products", "bins", "mac", "bins_fp16")
"""Processing elements: what a PE keeps of a sum."""

# The PEs that compute in floating point, as references, and what they take no other of.
_FLOATING_PES = ("mac", "bins_fp16")
_FLOATING = {
    "act_format": "fp16", "align": "token", "act_width": 16, "value_format": "fp16",
    "result_format": "fp32",
}  # fmt: skip

MAX_OUTPUTS = (1 << 20) - 4
"""Most rows of a matrix: rows are counted in 20 bits, strips, of at least 4 rows, in 18."""


def check_integer(name: str, value: int, low: int, high: int, unit: str) -> None:
    """Refuse a size that is no integer in ``low..high``: TypeError, ValueError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low}..{high} {unit}, not {value}")


def check_power_of_two(name: str, value: int, low: int, high: int, unit: str) -> None:
    """Refuse a size that is no power of two in ``low..high``: TypeError, ValueError."""
    check_integer(name, value, low, high, unit)
    if value & (value - 1):
        raise ValueError(f"{name} must be a power of two, not {value}")


@dataclass(frozen=True, kw_only=True)
class ArrayConfig:
    """Sizes of an array of ``rows`` outputs by ``columns`` tokens and of what is around it.

    Parameters
    ----------
    rows : int
        Outputs computed at once; a power of two in 4..128.
    columns : int
        Tokens computed at once, 1..128.
    pe : str
        ``products`` or ``bins``; or, to measure these against, ``mac`` or ``bins_fp16``: they
        compute in floating point, and take ``act_format``, ``align``, ``act_width``,
        ``value_format`` and ``result_format`` only as they are by default.
    symmetric : bool
        Takes sign-symmetric codebooks only, with half the products or bins.
    act_format : str
        Activations in memory: ``fp16``, ``fp32``, ``int8`` or ``int16``.
    align : str
        ``token``: one unit a token, from its largest magnitude; ``absolute``: the unit is 2^-24
        and every FP16 activation is exact (``act_width`` 41).  Integers take neither.
    act_width : int
        Bits of an aligned activation, sign included: 8..24, or 41 with ``absolute``.
    weight_sum_width : int
        A row's sum of |weight|, in the layer's unit, is below 2^weight_sum_width.
    result_format : str
        Results in memory: ``fp32`` or ``fp16``.
    value_format : str
        Centroids and outliers in memory: ``fp16`` or ``bf16``.
    index_widths : tuple of int
        Index widths in bits that a layer may have, ascending, out of 2, 3 and 4.
    outliers_per_step : int
        Outliers of one step taken without a stall: 1, 2 or 4.
    multipliers : str
        How integers are multiplied: ``digits``, by gates that products share, for cells; or
        ``blocks``, each by itself, for the multiplier blocks of an FPGA.  Results and cycles are
        the same.
    max_inputs : int
        Most columns of a matrix, a power of two in 8..4096.
    index_depth, outlier_depth, act_depth : int
        Steps of indexes, words of outliers and steps of activations that are kept on chip; powers
        of two.
    tile_slots : int
        Token tiles whose units are kept on chip; a power of two in 2..64.
    beat_width, burst_beats : int
        Bits in a memory beat, beats in a burst, as in :class:`GoboConfig`.
    reads : int
        Bursts that a read channel may have outstanding, 1..16.
    address_width : int
        Bits of a byte address, 32..64.
    """

    rows: int = 16
    columns: int = 16
    pe: str = "products"
    symmetric: bool = False
    act_format: str = "fp16"
    align: str = "token"
    act_width: int = 16
    weight_sum_width: int = 24
    result_format: str = "fp32"
    value_format: str = "fp16"
    index_widths: tuple[int, ...] = (2, 3, 4)
    outliers_per_step: int = 4
    multipliers: str = "digits"
    max_inputs: int = 4096
    index_depth: int = 8192
    outlier_depth: int = 2048
    act_depth: int = 32768
    tile_slots: int = 16
    beat_width: int = 128
    burst_beats: int = 16
    reads: int = 4
    address_width: int = 40

    def __post_init__(self) -> None:
        check_power_of_two("rows", self.rows, 4, 128, "outputs")
        check_integer("columns", self.columns, 1, 128, "tokens")
        check_choice("pe", self.pe, PES)
        check_choice("act_format", self.act_format, ACT_FORMATS)
        check_choice("align", self.align, ("token", "absolute"))
        check_choice("result_format", self.result_format, RESULT_FORMATS)
        check_choice("value_format", self.value_format, ("fp16", "bf16"))
        check_choice("multipliers", self.multipliers, ("digits", "blocks"))
        for name, only in _FLOATING.items() if self.floating else ():
            if getattr(self, name) != only:
                raise ValueError(
                    f"pe {self.pe!r} computes in floating point and takes {name} {only!r}, "
                    f"not {getattr(self, name)!r}"
                )
        if self.align == "absolute":
            if self.act_format != "fp16" or self.act_width != 41:
                raise ValueError(
                    "align 'absolute' takes act_format 'fp16' and act_width 41, not "
                    f"{self.act_format!r} and {self.act_width}"
                )
        elif self.act.integer and self.act_width != self.act.width:
            raise ValueError(
                f"act_width must be the {self.act.width} bits of {self.act_format}, "
                f"not {self.act_width}"
            )
        else:
            check_integer("act_width", self.act_width, 8, 24, "bits")
        check_integer("weight_sum_width", self.weight_sum_width, 12, 24, "bits")
        check_power_of_two("max_inputs", self.max_inputs, 8, 4096, "columns of a matrix")
        for name in ("index_depth", "act_depth"):
            check_power_of_two(name, getattr(self, name), self.max_inputs, 1 << 20, "steps")
        check_power_of_two("outlier_depth", self.outlier_depth, 4, 1 << 20, "words")
        check_power_of_two("tile_slots", self.tile_slots, 2, 64, "token tiles")
        check_integer("reads", self.reads, 1, 16, "bursts")
        check_integer("address_width", self.address_width, 32, 64, "bits")
        if self.rows * self.result.width < self.beat_width:
            raise ValueError(
                f"rows x {self.result.width} bits of a result must fill a beat of "
                f"{self.beat_width} bits, {self.rows} rows do not"
            )
        _ = self.image  # checks index_widths, beat_width, burst_beats and outliers_per_step

    # -- the device image -------------------------------------------------------------------

    @cached_property
    def image(self) -> GoboConfig:
        """Return the configuration that the device image of this array is packed for."""
        return GoboConfig(
            lanes=self.rows, lane_rows=self.rows, tile_rows=self.rows,
            index_widths=self.index_widths, value_format=self.value_format,
            beat_width=self.beat_width, burst_beats=self.burst_beats,
            outliers_per_cycle=self.outliers_per_step,
        )  # fmt: skip

    @property
    def row_bits(self) -> int:
        """Bits that number a row."""
        return self.rows.bit_length() - 1

    @property
    def step_bits(self) -> int:
        """Bits that number a step, a column of a matrix."""
        return self.max_inputs.bit_length() - 1

    # -- numbers ----------------------------------------------------------------------------

    @property
    def floating(self) -> bool:
        """Whether the PEs compute in FP16 and FP32; the others do in integers, exactly."""
        return self.pe in _FLOATING_PES

    @property
    def act(self) -> ActFormat:
        """Format of an activation in memory."""
        return ACT_FORMATS[self.act_format]

    @property
    def result(self) -> ValueFormat:
        """Format of a result in memory."""
        return VALUE_FORMATS[self.result_format]

    @property
    def value(self) -> ValueFormat:
        """Format of centroids and outliers in memory."""
        return VALUE_FORMATS[self.value_format]

    @property
    def index_width(self) -> int:
        """Bits of the widest index."""
        return self.index_widths[-1]

    @property
    def bins(self) -> int:
        """Centroids in the codebook of the widest index."""
        return 1 << self.index_width

    @property
    def shared(self) -> int:
        """Products of an activation that a column makes, or bins of a PE."""
        return self.bins // 2 if self.symmetric else self.bins

    @property
    def grid_width(self) -> int:
        """Bits of a centroid as an integer in the layer's unit, sign included."""
        return 12 if self.value_format == "fp16" else 9

    @property
    def bin_width(self) -> int:
        """Bits of a sum of ``max_inputs`` activations, sign included; where codebooks are symmetric
        the lowest integer may come with the other sign."""
        return self.act_width + self.step_bits + (self.symmetric and self.act.integer)

    @property
    def acc_width(self) -> int:
        """Bits of a sum of products, sign included: no row that fits ``weight_sum_width`` can
        overflow it."""
        return self.act_width + self.weight_sum_width

    # -- memory -----------------------------------------------------------------------------

    @property
    def beat_bytes(self) -> int:
        """Bytes in a memory beat."""
        return self.beat_width // 8

    @property
    def acts_per_beat(self) -> int:
        """Activations in a memory beat."""
        return self.beat_width // self.act.width

    @property
    def drain_lanes(self) -> int:
        """Sums that leave the array in a cycle: as many as an FP32 beat holds."""
        return min(self.rows, self.beat_width // 32)

    def as_dict(self) -> dict[str, Any]:
        """Return the chosen sizes, JSON-ready."""
        return {**asdict(self), "index_widths": list(self.index_widths)}


def check_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a word that is not one of ``choices``: ValueError."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


ARRAYS: dict[str, ArrayConfig] = {
    # Small enough to simulate and prove; every path is there.
    "tiny": ArrayConfig(
        rows=4, columns=2, beat_width=64, burst_beats=4, outliers_per_step=1, max_inputs=512,
        index_depth=512, outlier_depth=64, act_depth=1024, tile_slots=4, reads=2,
    ),
    # A multiplier for every centroid and column, an accumulator in every PE.
    "default": ArrayConfig(),
    # The published idea: activations are added up by index, multiplied at the end.
    "paper": ArrayConfig(pe="bins", index_widths=(2, 3)),
    # 64 rows share a column's multipliers.
    "wide": ArrayConfig(rows=64, beat_width=256, index_widths=(2, 3)),
    # For a small FPGA: 8-bit activations, a strip of indexes at a time.
    "edge": ArrayConfig(
        rows=8, columns=4, act_width=8, index_widths=(3,), outliers_per_step=1, max_inputs=2048,
        index_depth=2048, outlier_depth=512, act_depth=4096, tile_slots=4, beat_width=64,
        multipliers="blocks",
    ),
}  # fmt: skip


def named_array(name: str) -> ArrayConfig:
    """Return the array called ``name``; ``ValueError`` lists the names there are."""
    if name not in ARRAYS:
        raise ValueError(f"no array is called {name!r}; there are {', '.join(ARRAYS)}")
    return ARRAYS[name]
