"""From layers to results: loaders, buffers, schedule, array."""

from typing import Any

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

__all__ = ["JOB", "Engine"]

_Fields = dict[str, tuple[str, ...]]
_Streams = dict[str, stream.Interface]

JOB = ("slot", "tag", "start")
"""The fields of a layer that its completion has."""

# The fields of a layer that each of those who get it looks at.
_LAYER: _Fields = {
    "weights": ("index_width", "inputs", "strips", "tiles", "block", "resident", "index_address",
                "index_beats", "outlier_address", "outlier_beats"),
    "acts": ("inputs", "tokens", "act_address", "act_stride", "fence"),
    "biases": ("strips", "tiles", "block", "bias_address", "has_bias"),
    "schedule": ("rows", "inputs", "tokens", "strips", "tiles", "block", "resident", "has_bias"),
    "steps": ("index_width", "unit", "act_exponent", "codebook"),
    "writer": ("result_address", "result_stride", "interrupt", *JOB),
    "job": JOB,
}  # fmt: skip
# And of a pass.
_PASS: _Fields = {
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

        layer, of_pass = self.join(
            m, _LAYER, _PASS, weights=weights, acts=act_loader, biases=biases, schedule=schedule,
            finish=finish, writer=writer,
        )  # fmt: skip
        wiring.connect(m, layer["steps"], steps.i_layer)
        for name, part, port in (
            ("weights", "weights", strips.i_pass), ("acts", "acts", acts.i_pass),
            ("steps", "first", steps.i_first),
        ):  # fmt: skip
            _give(m, of_pass[name], part, port)
        for given, taken in (
            (weights.o_indexes, strips.i_indexes), (weights.o_outliers, strips.i_outliers),
            (act_loader.o, acts.i), (strips.o, steps.i_weights), (acts.o, steps.i_acts),
            (steps.o, array.i), (array.o, finish.i),
        ):  # fmt: skip
            wiring.connect(m, given, taken)
        m.d.comb += [
            steps.last_ready.eq(array.last_ready),
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

    def join(
        self, m: Module, layer_fields: _Fields, pass_fields: _Fields, *, weights: Any,
        acts: ActLoader, biases: BiasLoader, schedule: Schedule, finish: Finish,
        writer: ResultWriter,
    ) -> tuple[_Streams, _Streams]:  # fmt: skip
        """Join what is around any array: layers and passes to each part, its memory channels, the
        way of results.

        Parameters
        ----------
        layer_fields, pass_fields : dict of tuple of str
            Who gets layers, and passes, and the fields that each looks at.
        weights : component
            With the ports of :class:`WeightLoader` to layers and memory.
        acts, biases, schedule, finish, writer : the parts, submodules already

        Returns
        -------
        layers, passes : dict of stream
            By who gets them; those of the parts and of ``job`` are connected.
        """
        config = self.config
        m.submodules.layers = layers = Fork(
            LayerLayout(config), len(layer_fields), list(layer_fields.values())
        )
        m.submodules.passes = passes = Fork(
            PassLayout(config), len(pass_fields), list(pass_fields.values())
        )
        layer = dict(zip(layer_fields, layers.o, strict=True))
        of_pass = dict(zip(pass_fields, passes.o, strict=True))
        for given, taken in (
            (wiring.flipped(self.i_layer), layers.i),
            (layer["weights"], weights.i_layer), (layer["acts"], acts.i_layer),
            (layer["biases"], biases.i_layer), (layer["schedule"], schedule.i),
            (layer["writer"], writer.i_layer), (schedule.o, passes.i),
            (weights.o_read_indexes, wiring.flipped(self.o_read_indexes)),
            (weights.o_read_outliers, wiring.flipped(self.o_read_outliers)),
            (acts.o_read, wiring.flipped(self.o_read_acts)),
            (biases.o_read, wiring.flipped(self.o_read_biases)),
            (wiring.flipped(self.i_indexes), weights.i_indexes),
            (wiring.flipped(self.i_outliers), weights.i_outliers),
            (wiring.flipped(self.i_acts), acts.i),
            (wiring.flipped(self.i_biases), biases.i),
            (biases.o, finish.i_bias), (finish.o, writer.i),
            (wiring.flipped(self.i_failed), writer.i_failed),
            (writer.o_write, wiring.flipped(self.o_write)),
            (writer.o, wiring.flipped(self.o_results)),
        ):  # fmt: skip
            wiring.connect(m, given, taken)
        for name, port in (("finish", finish.i_pass), ("writer", writer.i_pass)):
            _give(m, of_pass[name], "result", port)
        job = layer["job"]
        m.d.comb += [
            *(self.o_job.payload[name].eq(job.payload[name]) for name in JOB),
            self.o_job.valid.eq(job.valid),
            job.ready.eq(self.o_job.ready),
        ]

        # A fence: layers whose activations are asked for and whose job is not done.
        ahead = Signal(4)
        asked = acts.i_layer.valid & acts.i_layer.ready
        m.d.sync += ahead.eq(ahead + asked - (writer.done & (writer.error == 0)))
        m.d.comb += [
            acts.fence_open.eq(ahead == 0),
            writer.pending.eq(self.pending),
            writer.hold.eq(self.write_error),
            writer.now.eq(self.now),
            self.done.eq(writer.done),
            self.interrupt.eq(writer.interrupt),
        ]
        return layer, of_pass


def _give(m: Module, source: stream.Interface, part: str, port: stream.Interface) -> None:
    """Connect ``part`` of what ``source`` gives to a port."""
    m.d.comb += [
        port.payload.eq(source.payload[part]),
        port.valid.eq(source.valid),
        source.ready.eq(port.ready),
    ]
