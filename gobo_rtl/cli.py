"""Command line: named configurations to Verilog, registers to a C header."""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from amaranth.back import verilog
from amaranth.lib import wiring

from . import __version__
from .bus import registers
from .bus.axi_stream import DecodeAxis
from .config import CONFIGS, GoboConfig, named

__all__ = ["emit", "main", "ports", "top_name"]


def top_name(name: str) -> str:
    """Return the Verilog module's name of the decode unit of a named configuration."""
    return f"decode_{name}"


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
    return str(verilog.convert(component, name=top, emit_src=False, strip_internal_attrs=True))


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


def _verilog(names: list[str], folder: Path) -> None:
    for name in names:
        config = named(name)
        component = DecodeAxis(config)
        top = top_name(name)
        path = folder / f"{top}.v"
        about = {
            "top": top,
            "version": __version__,
            "name": name,
            "configuration": config.as_dict(),
            "ports": ports(component),
            "interface": component.metadata.as_json(),
        }
        changed = _write(path, emit(component, top))
        _write(folder / f"{top}.json", json.dumps(about, indent=1) + "\n")
        print(f"{path}: {describe(config)}{'' if changed else ' (unchanged)'}")


def _registers(folder: Path) -> None:
    for name, text in registers.files().items():
        changed = _write(folder / name, text)
        print(f"{folder / name}{'' if changed else ' (unchanged)'}")


def describe(config: GoboConfig) -> str:
    """Return a configuration in a line of words."""
    widths = "/".join(map(str, config.index_widths))
    return (
        f"{config.lanes} lanes of {config.value_format}, {widths}-bit indexes, "
        f"{config.beat_width}-bit beats, {config.outliers_per_cycle} outlier"
        f"{'s' if config.outliers_per_cycle > 1 else ''} a cycle, "
        f"{config.lane_rows} x {config.lane_columns} groups"
    )


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
    make.add_argument("-o", "--output", metavar="DIR", type=Path, required=True)
    describes = commands.add_parser(
        "registers", help="write the accelerator's registers as C header, JSON and page"
    )
    describes.add_argument("-o", "--output", metavar="DIR", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        if given.command == "list":
            for name, config in CONFIGS.items():
                print(f"{name:8} {describe(config)}")
        elif given.command == "registers":
            _registers(given.output)
        else:
            _verilog(list(CONFIGS) if given.all else [given.config], given.output)
    except (ValueError, OSError) as error:
        print(f"gobo_rtl: {error}", file=sys.stderr)
        return 2
    return 0
