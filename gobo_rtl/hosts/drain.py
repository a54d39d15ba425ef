"""Finished sums leave the accumulators."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..array_layout import SumsLayout
from ..host_config import HostConfig
from .layout import FP32

__all__ = ["BANKS", "Drain"]

BANKS = 2
"""Passes whose sums have a place: one is added up, one leaves."""


class Drain(wiring.Component):
    """Reads a bank of sums after the other, by tokens, and says how many banks are free.

    Paper
    -----
    Our own choice: docs/hosts.md section 3.

    Parameters
    ----------
    config : HostConfig
        Uses ``rows``, ``tokens`` and its array's ``drain_lanes``.

    Members
    -------
    fill : In, 1
        A pass begins to fill the next bank; only with ``free``.
    free : Out, 1
        There is a bank for it.
    done, tokens : In, 1 and number
        All sums of the oldest bank that is being filled are in it, of so many tokens.
    read, bank, token, group : Out, 1, 1 and numbers
        Read the sums of that token, of that group of ``drain_lanes`` neighbouring rows.
    i : In, ``drain_lanes`` x 32 bits
        The sums read in the cycle before, or last.
    o : Out, stream of SumsLayout
        Sums by tokens, ``drain_lanes`` neighbouring rows a transfer; ``last`` ends the pass.

    Timing
    ------
    ``o.valid`` rises 2 cycles after ``done``; ``drain_lanes`` sums a cycle, between two passes one
    cycle without.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: HostConfig):
        self.config = config
        super().__init__({
            "fill": In(1), "free": Out(1), "done": In(1), "tokens": In(range(config.tokens + 1)),
            "read": Out(1), "bank": Out(1), "token": Out(range(max(2, config.tokens))),
            "group": Out(range(max(2, config.rows // config.array.drain_lanes))),
            "i": In(config.array.drain_lanes * FP32.width),
            "o": Out(stream.Signature(SumsLayout(config.array))),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, o = self.config, self.o
        groups = config.rows // config.array.drain_lanes
        m.submodules.passes = passes = SyncFIFO(width=len(self.tokens), depth=BANKS)

        # The place whose sums are at `i`, when they are `there`.
        token, group, there = Signal.like(self.token), Signal.like(self.group), Signal()
        transfer, ends = Signal(), Signal()
        last_group, last = group == groups - 1, token + 1 == passes.r_data
        final = ends & last
        m.d.comb += [
            passes.w_data.eq(self.tokens),
            passes.w_en.eq(self.done),
            transfer.eq(o.valid & o.ready),
            ends.eq(transfer & last_group),
            passes.r_en.eq(final),
            o.valid.eq(there),
            o.payload.last.eq(last & last_group),
            Cat(*o.payload.sums).eq(self.i),
            self.token.eq(Mux(ends, token + 1, token)),
            self.group.eq(Mux(ends, 0, group + transfer)),
            self.read.eq(passes.r_rdy & (transfer | ~there)),
        ]
        m.d.sync += [
            there.eq(passes.r_rdy & ~final),
            group.eq(self.group),
            token.eq(Mux(final, 0, self.token)),
        ]
        with m.If(final):
            m.d.sync += self.bank.eq(~self.bank)

        free = Signal(range(BANKS + 1), init=BANKS)
        m.d.sync += free.eq(free + final - self.fill)
        m.d.comb += self.free.eq(free != Const(0))
        return m
