"""From layers to results: loaders, buffers, schedule, array."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..array.act_buffer import ActBuffer
from ..array.act_loader import ActLoader
from ..array.array import Array
from ..array.bias_loader import BiasLoader
from ..array.finish import Finish
from ..array.fork import Fork
from ..array.result_writer import ResultWriter
from ..array.schedule import Schedule
from ..array.steps import Steps
from ..array.strip_buffer import StripBuffer
from ..array.weight_loader import WeightLoader
from ..array_config import ArrayConfig
from ..array_layout import (
    CYCLES,
    CommandLayout,
    CompletionLayout,
    LayerLayout,
    PassLayout,
    ResultBeatLayout,
)
from ..formats import ARRAY_ERRORS
from ..layout import BeatLayout

__all__ = ["Engine"]

# The fields of a layer that each of those who get it looks at.
_JOB = ("slot", "tag", "start")
_LAYER: dict[str, tuple[str, ...]] = {
    "weights": ("index_width", "inputs", "strips", "tiles", "block", "resident", "index_address",
                "index_beats", "outlier_address", "outlier_beats"),
    "acts": ("inputs", "tokens", "act_address", "act_stride", "fence"),
    "biases": ("strips", "tiles", "block", "bias_address", "has_bias"),
    "schedule": ("rows", "inputs", "tokens", "strips", "tiles", "block", "resident", "has_bias"),
    "steps": ("index_width", "unit", "act_exponent", "codebook"),
    "writer": ("result_address", "result_stride", "interrupt", *_JOB),
    "job": _JOB,
}  # fmt: skip
# And of a pass.
_PASS: dict[str, tuple[str, ...]] = {
    "weights": ("weights",), "acts": ("acts",), "steps": ("first",), "finish": ("result",),
    "writer": ("result",),
}  # fmt: skip


class Engine(wiring.Component):
    """Runs layers one after the other, and reads ahead for those to come.

    Every part gets the layers, or their passes, from a queue of its own and goes at its own pace;
    they are coupled by the data alone. A part that meets an error gives nothing any more.

    Paper
    -----
    Our own choice: docs/accelerator.md section 4.

    Parameters
    ----------
    config : ArrayConfig
        All sizes.

    Members
    -------
    i_layer : In, stream of LayerLayout
        Layers.
    o_job : Out, stream of CompletionLayout
        Their jobs; one is to be taken with ``done``.
    i_failed : In, stream of CompletionLayout
        A completion to be written.
    o_read_indexes, o_read_outliers, o_read_acts, o_read_biases : Out, stream of CommandLayout
        What to read.
    i_indexes, i_outliers, i_acts, i_biases : In, stream of BeatLayout
        The beats of it.
    o_write : Out, stream of CommandLayout
        Where to write.
    o_results : Out, stream of ResultBeatLayout
        The beats of it.
    pending, write_error : In, 1
        Of the write master.
    now : In, 48 bits
        Cycles.
    done, interrupt : Out, 1
        For a cycle: a completion is written; with it, whether its job has the flag.
    moving : Out, 1
        Steps, sums or results move.
    error_code : Out, 4 bits
        What is wrong, 0 for nothing; stays until reset.
    busy, stall_weights, stall_acts, stall_outliers, stall_drain, outliers : Out
        Of :class:`Steps`.

    Timing
    ------
    docs/accelerator.md section 6.

    Numerics
    --------
    docs/accelerator.md section 2.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        completion = stream.Signature(CompletionLayout(config))
        command = stream.Signature(CommandLayout(config))
        beats = stream.Signature(BeatLayout(config.image))
        read = ("indexes", "outliers", "acts", "biases")
        super().__init__({
            "i_layer": In(stream.Signature(LayerLayout(config))),
            "o_job": Out(completion),
            "i_failed": In(completion),
            **{f"o_read_{name}": Out(command) for name in read},
            **{f"i_{name}": In(beats) for name in read},
            "o_write": Out(command),
            "o_results": Out(stream.Signature(ResultBeatLayout(config))),
            "pending": In(1),
            "write_error": In(1),
            "now": In(CYCLES),
            "done": Out(1),
            "interrupt": Out(1),
            "moving": Out(1),
            "error_code": Out(range(max(ARRAY_ERRORS.values()) + 1)),
            "busy": Out(1),
            "stall_weights": Out(1),
            "stall_acts": Out(1),
            "stall_outliers": Out(1),
            "stall_drain": Out(1),
            "outliers": Out(range(config.outliers_per_step + 1)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        parts = {
            "weight_loader": WeightLoader(config), "act_loader": ActLoader(config),
            "bias_loader": BiasLoader(config), "schedule": Schedule(config),
            "strips": StripBuffer(config), "acts": ActBuffer(config), "steps": Steps(config),
            "array": Array(config), "finish": Finish(config), "writer": ResultWriter(config),
        }  # fmt: skip
        for name, part in parts.items():
            m.submodules[name] = part
        weights, act_loader, biases, schedule, strips, acts, steps, array, finish, writer = (
            parts.values()
        )

        # Layers and passes, to each part.
        m.submodules.layers = layers = Fork(
            LayerLayout(config), len(_LAYER), list(_LAYER.values())
        )
        m.submodules.passes = passes = Fork(PassLayout(config), len(_PASS), list(_PASS.values()))
        layer = dict(zip(_LAYER, layers.o, strict=True))
        of_pass = dict(zip(_PASS, passes.o, strict=True))
        wiring.connect(m, wiring.flipped(self.i_layer), layers.i)
        wiring.connect(m, layer["weights"], weights.i_layer)
        wiring.connect(m, layer["acts"], act_loader.i_layer)
        wiring.connect(m, layer["biases"], biases.i_layer)
        wiring.connect(m, layer["schedule"], schedule.i)
        wiring.connect(m, layer["steps"], steps.i_layer)
        wiring.connect(m, layer["writer"], writer.i_layer)
        wiring.connect(m, schedule.o, passes.i)
        for source, part, port in (
            (of_pass["weights"], "weights", strips.i_pass), (of_pass["acts"], "acts", acts.i_pass),
            (of_pass["steps"], "first", steps.i_first),
            (of_pass["finish"], "result", finish.i_pass),
            (of_pass["writer"], "result", writer.i_pass),
        ):  # fmt: skip
            m.d.comb += [
                port.payload.eq(source.payload[part]),
                port.valid.eq(source.valid),
                source.ready.eq(port.ready),
            ]
        job = layer["job"]
        m.d.comb += [
            *(self.o_job.payload[name].eq(job.payload[name]) for name in _JOB),
            self.o_job.valid.eq(job.valid),
            job.ready.eq(self.o_job.ready),
        ]

        # Memory to the array, and sums to memory.
        wiring.connect(m, weights.o_read_indexes, wiring.flipped(self.o_read_indexes))
        wiring.connect(m, weights.o_read_outliers, wiring.flipped(self.o_read_outliers))
        wiring.connect(m, act_loader.o_read, wiring.flipped(self.o_read_acts))
        wiring.connect(m, biases.o_read, wiring.flipped(self.o_read_biases))
        wiring.connect(m, wiring.flipped(self.i_indexes), weights.i_indexes)
        wiring.connect(m, wiring.flipped(self.i_outliers), weights.i_outliers)
        wiring.connect(m, wiring.flipped(self.i_acts), act_loader.i)
        wiring.connect(m, wiring.flipped(self.i_biases), biases.i)
        wiring.connect(m, weights.o_indexes, strips.i_indexes)
        wiring.connect(m, weights.o_outliers, strips.i_outliers)
        wiring.connect(m, act_loader.o, acts.i)
        wiring.connect(m, strips.o, steps.i_weights)
        wiring.connect(m, acts.o, steps.i_acts)
        wiring.connect(m, steps.o, array.i)
        wiring.connect(m, array.o, finish.i)
        wiring.connect(m, biases.o, finish.i_bias)
        wiring.connect(m, finish.o, writer.i)
        wiring.connect(m, wiring.flipped(self.i_failed), writer.i_failed)
        wiring.connect(m, writer.o_write, wiring.flipped(self.o_write))
        wiring.connect(m, writer.o, wiring.flipped(self.o_results))

        # A fence: layers whose activations are asked for and whose job is not done.
        ahead = Signal(4)
        asked = act_loader.i_layer.valid & act_loader.i_layer.ready
        m.d.sync += ahead.eq(ahead + asked - (writer.done & (writer.error == 0)))
        m.d.comb += [
            act_loader.fence_open.eq(ahead == 0),
            steps.last_ready.eq(array.last_ready),
            writer.pending.eq(self.pending),
            writer.hold.eq(self.write_error),
            writer.now.eq(self.now),
            self.done.eq(writer.done),
            self.interrupt.eq(writer.interrupt),
            self.moving.eq(Cat(
                steps.o.valid, *(port.valid & port.ready for port in (array.o, finish.o, writer.o)),
                writer.done,
            ).any()),
        ]  # fmt: skip
        counters = ("busy", "stall_weights", "stall_acts", "stall_outliers", "stall_drain",
                    "outliers")  # fmt: skip
        m.d.comb += [getattr(self, name).eq(getattr(steps, name)) for name in counters]
        too_large = Mux(strips.too_large | acts.too_large, ARRAY_ERRORS["too_large"], 0)
        m.d.comb += self.error_code.eq(Mux(weights.error_code != 0, weights.error_code, too_large))
        return m
