"""What the arrays of all hosts have in common: their ports, and when a weight tile is used."""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_layout import SumsLayout
from ..host_config import HostConfig
from ..layout import WeightLayout
from .drain import Drain
from .layout import ActWordLayout

__all__ = ["Control", "HostCore"]


@dataclass(frozen=True)
class Control:
    """What decides when activations are used and weight tiles change.

    Parameters
    ----------
    take, number : a weight word is taken, and which of its tile it is
    swap : the tile that is loaded is the array's own from the next cycle on
    ready, use, taken : activations would be taken, are used, are used for the last time
    bank : of the accumulators
    """

    take: Value
    number: Value
    swap: Value
    ready: Value
    use: Value
    taken: Value
    bank: Value


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
        Activations are used; they are there, but not their weights; or both are, and the
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

    def control(
        self, m: Module, drain: Drain, valid: Value, flags: data.View, done: ValueLike,
        early: Callable[[Value], ValueLike],
    ) -> Control:  # fmt: skip
        """Return what decides when activations are used and weight tiles change; ``m`` gets what
        makes it.

        Activations are there while ``valid``, with ``flags`` as in ActWordLayout; they are used in
        each cycle, up to one with ``done``. A tile whose last word is taken can be swapped in
        the same cycle where ``early``, of the number of that word, says so.
        """
        weights, words = self.i_weights, self.config.tile_words
        full, failed, own, bank = Signal(), Signal(), Signal(), Signal()
        number = Signal(range(max(2, words)))  # of the next word in its tile
        take, completes, there = Signal(), Signal(), Signal()
        may, use, taken, ends, swap = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            weights.ready.eq(~full & ~failed),
            take.eq(weights.valid & weights.ready & ~weights.payload.error),
            completes.eq(take & (weights.payload.last | (number == words - 1))),
            there.eq(full | (completes & early(number))),
            swap.eq(there & (~own | ends)),
        ]
        m.d.sync += [full.eq((full | completes) & ~swap), own.eq(swap | (own & ~ends))]
        with m.If(take):
            m.d.sync += number.eq(Mux(completes, 0, number + 1))
        with m.If(weights.valid & weights.ready & weights.payload.error):
            m.d.sync += failed.eq(1)

        opens = flags.first & flags.begins
        free = ~opens | drain.free
        m.d.comb += [
            may.eq(own & free),
            use.eq(valid & may),
            taken.eq(use & done),
            ends.eq(taken & flags.ends),
            drain.fill.eq(taken & opens),
            self.busy.eq(use),
            self.stall_weights.eq(valid & ~own),
            self.stall_drain.eq(valid & own & ~free),
        ]
        with m.If(taken & flags.last):
            m.d.sync += bank.eq(~bank)
        return Control(take, number, swap, may & done, use, taken, bank)
