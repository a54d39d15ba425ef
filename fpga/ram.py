# amaranth: UnusedElaboratable=no
"""A memory behind AXI4, for as many masters as there are."""

from collections.abc import Sequence

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from gobo_rtl.array_config import ArrayConfig
from gobo_rtl.bus.axi import AxiRead, AxiWrite

__all__ = ["Ram"]

AHEAD = 4  # beats of a channel between memory and bus


class Ram(wiring.Component):
    """Block RAM with AXI4 read channels that share a port, and a write channel.

    A beat goes to the first channel that has room for it, so a channel that waits holds up none
    of the others. Assumes bursts that increment, of whole beats, at addresses that it has.

    Paper
    -----
    None: AMBA AXI4.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``beat_width`` and ``address_width``.
    init : sequence of int
        The beats at first, from address 0 on.
    channels : int
        Read channels.

    Members
    -------
    reads : In, AxiRead
        The read channels, the first before the others.
    write : In, AxiWrite
        The write channel, a burst after the other.
    wipe : In, 1
        All bits of the beat at ``place`` become 1 in this cycle; nothing is written meanwhile.
    place : In, as many bits as number the beats
        With ``wipe``.

    Timing
    ------
    A beat a cycle for all read channels together, the first 3 cycles after the address is taken; a
    beat a cycle for writing. A write is answered the cycle after its last beat.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: ArrayConfig, init: Sequence[int], channels: int):
        self.config, self.init, self.channels = config, init, channels
        self.memory = Memory(shape=config.beat_width, depth=len(init), init=init)
        super().__init__({
            "reads": In(AxiRead(config)).array(channels),
            "write": In(AxiWrite(config)),
            "wipe": In(1),
            "place": In(range(len(init))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        inside = (config.beat_bytes - 1).bit_length()
        m.submodules.memory = memory = self.memory

        # Reading: `left` beats of a channel's burst are to be read from `place` on.
        read = memory.read_port()
        free = 1  # no channel before this one takes the port
        for n, axi in enumerate(self.reads):
            m.submodules[f"queue{n}"] = queue = SyncFIFO(width=config.beat_width + 1, depth=AHEAD)
            place, left = Signal(range(len(self.init))), Signal(9)
            ends, comes = Signal(), Signal()
            take = Signal(name=f"take{n}")
            m.d.comb += [
                axi.arready.eq(left == 0),
                take.eq(free & (left != 0) & (queue.level + comes < AHEAD)),
                queue.w_en.eq(comes),
                queue.w_data[:-1].eq(read.data),
                queue.w_data[-1].eq(ends),
                axi.rvalid.eq(queue.r_rdy),
                axi.rdata.eq(queue.r_data[:-1]),
                axi.rlast.eq(queue.r_data[-1]),
                queue.r_en.eq(axi.rready),
            ]
            m.d.sync += [comes.eq(take), ends.eq(left == 1)]
            with m.If(axi.arvalid & axi.arready):
                m.d.sync += [place.eq(axi.araddr >> inside), left.eq(axi.arlen + 1)]
            with m.If(take):
                m.d.comb += read.addr.eq(place)
                m.d.sync += [place.eq(place + 1), left.eq(left - 1)]
            free = free & ~take

        # Writing.
        write, axi = memory.write_port(granularity=8), self.write
        busy, place = Signal(), Signal(range(len(self.init)))
        m.d.comb += [
            axi.awready.eq(~busy & ~axi.bvalid),
            axi.wready.eq(busy),
            write.addr.eq(place),
            write.data.eq(axi.wdata),
        ]
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += [busy.eq(1), place.eq(axi.awaddr >> inside)]
        with m.If(axi.wvalid & axi.wready):
            m.d.comb += write.en.eq(axi.wstrb)
            m.d.sync += [place.eq(place + 1), busy.eq(~axi.wlast), axi.bvalid.eq(axi.wlast)]
        with m.If(axi.bvalid & axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(self.wipe):
            m.d.comb += [write.addr.eq(self.place), write.data.eq(~0), write.en.eq(~0)]
        return m
