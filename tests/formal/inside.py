"""A design elaborated before its proof is built, for claims about what is inside it."""

from typing import Any
from unittest.mock import patch

from amaranth.hdl import Elaboratable, Fragment, Module
from amaranth.lib import wiring

__all__ = ["Elaborated", "elaborated"]


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
