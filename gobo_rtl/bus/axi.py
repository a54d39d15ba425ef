"""AXI4 channels, and commands cut into their bursts."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import CommandLayout

__all__ = ["AxiRead", "AxiWrite", "BurstLayout", "Bursts"]

INCR = 1  # burst type
OKAY = 0  # response


def _address(channel: str, config: ArrayConfig) -> dict[str, wiring.Member]:
    return {
        f"{channel}addr": Out(config.address_width), f"{channel}len": Out(8),
        f"{channel}size": Out(3, init=(config.beat_bytes).bit_length() - 1),
        f"{channel}burst": Out(2, init=INCR),
        f"{channel}valid": Out(1), f"{channel}ready": In(1),
    }  # fmt: skip


class AxiRead(wiring.Signature):
    """Read channels of AXI4, from the master's side: one ID, so none is named; ``arsize`` and
    ``arburst`` are constants."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            **_address("ar", config),
            "rdata": In(config.beat_width), "rresp": In(2), "rlast": In(1),
            "rvalid": In(1), "rready": Out(1),
        })  # fmt: skip


class AxiWrite(wiring.Signature):
    """Write channels of AXI4, from the master's side: one ID, so none is named; ``awsize`` and
    ``awburst`` are constants."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            **_address("aw", config),
            "wdata": Out(config.beat_width), "wstrb": Out(config.beat_bytes), "wlast": Out(1),
            "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
        })  # fmt: skip


class BurstLayout(data.StructLayout):
    """A burst of ``length`` + 1 beats; ``last`` of its command."""

    def __init__(self, config: ArrayConfig):
        super().__init__({"address": config.address_width, "length": 8, "last": 1})


class Bursts(wiring.Component):
    """Cuts commands into bursts that end on multiples of a burst's size.

    A burst's size is a power of two of at most 4096 bytes, so that no burst crosses a 4 KB
    boundary; only the first and the last burst of a command can be shorter.

    Paper
    -----
    None: AMBA AXI4, 4 KB boundaries.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``beat_width``, ``burst_beats`` and ``address_width``.

    Members
    -------
    i : In, stream of CommandLayout
        At least one beat; the address is on a beat, its bits inside of one are ignored.
    o : Out, stream of BurstLayout
        The bursts of the commands in their order.

    Timing
    ------
    A command's first burst is offered one cycle after the command is taken; then a burst a cycle,
    also from command to command.

    Numerics
    --------
    Addresses are modulo ``2^address_width``.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(CommandLayout(config))),
            "o": Out(stream.Signature(BurstLayout(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, o, beats = self.i, self.o, self.config.burst_beats
        inside = self.config.beat_bytes.bit_length() - 1
        place = Signal(self.config.address_width - inside, reset_less=True)  # in beats
        left = Signal.like(i.payload.beats, reset_less=True)

        room = Signal(range(beats + 1))
        size = Signal(range(beats + 1))
        m.d.comb += [
            room.eq(beats - (place & (beats - 1))),
            o.payload.last.eq(left <= room),
            size.eq(Mux(o.payload.last, left, room)),
            o.payload.address.eq(place << inside),
            o.payload.length.eq(size - 1),
            i.ready.eq(~o.valid | (o.ready & o.payload.last)),
        ]
        with m.If(i.valid & i.ready):
            m.d.sync += [
                o.valid.eq(1), place.eq(i.payload.address >> inside), left.eq(i.payload.beats),
            ]  # fmt: skip
        with m.Elif(o.valid & o.ready):
            m.d.sync += [
                o.valid.eq(~o.payload.last), place.eq(place + size), left.eq(left - size),
            ]  # fmt: skip
        return m
