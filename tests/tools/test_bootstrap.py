"""The set-up on machines that lack something: tools are faked on PATH, nothing is installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import bootstrap

ROOT = Path(__file__).resolve().parents[2]
WHOLE = json.dumps([[3, 12], True, True, "/usr", "/usr/bin/python3"])


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space in its name that is all of PATH; the log goes beside it."""
    folder = tmp_path / "the bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(bootstrap, "LOG", tmp_path / "install.log")
    monkeypatch.setattr(bootstrap, "PYTHONS", ("python3", "python3.12"))
    return folder


def fake(folder: Path, *names: str, script: str = "exit 0") -> None:
    """Put programs on PATH that do what ``script`` says."""
    for name in names:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


def python(folder: Path, name: str, version: list[int], venv: bool = True, shared: bool = True,
           base: str = "/usr") -> None:  # fmt: skip
    """Put a Python on PATH that answers the probe."""
    answer = json.dumps([version, venv, shared, base, str(folder / name)])
    fake(folder, name, script=f"echo '{answer}'")


def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_the_first_python_that_has_everything_is_taken(path: Path) -> None:
    python(path, "python3", [3, 9])
    python(path, "python3.12", [3, 12])
    assert bootstrap.choose_python().path.endswith("python3.12")


def test_a_python_that_does_not_run_is_passed_over(path: Path) -> None:
    fake(path, "python3", script="echo 'pyenv: python3: command not found' >&2; exit 127")
    python(path, "python3.12", [3, 12])
    assert bootstrap.choose_python().version == (3, 12)


def test_a_python_without_a_shared_library_comes_after_one_that_apt_can_mend(path: Path) -> None:
    python(path, "python3", [3, 11], shared=False, base="/nowhere/versions/3.11")
    python(path, "python3.12", [3, 12], venv=False)
    chosen = bootstrap.choose_python()
    assert chosen.missing == ["python3.12-venv"]


def test_an_old_python_alone_is_refused_in_one_line(path: Path) -> None:
    python(path, "python3", [3, 10])
    with pytest.raises(
        bootstrap.SetupError, match=r"Python 3\.11 or newer .* this machine has 3\.10"
    ):
        bootstrap.choose_python()


def test_missing_tools_are_named_by_their_packages(path: Path) -> None:
    assert bootstrap.missing_tools() == (["g++", "make", "perl"], ["iverilog"])
    fake(path, "g++", "make", "perl", "iverilog", "vvp")
    assert bootstrap.missing_tools() == ([], [])
    fake(path, "perl", script="exit 2")  # without its library
    assert bootstrap.missing_tools() == (["perl"], [])


def test_a_user_without_sudo_is_told_what_to_type(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch)
    fake(path, "make", "apt-get")
    fake(path, "sudo", script="exit 1")
    with pytest.raises(bootstrap.SetupError, match=r"type: sudo apt-get install g\+\+ perl$"):
        bootstrap.see_to_system(None)


def test_without_apt_the_packages_are_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_root(monkeypatch)
    with pytest.raises(bootstrap.SetupError, match="what Debian calls"):
        bootstrap.see_to_system(None)


@pytest.mark.parametrize("root", [True, False])
def test_what_is_missing_is_installed_with_apt_get(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: bool
) -> None:
    (as_root if root else as_user)(monkeypatch)
    log = tmp_path / "calls"
    fake(path, "env", script='exec /usr/bin/env "$@"')
    fake(
        path,
        "sudo",
        script=f'echo "sudo $*" >> {log}; [ "$1" = -n ] && shift; [ "$1" = true ] || exec "$@"',
    )
    fake(path, "apt-get", script=f'echo "$DEBIAN_FRONTEND $*" >> {log}')
    fake(path, "make", "perl", "iverilog", "vvp")
    chosen = bootstrap.Python([[3, 11], False, False, "/usr", "/usr/bin/python3"])
    bootstrap.see_to_system(chosen)
    calls = log.read_text()
    assert ("sudo -n" in calls) is not root
    own = [line for line in calls.splitlines() if not line.startswith("sudo")]
    assert [line.split()[-1] for line in own if " install " not in line] == ["update"]
    assert "noninteractive -y" in calls
    assert "g++ python3.11-venv libpython3.11\n" in calls


def test_without_icarus_the_set_up_goes_on_with_a_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_root(monkeypatch)
    fake(path, "env", script='exec /usr/bin/env "$@"')
    fake(path, "apt-get", script="exit 100")
    fake(path, "g++", "make", "perl")
    bootstrap.see_to_system(None)
    assert "the benches run on Verilator only" in capsys.readouterr().err


def test_needed_tools_that_apt_get_has_not_end_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_root(monkeypatch)
    fake(path, "env", script='exec /usr/bin/env "$@"')
    fake(path, "apt-get", script="exit 100")
    with pytest.raises(bootstrap.SetupError, match=r"missing: g\+\+ make perl; apt-get could not"):
        bootstrap.see_to_system(None)


def test_the_stamp_counts_only_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = tmp_path / "gobo.json"
    monkeypatch.setattr(bootstrap, "STAMP", stamp)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    assert bootstrap.installed() is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    stamp.write_text(json.dumps({"root": "/elsewhere", "extras": [], "requirements": []}))
    assert bootstrap.installed() is None  # the folder was moved
    stamp.write_text(json.dumps({"root": str(ROOT), "extras": [], "requirements": []}))
    assert bootstrap.installed() is not None
    stamp.write_text("{")  # torn
    assert bootstrap.installed() is None


def test_an_interrupted_install_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / ".venv" / "gobo.json")
    monkeypatch.setattr(bootstrap, "LOG", tmp_path / "install.log")
    monkeypatch.setattr(bootstrap, "see_to_system", lambda _: None)
    monkeypatch.setattr(bootstrap, "choose_python", lambda: bootstrap.Python(json.loads(WHOLE)))
    interrupted = True

    def run(command: list[str]) -> bool:
        commands.append(command)
        if "venv" in command:
            (tmp_path / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
            (tmp_path / ".venv" / "bin" / "python").touch()
        elif interrupted:
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(bootstrap, "run_logged", run)
    with pytest.raises(KeyboardInterrupt):
        bootstrap.set_up([])
    interrupted = False
    bootstrap.set_up([])
    assert [command[2] == "venv" for command in commands] == [True, False, True, False]
    assert "--clear" in commands[2]
    bootstrap.set_up([])  # whole now: nothing to do
    assert len(commands) == 4
    bootstrap.set_up(["bench"])  # more is installed into it, not anew
    assert [command[2] for command in commands[4:]] == ["pip"]


def test_an_unknown_extra_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(bootstrap.SetupError, match="has no extra nonsense; it has quant, sim"):
        bootstrap.requirements(["nonsense"])


def test_every_pin_is_exact_and_tells_why() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = bootstrap.requirements([*bootstrap.DEFAULT_EXTRAS, "bench", "torch"])
    for requirement in wanted:
        assert "==" in requirement or requirement.startswith("amaranth"), requirement
    pins = [line for line in text.splitlines() if line.startswith('    "') and "==" in line]
    assert len(pins) >= len(wanted) - 1
    assert all("  # " in line for line in pins)


def test_make_help_lists_every_target() -> None:
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip
    for target in ("demo", "test", "test-torch", "verilog", "sim", "synth", "lint", "bench",
                   "proof", "sabotage", "clean"):  # fmt: skip
        assert f"make {target} " in done.stdout
