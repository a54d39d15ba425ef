# amaranth: UnusedElaboratable=no
"""The accelerator in Verilator with its memory in C++: a whole model, queues of jobs, faults."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from gobo_rtl.array_config import ARRAYS
from gobo_rtl.formats import LAYER_DESCRIPTOR
from sim.golden.layer import compute
from sim.jobs import Run, block_tiles, lay_out, writable
from sim.model.sentence import sample_sentences
from sim.verilated import __main__ as command
from sim.verilated.cycles import Encoder, Manners, make_encoder, measure
from sim.verilated.machine import Machine, MachineError
from sim.verilated.model import LayerTally, Prepared, Sentence, prepare, simulate
from tests.accelerating import Shape, activations, make_image

pytestmark = pytest.mark.verilator
main = command.main
BUILD = Path(__file__).resolve().parents[2] / "build" / "verilated"
CONFIG = replace(ARRAYS["tiny"], outlier_depth=128)  # BERT-tiny has strips of up to 69 words
MEMORY = 1 << 20


@pytest.fixture(scope="module")
def built() -> Machine:
    """Return the machine; the simulation is built once, and kept by the text of its Verilog."""
    return Machine(CONFIG, BUILD, MEMORY)


@pytest.fixture
def machine(built: Machine) -> Iterator[Machine]:
    """Give the machine out of reset."""
    with built:
        yield built


@pytest.fixture(scope="module")
def tiny_bert(bert_tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Return BERT-tiny at 3 bits, packed for the array."""
    return prepare(bert_tiny_folder, CONFIG, tmp_path_factory.mktemp("model"))


@dataclass(frozen=True)
class Ran:
    """What two sentences gave, the cycles that were told, and the folder with kept results."""

    sentences: list[Sentence]
    tallies: Mapping[str, LayerTally]
    cycles: list[int]
    kept: Path


@pytest.fixture(scope="module")
def ran(built: Machine, tiny_bert: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Return two sentences through BERT-tiny."""
    kept, cycles = tmp_path_factory.mktemp("kept"), []
    with built:
        sentences = sample_sentences()[:2]
        found = simulate(CONFIG, tiny_bert, built, sentences, kept, cycles.append)
    return Ran(*found, cycles, kept)


def test_bert_tiny_is_the_golden_models_word_by_word(ran: Ran, tiny_bert: Prepared) -> None:
    assert set(ran.tallies) == set(tiny_bert.names)
    assert len(ran.tallies) == 12
    tokens = sum(sentence.tokens for sentence in ran.sentences)
    for name, tally in ran.tallies.items():
        assert tally.words == tokens * tally.shape[0], name
        assert tally.wrong == 0, name
        assert tally.cycles >= tally.macs / (CONFIG.rows * CONFIG.columns), name
    assert sum(ran.cycles) == sum(tally.cycles for tally in ran.tallies.values())
    assert all(sentence.equal for sentence in ran.sentences)
    assert all(0.9 < sentence.cosine < 1 for sentence in ran.sentences)


class _Spent:
    """A machine that runs nothing any more."""

    def __init__(self, machine: Machine) -> None:
        self.key = machine.key

    def run(self, *_: object) -> None:
        raise AssertionError("it is simulated again")


def test_bert_tiny_goes_on_where_it_was(ran: Ran, built: Machine, tiny_bert: Prepared) -> None:
    spent = _Spent(built)
    sentences, tallies = simulate(CONFIG, tiny_bert, spent, sample_sentences()[:2], ran.kept)
    assert all(sentence.equal for sentence in sentences)
    assert sum(tally.wrong for tally in tallies.values()) == 0
    with pytest.raises(AssertionError, match="again"):  # other sentences are not there
        simulate(CONFIG, tiny_bert, spent, sample_sentences()[2:3], ran.kept)
    other = replace(tiny_bert, image=tiny_bert.image + bytes(CONFIG.image.burst_bytes))
    with pytest.raises(AssertionError, match="again"):  # nor are those of another image
        simulate(CONFIG, other, spent, sample_sentences()[:1], ran.kept)


def test_a_wrong_word_is_found(
    ran: Ran, built: Machine, tiny_bert: Prepared, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    shutil.copytree(ran.kept, folder)
    # Query, key and value come first; behind them activations are others, which are not kept.
    for path in folder.rglob("*.npz"):
        with np.load(path) as file:
            whole = dict(file)
        whole["results"][-1, 7] ^= 1 << 22
        np.savez(path, **whole)
    with built:
        (sentence,), tallies = simulate(CONFIG, tiny_bert, built, sample_sentences()[:1], folder)
    wrong = {name: tally.wrong for name, tally in tallies.items() if tally.wrong}
    assert set(wrong.values()) == {1}
    assert not sentence.equal


@pytest.mark.parametrize("inputs", [340, 341])  # 3 tiles of 85 beats fit, of 86 only 2
def test_the_largest_blocks_fit_the_buffers(machine: Machine, inputs: int) -> None:
    image, layers = make_image(CONFIG, [Shape(rows=5, columns=inputs)], inputs)
    acts = activations(CONFIG, np.random.default_rng(inputs), 8, inputs, "normal")
    largest = block_tiles(CONFIG, *acts.shape)
    for tiles, error in ((largest, "none"), (largest + 1, "too_large")):
        finished = machine.run(lay_out(CONFIG, image, [Run(0, acts, tiles)]))
        assert finished.completions[0].error == error
        if error == "none":
            assert np.array_equal(finished.results[0], compute(CONFIG, layers[0], acts))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Return six layers as an encoder's, but small."""
    layers = {
        "attention.self.query": (12, 48), "attention.self.key": (12, 48),
        "attention.self.value": (12, 48), "attention.output.dense": (12, 48),
        "intermediate.dense": (48, 12), "output.dense": (12, 48),
    }  # fmt: skip
    return make_encoder(CONFIG, tmp_path_factory.mktemp("encoder"), 6, layers, seed=3)


def test_slower_memories_take_longer_and_change_no_word(built: Machine, encoder: Encoder) -> None:
    cycles = []
    for manners in (Manners(False, 1), Manners(False, 60), Manners(True, 60)):
        with built:
            finished, wrong = measure(built, encoder, manners)
        assert wrong == 0
        assert [completion.tag for completion in finished.completions] == list(range(6))
        cycles.append(finished.counters["cycles"])
    assert encoder.macs / (CONFIG.rows * CONFIG.columns) < cycles[0] < cycles[1] < cycles[2]


def test_wrong_words_of_a_queue_are_counted(machine: Machine, encoder: Encoder) -> None:
    due = [bits.copy() for bits in encoder.due]
    due[4][0, :3] ^= 1
    _, wrong = measure(machine, replace(encoder, due=tuple(due)), Manners(False, 1))
    assert wrong == 3


@pytest.mark.parametrize("pause", [0, 90, 200])
def test_memories_that_pause_change_no_word(machine: Machine, pause: int) -> None:
    shapes = [
        Shape(rows=5, columns=30, pattern="share:0.02"),
        Shape(rows=9, columns=17, index_width=4, bias="special"),
        Shape(rows=4, columns=8, index_width=2, pattern="row", bias="none"),
    ]
    image, layers = make_image(CONFIG, shapes, pause)
    rng = np.random.default_rng(pause)
    kinds = ("wide", "special", "extreme")
    runs = [
        Run(number, activations(CONFIG, rng, 5, shape.columns, kind), tag=number, block_tiles=2)
        for number, (shape, kind) in enumerate(zip(shapes, kinds, strict=True))
    ]
    layout = lay_out(CONFIG, image, runs, gap=1)
    machine.memory_manners(pause=pause, seed=pause + 1)
    finished = machine.run(layout)
    for run, results in zip(runs, finished.results, strict=True):
        assert results is not None
        assert np.array_equal(results, compute(CONFIG, layers[run.layer], run.acts))
    kept_bytes = ~writable(CONFIG, layout)
    assert np.array_equal(finished.memory[kept_bytes], layout.memory[kept_bytes])


def test_a_queue_goes_on_after_a_read_error(machine: Machine) -> None:
    image, layers = make_image(CONFIG, [Shape(rows=4, columns=16)], 5)
    rng = np.random.default_rng(5)
    runs = [Run(0, activations(CONFIG, rng, 2, 16, "normal"), tag=n, fence=True) for n in range(3)]
    layout = lay_out(CONFIG, image, runs)
    at = layout.jobs[1].act_address
    machine.memory_manners(fault=(at, at + CONFIG.beat_bytes))
    finished = machine.run(layout)
    assert [done.error for done in finished.completions] == ["none", "read", "none"]
    assert finished.results[1] is None
    for number in (0, 2):
        assert np.array_equal(
            finished.results[number], compute(CONFIG, layers[0], runs[number].acts)
        )


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize(("damaged", "latency"), [(True, 1), (True, 60), (False, 9)])
def test_a_codebook_that_cannot_be_read_is_no_error_of_a_descriptor_that_is_wrong(
    machine: Machine, damaged: bool, latency: int, wild: bool
) -> None:
    # Where there is no error, the first job reads biases all along, on the same channel.
    bias = "normal" if damaged else "none"
    shapes = [Shape(rows=48, columns=40, bias=bias), Shape(rows=4, columns=16)]
    image, layers = make_image(CONFIG, shapes, 6)
    rng = np.random.default_rng(6)
    runs = [
        Run(layer, activations(CONFIG, rng, 4, shapes[layer].columns, "normal"), tag=n)
        for n, layer in enumerate((0, 1, 0))
    ]
    layout = lay_out(CONFIG, image, runs)
    memory, job = layout.memory.copy(), layout.jobs[1]
    at = job.image_address + job.layer_offset
    descriptor = memory[at : at + LAYER_DESCRIPTOR.size]
    field = LAYER_DESCRIPTOR.field("codebook_offset").offset // 8
    if wild:
        descriptor[field + 3] = 0x40  # nothing is there
    if not damaged:
        checked = LAYER_DESCRIPTOR.field("crc32").offset // 8
        descriptor[checked:] = np.frombuffer(
            crc32(descriptor[:checked].tobytes()).to_bytes(4, "little"), np.uint8
        )
    else:
        descriptor[LAYER_DESCRIPTOR.size - 9] ^= 1  # unused, but in the sum of check
    begin = job.image_address + int.from_bytes(descriptor[field : field + 8].tobytes(), "little")
    machine.memory_manners(latency=latency, fault=(begin, begin + 16))
    finished = machine.run(replace(layout, memory=memory), limit=100_000)
    ends = [done.error for done in finished.completions]
    assert ends == ["none", "layer_crc" if damaged else "read", "none"]
    for number in (0, 2):
        due = compute(CONFIG, layers[0], runs[number].acts)
        assert np.array_equal(finished.results[number], due)


def test_jobs_that_do_not_end_are_told(machine: Machine, encoder: Encoder) -> None:
    with pytest.raises(MachineError, match="do not end: STATUS 0x"):
        machine.run(encoder.layout, limit=50)


@pytest.mark.parametrize(("wrong", "equal", "status"), [(0, True, 0), (1, True, 1), (0, False, 1)])
def test_status_tells_of_any_difference(
    wrong: int, equal: bool, status: int, tiny_bert: Prepared, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found = (
        [Sentence("Rain.", 4, equal, 0.95)],
        {"a.weight": LayerTally((8, 16), 32, wrong, 512, 100, 0.5)},
    )
    monkeypatch.setattr(command, "prepare", lambda *_: tiny_bert)
    monkeypatch.setattr(command, "Machine", lambda *_: nullcontext())
    monkeypatch.setattr(command, "simulate", lambda *_: found)
    page = tmp_path / "page.md"
    words = ["model-sim", "--model", "bert-tiny", "--array", "tiny", "--report", str(page)]
    assert main(words) == status
    row = f"| a.weight | 8 x 16 | 32 | {wrong} | 100 | 64.00 % |"
    assert row in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert row in text
    assert f"- command: `python -m sim.verilated {' '.join(words)}`" in text


@pytest.mark.parametrize(("words", "said"), [
    (["model-sim", "--model", "bert-tiny", "--array", "tiny", "--sentences", "1000"],
     "there are 48 sample sentences, not 1000"),
    (["model-sim", "--array", "tiny", "-o", "/dev/null/no"], "/dev/null/no"),
])  # fmt: skip
def test_bad_input_is_told(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["cycles", "--latency", "0"], ["model-sim", "--array", "x"]])
def test_bad_options_are_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as told:
        main(words)
    assert told.value.code == 2
    assert "usage:" in capsys.readouterr().err
