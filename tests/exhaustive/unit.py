"""A combinational number unit as a function of numpy arrays, by way of Verilator."""

import ctypes
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib import wiring
from numpy.typing import NDArray

from gobo_rtl.emit import emit
from sim import verilator

__all__ = ["Unit"]

_DRIVER = Path(__file__).with_name("unit.cpp")

_WORDS = {16: ("uint16_t", np.uint16), 32: ("uint32_t", np.uint32)}


class Unit:
    """The emitted Verilog of a component with inputs ``a`` and ``b`` and an output ``o``.

    Libraries stay in ``build_dir`` and are used again for the same Verilog. ``RuntimeError`` has
    the end of the build's log.
    """

    def __init__(self, component: wiring.Component, build_dir: Path):
        text = emit(component, "top")
        term, self._term = _WORDS[len(component.a)]
        result, self._result = _WORDS[len(component.o)]
        options = [
            "--cc", "--exe", "--build", "--prefix", "Vtop", "-O3", "--noassert",
            *(f"-Wno-{name}" for name in verilator.ALLOWED),
            "-CFLAGS", f"-O2 -fPIC -DTERM={term} -DRESULT={result}", "-LDFLAGS", "-shared",
            "-MAKEFLAGS", "OPT_GLOBAL=-O0",  # the simulator's own library has nothing to do
        ]  # fmt: skip
        key = sha256(b"\0".join([text.encode(), _DRIVER.read_bytes(), *map(str.encode, options)]))
        folder = build_dir.resolve() / f"{type(component).__name__}-{key.hexdigest()[:12]}"
        library = folder / "Vtop"
        if not library.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            source = folder / "top.v"
            source.write_text(text, encoding="utf-8")
            command = ["verilator", *options, "--Mdir", str(folder), str(source), str(_DRIVER)]
            environment = verilator.environment()
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"Verilator does not build {folder}\n{done.stderr[-3000:]}")
        self._library = str(library)  # and not what it holds, so that units can be pickled

    def __call__(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        """Return the bits that the unit gives for the terms ``a`` and ``b`` (n,)."""
        a, b = (np.ascontiguousarray(terms, self._term) for terms in np.broadcast_arrays(a, b))
        o = np.empty(a.shape, self._result)
        pointers = (ctypes.c_void_p(terms.ctypes.data) for terms in (a, b, o))
        ctypes.CDLL(self._library).run(*pointers, ctypes.c_size_t(a.size))
        return o
