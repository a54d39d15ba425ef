"""The table of PEs: what it is composed of, and what its figures are of."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gobo_rtl.pe.mac import MacPE
from sim.golden.mac import mac
from sim.passes import Pass, record_steps
from sim.workload import steps_alone
from synth import SynthError, flow, points, report, sta, table, whole
from synth.__main__ import main
from synth.library import load
from synth.points import Point

TOY = Path(__file__).parent / "toy.lib"


def made_up(entry: table.Entry) -> dict[str, dict[str, Any]]:
    """Return figures of all points: a row costs 100 um2 and 3 flip-flops, what rows share 400 and
    8, a further place for outliers 5 a row and 40 a column; blocks of control 160 each."""
    rows = {}
    for point in entry.points:
        area = 160.0
        if point.unit == "column":
            area = 400.0 + 100 * point.rows + (point.outliers - 1) * (40 + 5 * point.rows)
        rows[point.name] = {
            "area_um2": area, "flip_flops": 8 + 3 * point.rows, "delay_ns": 2.0,
            "pj_per_mac": 5.0, "command": point.command, "recipe": "plain",
        }  # fmt: skip
        figures = {name: rows[point.name][name] for name in ("area_um2", "flip_flops", "delay_ns")}
        rows[point.name]["by_recipe"] = {"plain": figures}
        if point.rows == table.SMALL:  # another recipe is better, and not the one of the large one
            rows[point.name] |= {"recipe": "direct", "area_um2": 1.0, "flip_flops": 1}
    rows["mac_pe"] = {
        "area_um2": 1000.0, "flip_flops": 10, "delay_ns": 4.0, "pj_per_mac": 20.0, "command": "",
    }  # fmt: skip
    return rows


def test_a_row_of_the_table_is_composed_of_its_parts() -> None:
    entry = table.Entry("products")
    reference, *composed, flat = table.figures([entry], made_up(entry))
    assert (reference["pe"], reference["per_area"]) == ("mac_pe", 1.0)
    for row, count in zip(composed, (16, 64, 128), strict=True):
        # `select` and `steps` by rows, an aligner a column, three blocks once.
        control = 320 / 256 + 160 / count + 480 / (16 * count)
        area = 100 + 400 / count + control
        assert row["rows"] == count and row["how"] == "composed"
        assert (row["alone_um2"], row["shared_um2"]) == (100, round(400 / count))
        assert row["control_um2"] == round(control) and row["area_um2"] == round(area)
        assert row["per_area"] == round(4000 / (area * 2), 2)
        outliers = 5 + 40 / count + 160 / (16 * count)
        assert row["outlier_share"] == round(outliers / area, 4)
        assert row["energy"] == (4.0 if count == 16 else None)
    assert (flat["rows"], flat["how"], flat["energy"]) == (64, "flat", 4.0)
    assert flat["area_um2"] == composed[1]["area_um2"]


def test_what_could_not_be_measured_is_left_out() -> None:
    entry = table.Entry("bins", symmetric=True)
    rows = made_up(entry)
    del rows[entry.columns[0].name]
    assert [row["pe"] for row in table.figures([entry], rows)] == ["mac_pe"]


def test_every_kind_of_pe_is_in_the_table_once() -> None:
    titles = [entry.title for entry in table.entries()]
    assert len(set(titles)) == len(titles) == 4 * 4 + 4 + 2 + 3
    assert {"bins, 41 bits, symmetric", "products, 8 bits, BF16", "mac"} <= set(titles)


def test_the_page_has_every_row_and_how_it_was_made(tmp_path: Path) -> None:
    entry = table.Entry("products")
    found = table.figures([entry], made_up(entry))
    library = load(TOY, tmp_path)
    other = dict.fromkeys(whole.COLUMNS) | {
        "what": "fetch", "sizes": "16 rows", "area_um2": 12345.6, "buffer_um2": 7,
        "flip_flops": 3, "delay_ns": 1.5, "command": "",
    }  # fmt: skip
    made = report.made_by(library)
    text = table.page(found, [other], library, "python -m synth table", made)
    assert "\n| fetch | 16 rows | 12,346 | 7 | - | 3 | 1.50 | - | - |\n" in text
    assert text.count("\n| products, 16 bits |") == 4
    assert library.sha256 in text and "- command: `python -m synth table`" in text
    paths = table.save(found, [other], library, tmp_path, "table")
    document = json.loads(paths[0].read_text())
    assert document["pes"] == found and document["options"] == "han-carlson+tree12"
    assert document["recipes"] == list(points.TRIED)
    assert document["whole"] == [other]
    for path, columns in zip(paths[1:], (table.COLUMNS, whole.COLUMNS), strict=True):
        assert path.read_text().splitlines()[0] == ",".join(columns)


def test_a_title_that_no_pe_has_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["table", "--liberty", str(TOY), "-o", str(tmp_path), "--only", "product, 16"]
    assert main(arguments) == 2
    assert "no PE has 'product, 16' in its title; there are products, 16" in capsys.readouterr().err


def test_a_point_says_what_a_person_types() -> None:
    narrow = Point("products", value_format="bf16")
    assert narrow.name == "products-16b-16r-bf16"
    assert narrow.settings[-4:] == ["--set", "value_format=bf16", "--set", "weight_sum_width=21"]
    point = Point("bins", 41, rows=4, symmetric=True, outliers=2)
    assert point.name == "bins-41b-4r-symmetric-2o"
    assert point.command == (
        "python -m gobo_rtl verilog --unit column --config default --set pe=bins --set rows=4 "
        "--set outliers_per_step=2 --set index_widths=3 --set act_width=41 --set align=absolute "
        "--set symmetric=true -o build/blocks"
    )
    assert Point("mac_pe").command == (
        "python -m gobo_rtl verilog --unit mac_pe --config default -o build/blocks"
    )


def test_the_best_recipe_counts_and_is_not_mapped_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    areas = {"direct": 30.0, "plain": 20.0, "choices": 25.0}
    paths = {"direct": 1.0, "plain": 2.0, "choices": 1.1}  # 30, 40 and 27.5

    def synthesise(
        verilog: Path, top: str, library: object, clock: float, folders: dict[str, Path],
        options: flow.Options,
    ) -> dict[str, flow.Mapped]:  # fmt: skip
        assert options == points.CHOICES
        calls.extend(folders)
        return {recipe: flow.Mapped(top, areas[recipe], 1.0, 2, 3, None, folder / "netlist.v")
                for recipe, folder in folders.items()}  # fmt: skip

    def critical_path(top: str, library: object, clock: float, folder: Path) -> sta.CriticalPath:
        return sta.CriticalPath(paths[folder.name], "a", "b")

    monkeypatch.setattr(points.flow, "synthesise_all", synthesise)
    monkeypatch.setattr(points.sta, "critical_path", critical_path)
    monkeypatch.setattr(points.sta, "is_installed", lambda: True)
    library = load(TOY, tmp_path)
    row = points.measure(Point("int8_pe"), library, tmp_path / "points")
    assert (row["recipe"], row["area_um2"], row["delay_ns"]) == ("choices", 25.0, 1.1)
    assert points.measure(Point("int8_pe"), library, tmp_path / "points") == row
    assert calls == list(points.TRIED)
    assert points.measure(Point("int8_pe"), library, tmp_path / "points", clock_ns=3.0) != row
    assert len(calls) == 2 * len(points.TRIED)


def test_a_configuration_that_there_is_not_is_told(tmp_path: Path) -> None:
    with pytest.raises(SynthError, match=r"gobo_rtl failed: .*act_width must be in"):
        points.measure(Point("products", 7), load(TOY, tmp_path), tmp_path)


def small_pass() -> Pass:
    """Return a pass of two rows by three inputs and five tokens, FP16."""
    rng = np.random.default_rng(90)
    codebook = np.array([-0.5, 0.25, 0.5, 1.0], np.float16).view(np.uint16)
    index = rng.integers(0, 4, (2, 3))
    outlier = np.array([[0, 1, 0], [0, 0, 0]], bool)
    value = np.where(outlier, np.float16(3.0).view(np.uint16), 0).astype(np.uint16)
    acts = rng.standard_normal((5, 3)).astype(np.float16).view(np.uint16)
    return Pass(codebook, -12, index, outlier, value, acts)


def test_the_trace_of_a_mac_has_the_sums_of_the_layer() -> None:
    work, pe = small_pass(), MacPE()
    trace = record_steps(pe, steps_alone(work, 2, pe.interleave))
    done = trace.outputs["done"][:, 0].astype(bool)
    sums = [int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little")
            for row in trace.outputs["o"][done]]  # fmt: skip
    weights = np.where(work.outlier, work.value, work.codebook[work.index]).astype(np.uint16)
    assert sums == mac(weights, work.acts[: pe.interleave]).T.flatten().tolist()


def test_the_steps_of_an_int8_pe_are_scaled_to_the_greatest_magnitude() -> None:
    work = small_pass()
    steps = steps_alone(work, 2, None)
    assert len(steps) == 2 * 3
    assert [step["first"] for step in steps] == [1, 0, 0] * 2
    for row in (steps[:3], steps[3:]):
        for name in ("weight", "act"):
            assert max(abs(step[name]) for step in row) == 127


def test_a_row_of_zeros_has_no_scale_and_too_few_tokens_are_told() -> None:
    work = small_pass()
    work.acts[0] = 0
    assert {step["act"] for step in steps_alone(work, 1, None)} == {0}
    work = Pass(work.codebook, work.unit, work.index, work.outlier, work.value, work.acts[:4])
    with pytest.raises(ValueError, match="a mac has 5 tokens in turn; the array has 4 columns"):
        steps_alone(work, 1, 5)


def test_energy_without_a_simulator_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "which", lambda tool: None)
    with pytest.raises(SynthError, match="energy needs iverilog: sudo apt-get install"):
        points.measure(Point("int8_pe"), load(TOY, tmp_path), tmp_path, energy=True)
    monkeypatch.setattr(table, "which", lambda tool: None)
    assert not table.with_energy(Point("mac_pe"))
