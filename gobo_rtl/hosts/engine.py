"""From layers to results on a host: weight source, activations, array."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring

from ..array.act_loader import ActLoader
from ..array.bias_loader import BiasLoader
from ..array.finish import Finish
from ..array.fork import Fork
from ..array.result_writer import ResultWriter
from ..array.schedule import Schedule
from ..array_layout import LayerLayout, PassLayout
from ..formats import ARRAY_ERRORS
from ..host_config import HostConfig
from ..top.engine import Engine
from .act_tile import ActTile
from .core import HostCore
from .eyeriss import EyerissArray
from .front_end import FrontEnd
from .plain import PlainReader
from .tensor_core import TensorCoreArray
from .tpu import TpuArray

__all__ = ["ARRAYS", "HostEngine"]

ARRAYS: dict[str, type[HostCore]] = {
    "tpu": TpuArray, "eyeriss": EyerissArray, "tensor_core": TensorCoreArray,
}  # fmt: skip
"""The array of each kind of host."""

# The fields of a layer that each of those who get it looks at.
_JOB = ("slot", "tag", "start")
_LAYER: dict[str, tuple[str, ...]] = {
    "weights": ("index_width", "inputs", "strips", "tiles", "codebook", "index_address",
                "index_beats", "outlier_address", "outlier_beats"),
    "acts": ("inputs", "tokens", "act_address", "act_stride", "fence"),
    "biases": ("strips", "tiles", "block", "bias_address", "has_bias"),
    "schedule": ("rows", "inputs", "tokens", "strips", "tiles", "block", "has_bias"),
    "writer": ("result_address", "result_stride", "interrupt", *_JOB),
    "job": _JOB,
}  # fmt: skip
# And of a pass.
_PASS: dict[str, tuple[str, ...]] = {
    "acts": ("acts", "result"), "finish": ("result",), "writer": ("result",),
}  # fmt: skip


class HostEngine(Engine):
    """Runs layers one after the other on a host's array, and reads ahead for those to come.

    Its ports are those of the accelerator's engine, and so is what it does with layers, passes,
    biases and results. A block is a token tile, whatever a job says.

    Paper
    -----
    Our own choice: docs/hosts.md section 1.

    Parameters
    ----------
    config : HostConfig
        All sizes.

    Timing
    ------
    docs/hosts.md section 3.

    Numerics
    --------
    docs/hosts.md section 3.
    """

    def __init__(self, config: HostConfig):
        self.host = config
        super().__init__(config.array)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        host, config = self.host, self.config
        m.submodules.weights = weights = (
            FrontEnd(host) if host.weights == "gobo" else PlainReader(host)
        )
        m.submodules.act_loader = act_loader = ActLoader(config)
        m.submodules.biases = biases = BiasLoader(config)
        m.submodules.schedule = schedule = Schedule(config)
        m.submodules.acts = acts = ActTile(host)
        m.submodules.array = array = ARRAYS[host.kind](host)
        m.submodules.finish = finish = Finish(config)
        m.submodules.writer = writer = ResultWriter(config)

        # Layers and passes, to each part.
        m.submodules.layers = layers = Fork(
            LayerLayout(config), len(_LAYER), list(_LAYER.values())
        )
        m.submodules.passes = passes = Fork(PassLayout(config), len(_PASS), list(_PASS.values()))
        layer = dict(zip(_LAYER, layers.o, strict=True))
        of_pass = dict(zip(_PASS, passes.o, strict=True))
        wiring.connect(m, wiring.flipped(self.i_layer), layers.i)
        m.d.comb += [layers.i.payload.block.eq(1), layers.i.payload.resident.eq(0)]
        for name, port in (("weights", weights.i_layer), ("acts", act_loader.i_layer),
                           ("biases", biases.i_layer), ("schedule", schedule.i),
                           ("writer", writer.i_layer)):  # fmt: skip
            wiring.connect(m, layer[name], port)
        wiring.connect(m, schedule.o, passes.i)
        wiring.connect(m, of_pass["acts"], acts.i_pass)
        for name, port in (("finish", finish.i_pass), ("writer", writer.i_pass)):
            m.d.comb += [
                port.payload.eq(of_pass[name].payload.result),
                port.valid.eq(of_pass[name].valid),
                of_pass[name].ready.eq(port.ready),
            ]
        job = layer["job"]
        m.d.comb += [
            *(self.o_job.payload[name].eq(job.payload[name]) for name in _JOB),
            self.o_job.valid.eq(job.valid),
            job.ready.eq(self.o_job.ready),
        ]

        # Memory to the array, and sums to memory.
        for given, taken in (
            (weights.o_read_indexes, wiring.flipped(self.o_read_indexes)),
            (weights.o_read_outliers, wiring.flipped(self.o_read_outliers)),
            (act_loader.o_read, wiring.flipped(self.o_read_acts)),
            (biases.o_read, wiring.flipped(self.o_read_biases)),
            (wiring.flipped(self.i_indexes), weights.i_indexes),
            (wiring.flipped(self.i_outliers), weights.i_outliers),
            (wiring.flipped(self.i_acts), act_loader.i),
            (wiring.flipped(self.i_biases), biases.i),
            (weights.o, array.i_weights), (act_loader.o, acts.i), (acts.o, array.i),
            (array.o, finish.i), (biases.o, finish.i_bias), (finish.o, writer.i),
            (wiring.flipped(self.i_failed), writer.i_failed),
            (writer.o_write, wiring.flipped(self.o_write)),
            (writer.o, wiring.flipped(self.o_results)),
        ):
            wiring.connect(m, given, taken)

        # A fence: layers whose activations are asked for and whose job is not done.
        ahead = Signal(4)
        asked = act_loader.i_layer.valid & act_loader.i_layer.ready
        m.d.sync += ahead.eq(ahead + asked - (writer.done & (writer.error == 0)))
        m.d.comb += [
            act_loader.fence_open.eq(ahead == 0),
            writer.pending.eq(self.pending),
            writer.hold.eq(self.write_error),
            writer.now.eq(self.now),
            self.done.eq(writer.done),
            self.interrupt.eq(writer.interrupt),
            self.moving.eq(Cat(
                *(port.valid & port.ready for port in (
                    weights.o, acts.o, array.o, finish.o, writer.o)),
                array.busy, writer.done,
            ).any()),
            self.busy.eq(array.busy),
            self.stall_weights.eq(array.stall_weights),
            self.stall_drain.eq(array.stall_drain),
            self.stall_acts.eq(acts.i_pass.valid & ~acts.o.valid),
            self.error_code.eq(Mux(
                weights.error_code != 0, weights.error_code,
                Mux(acts.too_large, ARRAY_ERRORS["too_large"], 0),
            )),
        ]  # fmt: skip
        return m
