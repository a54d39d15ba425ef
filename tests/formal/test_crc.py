"""``crc16_next`` is the page's bit-serial CRC-16, for all remainders and bits."""

from collections.abc import Callable
from pathlib import Path
from sys import modules

import pytest
from amaranth.hdl import Cat, Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gobo_rtl.decode import crc
from tests.sabotage.plant import Fault

from .planted import planted_decode
from .prover import Claims, Verdict, bounded, reach

WIDTHS = (1, 8, 12)  # longer sums of XORs are out of this solver's reach


class Sum(wiring.Component):
    """The function under proof, as a circuit."""

    def __init__(self, width: int, function: Callable[[Value, Value], Value]) -> None:
        self.function = function
        super().__init__({"bits": In(width), "before": In(16), "after": Out(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.after.eq(self.function(self.before, self.bits))
        return m


def serial(remainder: Value, bits: Value) -> Value:
    """r = (r >> 1) ^ (0x8408 if (r ^ d) & 1 else 0), bit after bit."""
    for bit in bits:
        remainder = (Cat(remainder[1:16], 0) ^ Mux(remainder[0] ^ bit, 0x8408, 0))[:16]
    return remainder


def check(width: int, function: Callable[[Value, Value], Value], folder: Path) -> Verdict:
    dut = Sum(width, function)
    claims = Claims(dut)
    bits, before = claims.free(width, "bits_in"), claims.free(16, "before_in")
    claims.m.d.comb += [dut.bits.eq(bits), dut.before.eq(before)]
    claims.claim("the sums agree", dut.after == serial(before, bits))
    claims.event("the sum is all ones", dut.after.all())
    verdict = bounded(claims, folder, 1)  # the circuit has no state: one cycle tells all
    assert len(reach(claims, folder, 2)) == 1
    return verdict


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_the_bit_serial_sum(width: int, tmp_path: Path) -> None:
    assert check(width, crc.crc16_next, tmp_path).holds


def test_a_fault_is_found(tmp_path: Path) -> None:
    fault = Fault("one tap too few", "gobo_rtl/decode/crc.py",
                  "state[n] = state[n] ^ feedback", "state[n] = feedback if n != 3 else state[n]")
    planted = planted_decode(fault, tmp_path)
    function = modules[f"{planted.__name__}.crc"].crc16_next
    assert check(12, function, tmp_path / "proof").holds is False
