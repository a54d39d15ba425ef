"""The accelerator's registers, as plain data, with the C header, the JSON and the page made of it.

A register is one or two words of 32 bits; what its fields do is in ``ACCESSES``.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..array_config import PES, ArrayConfig
from ..formats import ARRAY_ERRORS, COMPLETION, JOB, JOB_FLAGS, JOB_SLOT

__all__ = [
    "ACCESSES", "ADDRESS_WIDTH", "MAP_VERSION", "REGISTERS", "Field", "Register", "as_json",
    "c_header", "constants", "files", "page",
]  # fmt: skip

ADDRESS_WIDTH = 8
"""Bits of a byte address."""

MAP_VERSION = 1

ACCESSES: dict[str, str] = {
    "constant": "of the array; writing changes nothing",
    "read": "follows the hardware; writing changes nothing",
    "write": "is held as written",
    "pulse": "writing 1 does it once; reads as 0",
    "event": "becomes 1 by itself, and 0 when 1 is written; an event of the same cycle wins",
    "count": "counts up, modulo 2^64, and is cleared by `CONTROL.clear_counters`; writing changes "
             "nothing",
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """Bits of a register: ``port`` is the name of its signal on the hardware's side."""

    name: str
    low: int
    width: int
    access: str
    port: str
    meaning: str
    reset: int = 0


@dataclass(frozen=True)
class Register:
    """A register of ``width`` bits at a byte offset; bits that no field covers read as 0."""

    name: str
    offset: int
    width: int
    meaning: str
    fields: tuple[Field, ...]


def _register(
    name: str, offset: int, meaning: str, *fields: tuple[str, int, int, str, str]
) -> Register:
    """Build a register of one word from fields of name, low bit, width, access, meaning."""
    prefix = name.lower()
    made = [
        Field(field, low, width, access, f"{prefix}_{field}", text)
        for field, low, width, access, text in fields
    ]
    return Register(name, offset, 32, meaning, tuple(made))


def _whole(
    name: str, offset: int, access: str, meaning: str, width: int = 32, reset: int = 0
) -> Register:
    """Build a register that is one field."""
    field = Field("value", 0, width, access, name.lower(), meaning, reset)
    return Register(name, offset, width, meaning, (field,))


_COUNTERS = (
    ("cycles", "clock cycles"),
    ("busy", "steps taken, a cycle each"),
    ("stall_weights", "cycles in which a step waits for indexes"),
    ("stall_acts", "cycles in which a step waits for activations"),
    ("stall_outliers", "cycles that a step takes beyond its first, for outliers"),
    ("stall_drain", "cycles in which the end of a pass waits for the sums before it to leave"),
    ("index_beats", "beats of indexes read"),
    ("outlier_beats", "beats of outliers read"),
    ("act_beats", "beats of activations read"),
    ("job_beats", "beats of jobs, descriptors, codebooks and biases read"),
    ("result_beats", "beats of results and completions written"),
    ("outliers", "outliers that entered the array, once a pass"),
    ("jobs", "jobs that are done, with or without an error"),
)

REGISTERS: tuple[Register, ...] = (
    _whole("ID", 0x00, "constant", "`GOBA`, the letter G in the lowest byte"),
    _whole("VERSION", 0x04, "constant", "of this map"),
    _register(
        "SHAPE", 0x08, "size of the array",
        ("rows", 0, 16, "constant", "outputs computed at once"),
        ("columns", 16, 16, "constant", "tokens computed at once"),
    ),
    _register(
        "BUS", 0x0C, "size of the memory bus",
        ("beat_bytes", 0, 8, "constant", "bytes in a beat"),
        ("burst_beats", 8, 16, "constant", "beats in a burst, at most"),
        ("address_width", 24, 8, "constant", "bits of an address"),
    ),
    _register(
        "FORMATS", 0x10, "numbers of the array",
        ("act_format", 0, 4, "constant", "code of an activation in memory"),
        ("result_format", 4, 4, "constant", "code of a result"),
        ("value_format", 8, 4, "constant", "code of centroids and outliers"),
        ("index_widths", 12, 5, "constant", "bit b is set when b-bit indexes are taken"),
        ("symmetric", 17, 1, "constant", "codebooks must be sign-symmetric"),
        ("pe", 18, 2, "constant", ", ".join(f"{n} `{pe}`" for n, pe in enumerate(PES))),
        ("act_width", 20, 6, "constant", "bits of an aligned activation"),
        ("weight_sum_width", 26, 6, "constant", "a row's sum of magnitudes fits these bits"),
    ),
    _register(
        "LIMITS", 0x14, "what a layer and a job may have",
        ("max_inputs", 0, 16, "constant", "columns of a matrix"),
        ("tile_slots", 16, 16, "constant", "token tiles on chip"),
    ),
    _whole("INDEX_DEPTH", 0x18, "constant", "steps of indexes on chip"),
    _whole("OUTLIER_DEPTH", 0x1C, "constant", "words of outliers on chip"),
    _whole("ACT_DEPTH", 0x20, "constant", "steps of activations on chip"),
    _register(
        "CONTROL", 0x40, "what the host wants",
        ("enable", 0, 1, "write", "fetch jobs; a job that is fetched runs to its end"),
        ("clear", 1, 1, "pulse", "go on with the next job after an error"),
        ("clear_counters", 2, 1, "pulse", "all counters are 0"),
    ),
    _register(
        "STATUS", 0x44, "what the accelerator does",
        ("busy", 0, 1, "read", "a job is fetched, computed or written"),
        ("stopped", 1, 1, "read", "an error is there, its completion is written and the bus is "
                                  "quiet: `CONTROL.clear` is awaited"),
        ("idle", 2, 1, "read", "nothing is outstanding on the bus"),
    ),
    _register(
        "ERROR", 0x48, "the first error since `CONTROL.clear`",
        ("code", 0, 8, "read", "0, or an error of accelerator.md section 5"),
    ),
    _whole("ERROR_TAG", 0x4C, "read", "tag of the job with the error"),
    _register(
        "INTERRUPT_ENABLE", 0x50, "which events raise the interrupt",
        ("done", 0, 1, "write", "`INTERRUPT.done` does"),
        ("error", 1, 1, "write", "`INTERRUPT.error` does"),
    ),
    _register(
        "INTERRUPT", 0x54, "events; the interrupt is raised while an enabled one is 1",
        ("done", 0, 1, "event", "a job with the flag `interrupt` is done"),
        ("error", 1, 1, "event", "the queue stopped with an error"),
    ),
    _whole("QUEUE_BASE", 0x60, "write", "address of the queue, a multiple of 128; write it while "
                                        "`CONTROL.enable` is 0", 64),
    _whole("QUEUE_SLOTS", 0x68, "write", "slots of the queue, a power of two in 1..32768; as "
                                         "`QUEUE_BASE`", reset=1),
    _whole("QUEUE_PRODUCED", 0x6C, "write", "jobs that the host wrote since the reset, modulo "
                                            "2^32: at most `QUEUE_SLOTS` not completed"),
    _whole("QUEUE_COMPLETED", 0x70, "read", "jobs whose completion is written, modulo 2^32"),
    *(_whole(f"COUNT_{name.upper()}", 0x80 + 8 * n, "count", meaning, 64)
      for n, (name, meaning) in enumerate(_COUNTERS)),
)  # fmt: skip


def constants(config: ArrayConfig) -> dict[str, int]:
    """Return the value of each ``constant`` field by its port."""
    return {
        "id": int.from_bytes(b"GOBA", "little"),
        "version": MAP_VERSION,
        "shape_rows": config.rows,
        "shape_columns": config.columns,
        "bus_beat_bytes": config.beat_bytes,
        "bus_burst_beats": config.burst_beats,
        "bus_address_width": config.address_width,
        "formats_act_format": config.act.code,
        "formats_result_format": config.result.code,
        "formats_value_format": config.value.code,
        "formats_index_widths": sum(1 << width for width in config.index_widths),
        "formats_symmetric": int(config.symmetric),
        "formats_pe": PES.index(config.pe),
        "formats_act_width": config.act_width,
        "formats_weight_sum_width": config.weight_sum_width,
        "limits_max_inputs": config.max_inputs,
        "limits_tile_slots": config.tile_slots,
        "index_depth": config.index_depth,
        "outlier_depth": config.outlier_depth,
        "act_depth": config.act_depth,
    }


# -- what is made of it ------------------------------------------------------------------------


def c_header() -> str:
    """Return the registers, the errors and the records of a job as a C header."""
    lines = [
        "/* Registers and records of the accelerator: docs/registers.md, docs/accelerator.md.",
        " * Written by `python -m gobo_rtl registers`. */",
        "#ifndef GOBO_REGISTERS_H",
        "#define GOBO_REGISTERS_H",
        "",
        "/* Registers: byte offsets; fields: mask and lowest bit. */",
    ]
    for register in REGISTERS:
        lines.append(f"#define GOBO_{register.name} 0x{register.offset:02X}u")
        for field in register.fields:
            if field.width != register.width:
                name, mask = f"GOBO_{register.name}_{field.name.upper()}", (1 << field.width) - 1
                lines.append(f"#define {name}_MASK 0x{mask << field.low:08X}u")
                lines.append(f"#define {name}_SHIFT {field.low}u")
    lines += ["", "/* Errors. */"]
    lines += [f"#define GOBO_E_{name.upper()} {code}u" for name, code in ARRAY_ERRORS.items()]
    lines += ["", "/* The queue: byte offsets in a job and in its completion. */"]
    lines += [f"#define GOBO_JOB_SLOT_BYTES {JOB_SLOT}u"]
    lines += [f"#define GOBO_COMPLETION_OFFSET {JOB.size}u"]
    for record in (JOB, COMPLETION):
        name, magic = record.name.upper(), int.from_bytes(record.magic, "little")
        lines.append(f"#define GOBO_{name}_MAGIC_VALUE 0x{magic:08X}u")
        lines += [
            f"#define GOBO_{name}_{field.name.upper()} {field.offset // 8}u"
            for field in record.fields
        ]
    lines += [
        f"#define GOBO_JOB_FLAG_{name.upper()} 0x{1 << bit:02X}u" for name, bit in JOB_FLAGS.items()
    ]
    return "\n".join([*lines, "", "#endif", ""])


def as_json() -> str:
    """Return the registers as JSON."""
    about: dict[str, Any] = {
        "version": MAP_VERSION,
        "accesses": ACCESSES,
        "registers": [asdict(register) for register in REGISTERS],
    }
    return json.dumps(about, indent=1) + "\n"


def _rows() -> Iterator[str]:
    for register in REGISTERS:
        (first, *_) = register.fields
        if first.width == register.width:
            reset = "" if first.access == "constant" else f"{first.reset:#x}"
            yield (f"| `{register.offset:#04x}` | `{register.name}` | {register.width - 1}..0 | "
                   f"{first.access} | {reset} | {register.meaning} |")  # fmt: skip
            continue
        yield f"| `{register.offset:#04x}` | `{register.name}` | | | | {register.meaning} |"
        for field in register.fields:
            top = field.low + field.width - 1
            place = f"{field.low}" if field.width == 1 else f"{top}..{field.low}"
            reset = "" if field.access == "constant" else f"{field.reset:#x}"
            yield f"| | `.{field.name}` | {place} | {field.access} | {reset} | {field.meaning} |"


def page() -> str:
    """Return ``docs/registers.md``."""
    accesses = "\n".join(f"| {name} | {text} |" for name, text in ACCESSES.items())
    return f"""# Registers

Written by `python -m gobo_rtl registers` from `gobo_rtl/bus/registers.py`, with a C header and a
JSON file of the same.

Words of 32 bits on AXI4-Lite, little-endian; the lowest two bits of an address are not looked at.
Each byte strobe counts for its byte. An address without a register answers SLVERR, and reads as 0.
A register of 64 bits is two words, the lower first: reading the lower word of a counter keeps its
upper one for the next read of an upper word.

| access | meaning |
|---|---|
{accesses}

| offset | register | bits | access | reset | meaning |
|---|---|---|---|---|---|
{chr(10).join(_rows())}
"""


def files() -> dict[str, str]:
    """Return what ``python -m gobo_rtl registers`` writes: texts by name."""
    return {
        "gobo_registers.h": c_header(), "gobo_registers.json": as_json(), "registers.md": page(),
    }  # fmt: skip
