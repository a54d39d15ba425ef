# amaranth: UnusedElaboratable=no
"""The passes of a layer are every strip by every token tile, once, and the buffers are told to give
just these.

Proved for all time: layers of up to 3 strips by 3 token tiles one after another, in blocks of any
size or resident, with any edges and at any pace. The buffers are stood for by what their commands
mean: which strip, or tile, comes next, which one is marked, and how many are kept.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from amaranth.hdl import Array, Cat, Mux, Signal, Value

from gobo_rtl.array import schedule
from gobo_rtl.array_config import ARRAYS
from gobo_rtl.array_layout import LayerLayout
from tests.sabotage.plant import Fault, planted_package

from .prover import Claims, bounded, prove, reach

CONFIG = ARRAYS["tiny"]
ROWS, COLUMNS = CONFIG.rows, CONFIG.columns
BITS = 4  # of a count of either
CYCLES = 20  # two of the largest layers
FILE = "gobo_rtl/array/schedule.py"
FAULTS: dict[str, tuple[Fault, str]] = {  # and the claim that is broken
    "a block has a tile too many": (Fault(
        "block", FILE, "(number + 1 == layer.block)", "(number == layer.block)",
    ), "the buffer gives the strip"),
    "a strip is released early": (Fault(
        "release", FILE, "o.weights.release.eq(closes)", "o.weights.release.eq(opens)",
    ), "strips: rewind or release"),
    "a strip begins with the first tile of all": (Fault(
        "tile", FILE, "tile.eq(first_tile)", "tile.eq(0)",
    ), "a pass comes once"),
    "the last strip is left out": (Fault(
        "strip", FILE, "strip + 1 == layer.strips", "strip + 2 == layer.strips",
    ), "the last pass comes last"),
    "the tokens left are those of the next tile": (Fault(
        "tokens", FILE, "Mux(opens, tokens, tokens_at_first)", "tokens_next",
    ), "columns in the matrix"),
    "a resident layer is never released": (Fault(
        "resident", FILE, "o.weights.release.eq(last_tile)", "o.weights.release.eq(0)",
    ), "strips are released with their layer"),
    "a strip's biases come again": (Fault(
        "bias", FILE, "o.result.new_strip.eq(opens)", "o.result.new_strip.eq(1)",
    ), "biases come once a strip and block"),
}  # fmt: skip


class Buffer:
    """What a buffer that gets ``command`` with each ``pass`` gives, of units that come in rounds of
    ``count``; ``opens`` with the first pass of a layer."""

    def __init__(self, claims: Claims, name: str, command: Value, go: Value, last: Value,
                 count: Value) -> None:  # fmt: skip
        m = claims.m
        self.at, mark = Signal(BITS, name=f"{name}_at"), Signal(BITS, name=f"{name}_mark")
        self.kept = Signal(BITS, name=f"{name}_kept")  # units before the one at hand
        kept_at_mark, marked = Signal(BITS, name=f"{name}_below"), Signal(name=f"{name}_marked")
        self.newest, self.come = Signal(BITS, name=f"{name}_newest"), Signal(BITS)
        self.comes = Signal(name=f"{name}_comes")
        """The unit at hand was not given before; so many ``come`` in the layer up to now."""
        back, back_kept = (Mux(command.mark, *pair) for pair in
                           ((self.at, mark), (self.kept, kept_at_mark)))  # fmt: skip
        total = self.come + self.comes
        self.total = total
        m.d.comb += self.comes.eq(self.kept == self.newest)
        with m.If(go):
            m.d.sync += [
                self.at.eq(Mux(command.rewind, back, Mux(self.at + 1 == count, 0, self.at + 1))),
                self.kept.eq(Mux(command.release, 0, Mux(command.rewind, back_kept,
                                                         self.kept + 1))),
                self.newest.eq(self.newest + self.comes
                               - Mux(command.release, self.kept + 1, 0)),
                self.come.eq(Mux(last, 0, total)),
                mark.eq(back), kept_at_mark.eq(back_kept),
                marked.eq(~command.release & (marked | command.mark)),
            ]  # fmt: skip
        with m.If(claims.reset):
            m.d.sync += [number.eq(0) for number in
                         (self.at, self.kept, self.newest, self.come, marked)]  # fmt: skip
        here = claims.dut.o.valid
        claims.claim(f"{name}: rewind or release", ~(here & command.rewind & command.release))
        claims.claim(f"{name}: rewinds to a mark",
                     ~(here & command.rewind) | command.mark | marked)  # fmt: skip


def schedule_claims(source: ModuleType, most: int = 3) -> Claims:
    """Return the claims for layers of up to ``most`` strips and token tiles."""
    dut = source.Schedule(CONFIG)
    claims = Claims(dut)
    m, reset, o, result = claims.m, claims.reset, dut.o.payload, dut.o.payload.result

    # Layers.
    layer, fresh = dut.i.payload, Signal(LayerLayout(CONFIG))
    strips, tiles, block = (claims.free(2, name) for name in ("strips", "tiles", "block"))
    edge, odd = claims.free(2, "edge"), claims.free(1, "odd")
    m.d.comb += [
        fresh.strips.eq(strips), fresh.tiles.eq(tiles), fresh.block.eq(block),
        fresh.rows.eq(ROWS * strips - edge), fresh.tokens.eq(COLUMNS * tiles - odd),
        fresh.resident.eq(claims.free(1, "resident")), fresh.has_bias.eq(claims.free(1, "bias")),
        fresh.inputs.eq(claims.free(len(layer.inputs), "inputs")),
    ]  # fmt: skip
    claims.drive(dut.i, "i", Value.cast(fresh))
    claims.assume(Cat(strips != 0, block != 0, block <= tiles).all())
    claims.assume((strips <= most) & (tiles <= most))
    claims.assume(~fresh.resident | (block == 1))
    m.d.comb += dut.o.ready.eq(claims.free(1, "take"))
    here, go = dut.o.valid & ~reset, dut.o.valid & dut.o.ready & ~reset
    strip, tile = result.strip, result.tile

    # Every pair once.
    seen = Array(Signal(name=f"seen{n}") for n in range(most * most))
    place = (strip * most + tile)[:BITS]
    with m.If(go):
        for n, pair in enumerate(seen):
            m.d.sync += pair.eq(~result.last & (pair | (place == n)))
    with m.If(reset):
        m.d.sync += [pair.eq(0) for pair in seen]
    inside = (strip < layer.strips) & (tile < layer.tiles)
    wanted = [(n // most < layer.strips) & (n % most < layer.tiles) for n in range(most * most)]
    final = Cat(~want | pair | (place == n)
                for n, (want, pair) in enumerate(zip(wanted, seen, strict=True))).all()  # fmt: skip
    begun = Cat(seen).any()
    claims.claim("a pass is in the layer", ~here | inside)
    claims.claim("a pass comes once", ~here | ~seen[place])
    claims.claim("the last pass comes last", ~here | (result.last == final))
    claims.claim("first with the first", ~here | (o.first == ~begun))
    claims.claim("a layer is taken with its last pass",
                 (dut.i.ready & dut.i.valid & ~reset) == (go & result.last))
    claims.claim("a pass waits for a layer only", here == (dut.i.valid & ~reset))

    # What the buffers give.
    weights = Buffer(claims, "strips", o.weights, go, result.last, layer.strips)
    acts = Buffer(claims, "tiles", o.acts.replay, go, result.last, layer.tiles)
    blocks = Signal(2)
    m.d.comb += blocks.eq(Mux(layer.block == 1, layer.tiles, Mux(layer.block < layer.tiles, 2, 1)))
    rounds = Mux(layer.resident, 1, blocks)
    ends = here & result.last
    claims.claim("the buffer gives the strip", ~here | (weights.at == strip))
    claims.claim("the buffer gives the tile", ~here | (acts.at == tile))
    claims.claim("a strip comes once a block",
                 ~ends | (weights.total == (layer.strips[:2] * rounds)[:BITS]))
    claims.claim("a tile comes once", ~ends | (acts.total == layer.tiles[:BITS]))
    claims.claim("one strip is kept, or the layer",
                 ~here | (weights.kept < Mux(layer.resident, layer.strips, 1)))
    claims.claim("no more tiles than a block are kept", ~here | (acts.kept < layer.block))
    claims.claim("strips are released with their layer", ~ends | o.weights.release)
    claims.claim("tiles are released with their layer", ~ends | o.acts.replay.release)

    # What is in the matrix.
    rows, columns = layer.rows - ROWS * strip, layer.tokens - COLUMNS * tile
    opens = (tile == 0) | (layer.block == 1) | ((layer.block == 2) & (tile == 2))
    claims.claim("rows in the matrix", ~here | (result.rows == Mux(rows > ROWS, ROWS, rows)))
    claims.claim("columns in the matrix",
                 ~here | (result.columns == Mux(columns > COLUMNS, COLUMNS, columns)))
    claims.claim("biases come once a strip and block", ~here | (result.new_strip == opens))
    same = (o.acts.steps == layer.inputs) & (result.has_bias == layer.has_bias)
    claims.claim("steps and biases are the layer's", ~here | same)

    full = ends & (layer.strips == most) & (layer.tiles == most)
    claims.event("the end of the largest layer, by blocks of two", full & (layer.block == 2))
    claims.event("the end of the largest layer, resident", full & layer.resident)
    claims.event("a layer of one pass after another", ends & o.first & claims.before(
        go & result.last & o.first, "one_pass"))
    return claims


@pytest.mark.parametrize("most", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_passes_cover_a_layer_once(most: int, tmp_path: Path) -> None:
    claims = schedule_claims(schedule, most)
    verdict = prove(claims, tmp_path)
    assert verdict.holds, verdict
    assert set(reach(claims, tmp_path, CYCLES)) == set(claims.events)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    fault, broken = FAULTS[name]
    source = import_module(f"{planted_package(fault, tmp_path)}.array.schedule")
    verdict = bounded(schedule_claims(source), tmp_path / "proof", CYCLES)
    assert verdict.holds is False and verdict.broken == broken, verdict
