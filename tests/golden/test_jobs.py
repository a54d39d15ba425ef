"""Memories with jobs: what is put there is what docs/accelerator.md says, and can be read back."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.formats import COMPLETION, IMAGE_HEADER, JOB, JOB_SLOT, LAYER_DESCRIPTOR
from sim import jobs, stimulus
from sim.jobs import FILL, Completion, Job, Run

SEED = 5
TINY = ARRAYS["tiny"]  # 4 rows, beats of 8 bytes, bursts of 4
CHAIN = replace(TINY, act_format="fp32", act_width=16)  # results can be activations again
INTEGER = replace(TINY, act_format="int8", act_width=8)

JOB_OF_THE_PAGE = Job(
    image_address=0x12_3456_7800, layer_offset=0x100, tokens=5, block_tiles=3, act_exponent=-7,
    act_address=0x2000, act_stride=0x40, result_address=0x3008, result_stride=0x60,
    tag=0x0102_0304, interrupt=True, fence=True,
)  # fmt: skip


def image(config: ArrayConfig, *shapes: tuple[int, int]) -> bytes:
    rng = np.random.default_rng(SEED)
    return stimulus.image(
        config.image, [stimulus.layer(config.image, rng, *shape, 3) for shape in shapes]
    )


def acts(tokens: int, inputs: int, dtype: str = "u2") -> np.ndarray:
    rng = np.random.default_rng(SEED)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (tokens, inputs), dtype, endpoint=True)


# -- records --------------------------------------------------------------------------------


def test_a_job_has_the_bytes_of_the_page():
    assert jobs.job_record(TINY, JOB_OF_THE_PAGE) == bytes.fromhex(
        "474f424a 03 00 02 00 04030201 05000000 0078563412000000 00010000 0300 f9ff"
        "0020000000000000 40000000 60000000 0830000000000000 0000000000000000"
    )
    other = replace(INTEGER, result_format="fp16", beat_width=64)
    record = jobs.job_record(other, replace(JOB_OF_THE_PAGE, resident=True, block_tiles=1))
    assert record[4:8] == bytes.fromhex("07 02 00 00")


def test_a_job_is_that_of_the_page_field_by_field():
    rng = np.random.default_rng(SEED)
    for _ in range(50):
        job = Job(
            image_address=int(rng.integers(1 << 35)) * 32,
            layer_offset=int(rng.integers(1 << 25)) * 128,
            tokens=int(rng.integers(1, 1 << 16)), block_tiles=int(rng.integers(1, 1 << 16)),
            act_exponent=int(rng.integers(-(1 << 10), 1 << 10)),
            act_address=int(rng.integers(1 << 37)) * 8, act_stride=int(rng.integers(1 << 29)) * 8,
            result_address=int(rng.integers(1 << 37)) * 8, tag=int(rng.integers(1 << 32)),
            result_stride=int(rng.integers(1 << 29)) * 8, fence=bool(rng.integers(2)),
        )  # fmt: skip
        assert struct.unpack("<4sBBBxIIQIHhQIIQ8x", jobs.job_record(TINY, job)) == (
            b"GOBJ", 2 * job.fence, 0, 2, job.tag, job.tokens, job.image_address,
            job.layer_offset, job.block_tiles, job.act_exponent, job.act_address, job.act_stride,
            job.result_stride, job.result_address,
        )  # fmt: skip
        fields = jobs.unpack(JOB, jobs.job_record(TINY, job))
        assert fields["act_exponent"] == job.act_exponent
        assert jobs.pack(JOB, **fields) == jobs.job_record(TINY, job)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_address": 0x2004}, "job, act_address: must be a multiple of 8 bytes, a beat, not"),
        ({"act_stride": 0x41}, "job, act_stride: must be a multiple of 8 bytes"),
        ({"result_address": 1}, "job, result_address: must be a multiple of 8 bytes"),
        ({"result_stride": 12}, "job, result_stride: must be a multiple of 8 bytes"),
        ({"image_address": 16}, "job, image_address: must be a multiple of 32 bytes, a burst, not"),
        ({"act_address": 1 << 40}, "job, act_address: must have 40 bits, not 0x10000000000"),
        ({"act_address": -8}, "job, act_address: must have 40 bits, not -0x8"),
        ({"tokens": 0}, "job, tokens: must be in 1..65535, not 0"),
        ({"tokens": 65536}, "job, tokens: must be in 1..65535, not 65536"),
        ({"block_tiles": 0}, "job, block_tiles: must be at least 1, not 0"),
        ({"resident": True}, "job, block_tiles: must be 1 when the layer is resident, not 3"),
        ({"block_tiles": 65536}, "job, block_tiles: must be in 0..65535, not 65536"),
        ({"layer_offset": 64}, "job, layer_offset: must be a multiple of 128 bytes, a descriptor"),
        ({"layer_offset": 1 << 32}, "job, layer_offset: must be in 0..4294967295, not"),
        ({"act_exponent": 1024}, "job, act_exponent: must be in -1024..1023, not 1024"),
        ({"act_exponent": -1025}, "job, act_exponent: must be in -1024..1023, not -1025"),
        ({"tag": -1}, "job, tag: must be in 0..4294967295, not -1"),
    ],
)  # fmt: skip
def test_a_job_that_the_array_does_not_take_is_refused(change, message):
    with pytest.raises(ValueError) as caught:
        jobs.job_record(TINY, replace(JOB_OF_THE_PAGE, **change))
    assert str(caught.value).startswith(message)


def test_wrong_jobs_can_be_written_on_purpose():
    good = jobs.job_record(TINY, JOB_OF_THE_PAGE)
    bad = jobs.pack(JOB, **{**jobs.unpack(JOB, good), "tokens": 0, "act_address": 3})
    assert [n for n in range(64) if good[n] != bad[n]] == [12, 32, 33]
    with pytest.raises(ValueError, match="job: no field is called 'token'; there are flags, act"):
        jobs.pack(JOB, token=1)
    with pytest.raises(ValueError, match=r"job: must begin with b'GOBJ', not b'GOBX'"):
        jobs.unpack(JOB, b"GOBX" + good[4:])


# -- memory ---------------------------------------------------------------------------------


def test_a_slot_holds_a_job_and_later_its_completion():
    memory = bytearray(b"\xff" * 4 * JOB_SLOT)
    record = jobs.job_record(TINY, JOB_OF_THE_PAGE)
    jobs.put_job(memory, 0x1080, 2, record, base=0x1000)
    assert memory == b"\xff" * 384 + record + bytes(64)
    assert jobs.read_completion(memory, 0x1080, 2, base=0x1000) is None
    memory[448:464] = bytes.fromhex("474f4243 04030201 060504030201 0c 00")
    assert jobs.read_completion(memory, 0x1080, 2, base=0x1000) == Completion(
        tag=0x0102_0304, cycles=0x0102_0304_0506, error="too_large"
    )
    memory[463] = 1
    with pytest.raises(ValueError, match="completion: unused bytes must be 0"):
        jobs.read_completion(memory, 0x1080, 2, base=0x1000)
    memory[462:464] = b"\x0f\0"
    with pytest.raises(ValueError, match="completion, error: 15 is none of"):
        jobs.read_completion(memory, 0x1080, 2, base=0x1000)
    memory[448] = 0
    with pytest.raises(ValueError, match="completion: must begin with b'GOBC'"):
        jobs.read_completion(memory, 0x1080, 2, base=0x1000)
    with pytest.raises(ValueError, match="must begin at a multiple of 128, not at 0x1040"):
        jobs.put_job(memory, 0x1040, 0, record, base=0x1000)


@pytest.mark.parametrize("address", [0xFFF, 0x1000 + 4 * JOB_SLOT - 127, 0])
def test_a_place_outside_of_the_memory_is_refused(address):
    memory = np.zeros(4 * JOB_SLOT, np.uint8)
    with pytest.raises(ValueError, match=rf"128 bytes at {address:#x} are not in the memory, 512"):
        jobs.put(memory, address, bytes(128), base=0x1000)
    with pytest.raises(ValueError, match="are not in the memory, 512 bytes at 0x1000"):
        jobs.read(memory, address, 128, base=0x1000)
    assert not memory.any()


def test_activations_are_token_after_token_a_stride_apart():
    memory = bytearray(b"\xee" * 32)
    jobs.put_activations(TINY, memory, 8, 16, np.array([[0x0102, 0x8003]], np.uint16))
    jobs.put_activations(TINY, memory, 24, 16, np.array([[0xFFFE, 0x0405]], ">u2"))
    halves = memory.hex(" ", 4).split()
    assert halves[2] == "02010380" and halves[6] == "feff0504"
    assert [n for n in range(8) if halves[n] == "eeeeeeee"] == [0, 1, 3, 4, 5, 7]
    memory = bytearray(24)
    jobs.put_activations(INTEGER, memory, 0, 16, np.array([[-1, 2, -128], [3, -4, 5]], np.int8))
    assert memory.hex(" ", 8) == "ff02800000000000 0000000000000000 03fc050000000000"


@pytest.mark.parametrize(
    ("config", "given"),
    [(TINY, acts(2, 3, "i2")), (TINY, acts(2, 3, "u4")), (TINY, acts(2, 3)[0]),
     (TINY, np.zeros((2, 3), np.float16)), (INTEGER, acts(2, 3, "i2"))],
)  # fmt: skip
def test_activations_of_another_kind_are_refused(config, given):
    with pytest.raises(ValueError, match=r"activations must be \(tokens, inputs\) .* bits, not"):
        jobs.put_activations(config, bytearray(99), 0, 16, given)


def test_tokens_do_not_overlap():
    memory = bytearray(99)
    jobs.put_activations(TINY, memory, 0, 8, acts(9, 4))
    jobs.put_activations(TINY, memory, 0, 0, acts(1, 5))
    with pytest.raises(ValueError, match="act_stride must be at least the 10 bytes of a token"):
        jobs.put_activations(TINY, memory, 0, 8, acts(2, 5))


def test_results_are_read_a_stride_apart():
    memory = np.arange(64, dtype=np.uint8)
    job = replace(JOB_OF_THE_PAGE, tokens=2, result_address=0x1008, result_stride=24)
    got = jobs.read_results(TINY, memory, job, 3, base=0x1000)
    assert got.dtype == np.uint32
    assert [[f"{n:08x}" for n in row] for row in got] == [
        ["0b0a0908", "0f0e0d0c", "13121110"], ["23222120", "27262524", "2b2a2928"]
    ]  # fmt: skip
    got = jobs.read_results(replace(TINY, result_format="fp16"), memory, job, 1, base=0x1000)
    assert got.tolist() == [[0x0908], [0x2120]] and got.dtype == np.uint16


@pytest.mark.parametrize(
    ("count", "width", "gap", "due"), [(1, 16, 0, 8), (4, 16, 0, 8), (5, 16, 0, 16), (3, 32, 2, 32)]
)
def test_a_row_takes_whole_beats(count, width, gap, due):
    assert jobs.row_stride(TINY, count, width, gap) == due


# -- layouts --------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("gap", [0, 3])
def test_a_layout_holds_everything_apart_from_everything_else(config, gap):
    data = image(config, (5, 3), (9, 6))
    given = [acts(7, 3), acts(1, 6), acts(4, 3)]
    runs = [Run(0, given[0], tag=9, block_tiles=2), Run(1, given[1], interrupt=True),
            Run(0, given[2], resident=True)]  # fmt: skip
    base = 0x12_3456_7000
    layout = jobs.lay_out(config, data, runs, base=base, gap=gap)
    memory = layout.memory
    assert (layout.base, layout.queue, layout.slots, layout.rows) == (base, base, 4, (5, 9, 5))

    owner = np.zeros(len(memory), int)  # what each byte is for

    def claim(address: int, size: int) -> slice:
        at = slice(address - base, address - base + size)
        assert at.start >= 0 and at.stop <= len(memory)
        owner[at] += 1
        return at

    claim(layout.queue, layout.slots * JOB_SLOT)
    for slot, (job, run, tokens) in enumerate(zip(layout.jobs, runs, given, strict=True)):
        at = slot * JOB_SLOT
        assert memory[at : at + 64].tobytes() == jobs.job_record(config, job)
        assert not memory[at + 64 : at + 128].any()
        assert (job.tag, job.interrupt, job.resident) == (run.tag, run.interrupt, run.resident)
        assert (job.tokens, job.block_tiles, job.fence) == (len(tokens), run.block_tiles, False)
        descriptor = jobs.read(memory, job.image_address + job.layer_offset, 16, base)
        assert descriptor[8:16] == struct.pack("<II", layout.rows[slot], tokens.shape[1])
        row_bytes = 4 * layout.rows[slot]
        beats = -(-2 * tokens.shape[1] // config.beat_bytes) + gap
        assert job.act_stride == beats * config.beat_bytes
        for token, row in enumerate(tokens):
            at = claim(job.act_address + token * job.act_stride, row.nbytes)
            assert memory[at].tobytes() == row.astype("<u2").tobytes()
            at = claim(job.result_address + token * job.result_stride, row_bytes)
            assert (memory[at] == FILL).all()
    assert memory[claim(layout.jobs[0].image_address, len(data))].tobytes() == data
    assert owner.max() == 1
    assert (memory[owner == 0] == FILL).all()


def test_what_jobs_may_write_is_their_completions_and_results():
    data, runs = image(TINY, (5, 3)), [Run(0, acts(2, 3))]
    layout = jobs.lay_out(TINY, data, runs, slots=2, base=4096, gap=1)
    (job,) = layout.jobs
    mask = jobs.writable(TINY, layout)
    start = job.result_address - 4096
    due = {*range(64, 80), *range(start, start + 20), *range(start + 32, start + 52)}
    assert job.result_stride == 32 and set(np.flatnonzero(mask).tolist()) == due


def test_a_run_on_the_results_of_another_waits_for_them():
    runs = [Run(0, acts(3, 4, "u4")), Run(1, 0), Run(0, acts(1, 4, "u4"), fence=True)]
    layout = jobs.lay_out(CHAIN, image(CHAIN, (6, 4), (2, 6)), runs)
    first, second, third = layout.jobs
    assert second.act_address == first.result_address
    assert second.act_stride == first.result_stride
    assert (second.tokens, second.fence, first.fence, third.fence) == (3, True, False, True)


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        ([Run(2, acts(1, 3))], {}, "run 0: the image has no layer 2, it has 2"),
        ([Run(-1, acts(1, 3))], {}, "run 0: the image has no layer -1, it has 2"),
        ([Run(0, acts(1, 4))], {}, "run 0: layer 0 has 3 inputs, its activations have 4"),
        ([Run(0, acts(1, 3)), Run(0, 0)], {}, "run 1: results in fp32 cannot be activations in"),
        ([Run(0, acts(1, 3))] * 3, {"slots": 2}, "slots must be a power of two of at least 3 jobs"),
        ([Run(0, acts(1, 3))], {"slots": 3}, "slots must be a power of two of at least 1 jobs"),
        ([Run(0, acts(1, 3))], {"base": 2048}, "base must be a multiple of 4096, not 0x800"),
        ([Run(0, acts(0, 3))], {}, "job, tokens: must be in 1..65535, not 0"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(runs, options, message):
    with pytest.raises(ValueError) as caught:
        jobs.lay_out(TINY, image(TINY, (5, 3), (4, 4)), runs, **options)
    assert str(caught.value).startswith(message)


def test_a_run_takes_results_of_an_earlier_run_of_its_width():
    data = image(CHAIN, (6, 4), (4, 6))
    for number in (1, -1):
        with pytest.raises(ValueError, match=f"run 1: must take .* earlier run, not of {number}"):
            jobs.lay_out(CHAIN, data, [Run(0, acts(1, 4, "u4")), Run(1, number)])
    with pytest.raises(ValueError, match="run 1: layer 0 has 4 inputs, its activations have 6"):
        jobs.lay_out(CHAIN, data, [Run(0, acts(1, 4, "u4")), Run(0, 0)])


def test_an_image_for_another_array_is_refused():
    with pytest.raises(ValueError, match="the image is packed for lanes 16, the array takes 4"):
        jobs.lay_out(TINY, image(ARRAYS["default"], (5, 3)), [Run(0, acts(1, 3))])
    with pytest.raises(ValueError, match="image header: must begin with b'GOBOIMG"):
        jobs.lay_out(TINY, b"PK", [Run(0, acts(1, 3))])


def test_sizes_of_the_records():
    assert (JOB.size, COMPLETION.size, JOB_SLOT) == (64, 16, 128)
    assert jobs.layer_offset(3) == IMAGE_HEADER.size + 3 * LAYER_DESCRIPTOR.size == 512


def test_blocks_are_as_large_as_fits() -> None:
    # 1024 steps, 4 token tiles, 4 activations in a beat
    assert jobs.block_tiles(TINY, 1, 128) == 1
    assert jobs.block_tiles(TINY, 5, 128) == 3
    assert jobs.block_tiles(TINY, 100, 128) == TINY.tile_slots
    assert jobs.block_tiles(TINY, 100, 340) == 3
    assert jobs.block_tiles(TINY, 100, 341) == 2  # 344 with the rest of the last beat
