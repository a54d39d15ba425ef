"""A fault is a text that is replaced by another, in a copy of the tree, never in place."""

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

__all__ = ["ROOT", "Fault", "plant", "planted_package"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """What is wrong, in which file, and the text that makes it so; ``old`` stands there once."""

    name: str
    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """Return ``text`` of the file with the fault in it."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.name}: {self.file} has {count} times, not once, the text {self.old!r}: "
                f"write the fault anew in tests/sabotage/faults.py"
            )
        return text.replace(self.old, self.new)


def plant(fault: Fault, tree: Path) -> None:
    """Write ``fault`` into a copy of the tree."""
    file = tree / fault.file
    file.write_text(fault.applied(file.read_text(encoding="utf-8")), encoding="utf-8")


def planted_package(fault: Fault, folder: Path) -> str:
    """Copy ``gobo_rtl`` with ``fault`` into ``folder`` and return the name to import it by.

    All imports inside the package are relative, so the copy stands beside the original.
    """
    name = "planted_" + "".join(c if c.isalnum() else "_" for c in fault.name)
    path = folder / "gobo_rtl"
    shutil.copytree(ROOT / "gobo_rtl", path, ignore=shutil.ignore_patterns("__pycache__"))
    plant(fault, folder)
    spec = importlib.util.spec_from_file_location(
        name, path / "__init__.py", submodule_search_locations=[str(path)]
    )
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return name
