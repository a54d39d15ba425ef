"""The simulated accelerator or host with its memory: a program that is started and told what to do.
"""

import mmap
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.bus.registers import REGISTERS, Register
from gobo_rtl.host_config import HostConfig
from sim.golden.values import Bits
from sim.jobs import Completion, Layout, read_completion, read_results

from .build import build, verilog_of

__all__ = ["Finished", "Machine", "MachineError"]

_REGISTERS = {register.name: register for register in REGISTERS}


class MachineError(RuntimeError):
    """The simulated hardware broke a rule of its bus, or does not come to an end."""


@dataclass(frozen=True, eq=False)
class Finished:
    """What jobs left behind: completions and results in order, memory, counters by name.

    ``results`` are those of :func:`sim.jobs.read_results`, None for a job with an error.
    """

    completions: list[Completion]
    results: list[Bits | None]
    memory: NDArray[np.uint8]
    counters: dict[str, int]


class Machine:
    """An accelerator or a host in Verilator. A context manager; one at a time has a memory, but
    copies (``copy.copy``) run beside each other.

    Parameters
    ----------
    config : ArrayConfig or HostConfig
    build_dir : Path
        Where simulations are kept, by the text of their Verilog.
    memory_bytes : int
        Size of the memory; rounded up to whole pages.
    verilog : str, optional
        The Verilog to simulate, when it is not that of ``config``: with a fault planted.
    """

    def __init__(
        self, config: ArrayConfig | HostConfig, build_dir: Path, memory_bytes: int,
        verilog: str | None = None,
    ) -> None:  # fmt: skip
        self.config = config.array if isinstance(config, HostConfig) else config
        self._size = -(-memory_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        text = verilog or verilog_of(config, build_dir)
        self._program = build(text, self.config.beat_bytes, Path(build_dir))

    def __enter__(self) -> Self:
        with tempfile.NamedTemporaryFile(prefix="gobo-memory-") as file:
            file.truncate(self._size)
            self._map = mmap.mmap(file.fileno(), self._size)
            self._process = subprocess.Popen(
                [str(self._program), file.name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            self._say("cycle")  # it has mapped the memory: nothing needs the name any more
        self._jobs = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._process.kill()
        self._process.communicate()
        self._map.close()

    @property
    def key(self) -> str:
        """What the simulation is of: its Verilog, its driver and how it was built."""
        return self._program.stem

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The memory, as a copy."""
        return np.frombuffer(self._map[:], np.uint8)

    def _say(self, *words: object) -> list[str]:
        """Give a command, return the words of the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(" ".join(map(str, words)) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer.startswith(("broken", "unknown")) or not answer:
            raise MachineError(f"{' '.join(map(str, words))}: {answer.strip() or 'it has died'}")
        return answer.split()

    def read(self, name: str) -> int:
        """Return a register, of one word or two."""
        register = _REGISTERS[name]
        words = [int(self._say("read", at)[0]) for at in _offsets(register)]
        return sum(word << 32 * n for n, word in enumerate(words))

    def write(self, name: str, value: int) -> None:
        """Write a register, of one word or two."""
        for n, at in enumerate(_offsets(_REGISTERS[name])):
            (response,) = self._say("write", at, value >> 32 * n & 0xFFFFFFFF)
            if response != "0":
                raise MachineError(f"write of {name}: response {response}")

    def field(self, name: str, field: str) -> int:
        """Return a field of a register."""
        place = next(f for f in _REGISTERS[name].fields if f.name == field)
        return self.read(name) >> place.low & ((1 << place.width) - 1)

    def memory_manners(
        self, *, pause: int = 0, seed: int = 1, bandwidth: int = 0, latency: int = 1,
        fault: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        """Say how the memory behaves.

        Parameters
        ----------
        pause : of 256 cycles, at random, in which a channel that could move does not.
        bandwidth : bytes a cycle that all channels together move, on average; 0 when each of them
            moves a beat a cycle, whatever the others do.
        latency : cycles from a read's address to its first beat.
        fault : addresses (from, up to) that answer SLVERR.
        """
        self._say("pause", pause, seed)
        self._say("bandwidth", bandwidth)
        self._say("latency", latency)
        self._say("fault", *fault)

    def step(self, cycles: int) -> None:
        """Let cycles pass."""
        self._say("step", cycles)

    def beats(self) -> dict[str, int]:
        """Return the beats that memory moved since the start, by channel."""
        counts = self._say("beats")
        names = ("index", "outlier", "act", "result", "job")
        return dict(zip(names, map(int, counts), strict=True))

    def run(
        self, layout: Layout, limit: int = 100_000_000,
        advance: Callable[[int], object] = lambda cycles: None,
    ) -> Finished:  # fmt: skip
        """Run the jobs of a layout whose base is 0, from reset or after the jobs of another.

        Jobs with an error are passed over, and the queue goes on. :class:`MachineError` when they
        are not done in ``limit`` cycles. ``advance`` is called with cycles that have passed.
        """
        if layout.base or len(layout.memory) > self._size:
            raise ValueError(
                f"a memory of {len(layout.memory)} bytes at {layout.base:#x} is not in the "
                f"machine's of {self._size} bytes at 0"
            )
        if self._jobs % layout.slots:
            raise ValueError(f"{self._jobs} jobs are done, {layout.slots} slots begin elsewhere")
        self._map[: len(layout.memory)] = layout.memory.tobytes()
        self.write("CONTROL", 0b100)
        self.write("QUEUE_BASE", layout.queue)
        self.write("QUEUE_SLOTS", layout.slots)
        self.write("INTERRUPT_ENABLE", 0b11)
        self.write("INTERRUPT", 0b11)
        self.write("CONTROL", 0b1)
        due = self._jobs + len(layout.jobs)
        self.write("QUEUE_PRODUCED", due)
        while self.read("QUEUE_COMPLETED") != due & 0xFFFFFFFF or self.read("STATUS") & 0b11:
            passed, raised = map(int, self._say("wait", min(limit, 2000)))
            limit -= passed
            advance(passed)
            if limit <= 0:
                raise MachineError(f"jobs do not end: {self.state()}")
            if raised:
                self.write("INTERRUPT", 0b11)
            if self.field("STATUS", "stopped"):
                self.write("CONTROL", 0b11)
                self.step(4)
        self._jobs = due
        return self._finished(layout)

    def state(self) -> str:
        """Return all registers that tell what goes on, in a line."""
        names = ("STATUS", "ERROR", "QUEUE_PRODUCED", "QUEUE_COMPLETED")
        words = [f"{name} {self.read(name):#x}" for name in names]
        return ", ".join([*words, *(f"{n} {v}" for n, v in self.counters().items())])

    def counters(self) -> dict[str, int]:
        """Return the counters by name."""
        names = [name for name in _REGISTERS if name.startswith("COUNT_")]
        return {name.removeprefix("COUNT_").lower(): self.read(name) for name in names}

    def _finished(self, layout: Layout) -> Finished:
        memory = np.frombuffer(self._map[: len(layout.memory)], np.uint8)
        completions, results = [], []
        for slot, (job, rows) in enumerate(zip(layout.jobs, layout.rows, strict=True)):
            completion = read_completion(memory, layout.queue, slot)
            if completion is None:
                raise MachineError(f"job {slot} has no completion: {self.state()}")
            completions.append(completion)
            good = completion.error == "none"
            results.append(read_results(self.config, memory, job, rows) if good else None)
        return Finished(completions, results, memory, self.counters())


def _offsets(register: Register) -> range:
    return range(register.offset, register.offset + register.width // 8, 4)
