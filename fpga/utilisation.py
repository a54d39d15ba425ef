"""What units take of a device by themselves, without pins, and how fast they are there."""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gobo_rtl.emit import emit
from gobo_rtl.units import Design, designs

from . import FpgaError, tools
from .usage import DEVICES, LIMIT_S, SEEDS, Usage, astray, usage_of

__all__ = ["JOBS", "YOSYS", "Job", "Row", "measure", "measure_all", "named_jobs"]

# Named configurations of a unit by devices; arrays whose synthesis alone takes an hour are not
# among them.
_ECP5, _ICE40 = ("ecp5-85k",), ("ice40-hx8k", "ice40-up5k")
JOBS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("decode", ("tiny", "default", "rows", "block", "bf16", "fp32", "wide"), _ECP5),
    ("decode", ("tiny", "default", "rows", "block", "fp32"), _ICE40),
    ("array", ("tiny", "edge"), _ECP5),
    ("array", ("tiny",), _ICE40),
    ("accelerator", ("tiny", "edge"), _ECP5),
    ("accelerator", ("tiny",), _ICE40),
)

# A mistake in a script ends yosys' whole process, so it gets one of its own.
YOSYS = "from pyosys import libyosys as ys; ys.run_pass('script flow.ys', ys.Design())"

_KEPT = ("aclk", "aresetn", "clk", "rst")


@dataclass(frozen=True)
class Job:
    """A design on a device."""

    design: Design
    device: str

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.design.top}.{self.device}"


@dataclass(frozen=True)
class Row:
    """What a job gave."""

    unit: str
    config: str
    device: str
    used: dict[str, int]
    available: dict[str, int]
    flip_flops: int
    mhz: float | None
    routed: bool
    limit_s: float
    key: str

    @property
    def usage(self) -> Usage:
        """Its usage."""
        return Usage(self.used, self.available, self.mhz, self.routed)


def named_jobs(
    unit: str | None = None, config: str | None = None, device: str | None = None
) -> list[Job]:
    """Return JOBS, or what there is of a unit, a configuration and a device; ``FpgaError`` when
    there is nothing. A configuration that is named need not be in JOBS."""
    if device not in (None, *DEVICES):
        raise FpgaError(f"no device is called {device!r}; there are {', '.join(DEVICES)}")
    if config is not None:
        try:
            found = designs(config, unit)
        except (ValueError, KeyError) as error:
            raise FpgaError(str(error)) from error
        return [Job(one, each) for one in found for each in ([device] if device else DEVICES)]
    jobs = [
        Job(designs(name, each)[0], on)
        for each, names, devices in JOBS for name in names for on in devices
        if unit in (None, each) and device in (None, on)
    ]  # fmt: skip
    if not jobs:
        units = ", ".join(dict.fromkeys(each for each, *_ in JOBS))
        raise FpgaError(f"nothing is to be measured of {unit!r} there; there are {units}")
    return jobs


def _script(job: Job) -> str:
    """Return yosys' script: to the device's cells, without pins.

    nextpnr for iCE40 knows no design without pins and would want one for every port, so there all
    ports but clock and reset become wires when the cells are made.
    """
    top, device = job.design.top, DEVICES[job.device]
    kept = " ".join(f"{top}/w:{name} %d" for name in _KEPT)
    pins = "" if "--out-of-context" in device.options else f"delete -port {top}/w:* {kept}\n"
    return f"""\
read_verilog design.v
{device.synth.format(top=top)}
tee -q -o stat.json stat -json
{pins}write_json design.json
"""


def measure(job: Job, output: Path, limit_s: float = LIMIT_S) -> Row:
    """Synthesise, place and route a design, or take what is known of it from ``output``.

    What does not fit the device gives what it needs, without a frequency; what is not placed and
    routed in ``limit_s`` seconds, with another of SEEDS and as many seconds when the router goes
    astray, the placer's estimate of the frequency, and if it is not even placed, ``FpgaError``.
    """
    device, row_path = DEVICES[job.device], output / f"{job.name}.json"
    verilog, script = emit(job.design.component(), job.design.top), _script(job)
    options = [*device.options, "--freq", str(device.target_mhz)]
    given = [verilog, script, *options, json.dumps(tools.versions())]
    key = hashlib.sha256("\0".join(given).encode()).hexdigest()
    known = _known(row_path, key, limit_s)
    if known is not None:
        return known
    work = output / job.name
    work.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "stat.json", "design.json"):
        (work / name).unlink(missing_ok=True)
    (work / "design.v").write_text(verilog, encoding="utf-8")
    (work / "flow.ys").write_text(script, encoding="utf-8")
    log = work / "yosys.log"
    status = tools.run([sys.executable, "-c", YOSYS], work, log)
    if status:
        raise FpgaError(f"{job.name}: yosys: {tools.last_words(log, status)} (see {log})")
    cells = json.loads((work / "stat.json").read_text(encoding="utf-8"))["design"]
    flip_flops = sum(
        count for name, count in cells["num_cells_by_type"].items()
        if name.startswith(device.flip_flops)
    )  # fmt: skip
    log, report = work / "nextpnr.log", work / "report.json"
    command = [tools.program(device.program), *options, "--timing-allow-fail",
               "--json", "design.json", "--report", report.name]  # fmt: skip
    status = None
    for seed in SEEDS:
        status = tools.run([*command, "--seed", str(seed)], work, log, limit_s,
                           partial(astray, log))  # fmt: skip
        if status is not None or not astray(log):
            break
    packed = status == 0 or "Device utilisation" in log.read_text(errors="replace")
    usage = usage_of(job.device, log, report) if packed else None
    if status is None and (usage is None or usage.mhz is None):
        raise FpgaError(f"{job.name}: not placed in {limit_s:.0f} s; give it a higher --limit "
                        f"(see {log})")  # fmt: skip
    if usage is None or (status and not usage.over):
        raise FpgaError(f"{job.name}: nextpnr: {tools.last_words(log, status)} (see {log})")
    row = Row(job.design.unit, job.design.name, job.device, usage.used, usage.available,
              flip_flops, usage.mhz, usage.routed, limit_s, key)  # fmt: skip
    tools.write(row_path, (json.dumps(asdict(row), indent=1) + "\n").encode())
    for name in ("design.json", "design.v"):
        (work / name).unlink(missing_ok=True)
    return row


def _known(path: Path, key: str, limit_s: float) -> Row | None:
    """Return the row of a file, if it is that of ``key`` and no more time would change it."""
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        row = Row(**fields)
    except (OSError, ValueError, TypeError):
        return None
    done = row.routed or bool(row.usage.over) or row.limit_s >= limit_s
    return row if row.key == key and done else None


def measure_all(
    jobs: Sequence[Job], output: Path, workers: int, done: Callable[[Row], object],
    limit_s: float = LIMIT_S,
) -> list[Row]:  # fmt: skip
    """Measure jobs, ``workers`` at a time; ``done`` is called with each as it ends."""
    rows: dict[int, Row] = {}
    tools.start()
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(measure, job, output, limit_s): n for n, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                rows[futures[future]] = future.result()
                done(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            tools.stop()
            raise
    return [rows[n] for n in range(len(jobs))]
