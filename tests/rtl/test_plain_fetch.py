# amaranth: UnusedElaboratable=no
"""Jobs on plain layers: what is taken, and what is refused."""

from dataclasses import replace
from functools import partial

import pytest

from gobo_rtl.formats import ARRAY_ERRORS
from gobo_rtl.host_config import HOSTS, HostConfig
from gobo_rtl.hosts.plain_fetch import PlainFetch
from sim.pysim import simulate

from .test_fetch import BASE, IMAGE, Fetching, good_job, run, store_of

TINY = HOSTS["tpu_tiny"]
CONFIGS = {
    "fp16": replace(TINY, weights="fp16"), "fp32": replace(TINY, weights="fp32"),
    "wide beats": replace(HOSTS["tensor_core"], weights="fp16"),
}  # fmt: skip


def good_layer(config: HostConfig) -> dict[str, int]:
    return {
        "index_width": config.stored.width, "value_format": config.stored.code,
        "rows": 5 * config.rows - 1, "columns": 3 * config.max_inputs // 4, "tile_count": 5,
        "index_offset": 0x2000, "index_bytes": 0x400, "bias_offset": 0x4000, "bias_bytes": 0x100,
        "payload_crc32": 0x1234567,
    }  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_job_becomes_a_layer_in_the_cycles_that_are_said(name: str) -> None:
    config = CONFIGS[name]
    job = good_job(config.array) | {"tokens": config.tokens + 1}
    store = store_of(config.array, [job], good_layer(config), [], latency=5)
    fetch = PlainFetch(config)
    (got,), outcome = run(config.array, store, fetch=fetch)
    assert outcome["error"] == 0
    wanted = {
        "rows": 5 * config.rows - 1, "inputs": 3 * config.max_inputs // 4, "strips": 5, "tiles": 2,
        "index_address": IMAGE + 0x2000, "index_beats": 0x400 // config.array.beat_bytes,
        "outlier_beats": 0, "bias_address": IMAGE + 0x4000, "has_bias": 1, "tag": 0xCAFE_F00D,
        "tokens": config.tokens + 1, "slot": BASE,
    }  # fmt: skip
    assert {name: int(got[name]) for name in wanted} == wanted
    wait = 3 + 5  # a command, its burst, its address; the memory
    assert outcome["cycles"] == fetch.latency(0) + 2 * wait


BIG = 1 << TINY.address_width
FAULTS: list[tuple[dict[str, int], str]] = [
    *(({name: value}, "layer") for name, value in (
        ("index_width", 3), ("index_width", 32), ("index_width", 0x50), ("value_format", 2),
        ("unit_exponent", -3), ("rows", 0), ("columns", 0), ("columns", TINY.max_inputs + 1),
        ("tile_count", 4), ("codebook_offset", 0x1000), ("outlier_offset", 0x3000),
        ("outlier_bytes", 8), ("weight_sum", 1), ("flags", 2), ("index_offset", 0x2001),
        ("index_offset", BIG), ("index_bytes", 0), ("index_bytes", 4), ("bias_offset", 4),
        ("magic", 0),
    )),
    ({"crc32": 1}, "layer_crc"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "error"), FAULTS, ids=lambda part: str(part))
def test_layers_that_are_not_plain_ones_of_the_hosts_format_are_refused(
    fault: dict[str, int], error: str
) -> None:
    config = CONFIGS["fp16"]
    dut = Fetching(config.array, PlainFetch(config))
    store = store_of(config.array, [good_job(config.array)], good_layer(config) | fault, [])

    async def bench(ctx):
        for name, value in (("base", BASE), ("slots", 4), ("produced", 1), ("enable", 1)):
            ctx.set(getattr(dut.fetch, name), value)
        for _ in range(400):
            await ctx.tick()
            assert not ctx.get(dut.o.valid)
        assert ctx.get(dut.fetch.error_code) == ARRAY_ERRORS[error]

    simulate(dut, bench, background=[partial(store.serve_reads, axi=dut.axi)])
