"""Copies of the decode unit, with a fault for proofs that must fail."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from tests.sabotage.plant import Fault, planted_package

__all__ = ["planted_decode"]


def planted_decode(fault: Fault | None, folder: Path) -> ModuleType:
    """Return ``gobo_rtl.decode`` of a copy made in ``folder``, with ``fault`` if there is one."""
    return import_module(f"{planted_package(fault, folder)}.decode")
