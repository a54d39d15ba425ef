"""From layers to results on a host: weight source, activations, array."""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import wiring

from ..array.act_loader import ActLoader
from ..array.bias_loader import BiasLoader
from ..array.finish import Finish
from ..array.result_writer import ResultWriter
from ..array.schedule import Schedule
from ..formats import ARRAY_ERRORS
from ..host_config import HostConfig
from ..top.engine import JOB, Engine
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
_LAYER: dict[str, tuple[str, ...]] = {
    "weights": ("index_width", "inputs", "strips", "tiles", "codebook", "index_address",
                "index_beats", "outlier_address", "outlier_beats"),
    "acts": ("inputs", "tokens", "act_address", "act_stride", "fence"),
    "biases": ("strips", "tiles", "block", "bias_address", "has_bias"),
    "schedule": ("rows", "inputs", "tokens", "strips", "tiles", "block", "has_bias"),
    "writer": ("result_address", "result_stride", "interrupt", *JOB),
    "job": JOB,
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

        _, of_pass = self.join(
            m, _LAYER, _PASS, weights=weights, acts=act_loader, biases=biases, schedule=schedule,
            finish=finish, writer=writer,
        )  # fmt: skip
        layers = m.submodules.layers.i.payload
        m.d.comb += [layers.block.eq(1), layers.resident.eq(0)]
        for given, taken in (
            (of_pass["acts"], acts.i_pass), (weights.o, array.i_weights), (act_loader.o, acts.i),
            (acts.o, array.i), (array.o, finish.i),
        ):  # fmt: skip
            wiring.connect(m, given, taken)
        m.d.comb += [
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
