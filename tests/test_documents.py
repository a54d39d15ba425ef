# amaranth: UnusedElaboratable=no
"""README and docs against the code: names, links, ports and the picture of the timing."""

import ast
import re
from functools import cache
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module, Value
from amaranth.lib import wiring

from examples.plug_in.waveform import PICTURES, picture
from gobo_rtl.array.array import Array
from gobo_rtl.array.finish import Finish
from gobo_rtl.array.steps import Steps
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.bus.axi_stream import DecodeAxis
from gobo_rtl.cli import ports
from gobo_rtl.config import CONFIGS, GoboConfig, named
from gobo_rtl.decode import DecodeUnit
from gobo_rtl.host_config import HOSTS
from sim import stimulus
from sim.pysim import simulate

SEED = 20260122
ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
TESTS = re.compile(r"`(tests/[\w/.]+)(?:::(\w+))?`")


def page(name: str) -> str:
    """Return the text of a page of docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


@cache
def functions(path: Path) -> set[str]:
    """Return the functions at the top of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def anchors(text: str) -> set[str]:
    """Return the anchors that the headings of a page get."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    for link in (link for link in links if "://" not in link):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name} links to {link}, which is not there"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"no heading {link}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_that_are_named_exist(path: Path) -> None:
    for file, name in TESTS.findall(path.read_text(encoding="utf-8")):
        assert (ROOT / file).exists(), f"{path.name} names {file}, which is not there"
        assert not name or name in functions(ROOT / file), f"{file} has no test {name}"


def test_every_claim_names_a_test_and_how_it_can_fail() -> None:
    rows = [line for line in page("verification.md").splitlines() if line.startswith("| ")]
    claims = [row for row in rows if not row.startswith("| claim")]
    assert len(claims) > 20
    for row in claims:
        claim, where, fails = (cell.strip() for cell in row.strip("|").split("|"))
        assert claim and fails and TESTS.search(where), f"the row of {claim!r} is not whole"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_configurations_that_are_named_exist(path: Path) -> None:
    for name in re.findall(r"--config (\w+)|`decode_(\w+)`", path.read_text(encoding="utf-8")):
        assert "".join(name) in {*CONFIGS, *ARRAYS, *HOSTS, "NAME"}, f"{path.name} names {name}"


def test_the_table_of_configurations_is_complete() -> None:
    section = page("architecture.md").split("## 5. Configurations")[1].split("Area and")[0]
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == list(CONFIGS)


def test_the_table_of_blocks_names_files_and_what_is_in_them() -> None:
    rows = re.findall(r"^\| `([\w./]+\.py)` \| `(\w+)`", page("architecture.md"), re.MULTILINE)
    folder = ROOT / "gobo_rtl" / "decode"
    for file, name in rows:
        text = (folder / file).read_text(encoding="utf-8")
        assert re.search(rf"^(class|def) {name}\b", text, re.MULTILINE), f"{file} has no {name}"
    named_files = {(folder / file).resolve() for file, _ in rows}
    assert {path for path in folder.glob("*.py") if path.name != "__init__.py"} <= named_files


def test_the_readme_has_every_port_once() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("| ports | direction |")[1]
    table = list(takewhile(lambda line: line.startswith("|"), section.splitlines()[1:]))
    patterns = [name for row in table for name in re.findall(r"`([\w*]+)`", row.split("|")[1])]
    found = [port["name"] for config in ("default", "rows") for port in ports(
        DecodeAxis(named(config)))]  # fmt: skip
    for name in found:
        matching = [p for p in patterns if re.fullmatch(p.replace("*", r"\w+"), name)]
        assert len(matching) == 1, f"{name} is in the table {len(matching)} times"
    for pattern in patterns:
        assert any(re.fullmatch(pattern.replace("*", r"\w+"), name) for name in found), pattern


def test_the_page_for_other_arrays_has_every_port_and_its_bits() -> None:
    table = page("plug-in.md").split("<!-- ports -->")[1].split("<!-- end of ports -->")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| *(\d*) \|", table, re.MULTILINE)
    default = {port["name"]: str(port["width"]) for port in ports(DecodeAxis(named("default")))}
    several = [port["name"] for port in ports(DecodeAxis(named("rows")))]
    assert [name for name, _ in rows] == several
    assert dict(rows) == {**default, "s_axis_codebook_tuser": ""}


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_the_ports_are_what_the_unit_does(name: str) -> None:
    assert page(name) == picture(name)


def test_the_picture_of_the_timing_is_what_the_unit_does() -> None:
    block = page("architecture.md").split("<!-- waveform -->")[1].split("\n\n")[1]
    drawn = {line.split()[0]: line.split()[1:] for line in block.splitlines()}
    assert drawn.pop("cycle") == [str(n) for n in range(12)]
    assert timing(outliers_per_cycle=1) == drawn
    # "With `outliers_per_cycle` = 2 the same streams have no stall."
    assert timing(outliers_per_cycle=2)["o"] == [*"...01234567", "."]


def timing(outliers_per_cycle: int) -> dict[str, list[str]]:
    """Return the rows of the picture: a tile of 8 groups, one outlier in group 2, two in 4."""
    config = GoboConfig(lanes=4, lane_rows=4, tile_rows=4, beat_width=64, burst_beats=4,
                        outliers_per_cycle=outliers_per_cycle)  # fmt: skip
    mask = np.zeros((4, 8), bool)
    mask[[1, 0, 2], [2, 4, 4]] = True
    layer = stimulus.layer(config, np.random.default_rng(SEED), 4, 8, 3, mask)
    dut = DecodeUnit(config)

    def beats(data: np.ndarray) -> list[int]:
        words = [int.from_bytes(bytes(beat), "little") for beat in data]
        return [*words[:-1], words[-1] | 1 << config.beat_width]

    codebook = sum(int(v) << n * config.value_width for n, v in enumerate(layer.codebook))
    sources = {"i_codebook": [codebook], "i_indexes": beats(layer.indexes),
               "i_outliers": beats(layer.outliers)}  # fmt: skip
    groups = [sum(int(v) << n * config.value_width for n, v in enumerate(column))
              for column in layer.values.T]  # fmt: skip
    rows: dict[str, list[str]] = {name: [] for name in [*sources, "o", "o.last"]}

    async def bench(ctx):
        taken = dict.fromkeys(sources, 0)
        ctx.set(dut.o.ready, 1)
        for _ in range(12):
            for name, words in sources.items():
                port = getattr(dut, name)
                ctx.set(port.valid, taken[name] < len(words))
                if taken[name] < len(words):
                    ctx.set(Value.cast(port.payload), words[taken[name]])
            readies = [getattr(dut, name).ready for name in sources]
            payload = dut.o.payload
            _, _, valid, last, weights, *ready = await ctx.tick().sample(
                dut.o.valid, payload.last, Value.cast(payload["values"]), *readies
            )
            for name, is_ready in zip(sources, ready, strict=True):
                waits = taken[name] < len(sources[name])
                rows[name].append((str(taken[name]) if is_ready else "-") if waits else ".")
                taken[name] += bool(waits and is_ready)
            rows["o"].append(str(groups.index(int(weights))) if valid else ".")
            rows["o.last"].append(str(int(last)) if valid else ".")

    simulate(dut, bench)
    return rows


def test_the_table_of_the_accelerators_blocks_names_what_is_there() -> None:
    rows = re.findall(r"^\| `(\w+/[^|]+)` \| ([^|]+) \|", page("accelerator.md"), re.MULTILINE)
    assert len(rows) > 10
    for files, names in rows:
        paths = [ROOT / "gobo_rtl" / file for file in re.split("`, `", files)]
        text = "".join(
            path.read_text(encoding="utf-8")
            for each in paths
            for path in (each.glob("*.py") if each.is_dir() else [each])
        )
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^class {name}\b", text, re.MULTILINE), f"{files} has no {name}"


def test_the_picture_of_a_pass_is_what_the_array_does() -> None:
    block = page("architecture.md").split("<!-- pass -->")[1].split("\n\n")[1]
    drawn = dict(line.split() for line in block.splitlines()[1:])
    assert pass_timing(len(drawn["step"])) == drawn


class Datapath(wiring.Component):
    """From steps to results: the part of the engine whose timing is drawn."""

    def __init__(self, config: ArrayConfig):
        self.parts = {"steps": Steps(config), "array": Array(config), "finish": Finish(config)}
        steps, _, finish = self.parts.values()
        self.inputs = {
            "i_weights": steps.i_weights, "i_acts": steps.i_acts, "i_layer": steps.i_layer,
            "i_first": steps.i_first, "i_pass": finish.i_pass,
        }  # fmt: skip
        super().__init__({})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        steps, array, finish = self.parts.values()
        for name, part in self.parts.items():
            m.submodules[name] = part
        wiring.connect(m, steps.o, array.i)
        wiring.connect(m, array.o, finish.i)
        m.d.comb += [steps.last_ready.eq(array.last_ready), finish.o.ready.eq(1)]
        return m


def pass_timing(cycles: int) -> dict[str, str]:
    """Return the rows of the picture: two passes of 10 steps, step 3 with two outliers."""
    config = ARRAYS["tiny"]
    dut = Datapath(config)
    steps, array, finish = dut.parts.values()
    entry = {"valid": 1, "row": 1, "value": 0x3C00}
    weights, acts = [], []
    for _ in range(2):
        for n in range(10):
            common = {"first": n == 0, "last": n == 9}
            if n == 3:
                weights.append({"entries": [entry]})
                entries = [{**entry, "row": 2}]
            else:
                entries = [{"valid": 0}]
            weights.append({"plain": 1, "done": 1, "entries": entries, **common})
            acts.append({"values": [0x3C00] * 2, "scales": [{"exponent": 15}] * 2})
    whole = {"rows": config.rows, "columns": config.columns}
    words = {
        "i_weights": weights, "i_acts": acts, "i_layer": [{"index_width": 3}], "i_first": [1, 0],
        "i_pass": [whole, whole],
    }  # fmt: skip
    rows = dict.fromkeys(("step", "last", "last_ready", "cause", "sums", "beats"), "")
    causes = {"busy": "b", "stall_outliers": "o", "stall_drain": "d"}

    async def bench(ctx):
        taken = dict.fromkeys(words, 0)
        sums = beats = 0
        for _ in range(cycles):
            for name, port in dut.inputs.items():
                there = taken[name] < len(words[name])
                ctx.set(port.valid, there)
                if there:
                    ctx.set(port.payload, words[name][taken[name]])
            _, _, valid, last, ready, sum_there, beat_there, *rest = await ctx.tick().sample(
                steps.o.valid, steps.o.payload.last, array.last_ready,
                array.o.valid & array.o.ready, finish.o.valid,
                *(getattr(steps, name) for name in causes),
                *(port.valid & port.ready for port in dut.inputs.values()),
            )  # fmt: skip
            cause, moves = rest[: len(causes)], rest[len(causes) :]
            rows["step"] += str((taken["i_acts"] - 1) % 10) if cause[0] else "3" if valid else "."
            rows["last"] += "1" if valid and last else "."
            rows["last_ready"] += str(ready)
            named_causes = [letter for on, letter in zip(cause, causes.values(), strict=True) if on]
            rows["cause"] += "".join(named_causes) or "."
            rows["sums"] += str(sums % 4) if sum_there else "."
            rows["beats"] += str(beats % 4) if beat_there else "."
            sums, beats = sums + sum_there, beats + beat_there
            for name, moved in zip(dut.inputs, moves, strict=True):
                taken[name] += moved

    simulate(dut, bench)
    return rows
