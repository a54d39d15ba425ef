"""The decode unit with a fault in it, for proofs that must fail."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from tests.sabotage.plant import Fault, planted_package

__all__ = ["planted_decode"]


def planted_decode(fault: Fault, folder: Path) -> ModuleType:
    """Return ``gobo_rtl.decode`` of a copy with ``fault``, made in ``folder``."""
    return import_module(f"{planted_package(fault, folder)}.decode")
