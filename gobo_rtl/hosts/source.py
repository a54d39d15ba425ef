"""What both weight sources have in common: their ports, and which words end a strip."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..array_layout import CommandLayout, LayerLayout
from ..formats import ERRORS
from ..host_config import HostConfig
from ..layout import BeatLayout, WeightLayout

__all__ = ["WeightSource"]

RUNS = 4  # whose commands are given and whose words are not


class WeightSource(wiring.Component):
    """Gives the weight words of layers, once for each token tile: a run.

    Paper
    -----
    Our own choice: docs/hosts.md section 2.

    Parameters
    ----------
    config : HostConfig
        Uses ``weights``, ``lanes``, ``prefetch`` and the sizes of bus and layers.

    Members
    -------
    i_layer : In, stream of LayerLayout
        Layers; taken when all has been asked for.
    o_read_indexes, o_read_outliers : Out, stream of CommandLayout
        A command each a run; plain weights are read as indexes, and there are no outliers.
    i_indexes, i_outliers : In, stream of BeatLayout
        The beats of the commands, ``last`` with the last of each.
    o : Out, stream of WeightLayout
        Weight words, FP16; ``last`` ends a strip. After ``error`` none comes.
    error_code : Out, 3 bits
        Why, as in docs/formats.md section 5; 0 for nothing. Stays until reset.
    """

    def __init__(self, config: HostConfig):
        self.config = config
        command = stream.Signature(CommandLayout(config.array))
        beats = stream.Signature(BeatLayout(config.image))
        super().__init__({
            "i_layer": In(stream.Signature(LayerLayout(config.array))),
            "o_read_indexes": Out(command), "o_read_outliers": Out(command),
            "i_indexes": In(beats), "i_outliers": In(beats),
            "o": Out(stream.Signature(WeightLayout(config.image))),
            "error_code": Out(range(max(ERRORS.values()) + 1)),
        })  # fmt: skip

    def runs(self, m: Module, asks: list[tuple[Value, Value]]) -> SyncFIFO:
        """Return a queue of what runs have to be counted by; ``m`` gets what asks for them: of
        ``asks`` the valid and ready of each thing that a run needs."""
        layer = self.i_layer.payload
        plan = SyncFIFO(width=self.plan.size, depth=RUNS)
        m.submodules.plan = plan
        tile, given = Signal.like(layer.tiles), Signal(len(asks) + 1)
        begun, final = Signal.like(given), tile + 1 == layer.tiles
        takes = Cat(plan.w_rdy, *(ready for _, ready in asks))
        run, size = Signal(self.plan), self.config.word_inputs
        m.d.comb += [
            run.words.eq((layer.inputs + (size - 1)) // size),
            run.strips.eq(layer.strips),
            begun.eq(Mux(self.i_layer.valid, given | takes, 0)),
            plan.w_data.eq(run),
            plan.w_en.eq(self.i_layer.valid & ~given[0]),
            *(valid.eq(self.i_layer.valid & ~given[n]) for n, (valid, _) in enumerate(asks, 1)),
            self.i_layer.ready.eq(begun.all() & final),
            self.o_read_indexes.payload.address.eq(layer.index_address),
            self.o_read_indexes.payload.beats.eq(layer.index_beats),
            self.o_read_outliers.payload.address.eq(layer.outlier_address),
            self.o_read_outliers.payload.beats.eq(layer.outlier_beats),
        ]
        m.d.sync += given.eq(Mux(begun.all(), 0, begun))
        with m.If(begun.all()):
            m.d.sync += tile.eq(Mux(final, 0, tile + 1))
        return plan

    @property
    def plan(self) -> data.StructLayout:
        """What a run is counted by: words of a strip, and strips."""
        inputs = self.config.array.step_bits + 1
        return data.StructLayout({"words": inputs, "strips": 18})

    def count(self, m: Module, plan: SyncFIFO, take: Value) -> tuple[Value, Value]:
        """Return whether the next word ends its strip, and its run; ``take`` is its transfer."""
        run = data.View(self.plan, plan.r_data)
        word, strip = Signal.like(run.words), Signal.like(run.strips)
        last, final = Signal(), Signal()
        m.d.comb += [
            last.eq(word + 1 == run.words), final.eq(last & (strip + 1 == run.strips)),
            plan.r_en.eq(take & final),
        ]  # fmt: skip
        with m.If(take):
            m.d.sync += word.eq(Mux(last, 0, word + 1))
            with m.If(last):
                m.d.sync += strip.eq(Mux(final, 0, strip + 1))
        return last, final

    def queue(self, m: Module, name: str, beats: stream.Interface) -> SyncFIFO:
        """Return a queue of ``prefetch`` beats behind an input."""
        word = Value.cast(beats.payload)
        queue = SyncFIFO(width=len(word), depth=self.config.prefetch)
        m.submodules[name] = queue
        m.d.comb += [
            queue.w_data.eq(word), queue.w_en.eq(beats.valid), beats.ready.eq(queue.w_rdy),
        ]  # fmt: skip
        return queue
