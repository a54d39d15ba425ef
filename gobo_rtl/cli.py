"""Command line: named configurations to Verilog, registers to a C header."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from amaranth.hdl import Value
from amaranth.lib import wiring

from . import __version__
from .array_config import ArrayConfig
from .bus import registers
from .emit import emit
from .host_config import HostConfig
from .package import core_file, implied_ports, ip_xact
from .units import BLOCKS, HOST_BLOCKS, UNITS, AnyConfig, Design, designs

__all__ = ["describe", "main", "ports"]

_EXAMPLES = """examples:
  python -m gobo_rtl verilog --config default -o build/verilog
  python -m gobo_rtl verilog --config default --set pe=bins --set rows=64 -o build/verilog
  python -m gobo_rtl verilog --config default --unit column --set act_width=8 -o build/blocks
"""

_HOST_FILES = ("gobo_registers.h", "gobo_registers.json")  # for programs that drive it


def ports(component: wiring.Component) -> list[dict[str, Any]]:
    """Return the ports of a component: name, direction (``input``, ``output``), width in bits."""
    return [
        {
            "name": name,
            "direction": "input" if member.flow is wiring.In else "output",
            "width": len(Value.cast(getattr(component, name))),
        }
        for name, member in component.signature.members.items()
    ]


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


def _verilog(designs: Sequence[Design], folder: Path) -> None:
    """Write Verilog of designs, with JSON, core file and IP-XACT; beside an accelerator or a host
    also its registers. Several designs are emitted side by side."""
    with ExitStack() as stack:
        emitted = map(_texts, designs)
        if len(designs) > 1:
            pool = stack.enter_context(ProcessPoolExecutor(min(len(designs), os.cpu_count() or 1)))
            emitted = pool.map(_texts, designs)
        for design, texts in zip(designs, emitted, strict=True):
            path = folder / f"{design.top}.v"
            changed = [_write(path.with_suffix(suffix), text) for suffix, text in texts.items()]
            _tell(path, changed[0], f": {describe(design.config)}")
    if any(design.unit in ("accelerator", "host") for design in designs):
        _registers(folder, _HOST_FILES)


def _texts(design: Design) -> dict[str, str]:
    """Return what is written of a design, by suffix, its Verilog first."""
    component, top, words = design.component(), design.top, describe(design.config)
    about = {
        "top": top,
        "version": __version__,
        "unit": design.unit,
        "name": design.name,
        "configuration": design.config.as_dict(),
        "ports": ports(component),
        "interface": component.metadata.as_json(),
    }
    text = emit(component, top)
    return {
        ".v": text,
        ".json": json.dumps(about, indent=1) + "\n",
        ".core": core_file(top, words),
        ".xml": ip_xact(top, words, implied_ports(text, top) + about["ports"]),
    }


def _registers(folder: Path, names: Collection[str]) -> None:
    for name, text in registers.files().items():
        if name in names:
            _tell(folder / name, _write(folder / name, text))


def _tell(path: Path, changed: bool, about: str = "") -> None:
    print(f"{path}{about}{'' if changed else ' (unchanged)'}", flush=True)


def describe(config: AnyConfig) -> str:
    """Return a configuration in a line of words."""
    widths = "/".join(map(str, config.index_widths))
    if isinstance(config, HostConfig):
        weights = f"{widths}-bit" if config.weights == "gobo" else config.weights
        return (
            f"{config.kind}, {config.rows} outputs a strip, {weights} weights, "
            f"{config.lanes} a word, {config.tokens} tokens a tile, {config.beat_width}-bit beats"
        )
    if isinstance(config, ArrayConfig):
        acts = "as they are" if config.floating else f"aligned to {config.act_width} bits"
        return (
            f"{config.rows} rows x {config.columns} columns, {config.pe}, {widths}-bit indexes, "
            f"{config.act_format} activations {acts}, "
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
    width = max(len(name) for unit in UNITS.values() for name in unit.configs)
    for unit, one in UNITS.items():
        print(f"{unit}:")
        for name, config in one.configs.items():
            print(f"  {name:{width}} {describe(config)}")
    print(f"blocks of an accelerator, and PEs to measure it against:\n  {', '.join(BLOCKS)}")
    print(f"blocks of a host:\n  {', '.join(HOST_BLOCKS)}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m gobo_rtl",
        description="Verilog of GOBO's hardware.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show the named configurations")
    make = commands.add_parser(
        "verilog", help="write a configuration's Verilog, with JSON, FuseSoC core and IP-XACT"
    )
    which = make.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--config", action="append", metavar="NAME",
        help="a named configuration, see `list`; may be given several times",
    )  # fmt: skip
    which.add_argument("--all", action="store_true", help="all named configurations")
    make.add_argument(
        "--unit", choices=[*UNITS, *BLOCKS, *HOST_BLOCKS, "blocks"], metavar="UNIT",
        help="only this unit, or a block, see `list`; `blocks` for all of these (default: every "
        "unit that has the name)",
    )  # fmt: skip
    make.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", dest="changes",
        help="another size than the configuration's, as rows=64 or index_widths=2,3; may be given "
        "several times, and becomes part of the name",
    )  # fmt: skip
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
            names = list(dict.fromkeys(given.config or [None]))  # None for all
            found = [each for name in names for each in designs(name, given.unit, given.changes)]
            _verilog(found, given.output)
    except BrokenProcessPool:
        print("gobo_rtl: a process was stopped while it emitted Verilog, perhaps for want of "
              "memory; name fewer configurations", file=sys.stderr)  # fmt: skip
        return 2
    except (ValueError, OSError) as error:
        print(f"gobo_rtl: {error}", file=sys.stderr)
        return 2
    return 0
