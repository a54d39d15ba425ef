"""Sizes of the host arrays, and the named hosts.

A :class:`HostConfig` is all that a host's blocks, their golden models and the packers of its
weights have to agree on.  Words and rules: docs/hosts.md.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from .array_config import ArrayConfig, check_choice, check_integer, check_power_of_two
from .config import GoboConfig
from .formats import VALUE_FORMATS, ValueFormat

__all__ = [
    "HOSTS", "WEIGHTS", "EyerissConfig", "HostConfig", "TensorCoreConfig", "TpuConfig",
    "named_host",
]  # fmt: skip

WEIGHTS: tuple[str, ...] = ("gobo", "fp16", "fp32")
"""Weights in memory: 3-bit, through the front end, or plain."""


@dataclass(frozen=True, kw_only=True)
class HostConfig(ABC):
    """Sizes that all hosts have; each kind adds those of its array.

    Parameters
    ----------
    weights : str
        Weights in memory: ``gobo``, or plain ``fp16`` or ``fp32``.
    tokens : int
        Tokens of a token tile, 1..128.
    act_depth : int
        Words of activations that are kept on chip; a power of two.
    prefetch : int
        Beats that a weight channel keeps ahead, 2..1024.
    max_inputs, index_widths, outliers_per_cycle, beat_width, burst_beats, reads, address_width
        As in :class:`ArrayConfig` (``outliers_per_step`` there) and :class:`GoboConfig`.
    """

    kind: ClassVar[str]
    word_inputs: ClassVar[int] = 1

    weights: str = "gobo"
    tokens: int = 128
    act_depth: int = 8192
    prefetch: int = 32
    max_inputs: int = 4096
    index_widths: tuple[int, ...] = (2, 3, 4)
    outliers_per_cycle: int = 2
    beat_width: int = 128
    burst_beats: int = 16
    reads: int = 4
    address_width: int = 40

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, WEIGHTS)
        check_integer("tokens", self.tokens, 1, 128, "tokens")
        check_power_of_two("act_depth", self.act_depth, 2, 1 << 20, "words")
        check_integer("prefetch", self.prefetch, 2, 1024, "beats")
        _ = self.array, self.image  # they check the rest
        if self.lanes * 16 < self.beat_width:
            raise ValueError(
                f"a word of {self.lanes} weights of 16 bits must fill a beat of "
                f"{self.beat_width} bits"
            )
        if self.act_word * 16 < self.beat_width:
            raise ValueError(
                f"a word of {self.act_word} activations of 16 bits must fill a beat of "
                f"{self.beat_width} bits"
            )

    # -- what each kind says ----------------------------------------------------------------

    @property
    @abstractmethod
    def rows(self) -> int:
        """Outputs in a strip."""

    @property
    @abstractmethod
    def tile_inputs(self) -> int:
        """Inputs of a weight tile."""

    @property
    @abstractmethod
    def act_word(self) -> int:
        """Activations of a token in a word of them."""

    # -- words ------------------------------------------------------------------------------

    @property
    def act_banks(self) -> int:
        """Tokens in a word of activations."""
        return 1

    @property
    def slot_bits(self) -> int:
        """Bits that number the words of a token tile, for the same inputs."""
        return max(1, (-(-self.tokens // self.act_banks) - 1).bit_length())

    @property
    def lanes(self) -> int:
        """Weights in a word."""
        return self.rows * self.word_inputs

    @property
    def tile_words(self) -> int:
        """Words of a weight tile."""
        return self.tile_inputs // self.word_inputs

    @property
    def stored(self) -> ValueFormat:
        """Format of plain weights in memory, or of centroids and outliers."""
        return VALUE_FORMATS["fp16" if self.weights == "gobo" else self.weights]

    @property
    def word_beats(self) -> int:
        """Beats of a plain weight word."""
        return self.lanes * self.stored.width // self.beat_width

    # -- the blocks that are shared -----------------------------------------------------------

    @cached_property
    def array(self) -> ArrayConfig:
        """Return the configuration of the blocks that hosts share with the accelerator."""
        return ArrayConfig(
            rows=self.rows, columns=self.tokens, pe="mac", index_widths=self.index_widths,
            outliers_per_step=self.outliers_per_cycle, max_inputs=self.max_inputs,
            index_depth=self.max_inputs, act_depth=self.max_inputs, beat_width=self.beat_width,
            burst_beats=self.burst_beats, reads=self.reads, address_width=self.address_width,
        )  # fmt: skip

    @cached_property
    def image(self) -> GoboConfig:
        """Return the configuration of the decode unit and of the device image."""
        return GoboConfig(
            lanes=self.lanes, lane_rows=self.rows, tile_rows=self.rows,
            index_widths=self.index_widths, beat_width=self.beat_width,
            burst_beats=self.burst_beats, outliers_per_cycle=self.outliers_per_cycle,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Return the chosen sizes, JSON-ready."""
        return {"kind": self.kind, **asdict(self), "index_widths": list(self.index_widths)}


@dataclass(frozen=True, kw_only=True)
class TpuConfig(HostConfig):
    """A weight-stationary systolic array of ``size`` inputs by ``size`` outputs.

    Parameters
    ----------
    size : int
        A power of two in 4..128.
    """

    kind = "tpu"

    size: int = 16

    def __post_init__(self) -> None:
        check_power_of_two("size", self.size, 4, 128, "inputs and outputs")
        super().__post_init__()

    @property
    def rows(self) -> int:
        """Outputs in a strip."""
        return self.size

    @property
    def tile_inputs(self) -> int:
        """Inputs of a weight tile."""
        return self.size

    @property
    def act_word(self) -> int:
        """Activations of a token in a word of them."""
        return self.size


@dataclass(frozen=True, kw_only=True)
class EyerissConfig(HostConfig):
    """Row-stationary PEs, ``pe_rows`` by ``pe_columns``.

    Parameters
    ----------
    pe_rows, pe_columns : int
        PEs that share a sum, 1..64 and at most ``filters``, and those for tokens of their own,
        1..64.
    filters : int
        Outputs that a PE works on, a power of two in 4..128.
    channels : int
        Inputs that a PE works on, a power of two in 2..64.
    """

    kind = "eyeriss"

    pe_rows: int = 12
    pe_columns: int = 14
    filters: int = 16
    channels: int = 8

    def __post_init__(self) -> None:
        check_integer("pe_rows", self.pe_rows, 1, 64, "PEs")
        check_integer("pe_columns", self.pe_columns, 1, 64, "PEs")
        check_power_of_two("filters", self.filters, 4, 128, "outputs")
        check_power_of_two("channels", self.channels, 2, 64, "inputs")
        super().__post_init__()
        if self.pe_rows > self.filters:
            raise ValueError(
                f"pe_rows must be at most filters ({self.filters}): a row reads its inputs as many "
                f"cycles later as it is down, and before the next ones come; not {self.pe_rows}"
            )
        if self.tile_inputs % self.act_word:
            raise ValueError(
                f"pe_rows x channels must be a multiple of {self.act_word} inputs, a word of "
                f"activations, not {self.tile_inputs}"
            )

    @property
    def rows(self) -> int:
        """Outputs in a strip."""
        return self.filters

    @property
    def tile_inputs(self) -> int:
        """Inputs of a weight tile."""
        return self.pe_rows * self.channels

    @property
    def act_word(self) -> int:
        """Activations of a token in a word of them: those of two PEs, or a beat."""
        return max(2 * self.channels, self.beat_width // 16)


@dataclass(frozen=True, kw_only=True)
class TensorCoreConfig(HostConfig):
    """A core of ``units`` dot-product units, 4 outputs by 4 inputs by 4 tokens each.

    Parameters
    ----------
    units : int
        A power of two in 1..8.
    """

    kind = "tensor_core"
    word_inputs = 4

    units: int = 4

    def __post_init__(self) -> None:
        check_power_of_two("units", self.units, 1, 8, "units")
        super().__post_init__()

    @property
    def rows(self) -> int:
        """Outputs in a strip."""
        return 4 * self.units

    @property
    def tile_inputs(self) -> int:
        """Inputs of a weight tile."""
        return self.act_word

    @property
    def act_word(self) -> int:
        """Activations of a token in a word of them: a beat."""
        return self.beat_width // 16

    @property
    def act_banks(self) -> int:
        """Tokens in a word of activations."""
        return 4


_TINY: dict[str, Any] = {
    "tokens": 6, "act_depth": 128, "prefetch": 8, "max_inputs": 512, "outliers_per_cycle": 1,
    "beat_width": 64, "burst_beats": 4, "reads": 2,
}  # fmt: skip

HOSTS: dict[str, HostConfig] = {
    # Small enough to simulate; every path is there.
    "tpu_tiny": TpuConfig(size=4, **_TINY),
    "eyeriss_tiny": EyerissConfig(pe_rows=4, pe_columns=4, filters=4, channels=2, **_TINY),
    "tensor_core_tiny": TensorCoreConfig(units=1, **{**_TINY, "beat_width": 128}),
    # The arrays as they are compared.
    "tpu": TpuConfig(act_depth=32768),
    "tpu_128": TpuConfig(size=128, beat_width=512, burst_beats=8, outliers_per_cycle=4),
    "eyeriss": EyerissConfig(act_depth=32768),
    "tensor_core": TensorCoreConfig(act_depth=16384),
}


def named_host(name: str) -> HostConfig:
    """Return the host called ``name``; ``ValueError`` lists the names there are."""
    if name not in HOSTS:
        raise ValueError(f"no host is called {name!r}; there are {', '.join(HOSTS)}")
    return HOSTS[name]
