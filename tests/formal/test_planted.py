"""The faults of the proofs fit the present text: the proofs themselves take long, this does not."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

from tests.sabotage.plant import Fault, check_fits


def faults(value: object) -> Iterator[Fault]:
    """Yield the faults in tables and tuples, however deep."""
    if isinstance(value, Fault):
        yield value
    elif isinstance(value, Mapping | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from faults(each)


PLANTED = [
    pytest.param(fault, id=f"{path.stem[5:]}: {fault.name}")
    for path in sorted(Path(__file__).parent.glob("test_*.py")) if path != Path(__file__)
    for name, value in sorted(vars(import_module(f"{__package__}.{path.stem}")).items())
    if name.endswith("FAULTS")
    for fault in faults(value)
]  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_applies_and_the_text_still_compiles(fault: Fault) -> None:
    check_fits(fault)


def test_the_faults_are_found() -> None:
    assert len(PLANTED) > 90
