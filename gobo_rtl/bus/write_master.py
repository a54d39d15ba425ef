"""Commands and data to AXI4 writes."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import CommandLayout, ResultBeatLayout
from .axi import OKAY, AxiWrite, Bursts

__all__ = ["WRITES", "WriteMaster"]

WRITES = 4
"""Bursts that may wait for their responses."""


class WriteMaster(wiring.Component):
    """Writes beats to where commands say.

    Paper
    -----
    None: AMBA AXI4, write channels, one ID.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``beat_width``, ``burst_beats`` and ``address_width``.

    Members
    -------
    i : In, stream of CommandLayout
        Where to write, and how many beats.
    i_data : In, stream of ResultBeatLayout
        The beats of the commands, in their order; ``keep`` says which bytes are written. ``last``
        is not looked at.
    axi : Out, AxiWrite
        The bus. A burst begins only while fewer than ``WRITES`` wait for their responses; its
        address may come after its beats. ``bready`` is always 1.
    stop : In, 1
        Begin no burst (an address that is offered stays) and end those begun with beats that
        write nothing; kept until ``idle``, then the master is reset.
    idle : Out, 1
        No burst waits for its response.
    pending : Out, 1
        A command that was taken is not done: its last response is not there.
    owed : Out, 1
        The bus is to answer: to a beat, or to a burst whose beats it has. Not to an address alone,
        for which a slave may want to see beats first.
    error : Out, 1
        A response was not OKAY; stays until reset.

    Timing
    ------
    ``awvalid`` rises 2 cycles after a command is taken, ``wvalid`` a cycle after that or after the
    beat. A beat a cycle; all outputs of the bus are registers.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(CommandLayout(config))),
            "i_data": In(stream.Signature(ResultBeatLayout(config))),
            "axi": Out(AxiWrite(config)),
            "stop": In(1),
            "idle": Out(1),
            "pending": Out(1),
            "owed": Out(1),
            "error": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, stop, i_data = self.axi, self.stop, self.i_data
        m.submodules.bursts = bursts = Bursts(self.config)
        # The lengths of the bursts begun, whose beats are to come.
        m.submodules.lengths = lengths = SyncFIFO(width=8, depth=WRITES)
        wiring.connect(m, wiring.flipped(self.i), bursts.i)

        # Addresses; there are never more lengths than bursts that wait.
        waiting = Signal(range(WRITES + 1))
        begin, end = Signal(), Signal()
        m.d.comb += [
            bursts.o.ready.eq(~stop & (waiting < WRITES) & (~axi.awvalid | axi.awready)),
            begin.eq(bursts.o.valid & bursts.o.ready),
            lengths.w_en.eq(begin),
            lengths.w_data.eq(bursts.o.payload.length),
        ]
        with m.If(begin):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(bursts.o.payload.address),
                axi.awlen.eq(bursts.o.payload.length),
            ]
        with m.Elif(axi.awready):
            m.d.sync += axi.awvalid.eq(0)

        # Beats.
        count = Signal(8)  # of the burst's beats, given
        free, give, last = Signal(), Signal(), Signal()
        m.d.comb += [
            free.eq(lengths.r_rdy & (~axi.wvalid | axi.wready)),
            give.eq(free & (i_data.valid | stop)),
            last.eq(count == lengths.r_data),
            i_data.ready.eq(free & ~stop),
            lengths.r_en.eq(give & last),
        ]
        with m.If(give):
            m.d.sync += [
                axi.wvalid.eq(1),
                axi.wdata.eq(i_data.payload.data),
                axi.wstrb.eq(Mux(stop, 0, i_data.payload.keep)),
                axi.wlast.eq(last),
                count.eq(Mux(last, 0, count + 1)),
            ]
        with m.Elif(axi.wready):
            m.d.sync += axi.wvalid.eq(0)

        # Responses.
        m.d.comb += [
            axi.bready.eq(1),
            end.eq(axi.bvalid),
            self.idle.eq(waiting == 0),
            self.pending.eq(bursts.o.valid | (waiting != 0)),
            self.owed.eq(axi.wvalid | (waiting != lengths.level)),
        ]
        m.d.sync += waiting.eq(waiting + begin - end)
        with m.If(end & (axi.bresp != OKAY)):
            m.d.sync += self.error.eq(1)
        return m
