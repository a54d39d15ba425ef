"""Commands to AXI4 reads."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import CommandLayout
from ..layout import BeatLayout
from .axi import OKAY, AxiRead, Bursts

__all__ = ["ReadMaster"]


class ReadMaster(wiring.Component):
    """Reads what commands ask for: several bursts ahead, beats in order.

    Beats go from the bus to ``o`` without a buffer: whoever gives commands has room for their
    beats, or holds up the bus.

    Paper
    -----
    None: AMBA AXI4, read channels, one ID.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``beat_width``, ``burst_beats``, ``reads`` and ``address_width``.

    Members
    -------
    i : In, stream of CommandLayout
        What to read.
    o : Out, stream of BeatLayout
        The beats; ``last`` with the last of a command. Silent from ``stop`` on.
    axi : Out, AxiRead
        The bus. A burst begins only while fewer than ``reads`` wait for beats.
    stop : In, 1
        Begin no burst (an address that is offered stays) and drop the beats of those begun; kept
        until ``idle``, then the master is reset.
    excused : In, 1
        The next beat is given whatever its response is: who gets it drops it. It does not fall
        while a beat waits on ``o``.
    idle : Out, 1
        No burst waits for beats.
    error : Out, 1
        A response was not OKAY, and not ``excused``; stays until reset. From that beat on it is as
        after ``stop``: no beat is given any more, so that none is used that is wrong.

    Timing
    ------
    ``arvalid`` rises 2 cycles after a command is taken; a burst a cycle. ``o`` and ``rready`` are
    combinational: a beat a cycle. ``error`` rises the cycle after the beat.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(CommandLayout(config))),
            "o": Out(stream.Signature(BeatLayout(config.image))),
            "axi": Out(AxiRead(config)),
            "stop": In(1),
            "excused": In(1),
            "idle": Out(1),
            "error": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, o, reads = self.axi, self.o, self.config.reads
        m.submodules.bursts = bursts = Bursts(self.config)
        wiring.connect(m, wiring.flipped(self.i), bursts.i)

        # Addresses: `waiting` bursts are offered or begun; bit n of `ends` says of the n-th of them
        # whether it ends its command.
        silent = self.stop | self.error
        waiting = Signal(range(reads + 1))
        ends = Signal(reads)
        begin, end = Signal(), Signal()
        m.d.comb += [
            bursts.o.ready.eq(~silent & (waiting < reads) & (~axi.arvalid | axi.arready)),
            begin.eq(bursts.o.valid & bursts.o.ready),
            end.eq(axi.rvalid & axi.rready & axi.rlast),
            self.idle.eq(waiting == 0),
        ]
        after = Signal.like(ends)
        m.d.comb += after.eq(Mux(end, ends >> 1, ends))
        m.d.sync += [waiting.eq(waiting + begin - end), ends.eq(after)]
        with m.If(begin):
            m.d.sync += [
                ends.eq(after | (bursts.o.payload.last << (waiting - end)[: len(waiting)])),
                axi.arvalid.eq(1),
                axi.araddr.eq(bursts.o.payload.address),
                axi.arlen.eq(bursts.o.payload.length),
            ]
        with m.Elif(axi.arready):
            m.d.sync += axi.arvalid.eq(0)

        # Beats.
        bad = Signal()
        m.d.comb += [
            bad.eq(axi.rvalid & (axi.rresp != OKAY) & ~self.excused),
            o.valid.eq(axi.rvalid & ~bad & ~silent),
            o.payload.data.eq(axi.rdata),
            o.payload.last.eq(axi.rlast & ends[0]),
            axi.rready.eq(o.ready | bad | silent),
        ]
        with m.If(bad):
            m.d.sync += self.error.eq(1)
        return m
