"""A fault is a text that is replaced by another, in a copy of the tree, never in place."""

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import ModuleType

__all__ = ["ROOT", "Fault", "check_fits", "plant", "planted_package"]

ROOT = Path(__file__).resolve().parents[2]
_NUMBERS = count()


@dataclass(frozen=True)
class Fault:
    """What is wrong, in which file, and the text that makes it so; ``old`` stands there once."""

    name: str
    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """Return ``text`` of the file with the fault in it."""
        if (times := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.name}: {self.file} has {times} times, not once, the text {self.old!r}: "
                "write the fault anew"
            )
        return text.replace(self.old, self.new)


def check_fits(fault: Fault) -> None:
    """Raise unless ``fault`` applies to the present text, and what it makes of it compiles."""
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    planted = fault.applied(text)
    assert planted != text
    compile(planted, fault.file, "exec")


def plant(fault: Fault, tree: Path) -> None:
    """Write ``fault`` into a copy of the tree."""
    file = tree / fault.file
    file.write_text(fault.applied(file.read_text(encoding="utf-8")), encoding="utf-8")


def planted_package(fault: Fault | None, folder: Path) -> str:
    """Copy ``gobo_rtl`` into ``folder``, with ``fault`` if there is one; return its import name.

    All imports inside the package are relative, so the copy stands beside the original.
    """
    name = f"planted_{next(_NUMBERS)}"
    path = folder / "gobo_rtl"
    shutil.copytree(ROOT / "gobo_rtl", path, ignore=shutil.ignore_patterns("__pycache__"))
    if fault is not None:
        plant(fault, folder)
    spec = importlib.util.spec_from_file_location(
        name, path / "__init__.py", submodule_search_locations=[str(path)]
    )
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return name
