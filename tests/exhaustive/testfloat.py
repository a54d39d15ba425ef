"""Vectors of Berkeley TestFloat, where its generator is installed."""

import re
import shutil
import subprocess

import numpy as np

from gobo_rtl.formats import ValueFormat
from sim.golden.floating import canonical

from .cases import Bits

__all__ = ["GENERATOR", "vectors"]

GENERATOR = "testfloat_gen"


def vectors(value: ValueFormat) -> tuple[Bits, Bits, Bits] | None:
    """Return its terms and their sums, bits (n,), or None where there is no generator.

    Which NaN comes out is the machine's own choice, so it is ours here.
    """
    if shutil.which(GENERATOR) is None:
        return None
    command = [GENERATOR, "-rnear_even", "-level", "1", f"f{value.width}_add"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = re.findall(r"^([0-9A-F]+) ([0-9A-F]+) ([0-9A-F]+) [0-9A-F]+$", text, re.MULTILINE)
    word = np.uint16 if value.width == 16 else np.uint32
    a, b, o = np.array([[int(n, 16) for n in line] for line in lines], word).reshape(-1, 3).T
    return a.copy(), b.copy(), canonical(value, o.copy())
