"""What there is Verilog of: whole units with their named configurations, and blocks of an
accelerator and of hosts by themselves."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Const, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from .array.act_buffer import ActBuffer
from .array.act_loader import ActLoader
from .array.array import COLUMNS, Array
from .array.bias_loader import BiasLoader
from .array.finish import Finish
from .array.result_writer import ResultWriter
from .array.schedule import Schedule
from .array.steps import Steps
from .array.strip_buffer import StripBuffer
from .array.weight_loader import WeightLoader
from .array_config import ARRAYS, ArrayConfig
from .bus.axi_stream import DecodeAxis
from .changes import AnyConfig, changed, field_types, pairs, suffix
from .config import CONFIGS
from .host_config import HOSTS
from .hosts.front_end import FrontEnd
from .hosts.host import HostTop
from .hosts.plain import PlainReader
from .hosts.tpu import TpuPE
from .pe.align import Aligner
from .pe.bins_fp16 import BinsFp16PE
from .pe.int8 import Int8PE
from .pe.mac import MacPE
from .pe.outlier import OutlierDecode, OutlierProduct
from .pe.round import Round
from .pe.select import Select
from .top.accelerator import Accelerator
from .top.fetch import Fetch

__all__ = ["BLOCKS", "HOST_BLOCKS", "UNITS", "AnyConfig", "Design", "designs", "top_name"]


@dataclass(frozen=True)
class Unit:
    """A component of a configuration, and the named ones."""

    component: Callable[[Any], wiring.Component]
    configs: Mapping[str, AnyConfig]


class Flat(wiring.Component):
    """A block with flat ports, ``i__payload`` for ``i.payload``.

    Paper
    -----
    None: it is the same hardware.

    Parameters
    ----------
    block : wiring.Component

    Members
    -------
    * : In and Out
        Those of the block, as bits; without a ``ready`` that is always 1.

    Timing
    ------
    The block's.

    Numerics
    --------
    The block's.
    """

    def __init__(self, block: wiring.Component):
        self._block = block
        self._inner = {
            "__".join(map(str, path)): (member.flow, Value.cast(value))
            for path, member, value in block.signature.flatten(block)
            if not isinstance(value, Const)
        }
        super().__init__({name: flow(len(value)) for name, (flow, value) in self._inner.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.block = self._block
        for name, (flow, value) in self._inner.items():
            outer = getattr(self, name)
            m.d.comb += value.eq(outer) if flow is In else outer.eq(value)
        return m


def _column(config: ArrayConfig) -> wiring.Component:
    return COLUMNS[config.pe][0](config)


def _combine(config: ArrayConfig) -> wiring.Component:
    combine = COLUMNS[config.pe][1]
    if combine is None:
        raise ValueError(f"pe {config.pe!r} has sums at once, and nothing to combine")
    return combine(config)


def _bins_fp16_pe(config: ArrayConfig) -> wiring.Component:
    return BinsFp16PE(max(config.index_widths), config.symmetric)


UNITS = {
    "decode": Unit(DecodeAxis, CONFIGS), "accelerator": Unit(Accelerator, ARRAYS),
    "host": Unit(HostTop, HOSTS),
}  # fmt: skip
"""Whole units, with flat ports in the names of AXI."""

BLOCKS = {
    "column": Unit(_column, ARRAYS),
    "combine": Unit(_combine, ARRAYS),
    "mac_pe": Unit(lambda config: MacPE(), ARRAYS),
    "int8_pe": Unit(lambda config: Int8PE(), ARRAYS),
    "bins_fp16_pe": Unit(_bins_fp16_pe, ARRAYS),
    **{
        re.sub("(?<!^)([A-Z])", r"_\1", block.__name__).lower(): Unit(block, ARRAYS)
        for block in (
            Array, Select, Aligner, OutlierDecode, OutlierProduct, Finish, Round, Schedule,
            Steps, StripBuffer, ActBuffer, WeightLoader, ActLoader, BiasLoader, ResultWriter, Fetch,
        )
    },
}  # fmt: skip
"""Blocks of an accelerator, and the PEs that it is measured against: of these only `bins_fp16_pe`
depends on the configuration."""

HOST_BLOCKS = {
    "front_end": Unit(FrontEnd, HOSTS),
    "plain_reader": Unit(PlainReader, HOSTS),
    "tpu_pe": Unit(lambda config: TpuPE(), HOSTS),
}
"""Blocks of host arrays; `tpu_pe` does not depend on the configuration."""


def top_name(name: str, unit: str = "decode") -> str:
    """Return the Verilog module's name of a unit of a named configuration."""
    return f"{unit}_{name}"


@dataclass(frozen=True)
class Design:
    """A unit of a configuration, and what it is called."""

    unit: str
    name: str
    config: AnyConfig

    @property
    def top(self) -> str:
        """The Verilog module's name."""
        return top_name(self.name, self.unit)

    def component(self) -> wiring.Component:
        """Return the hardware."""
        if self.unit in UNITS:
            return UNITS[self.unit].component(self.config)
        return Flat((BLOCKS | HOST_BLOCKS)[self.unit].component(self.config))


def designs(
    name: str | None = None, unit: str | None = None, changes: Sequence[str] = ()
) -> list[Design]:
    """Return the units, or one block, of a named configuration with ``changes``.

    ``name`` None stands for all names, ``unit`` None for all whole units that have the name and
    the fields that change, and "blocks" for all of BLOCKS, or HOST_BLOCKS. Each of ``changes`` is
    ``field=value``; they become part of the name.
    ``ValueError`` says what there is instead.
    """
    if changes and name is None:
        raise ValueError("changes need the configuration that they change; name one")
    blocks = BLOCKS | HOST_BLOCKS
    several = {None: UNITS, "blocks": blocks}
    kinds = several[unit] if unit in several else {unit: (UNITS | blocks)[unit]}
    known = [
        Design(kind, each, config)
        for kind, one in kinds.items() for each, config in one.configs.items()
    ]  # fmt: skip
    found = [design for design in known if name in (None, design.name)]
    if not found:
        what = f"{unit} configuration" if unit else "configuration"
        names = ", ".join(dict.fromkeys(design.name for design in known))
        raise ValueError(f"no {what} is called {name!r}; there are {names}")
    if not changes:
        return found
    wanted = {field for field, _ in pairs(changes)}
    fitting = [d for d in found if wanted <= field_types(d.config).keys()] or found[-1:]
    return [
        Design(d.unit, name + suffix(changes), changed(d.config, changes, f"{d.unit} {name}"))
        for d in fitting
    ]
