"""Jobs of the accelerator in memory: docs/accelerator.md, section 5.

A memory is a bytearray or an array of uint8; its first byte has the address ``base``.  A place
that is not in it is a ``ValueError``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.config import GoboConfig
from gobo_rtl.formats import (
    ARRAY_ERRORS,
    COMPLETION,
    IMAGE_HEADER,
    JOB,
    JOB_FLAGS,
    JOB_SLOT,
    LAYER_DESCRIPTOR,
    Record,
)

__all__ = [
    "FILL", "Completion", "Job", "Layout", "Run", "block_tiles", "job_record", "lay_out",
    "layer_offset", "pack", "put", "put_activations", "put_job", "read", "read_completion",
    "read_results", "row_stride", "unpack", "writable",
]  # fmt: skip

Memory = bytearray | NDArray[np.uint8]

FILL = 0xFF
"""What is in memory where nothing was put: as an activation it is NaN, or -1."""

_ERROR_NAMES = {code: name for name, code in ARRAY_ERRORS.items()}


@dataclass(frozen=True, kw_only=True)
class Job:
    """The fields of a job, flags by name; addresses and strides in bytes."""

    image_address: int
    layer_offset: int
    tokens: int
    act_address: int
    act_stride: int
    result_address: int
    result_stride: int
    block_tiles: int = 1
    act_exponent: int = 0
    tag: int = 0
    interrupt: bool = False
    fence: bool = False
    resident: bool = False


@dataclass(frozen=True)
class Completion:
    """What the accelerator says of a job; ``error`` is a name of ``ARRAY_ERRORS``."""

    tag: int
    cycles: int
    error: str


# -- records --------------------------------------------------------------------------------


def pack(record: Record, **fields: int) -> bytes:
    """Return a record with these fields, whatever they mean; those left out are 0.

    ``ValueError`` for a field that the record does not have, or a number that does not fit it.
    """
    whole = int.from_bytes(record.magic, "little")
    known = {field.name: field for field in record.fields if field.kind != "bytes"}
    for name, number in fields.items():
        if name not in known:
            raise ValueError(f"{record.name}: no field is called {name!r}; there are "
                             f"{', '.join(known)}")  # fmt: skip
        field = known[name]
        low = -(1 << field.width - 1) if field.kind == "signed" else 0
        if not low <= number < low + (1 << field.width):
            raise ValueError(f"{record.name}, {name}: must be in {low}.."
                             f"{low + (1 << field.width) - 1}, not {number}")  # fmt: skip
        whole |= (number & ((1 << field.width) - 1)) << field.offset
    return whole.to_bytes(record.size, "little")


def unpack(record: Record, data: bytes) -> dict[str, int]:
    """Return the fields of a record of which the magic is right; magic and other bits are not
    among them."""
    if data[: len(record.magic)] != record.magic:
        raise ValueError(f"{record.name}: must begin with {record.magic!r}, not "
                         f"{data[: len(record.magic)]!r}")  # fmt: skip
    whole, fields = int.from_bytes(data[: record.size], "little"), {}
    for field in record.fields:
        if field.kind != "bytes":
            number = whole >> field.offset & ((1 << field.width) - 1)
            negative = field.kind == "signed" and number >> field.width - 1
            fields[field.name] = number - (negative << field.width)
    return fields


def job_record(config: ArrayConfig, job: Job) -> bytes:
    """Return the record of a job that the array takes; ``ValueError`` says why it does not."""
    beat, burst = config.beat_bytes, config.image.burst_bytes
    for name in ("act_address", "act_stride", "result_address", "result_stride"):
        if getattr(job, name) % beat:
            raise ValueError(f"job, {name}: must be a multiple of {beat} bytes, a beat, not "
                             f"{getattr(job, name):#x}")  # fmt: skip
    if job.image_address % burst:
        raise ValueError(f"job, image_address: must be a multiple of {burst} bytes, a burst, not "
                         f"{job.image_address:#x}")  # fmt: skip
    for name in ("image_address", "act_address", "result_address"):
        if getattr(job, name) >> config.address_width:
            raise ValueError(f"job, {name}: must have {config.address_width} bits, not "
                             f"{getattr(job, name):#x}")  # fmt: skip
    if job.layer_offset % LAYER_DESCRIPTOR.size:
        raise ValueError(f"job, layer_offset: must be a multiple of {LAYER_DESCRIPTOR.size} bytes, "
                         f"a descriptor, not {job.layer_offset:#x}")  # fmt: skip
    if not -1024 <= job.act_exponent < 1024:
        raise ValueError(f"job, act_exponent: must be in -1024..1023, not {job.act_exponent}")
    if not 1 <= job.tokens <= 0xFFFF:
        raise ValueError(f"job, tokens: must be in 1..65535, not {job.tokens}")
    if job.block_tiles < 1 or (job.resident and job.block_tiles != 1):
        least = "1 when the layer is resident" if job.resident else "at least 1"
        raise ValueError(f"job, block_tiles: must be {least}, not {job.block_tiles}")
    fields = {field.name: getattr(job, field.name) for field in JOB.fields
              if hasattr(job, field.name)}  # fmt: skip
    flags = sum(getattr(job, name) << bit for name, bit in JOB_FLAGS.items())
    return pack(JOB, **fields, flags=flags, act_format=config.act.code,
                result_format=config.result.code)  # fmt: skip


# -- memory ---------------------------------------------------------------------------------


def _place(memory: Memory, address: int, size: int, base: int) -> slice:
    """Return where ``size`` bytes at ``address`` are in a memory."""
    at = address - base
    if at < 0 or at + size > len(memory):
        raise ValueError(f"{size} bytes at {address:#x} are not in the memory, {len(memory)} "
                         f"bytes at {base:#x}")  # fmt: skip
    return slice(at, at + size)


def put(memory: Memory, address: int, data: bytes, base: int = 0) -> None:
    """Write bytes."""
    place = _place(memory, address, len(data), base)
    np.frombuffer(memory, np.uint8)[place] = np.frombuffer(data, np.uint8)


def read(memory: Memory, address: int, size: int, base: int = 0) -> bytes:
    """Return ``size`` bytes."""
    return bytes(memory[_place(memory, address, size, base)])


def put_job(memory: Memory, queue: int, slot: int, record: bytes, base: int = 0) -> None:
    """Write a job into a slot of the queue, and zeros where its completion will be."""
    if queue % JOB_SLOT:
        raise ValueError(f"the queue must begin at a multiple of {JOB_SLOT}, not at {queue:#x}")
    put(memory, queue + slot * JOB_SLOT, record.ljust(JOB_SLOT, b"\0"), base)


def read_completion(memory: Memory, queue: int, slot: int, base: int = 0) -> Completion | None:
    """Return the completion in a slot; None when none is written."""
    data = read(memory, queue + slot * JOB_SLOT + JOB.size, COMPLETION.size, base)
    if data == bytes(COMPLETION.size):
        return None
    fields = unpack(COMPLETION, data)
    if fields["error"] not in _ERROR_NAMES:
        raise ValueError(f"completion, error: {fields['error']} is none of {_ERROR_NAMES}")
    if data != pack(COMPLETION, **fields):
        raise ValueError(f"completion: unused bytes must be 0, but it is {data.hex(' ')}")
    return Completion(fields["tag"], fields["cycles"], _ERROR_NAMES[fields["error"]])


def row_stride(config: ArrayConfig, count: int, width: int, gap: int = 0) -> int:
    """Return the bytes of ``count`` values of ``width`` bits and ``gap`` beats, in whole beats."""
    return (-(-count * width // config.beat_width) + gap) * config.beat_bytes


def put_activations(
    config: ArrayConfig, memory: Memory, address: int, stride: int, acts: NDArray[Any],
    base: int = 0,
) -> None:  # fmt: skip
    """Write (tokens, inputs) activations, a token each ``stride`` bytes.

    They are integers, or of a float format the bit patterns; the bytes between stay.
    """
    kinds = "iu" if config.act.integer else "u"
    if acts.ndim != 2 or acts.dtype.kind not in kinds or 8 * acts.itemsize != config.act.width:
        what = "integers" if config.act.integer else "unsigned bit patterns"
        raise ValueError(f"activations must be (tokens, inputs) {what} of {config.act.width} bits, "
                         f"not {acts.dtype} {acts.shape}")  # fmt: skip
    rows = acts.astype(acts.dtype.newbyteorder("<"))
    if len(rows) > 1 and stride < rows[0].nbytes:
        raise ValueError(f"act_stride must be at least the {rows[0].nbytes} bytes of a token, not "
                         f"{stride}")  # fmt: skip
    for token, row in enumerate(rows):
        put(memory, address + token * stride, row.tobytes(), base)


def read_results(
    config: ArrayConfig, memory: Memory, job: Job, rows: int, base: int = 0
) -> NDArray[Any]:
    """Return the (tokens, rows) bit patterns of a job's results: uint16, or uint32 for FP32."""
    dtype = np.dtype(f"u{config.result.width // 8}")
    addresses = (job.result_address + token * job.result_stride for token in range(job.tokens))
    tokens = [read(memory, address, rows * dtype.itemsize, base) for address in addresses]
    return np.frombuffer(b"".join(tokens), dtype.newbyteorder("<")).astype(dtype).reshape(-1, rows)


# -- layouts --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Run:
    """A layer of an image, by number, on activations.

    ``acts`` are (tokens, inputs) as for :func:`put_activations`, or the number of an earlier run:
    then the job takes that run's results, and waits for them by its fence.
    """

    layer: int
    acts: "NDArray[Any] | int"
    block_tiles: int = 1
    act_exponent: int = 0
    tag: int = 0
    interrupt: bool = False
    fence: bool = False
    resident: bool = False


@dataclass(frozen=True, eq=False)
class Layout:
    """A memory with jobs, ready to start: ``jobs`` are in the slots from 0 on.

    ``rows`` are the outputs of each job's layer.
    """

    memory: NDArray[np.uint8]
    base: int
    queue: int
    slots: int
    jobs: tuple[Job, ...]
    rows: tuple[int, ...]


def block_tiles(config: ArrayConfig, tokens: int, inputs: int) -> int:
    """Return the token tiles of a job's blocks: as many as there are, or as fit on chip, where a
    token's activations take whole beats."""
    steps = -(-inputs // config.acts_per_beat) * config.acts_per_beat
    tiles = -(-tokens // config.columns)
    return max(1, min(tiles, config.act_depth // steps, config.tile_slots))


def layer_offset(number: int) -> int:
    """Return where the descriptor of a layer is in an image."""
    return IMAGE_HEADER.size + number * LAYER_DESCRIPTOR.size


def lay_out(
    config: ArrayConfig, image: bytes, runs: Sequence[Run], *, slots: int = 0, base: int = 0,
    gap: int = 0, packed: GoboConfig | None = None,
) -> Layout:  # fmt: skip
    """Return a memory with the queue, the image, and each run's activations and results.

    Parameters
    ----------
    slots : slots of the queue, a power of two; 0 for as many as the runs need.
    base : address of the memory, a multiple of 4096.
    gap : beats between the rows of activations, and of results.
    packed : what the image is packed for, when it is not the array's (a host's).
    """
    header = unpack(IMAGE_HEADER, image)
    packed = packed or config.image
    for name in ("lanes", "lane_rows", "tile_rows", "beat_width", "burst_beats"):
        if header[name] != getattr(packed, name):
            raise ValueError(f"the image is packed for {name} {header[name]}, the array takes "
                             f"{getattr(packed, name)}")  # fmt: skip
    slots = slots or 1 << max(0, len(runs) - 1).bit_length()
    if slots & (slots - 1) or len(runs) > slots:
        raise ValueError(f"slots must be a power of two of at least {len(runs)} jobs, not {slots}")
    if base % 4096:
        raise ValueError(f"base must be a multiple of 4096, not {base:#x}")
    at = base + slots * JOB_SLOT
    image_address = at + -at % packed.burst_bytes
    at = image_address + len(image)
    jobs: list[Job] = []
    rows: list[int] = []
    for number, run in enumerate(runs):
        if not 0 <= run.layer < header["layer_count"]:
            raise ValueError(f"run {number}: the image has no layer {run.layer}, it has "
                             f"{header['layer_count']}")  # fmt: skip
        offset = layer_offset(run.layer)
        layer = unpack(LAYER_DESCRIPTOR, image[offset : offset + LAYER_DESCRIPTOR.size])
        if isinstance(run.acts, int):
            source, inputs = _source(config, number, run.acts, jobs), rows[run.acts]
            act_address, act_stride, tokens = source
        else:
            tokens, inputs = run.acts.shape
            act_address, act_stride = at, row_stride(config, inputs, config.act.width, gap)
            at += tokens * act_stride
        if inputs != layer["columns"]:
            raise ValueError(f"run {number}: layer {run.layer} has {layer['columns']} inputs, its "
                             f"activations have {inputs}")  # fmt: skip
        result_stride = row_stride(config, layer["rows"], config.result.width, gap)
        jobs.append(
            Job(
                image_address=image_address, layer_offset=offset, tokens=tokens,
                act_address=act_address, act_stride=act_stride,
                result_address=at, result_stride=result_stride,
                block_tiles=run.block_tiles, act_exponent=run.act_exponent, tag=run.tag,
                interrupt=run.interrupt, fence=run.fence or isinstance(run.acts, int),
                resident=run.resident,
            )
        )  # fmt: skip
        rows.append(layer["rows"])
        at += tokens * result_stride
    memory = np.full(at - base, FILL, np.uint8)
    memory[: slots * JOB_SLOT] = 0
    put(memory, image_address, image, base)
    for slot, (job, run) in enumerate(zip(jobs, runs, strict=True)):
        put_job(memory, base, slot, job_record(config, job), base)
        if not isinstance(run.acts, int):
            put_activations(config, memory, job.act_address, job.act_stride, run.acts, base)
    return Layout(memory, base, base, slots, tuple(jobs), tuple(rows))


def _source(
    config: ArrayConfig, number: int, before: int, jobs: Sequence[Job]
) -> tuple[int, int, int]:
    """Return address, stride and tokens of the results that run ``number`` takes."""
    if config.act_format != config.result_format:
        raise ValueError(f"run {number}: results in {config.result_format} cannot be activations "
                         f"in {config.act_format}")  # fmt: skip
    if not 0 <= before < number:
        raise ValueError(f"run {number}: must take the results of an earlier run, not of {before}")
    return jobs[before].result_address, jobs[before].result_stride, jobs[before].tokens


def writable(config: ArrayConfig, layout: Layout) -> NDArray[np.bool_]:
    """Return the bytes (of the memory) that its jobs may write: completions and results."""
    mask = np.zeros(len(layout.memory), bool)
    for slot, (job, rows) in enumerate(zip(layout.jobs, layout.rows, strict=True)):
        at = layout.queue - layout.base + slot * JOB_SLOT + JOB.size
        mask[at : at + COMPLETION.size] = True
        for token in range(job.tokens):
            at = job.result_address - layout.base + token * job.result_stride
            mask[at : at + rows * config.result.width // 8] = True
    return mask
