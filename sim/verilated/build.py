"""Building the simulation: a configuration to Verilog, and with ``driver.cpp`` to a program."""

import os
import re
import shutil
import subprocess
import tempfile
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import gobo_rtl
from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.emit import emit
from gobo_rtl.host_config import HostConfig
from gobo_rtl.hosts.host import HostTop
from gobo_rtl.top.accelerator import Accelerator
from quant.output import replacing
from sim import verilator

__all__ = ["build", "verilog_of"]

_TOP = "accelerator"
_GENERATOR = Path(gobo_rtl.__file__).parent
_DRIVER = Path(__file__).with_name("driver.cpp")

# Levels for gcc: code of a cycle, code that runs once, Verilator's library. -O2 would take three
# times as long for the first.
_MAKE = f"OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O2 {verilator.PRECOMPILED}"

# A memory that starts as zeros.
_ZEROS = re.compile(r"  initial begin : zero_\w+\n(?:    .*\n)+?  end\n")


def verilog_of(config: ArrayConfig | HostConfig, build_dir: Path) -> str:
    """Return the Verilog of an accelerator or a host.

    Making it takes up to a minute, so texts are kept under ``build_dir``, by the configuration and
    the sources of the generator.
    """
    sources = sorted(_GENERATOR.rglob("*.py"))
    parts = [f"{config!r} {version('amaranth')}".encode(), *(path.read_bytes() for path in sources)]
    key = sha256(b"\0".join(parts)).hexdigest()
    path = Path(build_dir).resolve() / f"{_TOP}-{key[:12]}.v"
    with verilator.in_turn(path):
        if not path.is_file():
            top = HostTop(config) if isinstance(config, HostConfig) else Accelerator(config)
            with replacing(path, force=True) as file:
                file.write(emit(top, _TOP).encode())
    return path.read_text(encoding="utf-8")


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
    program = Path(build_dir).resolve() / f"{_TOP}-{key.hexdigest()[:12]}.sim"
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
