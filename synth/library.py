"""A cell library: what the flow has to know of a Liberty file."""

import gzip
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path

from synth import SynthError
from synth.files import write

__all__ = ["Library", "load"]

# Driving cells of libraries that we know: a buffer of double strength, as strong as the
# flip-flops that usually drive a block. Other libraries get their smallest buffer or inverter.
DRIVING_CELLS = {
    "sg13g2_stdcell": "sg13g2_buf_2",
    "sky130_fd_sc_hd": "sky130_fd_sc_hd__buf_2",
    "asap7sc7p5t": "BUFx2_ASAP7_75t_R",
}
# Cells for delays, clock trees, power domains and probes, that no mapper should take; and
# flip-flops with an enable, because ABC does not see (and so does not buffer) what drives them.
UNUSED_CELLS = (
    "*dly*", "*delay*", "*lpflow*", "*probe*", "*sighold*", "*__clk*", "CLKBUF*", "*__macro_*",
    "*__edf*",
)  # fmt: skip
LOADS = 4  # inputs that an output drives: four of the inverter, as in the usual FO4 delay

_CELL = re.compile(r"^[ \t]*cell[ \t]*\([ \t]*\"?([^\s\")]+)\"?[ \t]*\)", re.MULTILINE)
_NAME = re.compile(r"^\s*library\s*\(\s*\"?([^\s\")]+)\"?\s*\)\s*\{", re.MULTILINE)
_AREA = re.compile(r"^\s*area\s*:\s*\"?([\d.eE+-]+)", re.MULTILINE)
_UNIT = re.compile(r"capacitive_load_unit\s*\(\s*\"?([\d.]+)\"?\s*,\s*\"?([fpn])f\"?\s*\)", re.I)
_PIN = re.compile(r"^[ \t]*pin[ \t]*\([ \t]*\"?(\w+)\"?[ \t]*\)", re.MULTILINE)
_UNITS = re.compile(r"^\s*(\w+_unit\b.*)", re.MULTILINE)
_TABLE = re.compile(r"^[ \t]*\w+_template\s*\(([^)]*)\)\s*\{[^}]*\}", re.MULTILINE)
_FEMTOFARADS = {"f": 1.0, "p": 1e3, "n": 1e6}


@dataclass(frozen=True)
class Cell:
    """Area in um2; ``function`` of the one output, ``inputs`` with their capacitances in fF;
    names of ``outputs``; ``clock_gate`` names the enable, clock and output pins of an integrated
    clock gate."""

    name: str
    area: float
    is_sequential: bool
    has_timing: bool
    function: str
    inputs: dict[str, float]
    outputs: list[str]
    clock_gate: str | None


@dataclass(frozen=True)
class Library:
    """A cell library, uncompressed at ``path``.

    ``driving_cell`` drives every input and ``load`` fF hang on every output; both are None when
    the library has no timing. ``unused`` are names of cells that are kept from the mapper.
    ``clock_gate`` is its smallest clock gate for rising edges, cell and pins, if it has one;
    ``buffer`` the driving cell with its pins, if that is a buffer; ``smallest_gate`` the area of
    the smallest gate of two inputs in um2.
    """

    name: str
    path: Path
    sha256: str
    driving_cell: str | None
    load: float | None
    unused: tuple[str, ...]
    flip_flops: frozenset[str]
    clock_gate: str | None = None
    buffer: str | None = None
    smallest_gate: float = 0.0

    @property
    def has_timing(self) -> bool:
        """Whether delays can be told from it."""
        return self.driving_cell is not None


def load(source: Path, folder: Path, *more: Path) -> Library:
    """Read the Liberty file ``source``, and the cells of ``more`` files of the same library; put it
    uncompressed into ``folder``. Files may be compressed."""
    parts = [_part(path) for path in (source, *more)]
    tables: dict[str, str] = {}
    for path, part in zip((source, *more), parts, strict=True):
        both = tables.keys() & part.tables.keys()
        if part.units != parts[0].units or any(tables[n] != part.tables[n] for n in both):
            raise SynthError(f"{path} has other units or tables than {source}: no part of it")
        tables |= part.tables
    words = zip(*(part.name.split("_") for part in parts), strict=False)
    name = "_".join(word[0] for word in takewhile(lambda word: len(set(word)) == 1, words))
    names = [cell for part in parts for cell in _CELL.findall(part.cells)]
    if twice := [cell for cell, count in Counter(names).items() if count > 1]:
        raise SynthError(f"{source} and the files with it have two cells {twice[0]}")
    added = "".join(tables[n] + "\n" for n in tables if n not in parts[0].tables)
    text = f"{parts[0].head}{added}{''.join(part.cells for part in parts)}}}\n"
    cells = _cells(text)
    path = folder / f"{name or parts[0].name}.lib"
    write(path, text)
    unused = tuple(
        cell.name for cell in cells if any(fnmatchcase(cell.name, glob) for glob in UNUSED_CELLS)
    )
    driver, load = _environment(path.stem, [c for c in cells if c.name not in unused])
    return Library(
        name=path.stem,
        path=path,
        sha256=hashlib.sha256(b"".join(part.raw for part in parts)).hexdigest(),
        driving_cell=driver.name if driver else None,
        load=load,
        unused=unused,
        flip_flops=frozenset(cell.name for cell in cells if cell.is_sequential),
        clock_gate=min(
            ((c.area, f"{c.name} {c.clock_gate}") for c in cells if c.clock_gate), default=(0, None)
        )[1],
        buffer=f"{driver.name} {_through(driver)}" if driver and _is_buffer(driver) else None,
        smallest_gate=min((c.area for c in cells if len(c.inputs) == 2 and len(c.outputs) == 1
                           and c.function and not c.is_sequential), default=0.0),
    )


@dataclass(frozen=True)
class _Part:
    """A Liberty file: its ``cells`` and the ``head`` before them, which has ``units``, and the axes
    of ``tables`` by name."""

    raw: bytes
    name: str
    head: str
    cells: str
    units: list[str]
    tables: dict[str, str]


def _part(source: Path) -> _Part:
    try:
        raw = source.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("latin-1")
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise SynthError(f"cannot read the cell library {source}: {why}") from error
    name, first, end = _NAME.search(text), _CELL.search(text), text.rfind("}")
    if name is None or first is None or end < first.end():
        raise SynthError(f"{source} is not a Liberty cell library: it has no library with cells")
    head = text[: first.start()]
    tables = {match[1]: match[0] for match in _TABLE.finditer(head)}
    return _Part(raw, name[1], head, text[first.start() : end], _UNITS.findall(head), tables)


def _cells(text: str) -> list[Cell]:
    """Return the cells of a Liberty text."""
    unit = _UNIT.search(text)
    scale = float(unit[1]) * _FEMTOFARADS[unit[2].lower()] if unit else 1.0
    return [_cell(name, body, scale) for name, body in _groups(_CELL, text)]


def _groups(head: re.Pattern[str], text: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each group of a kind, up to the next one's ``head``."""
    starts = [*head.finditer(text)]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    for match, end in zip(starts, ends if starts else [], strict=True):
        yield match[1], text[match.end() : end]


def _cell(name: str, text: str, scale: float) -> Cell:
    """Return a cell from the ``text`` of its group; capacitances times ``scale`` are in fF."""
    inputs, outputs, functions = {}, [], []
    for pin, body in _groups(_PIN, text):
        if re.search(r"direction\s*:\s*\"?input", body):
            capacitance = re.search(r"^\s*capacitance\s*:\s*\"?([\d.eE+-]+)", body, re.MULTILINE)
            inputs[pin] = scale * float(capacitance[1]) if capacitance else 0.0
        elif re.search(r"direction\s*:\s*\"?output", body):
            outputs.append(pin)
        functions += re.findall(r"^\s*function\s*:\s*\"([^\"]*)\"", body, re.MULTILINE)
        functions += re.findall(r"\{[^}\n]*\bfunction\s*:\s*\"([^\"]*)\"", body)
    area = _AREA.search(text)
    return Cell(
        name=name,
        area=float(area[1]) if area else 0.0,
        is_sequential=re.search(r"\bff(_bank)?\s*\(", text) is not None,
        has_timing=re.search(r"\btiming\s*\(", text) is not None,
        function=re.sub(r"[\s()]", "", functions[0]) if len(functions) == 1 else "",
        inputs=inputs,
        outputs=outputs,
        clock_gate=_clock_gate(text),
    )


def _clock_gate(text: str) -> str | None:
    """Return ``enable:clock:output`` of a clock gate for rising edges without a test pin."""
    if not re.search(r"clock_gating_integrated_cell\s*:\s*\"?latch_posedge\"?\s*;", text):
        return None
    pins = dict.fromkeys(("enable", "clock", "out"), "")
    for pin, body in _groups(_PIN, text):
        for role in pins:
            if re.search(rf"clock_gate_{role}_pin\s*:\s*\"?true", body):
                pins[role] = pin
    return ":".join(pins.values()) if all(pins.values()) else None


def _is_buffer(cell: Cell) -> bool:
    return cell.function in cell.inputs and len(cell.inputs) == len(cell.outputs) == 1


def _through(cell: Cell) -> str:
    """Return ``input:output`` of a cell that has one of each."""
    return f"{next(iter(cell.inputs))}:{cell.outputs[0]}"


def _environment(name: str, cells: list[Cell]) -> tuple[Cell | None, float | None]:
    """Return the driving cell and the load in fF for the library called ``name``."""
    single = [c for c in cells if c.has_timing and len(c.inputs) == 1 and not c.is_sequential]
    inverters = [c for c in single if c.function in _complements(c)]
    buffers = [c for c in single if c.function in c.inputs]
    if not buffers and not inverters:
        return None, None
    known = [cell for start, cell in DRIVING_CELLS.items() if name.startswith(start)]
    driver = next(
        (cell for cell in buffers if cell.name in known),
        min(buffers or inverters, key=lambda cell: cell.area),
    )
    gate = min(inverters or buffers, key=lambda cell: cell.area)
    return driver, round(LOADS * sum(gate.inputs.values()), 3)


def _complements(cell: Cell) -> set[str]:
    """Return how a Liberty file may write the complement of the cell's one input."""
    (pin,) = cell.inputs
    return {f"!{pin}", f"{pin}'"}
