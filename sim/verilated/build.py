"""Building the simulation: emitted Verilog and ``driver.cpp`` to a program."""

import os
import re
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

from sim import verilator

__all__ = ["build"]

_DRIVER = Path(__file__).with_name("driver.cpp")

# Levels for gcc: code of a cycle, code that runs once, Verilator's library. -O2 would take three
# times as long for the first.
_MAKE = f"OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O2 {verilator.PRECOMPILED}"

# A memory that starts as zeros.
_ZEROS = re.compile(r"  initial begin : zero_\w+\n(?:    .*\n)+?  end\n")


def build(verilog: str, beat_bytes: int, build_dir: Path) -> Path:
    """Return the program that simulates ``verilog``, an accelerator with the given beats.

    Programs are kept under ``build_dir`` and used again for the same text. Memories start as
    anything, as in silicon, also those that the text says are zero. ``RuntimeError`` says what is
    missing, or has the end of the build's log.
    """
    if missing := verilator.missing():
        names = " ".join(missing)
        raise RuntimeError(f"Verilator needs {names}: sudo apt-get install {names}")
    options = [
        "--cc", "--exe", "--build", "--prefix", "Vtop", "-O3", "--x-assign", "fast",
        "--x-initial", "unique", "--noassert", "--output-split", "20000", "-j", "2",
        *(f"-Wno-{name}" for name in verilator.ALLOWED), "-MAKEFLAGS", _MAKE,
        "-CFLAGS", f"-std=c++17 -DBEAT_BYTES={beat_bytes}",
    ]  # fmt: skip
    text = _ZEROS.sub("", verilog)
    key = sha256(b"\0".join([text.encode(), _DRIVER.read_bytes(), *map(str.encode, options)]))
    program = Path(build_dir).resolve() / f"accelerator-{key.hexdigest()[:12]}.sim"
    with verilator.in_turn(program):
        if not program.is_file():
            _make(program, text, options)
    return program


def _make(program: Path, text: str, options: list[str]) -> None:
    # A folder of its own: what a build that was killed has left behind spoils no other.
    folder = Path(tempfile.mkdtemp(prefix=f"{program.stem}-", dir=program.parent))
    source = folder / "top.v"
    source.write_text(text, encoding="utf-8")
    command = ["verilator", *options, "--Mdir", str(folder), str(source), str(_DRIVER)]
    try:
        result = subprocess.run(
            command, env=verilator.environment(), capture_output=True, text=True
        )
    except BaseException:
        shutil.rmtree(folder)
        raise
    if result.returncode:
        log = folder / "build.txt"
        log.write_text(result.stdout + result.stderr, encoding="utf-8")
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-40:])
        raise RuntimeError(f"Verilator does not build {source}; the log is {log}\n{tail}")
    os.replace(folder / "Vtop", program)
    shutil.rmtree(folder)
