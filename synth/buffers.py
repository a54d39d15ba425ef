"""Memories of a design: which are buffers, kept out of the mapping, and what they take as SRAM."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["LARGE", "Buffer", "area", "buffers", "source"]

LARGE = 4096
"""Bits from which a memory is a buffer; a smaller one is flip-flops."""

# SRAM with one port of 64 bits, um2 by words: the areas of the Liberty files
# RM_IHPSG13_1P_*x64_typ_1p20V_25C of IHP's open process kit.
MACRO_WIDTH = 64
MACROS = {
    "sg13g2": {64: 50489.1, 256: 93180.5, 512: 150102.4, 1024: 263946.1, 2048: 491633.6}
}
DENSITY = 0.52
"""Areas of the smallest gate of two inputs that a bit of SRAM takes where a library has no macros:
as in SG13G2, whose largest has 3.75 um2 a bit beside 7.26 um2."""

_MODULE = re.compile(r"^module (\\\S+|\w+)")
_INSTANCE = re.compile(r"^  (\\\S+|\w+) +\S+ \($")
_MEMORY = re.compile(r"^  reg \[(\d+):0\] (\w+) \[(\d+):0\];")


@dataclass(frozen=True)
class Buffer:
    """A memory of ``words`` times ``width`` bits in a ``module``."""

    module: str
    name: str
    words: int
    width: int

    @property
    def bits(self) -> int:
        """Bits that it keeps."""
        return self.words * self.width


def buffers(verilog: str) -> Counter[Buffer]:
    """Return the buffers of emitted Verilog, whose first module is the top, and how many there are
    of each."""
    memories: dict[str, list[Buffer]] = {}
    below: dict[str, Counter[str]] = {}
    module = ""
    for line in verilog.splitlines():
        if found := _MODULE.match(line):
            module = found[1].lstrip("\\")
            memories[module], below[module] = [], Counter()
        elif found := _MEMORY.match(line):
            width, words = int(found[1]) + 1, int(found[3]) + 1
            if width * words >= LARGE:
                memories[module].append(Buffer(module, found[2], words, width))
        elif found := _INSTANCE.match(line):
            below[module][found[1].lstrip("\\")] += 1

    def every(name: str, times: int) -> Iterator[tuple[Buffer, int]]:
        for buffer in memories.get(name, []):
            yield buffer, times
        for child, count in below.get(name, Counter()).items():
            yield from every(child, times * count)

    total: Counter[Buffer] = Counter()
    for buffer, count in every(next(iter(memories), ""), 1):
        total[buffer] += count
    return total


def area(buffer: Buffer, library: str, gate: float) -> float:
    """Return the um2 of a buffer in SRAM of ``library``: of its macros those that take the least,
    or by DENSITY of ``gate``, the area of its smallest gate of two inputs."""
    macros = next((sizes for start, sizes in MACROS.items() if library.startswith(start)), None)
    if macros is None:
        return DENSITY * gate * buffer.bits
    across = -(-buffer.width // MACRO_WIDTH)
    best = [0.0]
    for words in range(64, buffer.words + 64, 64):
        best.append(min(each + best[max(0, words - size) // 64] for size, each in macros.items()))
    return across * best[-1]


def source(library: str) -> str:
    """Return where the areas of buffers come from, in words."""
    if any(library.startswith(start) for start in MACROS):
        return "macros of one port, 64 bits wide, of the process kit"
    return f"{DENSITY} areas of the smallest two-input gate a bit, as SG13G2's largest macro"
