"""Designs for proofs: smaller than any that is made, or elaborated before the proof is built, for
claims about what is inside."""

from copy import copy
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Elaboratable, Fragment, Module, Signal
from amaranth.lib import wiring

from gobo_rtl.array_config import ArrayConfig

__all__ = ["Elaborated", "elaborated", "register", "resized"]


class Elaborated(Elaboratable):
    """Stands for a design; ``design`` is to be set before the proof is built."""

    design: Fragment

    def elaborate(self, platform: object) -> Fragment:
        return self.design


def elaborated(part: wiring.Component, kind: type) -> tuple[Fragment, list[Any]]:
    """Return ``part`` elaborated, and the components in it that are of ``kind``."""
    found, elaborate = [], kind.elaborate

    def record(self: Any, platform: object) -> Module:
        found.append(self)
        return elaborate(self, platform)

    with patch.object(kind, "elaborate", record):
        return Fragment.get(part, None), found


def register(part: Fragment, name: str) -> Signal:
    """Return the only register called ``name`` in an elaborated part."""
    parts, found = [part], {}
    for each in parts:
        parts += [inner for inner, *_ in each.subfragments]
        for statement in each.statements.get("sync", []):
            found |= {id(s): s for s in statement._lhs_signals() if s.name == name}
    (signal,) = found.values()
    return signal


def resized(config: ArrayConfig, **sizes: object) -> ArrayConfig:
    """Return a copy of ``config`` with any sizes, those that are refused elsewhere included."""
    made = copy(config)
    for name, size in sizes.items():
        object.__setattr__(made, name, size)
    return made
