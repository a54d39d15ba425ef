"""The unpacker's chunks are the bits of its beats, in order: proved for all time.

Beats, sizes and ends of sections are arbitrary, and so is every stall on either side.
"""

from pathlib import Path
from sys import modules

import pytest

from tests.sabotage.plant import Fault

from .planted import planted_decode
from .prover import prove, reach
from .unpacking import SECTIONS, unpacker_claims

FILE = "gobo_rtl/decode/unpacker.py"
SLOW = ("groups of 8 or 12 bits", "records of 32 bits, two at a time, of wide beats")
FAULTS = {
    "the store takes what the chunk had": Fault(
        "store", FILE, "source = (\"beat\", used + take - stored + n)",
        "source = (\"beat\", used + n)",
    ),
    "a beat is kept when a section ends": Fault(
        "kept", FILE, "(used_up | self.final)", "used_up",
    ),
    "last of the beat before": Fault(
        "last", FILE, "self.last.eq(Mux(kept, last_r, i.payload.last))", "self.last.eq(last_r)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SECTIONS
])
def test_chunks_are_the_bits_in_order(name: str, tmp_path: Path) -> None:
    assert prove(unpacker_claims(*SECTIONS[name]), tmp_path).holds


@pytest.mark.parametrize("name", SECTIONS)
def test_what_is_proved_of_can_happen(name: str, tmp_path: Path) -> None:
    beat_width, sizes, start, _ = SECTIONS[name]
    claims = unpacker_claims(*SECTIONS[name])
    seen = set(reach(claims, tmp_path, 16))
    never = set()
    if all(beat_width % size == 0 for size in sizes):  # chunks never cross a beat's end
        never = {"a watched bit waits in the store", "a chunk is made of two beats"}
    if start + min(sizes) > beat_width:  # the first chunk takes a beat more
        never.add("a section ends and the next one begins")
    assert seen == set(claims.events) - never


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    source = planted_decode(FAULTS[name], tmp_path)
    claims = unpacker_claims(
        *SECTIONS["groups of 12 bits"], source=modules[f"{source.__name__}.unpacker"]
    )
    assert prove(claims, tmp_path / "proof").holds is False
