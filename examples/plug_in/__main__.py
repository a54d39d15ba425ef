"""Command line: ``python -m examples.plug_in``, which `make example` runs."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gobo_rtl.cli import main as emit
from gobo_rtl.config import named
from quant.container import read
from quant.errors import QuantError
from quant.fit import Options
from quant.image import write_image
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from sim import verilator
from sim.model import ModelError
from sim.model.fetch import locate

from .vectors import activations, write_vectors

__all__ = ["ExampleError", "here", "main", "prepare", "simulate"]

CONFIG = "default"
MODEL = "bert-tiny"
LAYER = "bert.encoder.layer.0.attention.self.query.weight"
SIMULATORS = ("icarus", "verilator")

_HERE = Path(__file__).parent
_SOURCES = ("bench.v", "plug_in.v", "dot_array.v")
_BITS = 3
_EXAMPLES = """examples:
  python -m examples.plug_in
  python -m examples.plug_in --simulator icarus -o build/mine
"""


class ExampleError(Exception):
    """What stops the example, in a sentence for a person."""


def prepare(folder: Path) -> None:
    """Write the emitted decode unit, and the layer's files, to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    if emit(["verilog", "--config", CONFIG, "--unit", "decode", "-o", str(folder)]):
        raise ExampleError(f"the Verilog could not be written to {folder}")
    config, model = named(CONFIG), locate(MODEL)
    source = open_model(str(model))
    choices = select(list(source.tensors.values()), bits=_BITS, embedding_bits=_BITS)
    path, image = folder / f"{MODEL}.gobo.safetensors", folder / "layer.bin"
    write(path, source, choices, Options(value_format=config.value_format), force=True)
    container = read(path)
    write_image(image, container, [LAYER], config, CONFIG, force=True)
    write_vectors(folder, config, image, container, LAYER, activations(model, LAYER))
    layer = container.layer(LAYER).layer
    rows, columns = layer.shape
    print(f"{folder}: {LAYER} of {MODEL}, {rows} x {columns} at {_BITS} bits, "
          f"{len(layer.outliers)} outliers", flush=True)  # fmt: skip


def here() -> list[str]:
    """Return the simulators that this machine has."""
    found = [] if verilator.missing() else ["verilator"]
    return [*(["icarus"] if shutil.which("iverilog") and shutil.which("vvp") else []), *found]


def simulate(folder: Path, simulator: str) -> str:
    """Build the design in ``folder`` and run it there; return what the bench said.

    ``ExampleError`` when it cannot be built or does not end well.
    """
    sources = [*(str(_HERE / name) for name in _SOURCES), f"decode_{CONFIG}.v"]
    if simulator == "icarus":
        build = ["iverilog", "-g2005", "-Wall", "-s", "bench", "-o", "bench.vvp", *sources]
        run = ["vvp", "-n", "bench.vvp"]
    else:
        # The bench waits, which takes coroutines.
        build = [
            "verilator", "--binary", "--timing", "--top-module", "bench", "--Mdir", "verilated",
            *(f"-Wno-{name}" for name in verilator.ALLOWED),
            "-CFLAGS", "-std=c++20 -O1", "-MAKEFLAGS", verilator.PRECOMPILED, *sources,
        ]  # fmt: skip
        run = [str(Path("verilated") / "Vbench")]
    _run(build, folder, f"{simulator} does not build the example")
    return _run(run, folder, f"the example does not run on {simulator}")


def _run(command: Sequence[str], folder: Path, failure: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=verilator.environment(), stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        lines = "\n".join(done.stdout.splitlines()[-20:])
        raise ExampleError(f"{failure}, `{command[0]}` in {folder} says:\n{lines}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return the exit status: 0, 1 (something differs), 2 (cannot be done)."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.plug_in", epilog=_EXAMPLES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Put the emitted decode unit before an array in plain Verilog, and run a "
        "trained\nmodel's layer through both. Exit status: 0, 1 when a word differs, or 2.",
    )  # fmt: skip
    parser.add_argument(
        "--simulator", choices=SIMULATORS, help="only this one (default: all that are here)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/example"), metavar="DIR",
        help="where files go (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        tools = [name for name in here() if options.simulator in (None, name)]
        if not tools:
            what = options.simulator or "a simulator"
            raise ExampleError(f"{what} is missing; sudo apt-get install iverilog g++ make perl")
        prepare(options.output)
        said = {}
        for tool in tools:
            said[tool] = simulate(options.output, tool)
            print("".join(f"{tool}: {line}\n" for line in said[tool].splitlines()
                          if not line.startswith("- ")), end="", flush=True)  # "- ": its times
    except (ExampleError, ModelError, QuantError) as error:
        print(f"example: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"example: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0 if all("PASS" in text.splitlines() for text in said.values()) else 1


if __name__ == "__main__":
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    sys.exit(main())
