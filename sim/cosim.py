"""The emitted Verilog in Icarus and Verilator, through cocotb."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gobo_rtl.config import GoboConfig

from .golden.decode import Streams

__all__ = ["Decoded", "decode_layers"]


@dataclass(frozen=True)
class Decoded:
    """What a decode unit gave: every transfer of its output, in order.

    Parameters
    ----------
    values : (groups, lanes) array
        Bit patterns, uint16 or uint32.
    last, error : (groups,) arrays of bool
    error_code : int
        At the end; 0 when nothing was wrong.
    cycles : int
        From the first beat offered to the last group taken, both included.
    """

    values: np.ndarray
    last: np.ndarray
    error: np.ndarray
    error_code: int
    cycles: int


def decode_layers(
    config: GoboConfig, layers: Sequence[Streams], build_dir: Path, simulator: str = "verilator"
) -> Decoded:
    """Decode whole layers, back to back, with the simulated Verilog of the decode unit.

    ``simulator`` is ``verilator`` or ``icarus``. The simulation is built under ``build_dir``, once
    for a configuration and simulator. ``RuntimeError`` says what went wrong, and where the log is.
    """
    raise NotImplementedError
