"""The faults of ``make sabotage`` fit the present text."""

import pytest

from .__main__ import bench_of
from .faults import BENCHES, FAULTS
from .plant import Fault, check_fits


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_applies_and_the_text_still_compiles(fault: Fault) -> None:
    check_fits(fault)


def test_a_fault_that_does_not_apply_is_refused() -> None:
    with pytest.raises(ValueError, match="0 times, not once"):
        Fault("none", "x.py", "not there", "").applied("text")


def test_there_are_enough_faults_in_both() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for folder, least in (("gobo_rtl/decode/", 15), ("gobo_rtl/", 45), ("sim/golden/", 15)):
        assert sum(fault.file.startswith(folder) for fault in FAULTS) >= least


def test_every_bench_has_a_fault() -> None:
    assert {bench_of(fault) for fault in FAULTS} == set(BENCHES.values())
