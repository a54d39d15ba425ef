"""What both weight sources have in common: their ports, and which words end a strip."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..array.runs import ask_for_runs
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

    def runs(
        self, m: Module, reads: Sequence[stream.Interface], *others: stream.Interface
    ) -> SyncFIFO:
        """Return a queue of what runs have to be counted by; ``m`` gets what asks for them, the
        commands of ``reads`` and a transfer to each of ``others``."""
        layer = self.i_layer.payload
        plan = SyncFIFO(width=self.plan.size, depth=RUNS)
        m.submodules.plan = plan
        run, size = Signal(self.plan), self.config.word_inputs
        m.d.comb += [
            run.words.eq((layer.inputs + (size - 1)) // size),
            run.strips.eq(layer.strips),
            plan.w_data.eq(run),
        ]
        told = [(plan.w_en, plan.w_rdy), *((port.valid, port.ready) for port in others)]
        ask_for_runs(m, self.i_layer, reads, told, 1)
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
