# amaranth: UnusedElaboratable=no
"""The weight sources of hosts: the same words from plain and from 3-bit weights; their errors."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator

from gobo_rtl.array_layout import CommandLayout, LayerLayout
from gobo_rtl.formats import ERRORS
from gobo_rtl.host_config import HOSTS
from gobo_rtl.hosts.front_end import FrontEnd
from gobo_rtl.hosts.narrow import Narrow
from gobo_rtl.hosts.plain import PlainReader
from gobo_rtl.layout import WeightLayout
from sim.golden.hosts.engine import narrow, words
from sim.plain import plain_words
from tests.accelerating import Shape, image_of

from .decoding import beat_bits
from .streaming import FULL, PACES, transfer

SEED = 1956
CONFIGS = {
    name: HOSTS[f"{name}_tiny"] for name in ("tpu", "tensor_core")
}  # rows by rows, and blocks
SHAPES = [
    (Shape(rows=9, columns=21), 2), (Shape(rows=4, columns=4, pattern="none"), 1),
    (Shape(rows=5, columns=1, index_width=4), 3),
    (Shape(rows=6, columns=33, index_width=2, pattern="share:0.2"), 1),
    (Shape(rows=5, columns=10, pattern="all"), 2),
]  # fmt: skip


def layer_bits(config, layer, number, runs, streams):
    """Return the payload of a layer: what the sources look at."""
    index_beats, outlier_beats = streams
    codebook = list(layer.codebook) + [0] * (config.array.bins - len(layer.codebook))
    return LayerLayout(config.array).const({
        "inputs": layer.columns, "strips": -(-layer.rows // config.rows), "tiles": runs,
        "index_width": layer.index_width, "codebook": [int(n) for n in codebook],
        "index_address": 0x1000 * number, "index_beats": index_beats,
        "outlier_address": 0x1000 * number + 0x800, "outlier_beats": outlier_beats,
    }).as_bits()  # fmt: skip


def command(config, address, beats):
    return CommandLayout(config.array).const({"address": address, "beats": beats}).as_bits()


def due_words(config, layer, runs):
    """Return the payloads of a layer's runs; the padding's weights are the front end's."""
    found = words(config, layer.matrix.astype(np.uint16))
    strip = len(found) // -(-layer.rows // config.rows)
    made = [
        WeightLayout(config.image).const({
            "values": word.tolist(), "last": n % strip == strip - 1, "error": 0,
        }).as_bits()
        for n, word in enumerate(found)
    ]  # fmt: skip
    return made * runs


def inside(config, layer, runs):
    """Return for each word which bits of it are in the matrix; and ``last`` and ``error``."""
    ones = np.full(layer.matrix.shape, 0xFFFF, np.uint16)
    layout = WeightLayout(config.image)
    return [
        layout.const({"values": word.tolist(), "last": 1, "error": 1}).as_bits()
        for word in words(config, ones)
    ] * runs


def gobo_beats(layer):
    """Return the payloads of a layer's two streams."""
    return (beat_bits(layer.indexes, layer.indexes_last),
            beat_bits(layer.outliers, layer.outliers_last))  # fmt: skip


def plain_beats(config, layer):
    """Return the payloads of a layer's plain weights."""
    data = plain_words(config, layer.matrix.astype(np.uint16).view(np.float16).astype(np.float32))
    size = config.beat_width // 8
    beats = np.frombuffer(data, np.uint8).reshape(-1, size)
    return beat_bits(beats, np.arange(len(beats)) == len(beats) - 1)


def run(config, shapes, pace=FULL):
    """Give layers to the source of ``config.weights``, compare commands and words; return what the
    streams did."""
    _, layers = image_of(config.array, [shape for shape, _ in shapes], SEED, config.image)
    given = {"i_layer": [], "i_indexes": [], "i_outliers": []}
    due = {"o": [], "o_read_indexes": [], "o_read_outliers": []}
    masks = []
    for number, (layer, (_, runs)) in enumerate(zip(layers, shapes, strict=True)):
        if config.weights == "gobo":
            indexes, outliers = gobo_beats(layer)
            due["o_read_outliers"] += [
                command(config, 0x1000 * number + 0x800, len(outliers))
            ] * runs
        else:
            indexes, outliers = plain_beats(config, layer), []
        due["o_read_indexes"] += [command(config, 0x1000 * number, len(indexes))] * runs
        given["i_layer"].append(layer_bits(config, layer, number, runs,
                                           (len(indexes), len(outliers))))  # fmt: skip
        given["i_indexes"] += indexes * runs
        given["i_outliers"] += outliers * runs
        due["o"] += due_words(config, layer, runs)
        masks += inside(config, layer, runs)
    source = FrontEnd if config.weights == "gobo" else PlainReader
    seen = transfer(
        source(config), given, {name: len(payloads) for name, payloads in due.items()}, pace,
        probes=("error_code",),
    )  # fmt: skip
    assert not any(seen["error_code"].words)
    for name, payloads in due.items():
        if name == "o":
            found = [word & mask for word, mask in zip(seen["o"].words, masks, strict=True)]
            assert found == [word & mask for word, mask in zip(payloads, masks, strict=True)]
        else:
            assert seen[name].words == payloads
    return seen


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("weights", ["gobo", "fp16", "fp32"])
@pytest.mark.parametrize("name", CONFIGS)
def test_words_of_layers_in_a_row(name, weights, pace):
    run(replace(CONFIGS[name], weights=weights), SHAPES, pace)


@pytest.mark.parametrize(("weights", "first"), [("gobo", 4), ("fp16", 1)])
def test_a_word_in_every_cycle_and_the_first_one_soon(weights, first):
    """Beats of 4 weights, or groups of 12 bits: memory can keep up with a word a cycle. In beats of
    64 bits a tile's header is a beat of its own, which costs a cycle."""
    seen = run(replace(CONFIGS["tpu"], weights=weights), [(Shape(rows=8, columns=40), 2)])
    cycles = seen["o"].cycles
    begin = max(seen[name].cycles[0] for name in ("i_indexes", "i_outliers") if seen[name].cycles)
    assert cycles[0] - begin == first
    gaps = np.diff(cycles)
    assert (gaps == 1).mean() > 0.95 if weights == "gobo" else (gaps == 1).all()


def test_commands_are_given_ahead():
    """Those of the next runs before the first beat has come."""
    config = replace(CONFIGS["tpu"], weights="fp16")
    _, (layer,) = image_of(config.array, [Shape(rows=4, columns=4)], SEED, config.image)
    beats = plain_beats(config, layer)
    seen = transfer(
        PlainReader(config), {"i_layer": [layer_bits(config, layer, 0, 3, (len(beats), 0))]},
        {"o_read_indexes": 3, "o": 0},
    )  # fmt: skip
    assert seen["o_read_indexes"].cycles == [0, 1, 2]


def failing(config, layer, streams, due, **fields):
    """Give a layer whose descriptor has other ``fields`` and its streams; return the words that
    came and the code."""
    bits = layer_bits(config, layer, 0, 1, (9, 9))
    layout = LayerLayout(config.array)
    for name, value in fields.items():
        place = layout[name]
        bits &= ~(((1 << place.width) - 1) << place.offset)
        bits |= value << place.offset
    indexes, outliers = streams
    reads = {"o_read_indexes": 1} | ({"o_read_outliers": 1} if outliers else {})
    source = FrontEnd if config.weights == "gobo" else PlainReader
    seen = transfer(
        source(config), {"i_layer": [bits], "i_indexes": indexes, "i_outliers": outliers},
        {"o": due, **reads}, probes=("error_code",), after=600, all_taken=False,
    )  # fmt: skip
    return [config_word(config, bits) for bits in seen["o"].words], seen["error_code"].words[-1]


def config_word(config, bits):
    word = WeightLayout(config.image).from_bits(bits)
    return (word.last, word.error)


def test_layers_that_are_not_what_their_descriptor_says_are_errors():
    config = CONFIGS["tpu"]
    _, (layer,) = image_of(config.array, [Shape(rows=8, columns=6)], SEED, config.image)
    streams = gobo_beats(layer)
    plain, last = [(0, 0)] * 5, [(1, 0)]
    good = failing(config, layer, streams, 12)
    assert good == ((plain + last) * 2, 0)
    # Fewer inputs than are said, more, fewer strips.
    found = failing(config, layer, streams, 6, inputs=7)
    assert found == ([*plain, (1, 1)], ERRORS["tile_header"])
    found = failing(config, layer, streams, 5, inputs=5)
    assert found == ([(0, 0)] * 4 + [(0, 1)], ERRORS["tile_header"])
    found = failing(config, layer, streams, 12, strips=3)
    assert found == ((plain + last) * 2, ERRORS["index_end"])
    # Indexes that are not what their sum of check is of.
    outliers = [streams[1][0] ^ 1 << 40, *streams[1][1:]]
    words_given, code = failing(config, layer, (streams[0], outliers), 6)
    assert words_given[-1] == (1, 1) and code == ERRORS["index_crc"]


def test_the_words_of_more_strips_than_are_said_are_found_out_in_the_next_run():
    config = CONFIGS["tpu"]
    _, (layer,) = image_of(config.array, [Shape(rows=8, columns=6)], SEED, config.image)
    indexes, outliers = gobo_beats(layer)
    words_given, code = failing(config, layer, (indexes, outliers), 6, strips=1)
    assert words_given == [(0, 0)] * 5 + [(1, 0)]
    assert code == ERRORS["index_end"]


@pytest.mark.parametrize("strips", [1, 3])
def test_plain_layers_of_other_words_than_are_said_are_errors(strips):
    config = replace(CONFIGS["tpu"], weights="fp16")
    _, (layer,) = image_of(config.array, [Shape(rows=8, columns=6)], SEED, config.image)
    words_given, code = failing(
        config, layer, (plain_beats(config, layer), []), 6 * min(strips, 2), strips=strips
    )
    assert words_given == ([(0, 0)] * 5 + [(1, 0)]) * min(strips, 2)
    assert code == ERRORS["index_end"]


def test_plain_beats_that_end_within_a_word_are_an_error():
    config = replace(CONFIGS["tensor_core"], weights="fp32")
    _, (layer,) = image_of(config.array, [Shape(rows=4, columns=8)], SEED, config.image)
    beats = plain_beats(config, layer)[:-2]  # of two words of 4 beats
    beats[-1] |= 1 << config.beat_width
    assert failing(config, layer, (beats, []), 1) == ([(0, 0)], ERRORS["index_end"])


def test_fp32_is_rounded_to_fp16():
    rng = np.random.default_rng(SEED)
    corners = [
        0, 0x80000000, 1, 0x80000001, 0x007FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFC00000,
        0x477FEFFF, 0x477FF000, 0xC77FF000, 0x477FE000, 0x38800000, 0x387FFFFF, 0x387FF000,
        0x387FEFFF, 0x33800000, 0x33000000, 0x33000001, 0x32FFFFFF, 0xB3000001, 0x33BFFFFF,
        0x33C00000, 0x3F801000, 0x3F803000, 0x3F801001, 0x7F7FFFFF,
    ]  # fmt: skip
    bits = rng.integers(0, 1 << 32, 4000, np.uint32)
    bits[:3000] = bits[:3000] % (0x10000000) + 0x32000000  # about the range of FP16
    bits[::3] &= 0xFFFFF000  # ties
    bits = np.concatenate([np.array(corners, np.uint32), bits])
    dut, found = Narrow(), []

    async def run_all(ctx):
        for word in bits.tolist():
            ctx.set(dut.i, word)
            found.append(ctx.get(dut.o))

    sim = Simulator(dut)
    sim.add_testbench(run_all)
    sim.run()
    wrong = [(hex(word), hex(got), hex(right)) for word, got, right in zip(
        bits.tolist(), found, narrow(bits).tolist(), strict=True) if got != right]  # fmt: skip
    assert not wrong, wrong[:5]
