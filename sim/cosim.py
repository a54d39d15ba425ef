"""The emitted Verilog in Icarus and Verilator, through cocotb.

:func:`run` builds a block's Verilog and runs a bench on it; :func:`decode_layers` decodes whole
layers with the simulated decode unit. The last section of this file runs inside the simulator.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import cocotb
import numpy as np
from amaranth.lib import wiring
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotb_tools.runner import get_runner

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.bus.axi_stream import DecodeAxis
from gobo_rtl.config import CONFIGS, GoboConfig
from gobo_rtl.emit import emit
from gobo_rtl.units import top_name

from . import verilator
from .golden.decode import Streams

__all__ = [
    "CLOCK", "SIMULATORS", "Decoded", "codebook_word", "configuration", "decode_layers",
    "reset", "run",
]  # fmt: skip

SIMULATORS = ("icarus", "verilator")

CLOCK = 10
"""Clock period in ns."""

Config = TypeVar("Config", GoboConfig, ArrayConfig)

_CONFIG, _GIVEN, _SEEN = "GOBO_CONFIG", "GOBO_GIVEN", "GOBO_SEEN"


def run(
    design: GoboConfig | wiring.Component,
    bench: str,
    *,
    tests: int,
    build_dir: Path,
    simulator: str = "verilator",
    edit: Callable[[str], str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run the cocotb tests of the module ``bench`` on the emitted Verilog of ``design``.

    Parameters
    ----------
    design : GoboConfig or Component
        A component with a ``config``; a configuration stands for its :class:`DecodeAxis`.
    bench : str
        A module, as it is imported from the root of the repository.
    tests : int
        So many tests must pass, and no other be there: a bench that lost a test fails.
    build_dir : Path
        Builds are kept there and shared by the runs of the same Verilog.
    simulator : str
        ``icarus`` or ``verilator``.
    edit : function, optional
        Changes the Verilog before it is built: to plant a fault, or to take initial values away.
        Registers without an initial value start as X in Icarus, as any value in Verilator.
    environment : mapping, optional
        More variables for the bench, which finds the configuration by :func:`configuration`.

    Raises
    ------
    RuntimeError
        The build failed, a test failed, or there are not just so many; with the end of the log.
    """
    config = design if isinstance(design, GoboConfig) else design.config
    if isinstance(design, GoboConfig):
        top, text = _decode_axis(design)
    else:
        top = type(design).__name__
        text = emit(design, top)
    folder = _build(top, edit(text) if edit else text, Path(build_dir), simulator)
    place = Path(tempfile.mkdtemp(prefix=f"{bench.rpartition('.')[2]}-", dir=folder))
    results, log = place / "results.xml", place / "log.txt"
    variables = {_CONFIG: json.dumps(config.as_dict()), **(environment or {})}
    with _tools():
        runner = get_runner(simulator)
        try:
            runner.test(
                bench, top, hdl_toplevel_lang="verilog", build_dir=folder, test_dir=place,
                results_xml=str(results), log_file=log, extra_env=variables, seed=1,
                plusargs=["+verilator+rand+reset+2"] if simulator == "verilator" else [],
            )  # fmt: skip
            status = ""
        except (SystemExit, RuntimeError, ValueError) as error:
            status = f" ({error})"
    passed, all_tests = _count(results)
    if status or not passed == all_tests == tests:
        raise RuntimeError(
            f"{bench} on {simulator}: {passed} of {all_tests} tests passed, {tests} must{status}; "
            f"the log is {log}\n{_tail(log)}"
        )


@cache
def _decode_axis(config: GoboConfig) -> tuple[str, str]:
    """Return name and text of a decode unit's Verilog; making it takes seconds."""
    top = top_name(next((name for name, known in CONFIGS.items() if known == config), "custom"))
    return top, emit(DecodeAxis(config), top)


def _build(top: str, text: str, build_dir: Path, simulator: str) -> Path:
    """Build Verilog for a simulator, unless that is done; return the folder with the build."""
    if simulator not in SIMULATORS:
        raise ValueError(f"simulator must be icarus or verilator, not {simulator!r}")
    folder = build_dir.resolve() / f"{top}-{simulator}-{sha256(text.encode()).hexdigest()[:12]}"
    with verilator.in_turn(folder):
        if not (folder / "built").is_file():
            folder.mkdir(exist_ok=True)
            _make(top, text, folder, simulator)
            (folder / "built").touch()
    return folder


def _make(top: str, text: str, folder: Path, simulator: str) -> None:
    log = folder / "build.txt"
    sources, options = [folder / f"{top}.v"], []
    sources[0].write_text(text, encoding="utf-8")
    if simulator == "icarus":
        # As SystemVerilog, initial values would come before anything waits for them to change, and
        # some of the emitter's combinational blocks would never be evaluated.
        options = ["-g2005"]
    else:
        # Only the ports are to be seen, or nothing could be optimised.
        ports = folder / "ports.vlt"
        ports.write_text(f'`verilator_config\npublic_flat_rw -module "{top}" -port "*"\n')
        sources.append(ports)
        options = ["--no-public-flat-rw", "--output-split", "20000"]
        options += [f"-Wno-{name}" for name in verilator.ALLOWED]
    with _tools():
        try:
            get_runner(simulator).build(
                sources=sources, hdl_toplevel=top, build_args=options, build_dir=folder,
                timescale=("1ns", "1ps"), always=True, log_file=log,
            )  # fmt: skip
        except (SystemExit, RuntimeError, ValueError) as error:
            what = f"{simulator} does not build {sources[0]}: {error}"
            raise RuntimeError(f"{what}\n{_tail(log)}") from None


@contextmanager
def _tools() -> Iterator[None]:
    """Run with this environment's Verilator."""
    before = dict(os.environ)
    os.environ.update(
        verilator.environment(), MAKEFLAGS=f"OPT_FAST=-O1 OPT_SLOW=-O0 {verilator.PRECOMPILED}"
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _count(results: Path) -> tuple[int, int]:
    """Return how many tests passed, and how many there are, in a JUnit file."""
    if not results.is_file():
        return 0, 0
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    bad = [case for case in cases if any(case.find(t) is not None for t in _NOT_PASSED)]
    return len(cases) - len(bad), len(cases)


_NOT_PASSED = ("failure", "error", "skipped")


def _tail(log: Path) -> str:
    """Return the end of a log."""
    if not log.is_file():
        return "(no log)"
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-60:])


# -- whole layers ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoded:
    """What a decode unit gave: every transfer of its output, in order.

    Parameters
    ----------
    values : (groups, lanes) array
        Bit patterns, uint16 or uint32.
    last, error : (groups,) arrays of bool
    error_code : int
        At the end; 0 when nothing was wrong.
    cycles : int
        From the first beat offered to the last group taken, both included.
    """

    values: np.ndarray
    last: np.ndarray
    error: np.ndarray
    error_code: int
    cycles: int


def decode_layers(
    config: GoboConfig, layers: Sequence[Streams], build_dir: Path, simulator: str = "verilator"
) -> Decoded:
    """Decode whole layers, back to back, with the simulated Verilog of the decode unit.

    The inputs never pause and the output is always ready. ``simulator`` is ``verilator`` or
    ``icarus``; the simulation is built under ``build_dir``, once for a configuration.
    ``RuntimeError`` says what went wrong, with the end of the log: the build failed, or the unit
    hung with beats that it does not take.
    """
    size = -(-config.codebook_width // 8)
    codebooks = [codebook_word(config, layer).to_bytes(size, "little") for layer in layers]
    Path(build_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vectors-", dir=build_dir) as folder:
        given, seen = Path(folder).resolve() / "given.npz", Path(folder).resolve() / "seen.npz"
        np.savez(
            given,
            codebook=np.frombuffer(b"".join(codebooks), np.uint8).reshape(-1, size),
            codebook_tag=np.array([layer.index_width for layer in layers], np.uint8),
            index=np.concatenate([layer.indexes for layer in layers]),
            index_tag=np.concatenate([layer.indexes_last for layer in layers]),
            outlier=np.concatenate([layer.outliers for layer in layers]),
            outlier_tag=np.concatenate([layer.outliers_last for layer in layers]),
        )
        run(
            config, __name__, tests=1, build_dir=build_dir, simulator=simulator,
            environment={_GIVEN: str(given), _SEEN: str(seen)},
        )  # fmt: skip
        with np.load(seen) as found:
            return Decoded(
                found["values"].view(f"<u{config.value_width // 8}").reshape(-1, config.lanes),
                found["last"], found["error"],
                int(found["error_code"]), int(found["cycles"]),
            )  # fmt: skip


def codebook_word(config: GoboConfig, layer: Streams) -> int:
    """Return a layer's codebook as a word of ``s_axis_codebook_tdata``."""
    return sum(int(v) << n * config.value_width for n, v in enumerate(layer.codebook))


# -- inside the simulator ----------------------------------------------------------------------


def configuration(kind: type[Config] = GoboConfig) -> Config:
    """Return the configuration that :func:`run` was given, of the ``kind`` that it is."""
    sizes = json.loads(os.environ[_CONFIG])
    return kind(**{**sizes, "index_widths": tuple(sizes["index_widths"])})


async def reset(dut: Any, cycles: int = 4) -> None:
    """Hold an AXI design in reset, its inputs as they are, and let it go after a rising edge."""
    dut.aresetn.value = 0
    for _ in range(cycles):
        await RisingEdge(dut.aclk)
    dut.aresetn.value = 1


class _Source:
    """Offers the words of a stream without pause."""

    def __init__(self, dut: Any, name: str, words: np.ndarray, tags: np.ndarray) -> None:
        self.words = [int.from_bytes(word.tobytes(), "little") for word in words]
        self.tags = tags.astype(int).tolist()
        self.at = 0
        port = f"s_axis_{name}_t"
        self.data, self.valid = getattr(dut, f"{port}data"), getattr(dut, f"{port}valid")
        self.ready = getattr(dut, f"{port}ready")
        tags_at = [getattr(dut, port + tag) for tag in ("last", "user") if hasattr(dut, port + tag)]
        self.tag = tags_at[0] if tags_at else None

    @property
    def left(self) -> int:
        """Words not taken."""
        return len(self.words) - self.at

    def offer(self) -> None:
        """Put the next word on the port."""
        self.valid.value = int(self.left > 0)
        if self.left:
            self.data.value = self.words[self.at]
            if self.tag is not None:
                self.tag.value = self.tags[self.at]

    def step(self) -> bool:
        """Go on after a clock edge; return whether the word was taken."""
        taken = self.left > 0 and bool(self.ready.value)
        if taken:
            self.at += 1
            self.offer()
        return taken


@cocotb.test(timeout_time=10, timeout_unit="sec")
async def decode_vectors(dut: Any) -> None:
    """Decode the layers of a file and write what came out to another."""
    config = configuration()
    with np.load(os.environ[_GIVEN]) as given:
        sources = [
            _Source(dut, name, given[name], given[f"{name}_tag"])
            for name in ("codebook", "index", "outlier")
        ]
    values, last, error = bytearray(), [], []
    size = config.lanes * config.value_width // 8
    dut.clear.value = 0
    dut.m_axis_weight_tready.value = 1
    for source in sources:
        source.valid.value = 0
    Clock(dut.aclk, CLOCK, unit="ns").start(start_high=False)
    await reset(dut)
    for source in sources:
        source.offer()
    valid, data = dut.m_axis_weight_tvalid, dut.m_axis_weight_tdata
    edge, quiet, cycle, end = RisingEdge(dut.aclk), 0, 0, 0
    while quiet < config.lanes + 64:  # no group takes more cycles than it has lanes
        await edge
        cycle += 1
        moved = sum(source.step() for source in sources)
        if valid.value:
            values += int(data.value).to_bytes(size, "little")
            last.append(bool(dut.m_axis_weight_tlast.value))
            error.append(bool(dut.m_axis_weight_tuser.value))
            moved, end = 1, cycle
        quiet = 0 if moved else quiet + 1
    left = {source.valid._name: source.left for source in sources if source.left}
    assert not left, f"the unit hangs after {len(last)} groups; words not taken: {left}"
    np.savez(
        os.environ[_SEEN], values=np.frombuffer(values, np.uint8), last=np.array(last, bool),
        error=np.array(error, bool), error_code=int(dut.error_code.value), cycles=end,
    )  # fmt: skip
