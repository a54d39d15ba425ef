"""Sweeps on processes of their own, and what their page and picture say."""

import json
import os
import re
import signal
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from synth import SynthError, cluster, explore
from synth.__main__ import main
from synth.explore import Setting
from synth.explore_page import COLUMNS, page, picture
from synth.plot import HEIGHT, RIGHT, TOP, WIDTH, front, plot, ticks
from synth.points import Point
from tests.synth.test_flow import STA_REPORT, fake_sta

TOY = Path(__file__).parent / "toy.lib"
SEED = 20261128
POINTS = [
    Point(pe=pe, act_width=16, rows=rows, symmetric=symmetric)
    for pe in ("products", "mac") for rows in (4, 16) for symmetric in (False, True)
]  # fmt: skip
QUIET = Console(quiet=True)
VOID = {"meta", "input", "br", "path", "rect", "circle"}


def figures(point: Point, setting: Setting) -> dict[str, Any]:
    """Stand for a measurement; leave a trace of having been made."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    with (setting.folder / "calls").open("a") as file:
        file.write(f"{point.name}\n")
    return {"area_um2": 1000.0 * point.rows, "delay_ns": 2.0, "flip_flops": 10.0,
            "pj_per_mac": None, "seconds": 1.0}  # fmt: skip


def figures_but_of_one(point: Point, setting: Setting) -> dict[str, Any]:
    if point == POINTS[0]:
        raise SynthError("ABC says <no> & more")
    if point == POINTS[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return figures(point, setting)


def setting(folder: Path) -> Setting:
    return Setting((TOY,), 2.5, folder)


def calls(folder: Path) -> list[str]:
    return sorted((folder / "calls").read_text().split())


def row(**changes: Any) -> dict[str, Any]:
    usual = {
        "name": "products-8b", "pe": "products", "act_width": 8, "rows": 4, "symmetric": False,
        "command": "python -m gobo_rtl verilog", "area_um2": 10_000.0, "delay_ns": 4.0,
        "flip_flops": 10.0, "density": 25.0, "score": 82.0, "pj_per_mac": 2.0,
        "error": 1e-3, "layer_error": 0.18, "seconds": 3.0,
    }  # fmt: skip
    return usual | changes


def many() -> list[dict[str, Any]]:
    """Return rows of all kinds, of random figures."""
    rng = np.random.default_rng(SEED)
    rows = []
    kinds = product(("products", "bins"), (8, 16), (4, 16), (False, True))
    for pe, width, rows_, symmetric in kinds:
        name = f"{pe}-{width}b-{rows_}r" + "-symmetric" * symmetric
        values = rng.uniform(1, 20, 5)
        rows.append(row(
            name=name, pe=pe, act_width=width, rows=rows_, symmetric=symmetric,
            area_um2=1e3 * values[0], delay_ns=values[1], density=values[2], pj_per_mac=values[3],
            error=10 ** -values[4] / 3,
        ))  # fmt: skip
    return rows


MADE = {"library": "toy <lib>", "errors": "a file", "terms": [("clock", "2.5 ns")]}


class Page(HTMLParser):
    """Tags of a page with their attributes; every tag must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        """Return the attributes of the tags with those that are wanted."""
        found = [attributes for name, attributes in self.tags if name == tag]
        return [each for each in found if wanted.items() <= each.items()]


def test_the_grid_has_every_pe_in_the_widths_that_it_takes() -> None:
    usual = explore.points(explore.GRID)
    assert len(usual) == len(set(usual)) == 3 * 2 * (5 + 5 + 1 + 1) + 2
    assert [p.name for p in usual if p.rows == 1] == ["mac_pe", "int8_pe"]
    assert {p.act_width for p in usual if p.pe == "mac"} == {16}
    assert {p.act_width for p in usual if p.pe == "bins"} == {8, 12, 16, 24, 41}
    assert {p.rows for p in explore.points(explore.QUICK)} == {1, 4}
    assert len({p.name for p in usual}) == len(usual)


def test_a_sweep_measures_what_is_missing_and_keeps_what_fails_apart(tmp_path: Path) -> None:
    first = explore.sweep(POINTS, setting(tmp_path), 2, None, QUIET, figures_but_of_one)
    assert [r["name"] for r in first] == [p.name for p in POINTS]
    failures = [r.get("failure") for r in first]
    assert failures[0] == "ABC says <no> & more"
    assert failures[1] is not None and "its worker died" in failures[1]
    assert failures[2:] == [None] * 6
    made = calls(tmp_path)
    assert set(made) == {p.name for p in POINTS[2:]}
    second = explore.sweep(POINTS, setting(tmp_path), 1, None, QUIET, figures)
    both = [p.name for p in POINTS[:2]]
    assert calls(tmp_path) == sorted(made + both)  # those two, and no other again
    assert [r["area_um2"] for r in second] == [1000.0 * p.rows for p in POINTS]
    assert second[2:] == first[2:]
    assert explore.sweep(POINTS, setting(tmp_path), 1, None, QUIET, figures) == second
    assert calls(tmp_path) == sorted(made + both)


def test_another_clock_or_library_or_a_torn_file_is_measured_again(tmp_path: Path) -> None:
    one, same = POINTS[:1], setting(tmp_path)
    explore.sweep(one, same, 1, None, QUIET, figures)
    explore.sweep(one, Setting((TOY,), 3.0, tmp_path), 1, None, QUIET, figures)
    assert len(calls(tmp_path)) == 2
    other = tmp_path / "other.lib"
    other.write_text(TOY.read_text() + "\n")
    explore.sweep(one, Setting((other,), 2.5, tmp_path), 1, None, QUIET, figures)
    assert len(calls(tmp_path)) == 3
    for path in (tmp_path / "points").iterdir():
        path.write_text(path.read_text()[:-40])
    explore.sweep(one, same, 1, None, QUIET, figures)
    assert len(calls(tmp_path)) == 4


def test_an_interrupt_leaves_whole_files_and_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[int] = []

    def interrupted(client: Any, *arguments: Any) -> Any:
        for count, found in enumerate(cluster.each(client, *arguments)):
            workers.extend(nanny.pid for nanny in client.cluster.workers.values())
            if count:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(explore, "each", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explore.sweep(POINTS, setting(tmp_path), 2, None, QUIET, figures)
    (path,) = (tmp_path / "points").iterdir()
    assert json.loads(path.read_text())["row"]["delay_ns"] == 2.0
    assert workers
    for pid in workers:
        assert not is_running(pid)


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "zombie" not in status.read_text()


def unlike() -> int:
    return os.getpid()


def lost() -> int:
    raise ModuleNotFoundError("No module named 'synth'")


def test_a_worker_with_other_code_or_none_is_told() -> None:
    with cluster.clients(1, None) as client:
        with pytest.raises(SynthError, match=r"worker tcp://.* has \d+, not 5 as here"):
            cluster.refuse_unfit(client, unlike, 5)
        with pytest.raises(SynthError, match=r"unfit: .*No module named 'synth'.* start it in"):
            cluster.refuse_unfit(client, lost, 5)


def test_two_sweeps_run_beside_each_other() -> None:
    with cluster.clients(1, None) as one, cluster.clients(1, None) as other:
        assert one.submit(abs, -1).result() == other.submit(abs, -1).result() == 1


def test_a_scheduler_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    words = ["explore", "--liberty", str(TOY), "-o", str(tmp_path), "--quick"]
    assert main([*words, "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "no scheduler at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "index.html").exists()


@pytest.mark.parametrize(("words", "text"), [
    (["--only", "colour=red"], "there is no 'colour', there is pe, act_width, rows, symmetric"),
    (["--only", "pe=sums"], "pe is products, bins, mac, bins_fp16, mac_pe, int8_pe, not 'sums'"),
    (["--only", "pe=mac", "--only", "act_width=8"], "no point is left"),
    (["--jobs", "0"], "--jobs must be in 1..1024, not 0"),
    (["--accuracy", "nowhere.json"], "cannot read errors from nowhere.json"),
    (["--clock", "0"], "--clock must be"),
])  # fmt: skip
def test_bad_input_is_one_sentence(
    words: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", "--liberty", str(TOY), "-o", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1
    assert not (tmp_path / "index.html").exists()


def test_the_errors_that_ship_cover_every_point() -> None:
    errors, source = explore.errors_of(explore.ACCURACY)
    for point in explore.points(explore.GRID):
        if point.pe in explore.SINGLE:
            continue
        found = errors[point.pe, point.act_width, point.symmetric]
        assert 0 < found["error"] < 0.1 < found["layer_error"] < 0.3
    assert "layer-error.json" in source
    assert explore.scores_of(explore.SCORES).keys() == {8, 10, 12, 16, 24}


def test_a_real_point_goes_through_to_page_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sta(tmp_path / "bin", monkeypatch, STA_REPORT)
    drawn = tmp_path / "pareto.svg"
    words = ["explore", "--liberty", str(TOY), "-o", str(tmp_path), "--clock", "2.5"]
    words += ["--quick", "--no-energy"]
    for only in ("pe=products", "act_width=8", "symmetric=yes"):
        words += ["--only", only]
    assert main([*words, "--picture", str(drawn)]) == 0
    assert "1 of 1 points measured" in capsys.readouterr().out
    text = (tmp_path / "index.html").read_text()
    (path,) = (tmp_path / "points").iterdir()
    area = json.loads(path.read_text())["row"]["area_um2"]
    assert f"{area:,.0f}" in text and "sha256" in text and "--picture" in text
    once = drawn.read_bytes()
    assert main([*words, "--picture", str(drawn)]) == 0
    assert drawn.read_bytes() == once
    (command,) = [unescape(found) for found in re.findall("<code>(python .*?)</code>", text)]
    subprocess.run(
        command.replace("python", sys.executable, 1), shell=True, check=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(explore.ROOT)},
    )  # fmt: skip
    (again,) = tmp_path.glob("build/points/products-8b-4r-symmetric/points/*.json")
    assert json.loads(again.read_text())["row"]["area_um2"] == area


def test_a_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(SEED)
    for _ in range(100):
        points = [tuple(p) for p in rng.integers(0, 6, (12, 2)).tolist()]
        expected = {
            n for n, (x, y) in enumerate(points)
            if not any(u <= x and v <= y and (u, v) != (x, y) for u, v in points)
        }  # fmt: skip
        found = front(points)
        assert set(found) == expected and len(found) == len(expected)
        assert [points[n][0] for n in found] == sorted(points[n][0] for n in found)


def test_ticks_are_round_numbers_within_the_range() -> None:
    assert ticks(1e-8, 0.2) == pytest.approx([1e-8, 1e-6, 1e-4, 1e-2])
    assert ticks(9.0, 120.0) == pytest.approx([10, 20, 50, 100])
    assert ticks(5.6, 14.2) == pytest.approx([6, 8, 10, 12, 14])
    assert ticks(0.1823, 0.1862) == pytest.approx([0.183, 0.184, 0.185, 0.186])


def test_marks_are_where_their_figures_are() -> None:
    low = row(area_um2=1000.0, delay_ns=1.0)
    middle = row(area_um2=10_000.0, delay_ns=2.0)
    high = row(area_um2=100_000.0, delay_ns=4.0)
    found = plot([middle, high, low, row(delay_ns=None)], "area_um2", "delay_ns")
    assert found is not None
    second, third, first = found.marks
    assert first.x < second.x < third.x and first.y > second.y > third.y
    assert second.x - first.x == pytest.approx(third.x - second.x, abs=0.2)
    assert all(0 < mark.x < WIDTH and 0 < mark.y < HEIGHT for mark in found.marks)
    assert [mark.row for mark in found.front] == [low]
    assert found.better == "lower left"
    assert found.path == f"M{first.x} {TOP}H{first.x}V{first.y}H{WIDTH - RIGHT}"
    for none in (None, 0.0, -0.1):
        assert plot([row(error=none)], "area_um2", "error") is None
    upper = plot([low, high], "pj_per_mac", "density")
    assert upper is not None and upper.better == "upper left"


def test_every_point_is_in_the_page_with_its_command() -> None:
    rows = many()
    found = Page(page(rows, MADE))
    assert len(found.all("tr", **{"data-pe": "bins"})) == 8
    for each in rows:
        (line,) = found.all("tr", id=f"row-{each['name']}")
        assert line["data-symmetric"] == ("yes" if each["symmetric"] else "no")
        assert len(found.all("path", **{"data-id": each["name"]})) == 6  # one in each plot
    assert len(found.all("th", scope="row")) == len(rows)
    assert len(found.all("th", scope="col")) == len(COLUMNS)
    assert "".join(found.text).count("python -m gobo_rtl verilog") == len(rows)


def test_the_page_needs_nothing_else_and_plots_have_words() -> None:
    text = page(many(), MADE)
    found = Page(text)
    assert not {tag for tag, _ in found.tags} & {"link", "img", "iframe", "object"}
    for tag, attributes in found.tags:
        assert not {"src", "onclick", "onload", "style"} & attributes.keys(), tag
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import|fetch\(", text)
    labels = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
    pictures = found.all("svg", role="img")
    assert len(pictures) == 6
    for each in pictures:
        assert set((each["aria-labelledby"] or "").split()) <= labels
    assert len(labels) == len([1 for _, attributes in found.tags if "id" in attributes])
    assert "On the Pareto front: " in text


def test_words_are_escaped_wherever_they_come_from() -> None:
    evil = '"><script>alert(1)</script>&'
    rows = [row(name=evil, command=evil), row(name="x", failure=evil, command=evil)]
    made = {"library": evil, "errors": evil, "terms": [(evil, evil)]}
    text = page(rows, made)
    found = Page(text)
    assert len(found.all("script")) == 1
    assert evil not in text
    assert found.all("tr", **{"data-id": evil})
    assert "1 failed" in text
    for element in ElementTree.fromstring(picture(rows[:1], made)).iter():
        assert not element.tag.endswith("script")


def test_what_was_not_measured_is_said() -> None:
    bare = {"pj_per_mac": None, "error": None, "delay_ns": None, "density": None}
    text = page([row(**bare)], MADE)
    for words in ("No energy was measured", "No errors are known", "No delay is known"):
        assert words in text
    Page(text)
    assert "No point was measured." in page([row(failure="no")], MADE)


def test_the_picture_is_the_same_for_the_same_rows() -> None:
    rows = many()
    first = picture(rows, MADE)
    assert first == picture([dict(each) for each in rows], MADE)
    root = ElementTree.fromstring(first)
    marks = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if "data-id" in e.attrib]
    assert len(marks) == 2 * len(rows)
    assert "http" not in first.replace("http://www.w3.org/2000/svg", "")
