"""Several readers of one read master."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import CommandLayout
from ..layout import BeatLayout

__all__ = ["ReadArbiter"]

COMMANDS = 4  # whose beats are to come


class ReadArbiter(wiring.Component):
    """Shares a read master between readers, a whole command at a time.

    Each reader gets the beats of its commands; round robin, beginning after the reader that came
    last. Beats come in the order of all commands: a reader that does not take its own holds up
    the others, so each gives a command only when it can take its beats without the others' help.

    Paper
    -----
    None.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``beat_width`` and ``address_width``.
    readers : int
        How many readers there are, at least 2.

    Members
    -------
    i_read : In, ``readers`` streams of CommandLayout
        The readers' commands.
    o : Out, ``readers`` streams of BeatLayout
        The readers' beats; ``last`` with the last of a command.
    excused : In, ``readers`` x 1
        The reader drops its beats, until its reset: what the bus answers does not count.
    o_excused : Out, 1
        The next beat is such a reader's.
    o_read : Out, stream of CommandLayout
        To the master.
    i : In, stream of BeatLayout
        From the master.

    Timing
    ------
    A command is given to the master the cycle after it is taken; one a cycle, as long as the beats
    of fewer than 4 are to come. Beats are passed on in the same cycle.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: ArrayConfig, readers: int):
        if not isinstance(readers, int) or readers < 2:
            raise ValueError(f"readers must be at least 2, not {readers!r}")
        self.readers = readers
        command, beat = CommandLayout(config), BeatLayout(config.image)
        super().__init__({
            "i_read": In(stream.Signature(command)).array(readers),
            "o": Out(stream.Signature(beat)).array(readers),
            "excused": In(1).array(readers),
            "o_excused": Out(1),
            "o_read": Out(stream.Signature(command)),
            "i": In(stream.Signature(beat)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, read, commands = self.readers, self.o_read, self.i_read
        m.submodules.owners = owners = SyncFIFO(width=(count - 1).bit_length(), depth=COMMANDS)

        # The first that asks, from the one after `owner` on.
        owner = Signal(range(count))
        chosen = Signal(range(count))
        with m.Switch(owner):
            for n in range(count):
                with m.Case(n):
                    for offset in reversed(range(count)):
                        candidate = (n + 1 + offset) % count
                        with m.If(commands[candidate].valid):
                            m.d.comb += chosen.eq(candidate)
        free = owners.w_rdy & (~read.valid | read.ready)
        with m.If(read.ready):
            m.d.sync += read.valid.eq(0)
        for n, command in enumerate(commands):
            m.d.comb += command.ready.eq(free & (chosen == n))
            with m.If(command.valid & command.ready):
                m.d.comb += [owners.w_en.eq(1), owners.w_data.eq(n)]
                m.d.sync += [read.valid.eq(1), read.payload.eq(command.payload), owner.eq(n)]

        # Beats.
        m.d.comb += owners.r_en.eq(self.i.valid & self.i.ready & self.i.payload.last)
        for n, beats in enumerate(self.o):
            mine = owners.r_rdy & (owners.r_data == n)
            m.d.comb += [beats.valid.eq(self.i.valid & mine), beats.payload.eq(self.i.payload)]
            with m.If(mine):
                m.d.comb += [
                    self.i.ready.eq(beats.ready), self.o_excused.eq(self.excused[n]),
                ]  # fmt: skip
        return m
