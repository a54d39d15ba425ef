"""What the arrays of all hosts have in common: their ports, and when a weight tile is used."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_layout import SumsLayout
from ..host_config import HostConfig
from ..layout import WeightLayout
from .drain import Drain
from .layout import ActWordLayout

__all__ = ["HostCore"]


class HostCore(wiring.Component):
    """An array with its accumulators: weight words and activations to sums.

    A weight tile is loaded while the one before is used; it is the array's own from a ``swap`` on,
    the cycle before its first activations or later. A word with ``error`` ends it: no weight is
    taken any more.

    Paper
    -----
    Our own choice: docs/hosts.md section 2.

    Parameters
    ----------
    config : HostConfig
        Of the array's kind.

    Members
    -------
    i_weights : In, stream of WeightLayout
        The strips' weight words, one strip a pass; ``last`` ends a strip.
    i : In, stream of ActWordLayout
        The activations of the passes.
    o : Out, stream of SumsLayout
        Their sums by tokens, ``drain_lanes`` neighbouring rows a transfer; all rows of the array,
        the tokens of the pass. ``last`` ends a pass.
    busy, stall_weights, stall_drain : Out, 1
        Activations are taken; they are there, but not their weights; or both are, and the
        accumulators are not free.

    Timing
    ------
    docs/hosts.md section 3.

    Numerics
    --------
    docs/hosts.md section 3.
    """

    def __init__(self, config: HostConfig):
        self.config = config
        super().__init__({
            "i_weights": In(stream.Signature(WeightLayout(config.image))),
            "i": In(stream.Signature(ActWordLayout(config))),
            "o": Out(stream.Signature(SumsLayout(config.array))),
            "busy": Out(1), "stall_weights": Out(1), "stall_drain": Out(1),
        })  # fmt: skip

    def control(self, m: Module, drain: Drain) -> tuple[Value, Value, Value]:
        """Return whether activations are taken, a bit for each word of a weight tile that is
        taken, and the swap; ``m`` gets what makes them."""
        weights, acts, words = self.i_weights, self.i.payload, self.config.tile_words
        full, failed, own = Signal(), Signal(), Signal()
        number = Signal(range(max(2, words)))  # of the next word in its tile
        take, completes, there = Signal(), Signal(), Signal()
        issue, ends, swap = Signal(), Signal(), Signal()

        # A tile's last word can come with the swap, since it is used later than its first, but
        # not when it is the first.
        m.d.comb += [
            weights.ready.eq(~full & ~failed),
            take.eq(weights.valid & weights.ready & ~weights.payload.error),
            completes.eq(take & (weights.payload.last | (number == words - 1))),
            there.eq(full | (completes & (number != 0))),
            swap.eq(there & (~own | ends)),
        ]
        m.d.sync += [full.eq((full | completes) & ~swap), own.eq(swap | (own & ~ends))]
        with m.If(take):
            m.d.sync += number.eq(Mux(completes, 0, number + 1))
        with m.If(weights.valid & weights.payload.error):
            m.d.sync += failed.eq(1)

        opens = acts.first & acts.begins
        free = ~opens | drain.free
        m.d.comb += [
            self.i.ready.eq(own & free),
            issue.eq(self.i.valid & self.i.ready),
            ends.eq(issue & acts.ends),
            drain.begin.eq(issue & opens),
            self.busy.eq(issue),
            self.stall_weights.eq(self.i.valid & ~own),
            self.stall_drain.eq(self.i.valid & own & ~free),
        ]
        load = Signal(words)
        m.d.comb += load.eq(take << number)
        return issue, load, swap
