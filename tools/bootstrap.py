"""Make `.venv` and see to the tools that only the system has.

    python3 tools/bootstrap.py [EXTRA ...]

Installs the dependencies of `pyproject.toml` and of the extras named (default: all that
`make demo` and `make test` need) into `.venv`. What the system lacks is installed with apt-get
by root, or with a password-less sudo; otherwise one line says what to type and the exit status
is 2. When nothing has changed it does nothing and needs no network.

Any Python starts this file, so its syntax is old; it goes on in one that is new enough.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "gobo.json"  # written last: without it the environment is not whole
LOG = ROOT / "build" / "install.log"
OLDEST = (3, 11)
NEEDED = "{}.{}".format(*OLDEST)
DEFAULT_EXTRAS = ("quant", "sim", "synth", "proof", "test", "lint")
PYTHONS = ("python3", "python3.13", "python3.12", "python3.11", "python3.14", "/usr/bin/python3")

# What a Python has: its version, venv, and the shared library that cocotb loads.
PROBE = """
import ctypes, json, os, sys, sysconfig
def shared():
    name = "libpython%d.%d" % sys.version_info[:2]
    ends = (".dylib",) if sys.platform == "darwin" else (".so.1.0", ".so")
    for folder in ("", sysconfig.get_config_var("LIBDIR") or "", sys.base_prefix + "/lib"):
        for end in ends:
            try:
                ctypes.CDLL(os.path.join(folder, name + end))
                return True
            except OSError:
                pass
    return False
def venv():
    try:
        import ensurepip, venv
        return True
    except ImportError:
        return False
print(json.dumps([list(sys.version_info[:2]), venv(), shared(), sys.base_prefix, sys.executable]))
"""


class SetupError(Exception):
    """The user has to do something; the message says what."""


class Python:
    """A Python of this machine, and the Debian packages that it still needs."""

    def __init__(self, answer: list[Any]) -> None:
        version, venv, shared, base, self.path = answer
        self.version = tuple(version)
        name = "python{}.{}".format(*self.version)
        self.is_debian = base == "/usr"
        self.missing = ([] if venv else [name + "-venv"]) + ([] if shared else ["lib" + name])


def say(text: str) -> None:
    print("setup: " + text, file=sys.stderr, flush=True)


def probe(name: str) -> Python | None:
    """Ask the Python called `name` what it has; None when it does not run."""
    path = shutil.which(name)
    if path is None:
        return None
    try:
        out = subprocess.run(
            [path, "-I", "-c", PROBE], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=60, check=True,
        ).stdout  # fmt: skip
        return Python(json.loads(out.decode()))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None  # a pyenv shim of a version that is not chosen, for one


def choose_python() -> Python:
    """Return the first Python with all that is needed, else the first that apt-get can mend."""
    found = [python for python in map(probe, PYTHONS) if python is not None]
    fit = [python for python in found if python.version >= OLDEST]
    if not fit:
        has = ", ".join(sorted({"{}.{}".format(*python.version) for python in found})) or "none"
        raise SetupError(
            f"Python {NEEDED} or newer is needed and this machine has {has}; on Debian 12 or "
            "Ubuntu 24.04 type: sudo apt-get install python3 python3-venv"
        )
    whole = [python for python in fit if not python.missing]
    mendable = [python for python in fit if python.is_debian]
    return (whole + mendable + fit)[0]


def runs(*command: str) -> bool:
    """Whether `command` is there and succeeds."""
    try:
        return subprocess.call(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) == 0  # fmt: skip
    except OSError:
        return False


def missing_tools() -> tuple[list[str], list[str]]:
    """Return the Debian packages of the tools that are not here: needed ones, optional ones."""
    needed = [] if shutil.which("g++") else ["g++"]
    needed += [] if shutil.which("make") else ["make"]
    # Verilator's front end is a perl script; minimal systems have perl without its library.
    needed += [] if runs("perl", "-MPod::Usage", "-MGetopt::Long", "-e1") else ["perl"]
    optional = [] if shutil.which("iverilog") and shutil.which("vvp") else ["iverilog"]
    return needed, optional


def apt_prefix() -> list[str] | None:
    """Return the words before `apt-get` that let it install, None when there is no way."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return ["env"]
    return ["sudo", "-n", "env"] if runs("sudo", "-n", "true") else None


class Apt:
    """Installs Debian packages; reads the lists of packages once."""

    def __init__(self, prefix: list[str]) -> None:
        self.command = [
            *prefix, "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q",
            "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300",
        ]  # fmt: skip
        self.is_updated = False

    def install(self, packages: list[str]) -> bool:
        """Return whether all of `packages` could be installed."""
        say("installing with apt-get: " + " ".join(packages))
        if not self.is_updated:
            self.is_updated = True
            self._call("update")  # may fail offline while the packages are at hand
        return self._call("install", "--no-install-recommends", *packages)

    def _call(self, *words: str) -> bool:
        with LOG.open("ab") as log:
            return subprocess.call(
                [*self.command, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            ) == 0  # fmt: skip


def by_hand(packages: list[str]) -> str:
    """Return what the user types to install `packages`."""
    if shutil.which("apt-get") is None:
        return "install with this system's package manager what Debian calls " + " ".join(packages)
    return "type: sudo apt-get install " + " ".join(packages)


def see_to_system(python: Python | None) -> None:
    """Install what the system lacks, or raise SetupError; only Icarus is optional."""
    needed, optional = missing_tools()
    if python is not None:
        needed += python.missing
    if python is not None and python.missing and not python.is_debian:
        raise SetupError(
            f"{python.path} was built without {' and '.join(python.missing)}; install Python "
            f"{NEEDED} or newer from the system, or build this one with --enable-shared"
        )
    if not needed and not optional:
        return
    prefix = apt_prefix()
    apt = None if prefix is None else Apt(prefix)
    if needed and (apt is None or not apt.install(needed)):
        why = "" if apt is None else f"apt-get could not install them (see {LOG}); "
        raise SetupError(f"missing: {' '.join(needed)}; {why}{by_hand(needed)}")
    if optional and (apt is None or not apt.install(optional)):
        say(
            "Icarus Verilog is missing, so the benches run on Verilator only; to have both, "
            + by_hand(optional)
        )


def requirements(extras: list[str]) -> list[str]:
    """Return the requirements of the project and of `extras`, as pip takes them."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = project["optional-dependencies"]
    unknown = [extra for extra in extras if extra not in groups]
    if unknown:
        raise SetupError(
            f"pyproject.toml has no extra {', '.join(unknown)}; it has {', '.join(groups)}"
        )
    return sorted({line for extra in extras for line in groups[extra]} | {*project["dependencies"]})


def installed() -> dict[str, Any] | None:
    """Return the stamp of a whole environment that is still in its place, else None."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        is_here = stamp["root"] == str(ROOT) and (VENV / "bin" / "python").exists()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stamp if is_here else None


def clean_environment() -> dict[str, str]:
    """Return the environment without what would lead pip astray."""
    astray = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
    environment = {name: value for name, value in os.environ.items() if name not in astray}
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    environment["PIP_NO_INPUT"] = "1"
    return environment


def run_logged(command: list[str]) -> bool:
    """Run `command`, its words in the log; return whether it succeeded."""
    with LOG.open("ab") as log:
        return subprocess.call(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=str(ROOT),
            env=clean_environment(),
        ) == 0  # fmt: skip


def last_error() -> str:
    """Return the last line of the log that tells an error."""
    lines = LOG.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no output"])[-1]


def install(python: Python | None, extras: list[str], wanted: list[str]) -> None:
    """Bring `.venv` to `wanted`; `python` is given when it has to be made anew."""
    STAMP.unlink(missing_ok=True)
    if python is not None:
        say("making .venv with Python {}.{}".format(*python.version))
        if not run_logged([python.path, "-m", "venv", "--clear", str(VENV)]):
            raise SetupError(f"could not make .venv: {last_error()} (see {LOG})")
    say("installing into .venv: " + ", ".join(extras) + " (some minutes at most, only this once)")
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--retries", "5"]
    if not any(run_logged([*pip, *wanted]) for _ in range(2)):
        raise SetupError(
            f"pip could not install the dependencies: {last_error()} (see {LOG}); check the "
            "network and run this again"
        )
    stamp = {"root": str(ROOT), "extras": extras, "requirements": wanted}
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    fresh.replace(STAMP)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one set-up of this checkout work at a time."""
    import fcntl

    LOG.parent.mkdir(exist_ok=True)
    with open(str(LOG.parent / "setup.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_up(extras: list[str]) -> None:
    """Make `.venv` hold `extras` besides what it holds already."""
    stamp = installed()
    extras = sorted({*extras, *(stamp["extras"] if stamp else DEFAULT_EXTRAS)})
    wanted = requirements(extras)
    if stamp and stamp["requirements"] == wanted:
        return
    with LOG.open("wb"):
        pass
    python = None if stamp else choose_python()
    see_to_system(python)
    install(python, extras, wanted)
    say("ready: .venv")


def main(arguments: list[str]) -> int:
    """Run the set-up; return the exit status."""
    if any(argument.startswith("-") for argument in arguments):
        print(__doc__)
        return 0 if {*arguments} & {"-h", "--help"} else 2
    try:
        if sys.version_info < OLDEST:
            newer = choose_python()
            os.execv(newer.path, [newer.path, os.path.abspath(__file__), *arguments])
        with alone():
            set_up(arguments)
    except SetupError as error:
        say(str(error))
        return 2
    except OSError as error:
        say(f"{error.filename or 'cannot go on'}: {error.strerror or error}")
        return 2
    except KeyboardInterrupt:
        say("interrupted; the next run starts it again")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
