"""The self-test for a board, built to a bitstream."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from amaranth.build.run import BuildPlan

from . import FpgaError, tools
from .selftest import SelfTest
from .usage import (
    AFTER_ECP5,
    BEFORE_ECP5,
    DEVICES,
    NEXTPNR_ECP5,
    SEEDS,
    Usage,
    astray,
    usage_of,
)

__all__ = ["NAME", "build", "usage_from"]

NAME = "top"

DEVICE = "ecp5-85k"
"""What is on the board."""

# The report is what the figures are read from.
_OPTIONS = f"{' '.join(NEXTPNR_ECP5)} --report report.json --seed $SEED"

_LOGS = {"yosys": f"{NAME}.rpt", "nextpnr": f"{NAME}.tim"}


def _plan(selftest: SelfTest) -> BuildPlan:
    """Return what Amaranth would run for the board, where SEED is the placer's seed."""
    from .board import Board, platform  # whose pins only it needs

    os.environ.update(tools.environment())  # Amaranth looks for the tools before it plans
    # Without places in the source, so that a plan is the same as long as the hardware is.
    return platform().build(
        Board(selftest), NAME, do_build=False, emit_src=False,
        nextpnr_opts=_OPTIONS,
        script_after_read=BEFORE_ECP5, script_after_synth=AFTER_ECP5,
    )


def build(selftest: SelfTest, folder: Path, begin: Callable[[Path, int], object]) -> dict[str, Any]:
    """Build the bitstream ``folder``/top.bit; return its figures, which are in top.json too.

    What was built of the same design by the same tools is not built again. ``begin`` is called
    with the folder of the tools' logs and the placer's seed when they begin, with the next of SEEDS
    when the router goes astray. ``FpgaError`` has a tool's last words; a bitstream that is there is
    then as it was.
    """
    versions = tools.versions()
    plan = _plan(selftest)
    key = hashlib.sha256(plan.digest() + json.dumps(versions).encode()).hexdigest()
    about, bits = folder / f"{NAME}.json", folder / f"{NAME}.bit"
    known = _known(about, bits, key)
    if known is not None:
        return known
    work, kept = folder / f"work-{os.getpid()}", folder / "failed"
    tools.start()
    try:
        shutil.rmtree(kept, ignore_errors=True)
        for seed in SEEDS:
            shutil.rmtree(work, ignore_errors=True)
            plan.extract(str(work))
            begin(work, seed)
            status = tools.run(
                ["env", f"SEED={seed}", "sh", f"{plan.script}.sh"], work, work / "log.txt",
                hopeless=partial(astray, work / _LOGS["nextpnr"]),
            )  # fmt: skip
            if status is not None:
                break
        if status != 0:
            work.rename(kept)
            raise FpgaError(f"{_failure(kept, status)} (see {kept})")
        figures = _figures(selftest, work)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    about.unlink(missing_ok=True)  # it is of the bitstream before
    for end in ("rpt", "tim", "bit"):
        (work / f"{NAME}.{end}").replace(folder / f"{NAME}.{end}")
    figures = {"key": key, "versions": versions, **figures}
    tools.write(about, (json.dumps(figures, indent=1) + "\n").encode())
    shutil.rmtree(work)
    return figures


def _failure(work: Path, status: int | None) -> str:
    """Return which tool failed, and its words."""
    if status is None:
        return f"nextpnr: the router came to no end, with {len(SEEDS)} seeds of the placer"
    name = next(reversed([name for name in _LOGS if (work / _LOGS[name]).exists()]), "build")
    logs = [work / _LOGS[name]] if name in _LOGS else []
    texts = [log for log in [*logs, work / "log.txt"] if "ERROR" in log.read_text(errors="replace")]
    return f"{name}: {tools.last_words((texts or [work / 'log.txt'])[0], status)}"


def _figures(selftest: SelfTest, work: Path) -> dict[str, Any]:
    """Return the figures of what was built in a folder."""
    bits = (work / f"{NAME}.bit").read_bytes()
    usage = usage_of(DEVICE, work / _LOGS["nextpnr"], work / "report.json")
    return {
        "words": selftest.stored.words, "flip_flops": _flip_flops(work), "bytes": len(bits),
        "sha256": hashlib.sha256(bits).hexdigest(), "clock_mhz": selftest.clock_hz / 1e6,
        "mhz": usage.mhz, "used": usage.used, "available": usage.available,
    }  # fmt: skip


def _flip_flops(work: Path) -> int:
    """Return how many there are in the cells that nextpnr was given."""
    design = json.loads((work / f"{NAME}.json").read_text(encoding="utf-8"))
    cells = design["modules"][NAME]["cells"].values()
    return sum(cell["type"].startswith(DEVICES[DEVICE].flip_flops) for cell in cells)


def _known(about: Path, bits: Path, key: str) -> dict[str, Any] | None:
    """Return the figures of a bitstream that is there and is that of ``key``."""
    try:
        figures: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
        same = hashlib.sha256(bits.read_bytes()).hexdigest() == figures["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return figures if same and figures.get("key") == key else None


def usage_from(figures: dict[str, Any]) -> Usage:
    """Return the usage in the figures of a build."""
    return Usage(figures["used"], figures["available"], figures["mhz"])
