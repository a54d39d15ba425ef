"""Open process kits by name: which Liberty files of a folder are their library."""

from dataclasses import dataclass
from pathlib import Path

from synth import SynthError

__all__ = ["KITS", "find"]


@dataclass(frozen=True)
class Kit:
    """``files`` are names of Liberty files, with wildcards and without .lib or .lib.gz; ``folder``
    is where a package of Debian puts them."""

    files: tuple[str, ...]
    folder: Path | None = None
    package: str = ""


KITS = {
    "sg13g2": Kit(("sg13g2_stdcell_typ_1p20V_25C",)),
    "sky130": Kit(("sky130_fd_sc_hd__tt_025C_1v80",)),
    "asap7": Kit(tuple(f"asap7sc7p5t_{part}_RVT_TT_nldm_*"
                       for part in ("SIMPLE", "INVBUF", "AO", "OA", "SEQ"))),
    "osu180": Kit(("osu018_stdcells",), Path("/usr/share/qflow/tech/osu018"),
                  "qflow-tech-osu018"),
}  # fmt: skip
"""Typical corners: IHP SG13G2 130 nm, SkyWater 130 nm, ASAP7 7 nm (predictive), OSU 180 nm."""


def find(name: str, folder: Path | None) -> list[Path]:
    """Return the Liberty files of kit ``name`` in ``folder`` or below it, the nearest first."""
    kit = KITS[name]
    root = folder or kit.folder
    if root is None:
        raise SynthError(f"{name} needs --pdk-dir: the folder of its process kit, or one above")
    found = []
    for file in kit.files:
        paths = [path for end in (".lib", ".lib.gz") for path in root.rglob(file + end)]
        if not paths:
            hint = f"; sudo apt-get install {kit.package}" if root == kit.folder else ""
            raise SynthError(f"{name}: no {file}.lib or .lib.gz in {root}{hint}")
        found.append(min(paths, key=lambda path: (len(path.parts), str(path))))
    return found
