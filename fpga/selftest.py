# amaranth: UnusedElaboratable=no
"""A decode unit and an accelerator that check themselves against stored words, over and over."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gobo_rtl.top.accelerator import READS, Core

from .checks import DecodeCheck, ResultCheck
from .host import Host
from .line import Line
from .ram import Ram
from .stored import Stored
from .uart import Transmitter

__all__ = ["BAUD", "SelfTest"]

BAUD = 115_200
"""Bits a second on the serial line."""


class SelfTest(wiring.Component):
    """Decodes a stored layer and computes it, compares every word, and tells how that went.

    A run: all results in memory are made ones; everything that is tested comes out of reset; the
    decode unit decodes the layer of the image that is in memory; the accelerator does the job that
    is there; its results are read back. A second after the line is said, or when ``again`` is 1,
    the next run begins. Does not know of boards and pins.

    Paper
    -----
    None: it is a test.

    Parameters
    ----------
    stored : Stored
        What is in memory and what is due.
    title : str
        How the line begins.
    clock_hz : int
        Cycles a second.
    limit : int
        Cycles after which a run that has not come to its end has failed.

    Members
    -------
    again : In, 1
        While it is 1 the next run does not wait.
    plant : In, 1
        While it is 1 the first group and the first results that are due are others, by a bit: every
        run must fail.
    running : Out, 1
        A run is under way, or its line is being said.
    passed, failed : Out, 1
        How the last run went; both 0 before its end.
    tx : Out, 1
        Serial line of ``BAUD`` bits a second, 8 bits, no parity, one stop bit.

    Timing
    ------
    A run ends after at most ``limit`` cycles.

    Numerics
    --------
    A run passes when all transfers that are due have come and no word was wrong.
    """

    def __init__(
        self, stored: Stored, title: str, clock_hz: int = 25_000_000, limit: int = 1 << 20
    ):
        self.stored, self.title, self.clock_hz, self.limit = stored, title, clock_hz, limit
        self.config = stored.config
        self.decode, self.results = DecodeCheck(stored), ResultCheck(stored)
        self.ram = Ram(stored.config, stored.memory, len(READS) + 3)
        super().__init__({
            "again": In(1),
            "plant": In(1),
            "running": Out(1),
            "passed": Out(1),
            "failed": Out(1),
            "tx": Out(1, init=1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stored, config = self.stored, self.stored.config
        reset, go = Signal(), Signal()
        parts = {
            "core": Core(config), "host": Host(), "decode": self.decode, "results": self.results,
            "ram": self.ram,
        }  # fmt: skip
        for name, part in parts.items():
            m.submodules[name] = ResetInserter(reset)(part)
        core, host, decode, results, ram = parts.values()

        # Memory and registers.
        masters = [*(getattr(core, f"axi_{name}") for name in READS),
                   decode.axi_indexes, decode.axi_outliers, results.axi]  # fmt: skip
        for master, port in zip(masters, ram.reads, strict=True):
            wiring.connect(m, master, port)
        wiring.connect(m, core.axi_result, ram.write)
        wiring.connect(m, host.axil, core.axil)

        # One after the other.
        m.d.comb += [
            decode.go.eq(go), host.go.eq(go & decode.done), results.go.eq(go & host.done),
            decode.plant.eq(self.plant), results.plant.eq(self.plant),
        ]  # fmt: skip

        # The line.
        m.submodules.line = line = Line(self.title)
        m.submodules.uart = uart = Transmitter(round(self.clock_hz / BAUD))
        wiring.connect(m, line.o, uart.i)
        words, wrong = decode.words + results.words, decode.wrong + results.wrong
        right = Signal()
        m.d.comb += [
            self.tx.eq(uart.tx), line.words.eq(words), line.wrong.eq(wrong),
            right.eq(results.done & (wrong == 0)), line.passed.eq(right),
        ]  # fmt: skip

        first = stored.results // config.beat_bytes
        place = Signal(range(len(stored.memory)), init=first)
        count = Signal(range(max(self.limit, self.clock_hz) + 1))
        m.d.sync += count.eq(count + 1)
        m.d.comb += [ram.place.eq(place), self.running.eq(~reset | ram.wipe)]
        with m.FSM():
            with m.State("wipe"):
                m.d.comb += [reset.eq(1), ram.wipe.eq(1)]
                m.d.sync += [place.eq(place + 1), count.eq(0)]
                with m.If(place == first + len(stored.result_beats) - 1):
                    m.next = "run"
            with m.State("run"):
                m.d.comb += go.eq(1)
                with m.If(results.done | (count == self.limit)):
                    m.d.comb += line.go.eq(1)
                    m.d.sync += [self.passed.eq(right), self.failed.eq(~right)]
                    m.next = "say"
            with m.State("say"), m.If(line.idle & uart.i.ready):
                m.d.sync += count.eq(0)
                m.next = "pause"
            with m.State("pause"):
                m.d.comb += reset.eq(1)
                m.d.sync += place.eq(first)
                with m.If(self.again | (count == self.clock_hz)):
                    m.next = "wipe"
        return m
