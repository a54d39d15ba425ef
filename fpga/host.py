"""What a host does to have a job done, as a state machine on AXI4-Lite."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gobo_rtl.bus.axi_lite import AxiLite
from gobo_rtl.bus.registers import REGISTERS, Register

__all__ = ["Host"]

_REGISTERS = {register.name: register for register in REGISTERS}


def _bit(register: Register, name: str) -> int:
    """Return the mask of a field of one bit."""
    return 1 << next(field.low for field in register.fields if field.name == name)


# Writes, and after them what is read again and again until it is so.
_WRITES = (("QUEUE_BASE", 0), ("QUEUE_SLOTS", 1), ("QUEUE_PRODUCED", 1),
           ("CONTROL", _bit(_REGISTERS["CONTROL"], "enable")))  # fmt: skip
_READS = (("QUEUE_COMPLETED", 1), ("STATUS", _bit(_REGISTERS["STATUS"], "idle")), ("ERROR", 0))


class Host(wiring.Component):
    """Starts the job in slot 0 of a queue at address 0, and waits until it is done without error.

    A job that does not end, one with an error, and a write that is refused leave it waiting:
    whoever gives ``go`` has to mind the time.

    Paper
    -----
    None: it is a test.

    Parameters
    ----------
    None.

    Members
    -------
    go : In, 1
        Begin; stays 1 until reset.
    axil : Out, AxiLite
        To an accelerator that comes from reset.
    done : Out, 1
        The job is done, the accelerator idle, its error 0.

    Timing
    ------
    An access after the other.

    Numerics
    --------
    None.
    """

    def __init__(self) -> None:
        super().__init__({"go": In(1), "axil": Out(AxiLite()), "done": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axil, steps = self.axil, (*_WRITES, *_READS)
        step, writing = Signal(range(len(steps) + 1)), Signal()
        address, word = Signal(len(axil.awaddr)), Signal(32)
        with m.Switch(step):
            for n, (name, value) in enumerate(steps):
                with m.Case(n):
                    m.d.comb += [
                        address.eq(_REGISTERS[name].offset), word.eq(value),
                        writing.eq(n < len(_WRITES)),
                    ]  # fmt: skip
            with m.Default():
                m.d.comb += self.done.eq(1)
        m.d.comb += [
            axil.awaddr.eq(address), axil.araddr.eq(address), axil.wdata.eq(word),
            axil.wstrb.eq(~0), axil.bready.eq(1), axil.rready.eq(1),
        ]  # fmt: skip
        ask = {"aw": Signal(), "w": Signal(), "ar": Signal()}  # is offered, not taken yet
        for name, asks in ask.items():
            valid, ready = getattr(axil, f"{name}valid"), getattr(axil, f"{name}ready")
            m.d.comb += valid.eq(asks)
            with m.If(ready):
                m.d.sync += asks.eq(0)
        with m.FSM():
            with m.State("ask"), m.If(self.go & ~self.done):
                m.d.sync += [ask["aw"].eq(writing), ask["w"].eq(writing), ask["ar"].eq(~writing)]
                m.next = "answer"
            with m.State("answer"):
                with m.If(axil.bvalid & (axil.bresp == 0)):
                    m.d.sync += step.eq(step + 1)
                    m.next = "ask"
                with m.If(axil.rvalid):
                    m.d.sync += step.eq(step + ((axil.rresp == 0) & (axil.rdata == word)))
                    m.next = "ask"
        return m
