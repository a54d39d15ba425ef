# amaranth: UnusedElaboratable=no
"""The number units: bit for bit their golden models, at every latency."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from gobo_rtl.formats import VALUE_FORMATS
from gobo_rtl.pe.float_adder import FloatAdder
from gobo_rtl.pe.float_multiplier import FloatMultiplier
from sim.golden.floating import add, canonical, multiply
from sim.pysim import simulate
from tests.exhaustive.__main__ import compare, main
from tests.exhaustive.cases import pairs, special, terms
from tests.exhaustive.testfloat import vectors
from tests.exhaustive.unit import Unit

SEED = 1414
FP16, FP32 = VALUE_FORMATS["fp16"], VALUE_FORMATS["fp32"]


def results(unit, a, b, **flags):
    """Return what comes out ``latency`` cycles after each pair; a new pair goes in every cycle."""
    found = []

    async def bench(ctx):
        last = len(a) - 1
        for cycle in range(len(a) + unit.latency):
            ctx.set(unit.a, int(a[min(cycle, last)]))
            ctx.set(unit.b, int(b[min(cycle, last)]))
            for name, values in flags.items():
                ctx.set(getattr(unit, name), int(values[min(cycle, last)]))
            if cycle >= unit.latency:
                found.append(ctx.get(unit.o))
            await ctx.tick()

    simulate(unit, bench)
    return found


def test_a_product_by_hand():
    unit = FloatMultiplier(1)
    # 1.5 * -2; the least subnormal squared is 2^-48; infinity times 0.
    a = np.array([0x3E00, 0x0001, 0x7C00], np.uint16)
    b = np.array([0xC000, 0x0001, 0x0000], np.uint16)
    assert results(unit, a, b) == [0xC0400000, (127 - 48) << 23, 0x7FC00000]


@pytest.mark.parametrize("latency", range(1, 5))
def test_products_come_after_the_latency(latency):
    rng = np.random.default_rng([SEED, latency])
    patterns = special(FP16)
    a, b = rng.choice(patterns, (2, 500))
    a[::4] = rng.integers(0, 1 << 16, 125)
    assert results(FloatMultiplier(latency), a, b) == multiply(a, b).tolist()


@pytest.mark.parametrize("value", [FP16, FP32], ids=lambda value: value.name)
@pytest.mark.parametrize("latency", range(1, 7))
def test_sums_come_after_the_latency(value, latency):
    a, b = terms(value, np.random.default_rng([SEED, latency]), 700)
    assert results(FloatAdder(value, latency), a, b) == add(value, a, b).tolist()


@pytest.mark.parametrize("latency", range(1, 7))
def test_running_sums_are_those_of_plain_terms(latency):
    a, b = terms(FP32, np.random.default_rng([SEED, latency]), 700)
    a, b = (canonical(FP32, np.where(bits & 0x7F800000, bits, 0)) for bits in (a, b))
    sums = add(FP32, a, b)
    field = sums >> 23 & 0xFF
    infinite = np.maximum(a >> 23 & 0xFF, b >> 23 & 0xFF) == 255  # or NaN
    usual = ((field > 0) | (sums == 0)) & ((field < 255) | infinite)
    a, b, sums = a[usual], b[usual], sums[usual]
    assert len(a) > 300
    unit = FloatAdder(FP32, latency, running=True)
    first, valid = np.random.default_rng(latency).integers(0, 2, (2, len(a)))
    valid |= first
    zero = np.zeros(len(a), np.uint32)
    sums = add(FP32, np.where(first, zero, a), np.where(valid, b, zero))
    assert results(unit, a, b, first=first, valid=valid) == sums.tolist()


def test_a_latency_that_is_not_offered_is_refused():
    with pytest.raises(ValueError, match=r"latency of a multiplier must be in 0..4 cycles, not 5"):
        FloatMultiplier(5)
    with pytest.raises(ValueError, match=r"latency of an adder must be in 0..6 cycles, not -1"):
        FloatAdder(FP16, -1)


@pytest.fixture(scope="module")
def build_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("units")


def test_the_emitted_multiplier_over_special_and_random_factors(build_dir: Path):
    unit = Unit(FloatMultiplier(), build_dir)
    for a, b in (
        pairs(special(FP16)),
        np.random.default_rng(SEED).integers(0, 1 << 16, (2, 1 << 18), np.uint16),
    ):
        assert compare(unit, multiply, a, b) == (a.size, 0, "")


def test_the_emitted_adder_over_special_and_directed_terms(build_dir: Path):
    unit = Unit(FloatAdder(FP32), build_dir)
    for a, b in (
        pairs(special(FP32)[::2]), terms(FP32, np.random.default_rng(SEED), 1 << 17)
    ):  # fmt: skip
        assert compare(unit, partial(add, FP32), a, b) == (a.size, 0, "")


def test_a_difference_is_told(build_dir: Path):
    unit = Unit(FloatMultiplier(), build_dir)
    one = np.array([0x3C00, 0xBC00], np.uint16)
    found = compare(unit, lambda a, b: np.array([0x3F800000, 0x3F800001], np.uint32), one, one)
    assert found == (2, 1, "0xbc00, 0xbc00: 0x3f800000, must be 0x3f800001")


def test_vectors_of_testfloat_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "testfloat_gen"
    tool.write_text("#!/bin/sh\nprintf '3C00 3C00 4000 00\\n7C00 FC00 FE00 10\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    a, b, sums = vectors(FP16)
    assert (a.tolist(), b.tolist()) == ([0x3C00, 0x7C00], [0x3C00, 0xFC00])
    assert sums.tolist() == [0x4000, 0x7E00]


def test_an_unknown_unit_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(["divider"])
    assert "multiplier, adder16, adder32, testfloat" in capsys.readouterr().err


def test_a_missing_generator_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["testfloat"]) == 0
    assert "testfloat_gen is not installed" in capsys.readouterr().out
