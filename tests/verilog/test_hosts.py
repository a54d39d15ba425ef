# amaranth: UnusedElaboratable=no
"""Hosts in Verilator with their memory in C++: models, and what bandwidth does to jobs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gobo_rtl.host_config import HOSTS, WEIGHTS, HostConfig
from gobo_rtl.top.record import WORD
from sim.model.sentence import sample_sentences
from sim.verilated import __main__ as command
from sim.verilated.hosts import (
    KINDS,
    SHAPES,
    Bench,
    Measured,
    Point,
    all_points,
    expected_cycles,
    first_points,
    make_sources,
    measure_all,
    some_points,
)
from sim.verilated.hosts_page import bandwidth_plot, page, tokens_plot
from sim.verilated.machine import Machine
from sim.verilated.model import layer_cycles, memory_bytes, model_cycles, prepare, simulate

BUILD = Path(__file__).resolve().parents[2] / "build" / "verilated"
SHAPE = (12, 40)
BANDWIDTHS = (1, 3, 16, 0)

pytestmark = pytest.mark.verilator


# -- in Verilator ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[
    pytest.param(kind, marks=[pytest.mark.slow] * (kind != "tpu")) for kind in KINDS
])  # fmt: skip
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return a small host of each kind, with its jobs."""
    name = f"{request.param}_tiny"
    configs = {name: HOSTS[name]}
    folder = tmp_path_factory.mktemp(name)
    points = [*points_of(name), *first_points(configs)]
    sources = make_sources(folder, [point.shape for point in points])
    return Bench(configs, sources, folder, BUILD, points)


def points_of(host: str) -> list[Point]:
    """Return points of a small layer."""
    return [
        Point(host, SHAPE, tokens, bandwidth, weights)
        for tokens in (1, 9) for bandwidth in BANDWIDTHS for weights in WEIGHTS
    ]  # fmt: skip


@pytest.fixture(scope="module")
def found(bench: Bench) -> dict[Point, Measured]:
    """Return what the jobs took."""
    points = points_of(next(iter(bench.configs)))
    return measure_all(bench, [*points, *first_points(bench.configs)], 2)


def test_words_are_the_golden_models_however_weights_are_stored(
    bench: Bench, found: dict[Point, Measured]
) -> None:
    assert len(found) == 2 * len(BANDWIDTHS) * len(WEIGHTS) + len(WEIGHTS)
    for point, measured in found.items():
        assert measured.words == point.tokens * point.shape[0], point
        assert measured.wrong == 0, point
    # And what is compared is compared: other words are wrong.
    point = next(iter(found))
    due = bench.due(point)
    due[0, :3] ^= 1
    assert bench.run(point, due).wrong == 3


def test_a_memory_moves_as_many_bytes_as_its_bandwidth_and_no_more(
    bench: Bench, found: dict[Point, Measured]
) -> None:
    beat = next(iter(bench.configs.values())).beat_width // 8
    for point, measured in found.items():
        moved = sum(measured.bytes.values())
        # The first beats are not waited for, and every channel can be served at once.
        assert not point.bandwidth or measured.cycles > moved / point.bandwidth - 5 * beat, point
        if point.bandwidth == 1:  # starved: nothing but the memory counts
            assert measured.cycles < moved + 8 * bench.latency + 100, point
    for tokens in (1, 9):
        for weights in WEIGHTS:
            host = next(iter(bench.configs))
            cycles = [found[Point(host, SHAPE, tokens, bandwidth, weights)].cycles
                      for bandwidth in BANDWIDTHS]  # fmt: skip
            assert cycles == sorted(cycles, reverse=True)
            assert cycles[0] > cycles[-1]


def test_bytes_are_those_of_the_weights_and_do_not_depend_on_the_memory(
    bench: Bench, found: dict[Point, Measured]
) -> None:
    for point, measured in found.items():
        one = next(p for p in found if (p.shape, p.tokens, p.weights)
                   == (point.shape, point.tokens, point.weights))  # fmt: skip
        assert measured.bytes == found[one].bytes
        size = measured.bytes["index"] + measured.bytes["outlier"]
        runs = -(-point.tokens // bench.configs[point.host].tokens)
        rows, inputs = point.shape
        assert 8 * size == runs * bench.bits(point) * rows * inputs
    host = next(iter(bench.configs))
    bits = {weights: bench.bits(Point(host, SHAPE, 1, 0, weights)) for weights in WEIGHTS}
    assert (bits["fp32"], bits["fp16"]) == (32, 16)
    assert 3 < bits["gobo"] < 12  # headers and whole beats count in so small a layer


# Cycles besides those of the memory: the codebook's words, and the decode unit.
LATER = {"tpu_tiny": 14, "eyeriss_tiny": 12, "tensor_core_tiny": 13}


def test_the_first_weight_of_a_job_alone_waits_for_its_codebooks_words(
    bench: Bench, found: dict[Point, Measured]
) -> None:
    firsts = {point.weights: found[point].cycles for point in first_points(bench.configs)}
    (host,) = bench.configs
    # Two bursts at a time: the codebook's begins when the descriptor's last does not yet end.
    config = bench.configs[host]
    assert config.reads == 2
    hidden = config.image.burst_bytes * 8 // WORD
    assert firsts["gobo"] == firsts["fp16"] + max(0, bench.latency - hidden) + LATER[host]
    assert firsts["fp16"] <= firsts["fp32"] <= firsts["fp16"] + 2  # FP32 is of more beats


def test_points_are_kept_and_not_simulated_again(
    bench: Bench, found: dict[Point, Measured], monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*_: object) -> None:
        raise AssertionError("it is simulated again")

    monkeypatch.setattr(bench, "run", again)
    told: list[int] = []
    assert measure_all(bench, list(found), 2, told.append) == found
    assert sum(told) == sum(expected_cycles(bench.configs[p.host], p) for p in found)
    with pytest.raises(AssertionError, match="again"):
        measure_all(bench, [replace(next(iter(found)), bandwidth=7)], 2)
    bench.latency += 1
    try:
        with pytest.raises(AssertionError, match="again"):
            measure_all(bench, list(found)[:1], 2)
    finally:
        bench.latency -= 1


def test_what_is_interrupted_leaves_whole_points_only(bench: Bench) -> None:
    point = replace(points_of(next(iter(bench.configs)))[0], bandwidth=2)

    def interrupt(cycles: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_all(bench, [point], 1, interrupt)
    assert not bench.path(point).exists()
    assert not list(bench.path(point).parent.glob(".*"))


def test_bert_tiny_is_the_golden_models_with_plain_and_with_3_bit_weights(
    bert_tiny_folder: Path, tmp_path: Path
) -> None:
    embeddings = []
    for weights in ("fp16", "gobo"):
        config = replace(HOSTS["tpu_tiny"], weights=weights, act_depth=4096)
        prepared = prepare(bert_tiny_folder, config, tmp_path)
        texts = sample_sentences()[:1]
        with Machine(config, BUILD, memory_bytes(config, prepared, 64)) as machine:
            (sentence,), tallies = simulate(config, prepared, machine, texts, tmp_path)
        assert set(tallies) == set(prepared.names)
        assert len(tallies) == 12
        for name, tally in tallies.items():
            assert tally.words == sentence.tokens * tally.shape[0], name
            assert tally.wrong == 0, name
        least = model_cycles(config, prepared, texts)
        total = sum(tally.cycles for tally in tallies.values())
        assert least < total < 1.2 * least
        assert sentence.equal
        embeddings.append(sentence.cosine)
    assert embeddings[0] == embeddings[1]


# -- by hand --------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "rows", "inputs", "tokens", "cycles"), [
    # 16 x 16 PEs: a column of the tile a cycle, or a token.
    ("tpu", 17, 20, 3, 2 * (16 + 4)),
    ("tpu", 16, 32, 130, 2 * 128 + 2 * 16),
    # 14 tokens take 16 x 9 cycles, a tile of 96 inputs.
    ("eyeriss", 16, 97, 15, 2 * 288),
    # Four inputs and four tokens a cycle.
    ("tensor_core", 20, 12, 5, 2 * (2 * 2 + 2 * 1)),
])  # fmt: skip
def test_a_layers_cycles_by_hand(
    host: str, rows: int, inputs: int, tokens: int, cycles: int
) -> None:
    assert layer_cycles(HOSTS[host], rows, inputs, tokens) == cycles


def test_the_default_points_are_some_of_all() -> None:
    every, some = all_points(), some_points()
    assert len(set(every)) == len(every) == 3 * len(SHAPES) * 3 * 5 * 3
    assert set(some) < set(every)
    assert {point.shape for point in some} == set(SHAPES)
    # Every way to store weights is there of each.
    assert {replace(p, weights=w) for p in some for w in WEIGHTS} == set(some)


CONFIGS: dict[str, HostConfig] = {"tpu": HOSTS["tpu"]}


def made(
    cycles: Callable[[Point], int], shape: tuple[int, int] = (16, 32)
) -> dict[Point, Measured]:
    """Return made-up points of a layer with a hundred bytes of each channel."""
    sizes = {"index": 800, "outlier": 0, "act": 50, "result": 40, "job": 10}
    points = [
        Point("tpu", shape, tokens, bandwidth, weights)
        for tokens in (1, 128) for bandwidth in (2, 8) for weights in WEIGHTS
    ] + first_points(CONFIGS)  # fmt: skip
    return {
        point: Measured(cycles(point), {**sizes, "index": 800 if point.weights == "fp32" else 100},
                        16, int(point.weights == "fp16" and point.tokens == 128))
        for point in points
    }  # fmt: skip


def some_bits(point: Point) -> float:
    return {"fp32": 32.0, "fp16": 16.0, "gobo": 3.2}[point.weights]


def test_the_page_says_what_the_points_say() -> None:
    speed = {"fp32": 1000, "fp16": 480, "gobo": 100}
    text = "\n".join(page(CONFIGS, made(lambda p: speed[p.weights]), some_bits, 30))
    assert "240 result words compared with the golden model, 2 wrong" in text
    # 10 and 5 are the bounds of 3.2 bits; 900 bytes by 200 that of all bytes over FP32.
    row = "| `tpu` | 16 x 32 | 1 | 2 | 3.2000 | 10.00 | 10.00 | 1.0000 | 2.2222 | 4.80 | 5.00 "
    assert row in text
    assert "bits a weight: not `tpu` 16 x 32 over FP16 (0.9600)." in text
    # 512 weights with 128 tokens, 256 PEs, 100 cycles.
    assert "| 16 x 32 | 128 | 8 | 1,000 | 480 | 100 | 25.60 % | 53.33 % | 256.00 % |" in text
    # The array needs 256 cycles.
    assert "| 74.40 % | 46.67 % | 0.00 % | 10.00 | 1.000 | 4.80 | 0.960 |" in text
    assert "No more than -380 cycles in a whole job" in text
    assert "| `tpu` | 16 x 32 | 1 | FP32 | 800 | 0 | 50 | 40 | 10 | 900 |" in text


def test_the_page_says_when_a_claim_is_missed() -> None:
    late = {"fp32": 1000, "fp16": 100, "gobo": 141}
    text = "\n".join(page(CONFIGS, made(lambda p: late[p.weights]), some_bits, 30))
    assert "Up to 41 cycles in a job." in text
    assert "At most 41 cycles, beyond 40;" in text


def test_plots_have_a_line_for_each_host_and_kind_of_plain_weights() -> None:
    found = made(lambda p: {"fp32": 1000, "fp16": 500, "gobo": 100}[p.weights] * p.tokens)
    for draw, marks in ((bandwidth_plot, 2), (tokens_plot, 2)):
        text = draw(CONFIGS, found, some_bits)
        assert text.startswith("<svg ") and text.endswith("</svg>\n")
        assert text.count('class="line"') == 2
        assert text.count('class="bound"') == 2
        assert text.count("<circle") == 2 * marks + 2
        assert "tpu, over FP32" in text
        assert "tpu, over FP16" in text


def test_the_status_tells_of_wrong_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Made:
        bits = staticmethod(some_bits)

    found = made(lambda p: 100)
    monkeypatch.setattr(command, "make_sources", lambda *_: {})
    monkeypatch.setattr(command, "Bench", lambda *_: Made)
    monkeypatch.setattr(command, "measure_all", lambda *_: found)
    file = tmp_path / "sub" / "hosts.md"
    words = ["hosts", "--host", "tpu", "--report", str(file), "-o", str(tmp_path)]
    assert command.main(words) == 1
    assert "2 wrong" in capsys.readouterr().out
    text = file.read_text(encoding="utf-8")
    assert "(hosts-bandwidth.svg)" in text
    assert f"- command: `python -m sim.verilated {' '.join(words)}`" in text
    assert (file.parent / "hosts-bandwidth.svg").read_text(encoding="utf-8").startswith("<svg ")
    assert (file.parent / "hosts-tokens.svg").is_file()
    found = {point: replace(measured, wrong=0) for point, measured in found.items()}
    monkeypatch.setattr(command, "measure_all", lambda *_: found)
    assert command.main(words) == 0


def test_a_choice_that_leaves_no_job_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["hosts", "--layer", "768x768", "--tokens", "16"]) == 2
    assert "no job has these layers and tokens" in capsys.readouterr().err


@pytest.mark.parametrize("words", [
    ["hosts", "--host", "tpu_tiny"], ["hosts", "--jobs", "0"],
    ["model-sim", "--host", "tpu", "--array", "tiny"],
])  # fmt: skip
def test_bad_options_are_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as told:
        command.main(words)
    assert told.value.code == 2
    assert "usage:" in capsys.readouterr().err
