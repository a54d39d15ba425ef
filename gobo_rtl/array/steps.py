"""Weights and activations of the same step."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import ActStepLayout, LayerLayout, StepLayout, WeightStepLayout

__all__ = ["Steps"]


class Steps(wiring.Component):
    """Joins weights and activations and gives the array a cycle of a step in every cycle it can.

    An activation step lasts until the weights' step is done. Codebook and units are those of the
    layer that was taken last: with the first step of its first pass.

    Paper
    -----
    Our own choice: docs/accelerator.md section 4.

    Parameters
    ----------
    config : ArrayConfig
        Uses what StepLayout does.

    Members
    -------
    i_weights : In, stream of WeightStepLayout
        Cycles of the steps.
    i_acts : In, stream of ActStepLayout
        Steps.
    i_layer : In, stream of LayerLayout
        A transfer a layer.
    i_first : In, stream of 1 bit
        A transfer a pass, with its last cycle: the pass is the first of its layer.
    last_ready : In, 1
        The array takes the last cycle of a pass in the cycle after. It is not looked at in the
        cycle in which a last cycle is at ``o``: no two follow each other directly.
    o : Out, stream of StepLayout, always ready
        Cycles of the steps.
    busy, stall_outliers, stall_weights, stall_acts, stall_drain : Out, 1
        In every cycle in which a pass is due, exactly one is 1, a cycle later (with ``o`` the
        first two): the last cycle of a step is given; one before it, for its outliers; the
        weights (or, before a layer, its codebook) are not there; they are, but not the
        activations; both are, but the array does not take the last cycle of the pass.
    outliers : Out, number
        Outliers given in the same cycle as ``o``.

    Timing
    ------
    1 cycle from the inputs to ``o``; a cycle of a step in every cycle.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i_weights": In(stream.Signature(WeightStepLayout(config))),
            "i_acts": In(stream.Signature(ActStepLayout(config))),
            "i_layer": In(stream.Signature(LayerLayout(config))),
            "i_first": In(stream.Signature(1)),
            "last_ready": In(1),
            "o": Out(stream.Signature(StepLayout(config), always_ready=True)),
            "busy": Out(1),
            "stall_weights": Out(1),
            "stall_acts": Out(1),
            "stall_outliers": Out(1),
            "stall_drain": Out(1),
            "outliers": Out(range(config.outliers_per_step + 1)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        weights, acts, o = self.i_weights.payload, self.i_acts.payload, self.o

        # Who is waited for.
        begins = weights.first & self.i_first.payload  # a layer
        due = self.i_first.valid
        here = self.i_weights.valid & (self.i_layer.valid | ~begins)
        both = here & self.i_acts.valid
        free = ~weights.last | (self.last_ready & ~(o.valid & o.payload.last))
        give = Signal()
        m.d.comb += [
            give.eq(due & both & free),
            self.i_weights.ready.eq(give),
            self.i_acts.ready.eq(give & weights.done),
            self.i_first.ready.eq(give & weights.last),
            self.i_layer.ready.eq(give & begins),
        ]
        m.d.sync += [
            self.busy.eq(give & weights.plain),
            self.stall_outliers.eq(give & ~weights.plain),
            self.stall_weights.eq(due & ~here),
            self.stall_acts.eq(due & here & ~both),
            self.stall_drain.eq(due & both & ~free),
            self.outliers.eq(0),
            o.valid.eq(give),
        ]

        # The step, and what its layer is.
        with m.If(give):
            m.d.sync += [
                self.outliers.eq(sum(entry.valid for entry in weights.entries)),
                o.payload.planes.eq(weights.planes),
                o.payload.plain.eq(weights.plain),
                o.payload.entries.eq(weights.entries),
                o.payload.values.eq(acts.values),
                o.payload.scales.eq(acts.scales),
                o.payload.first.eq(weights.first),
                o.payload.last.eq(weights.last),
            ]
        with m.If(give & begins):
            m.d.sync += [
                o.payload.codebook.eq(self.i_layer.payload.codebook),
                o.payload.unit.eq(self.i_layer.payload.unit),
                o.payload.act_exponent.eq(self.i_layer.payload.act_exponent),
                o.payload.index_width.eq(self.i_layer.payload.index_width),
            ]
        return m
