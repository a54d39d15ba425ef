"""Command line: named configurations to Verilog, registers to a C header."""

import argparse
import gc
import json
import os
import re
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from amaranth.back import verilog
from amaranth.lib import wiring

from . import __version__
from .array_config import ARRAYS, ArrayConfig
from .bus import registers
from .bus.axi_stream import DecodeAxis
from .config import CONFIGS, GoboConfig
from .top.accelerator import Accelerator

__all__ = ["UNITS", "describe", "emit", "main", "ports", "top_name"]

UNITS: dict[str, dict[str, GoboConfig] | dict[str, ArrayConfig]] = {
    "decode": CONFIGS, "accelerator": ARRAYS,
}  # fmt: skip
"""What there is Verilog of, each with its named configurations."""

_ZEROS = re.compile(
    r"  initial begin\n(?:    (?P<name>\w+)\[\d+\] = (?P<zero>\d+'h0+);\n)+  end\n"
)

_HOST_FILES = ("gobo_registers.h", "gobo_registers.json")  # for programs that drive it


def top_name(name: str, unit: str = "decode") -> str:
    """Return the Verilog module's name of a unit of a named configuration."""
    return f"{unit}_{name}"


def ports(component: wiring.Component) -> list[dict[str, Any]]:
    """Return the ports of a component: name, direction (``input``, ``output``), width in bits."""
    return [
        {
            "name": name,
            "direction": "input" if member.flow.name == "In" else "output",
            "width": len(getattr(component, name)),
        }
        for name, member in component.signature.members.items()
    ]


def emit(component: wiring.Component, top: str) -> str:
    """Return the Verilog of ``component`` as module ``top``; equal for equal configurations."""
    # Millions of small objects, all of which stay until the end: looking for garbage among them
    # takes as long as all the rest.
    collecting = gc.isenabled()
    gc.disable()
    try:
        text = verilog.convert(component, name=top, emit_src=False, strip_internal_attrs=True)
    finally:
        if collecting:
            gc.enable()
    return _ZEROS.sub(_loop, text)


def _loop(zeros: re.Match[str]) -> str:
    """Return a loop in place of a line for each word of a memory that is zero at first."""
    name, zero, depth = zeros["name"], zeros["zero"], zeros[0].count("\n") - 2
    return f"""  initial begin : zero_{name}
    integer n;
    for (n = 0; n < {depth}; n = n + 1)
      {name}[n] = {zero};
  end
"""


def _write(path: Path, text: str) -> bool:
    """Write ``text`` unless the file has it already; all of it or nothing."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _designs(
    name: str | None, unit: str | None
) -> list[tuple[str, str, GoboConfig | ArrayConfig]]:
    """Return unit, name and configuration of all that have this name and are of this unit.

    None stands for any; ``ValueError`` lists the names there are.
    """
    known = [
        (kind, each, config)
        for kind, configs in UNITS.items() if unit in (None, kind)
        for each, config in configs.items()
    ]  # fmt: skip
    designs = [design for design in known if name in (None, design[1])]
    if not designs:
        what = f"{unit} configuration" if unit else "configuration"
        names = ", ".join(dict.fromkeys(each for _, each, _ in known))
        raise ValueError(f"no {what} is called {name!r}; there are {names}")
    return designs


def _verilog(name: str | None, unit: str | None, folder: Path) -> None:
    """Write Verilog and JSON of these units; beside an accelerator also its registers."""
    designs = _designs(name, unit)
    for kind, called, config in designs:
        component: wiring.Component = (
            Accelerator(config) if isinstance(config, ArrayConfig) else DecodeAxis(config)
        )
        top = top_name(called, kind)
        about = {
            "top": top,
            "version": __version__,
            "name": called,
            "configuration": config.as_dict(),
            "ports": ports(component),
            "interface": component.metadata.as_json(),
        }
        path = folder / f"{top}.v"
        changed = _write(path, emit(component, top))
        _write(folder / f"{top}.json", json.dumps(about, indent=1) + "\n")
        _tell(path, changed, f": {describe(config)}")
    if any(kind == "accelerator" for kind, _, _ in designs):
        _registers(folder, _HOST_FILES)


def _registers(folder: Path, names: Collection[str]) -> None:
    for name, text in registers.files().items():
        if name in names:
            _tell(folder / name, _write(folder / name, text))


def _tell(path: Path, changed: bool, about: str = "") -> None:
    print(f"{path}{about}{'' if changed else ' (unchanged)'}", flush=True)


def describe(config: GoboConfig | ArrayConfig) -> str:
    """Return a configuration in a line of words."""
    widths = "/".join(map(str, config.index_widths))
    if isinstance(config, ArrayConfig):
        return (
            f"{config.rows} rows x {config.columns} columns, {config.pe}, {widths}-bit indexes, "
            f"{config.act_format} activations aligned to {config.act_width} bits, "
            f"{config.result_format} results, {config.beat_width}-bit beats, "
            f"{_count(config.outliers_per_step, 'outlier')} a step"
        )
    return (
        f"{config.lanes} lanes of {config.value_format}, {widths}-bit indexes, "
        f"{config.beat_width}-bit beats, {_count(config.outliers_per_cycle, 'outlier')} a cycle, "
        f"{config.lane_rows} x {config.lane_columns} groups"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


def _list() -> None:
    for unit, configs in UNITS.items():
        print(f"{unit}:")
        for name, config in configs.items():
            print(f"  {name:8} {describe(config)}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m gobo_rtl",
        description="Verilog of GOBO's hardware.",
        epilog="example: python -m gobo_rtl verilog --config default -o build/verilog",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show the named configurations")
    make = commands.add_parser("verilog", help="write a configuration's Verilog and its JSON")
    which = make.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", metavar="NAME", help="a named configuration, see `list`")
    which.add_argument("--all", action="store_true", help="all named configurations")
    make.add_argument(
        "--unit", choices=UNITS, help="only this unit (default: every unit that has the name)"
    )
    make.add_argument("-o", "--output", metavar="DIR", type=Path, required=True)
    describes = commands.add_parser(
        "registers", help="write the accelerator's registers as C header, JSON and page"
    )
    describes.add_argument("-o", "--output", metavar="DIR", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        if given.command == "list":
            _list()
        elif given.command == "registers":
            _registers(given.output, registers.files())
        else:
            _verilog(None if given.all else given.config, given.unit, given.output)
    except (ValueError, OSError) as error:
        print(f"gobo_rtl: {error}", file=sys.stderr)
        return 2
    return 0
