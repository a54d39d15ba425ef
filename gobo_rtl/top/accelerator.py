"""The accelerator with its bus: AXI4 masters, AXI4-Lite registers, an interrupt."""

from collections.abc import Iterator

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Module,
    Mux,
    ResetInserter,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..bus.axi import AxiRead, AxiWrite
from ..bus.axi_lite import AxiLite, Registers
from ..bus.read_arbiter import ReadArbiter
from ..bus.read_master import ReadMaster
from ..bus.write_master import WriteMaster
from ..formats import ARRAY_ERRORS
from .control import Control
from .engine import Engine
from .fetch import Fetch

__all__ = ["READS", "Accelerator", "Core"]

READS = ("index", "outlier", "act", "job")
"""The read channels."""


class Core(wiring.Component):
    """Everything of the accelerator, with its buses as interfaces.

    Paper
    -----
    Our own choice: docs/accelerator.md section 4.

    Parameters
    ----------
    config : ArrayConfig
        All sizes.

    Members
    -------
    axi_index, axi_outlier, axi_act, axi_job : Out, AxiRead
        Read channels.
    axi_result : Out, AxiWrite
        Results and completions.
    axil : In, AxiLite
        Registers, docs/registers.md.
    interrupt : Out, 1
        A level.

    Timing
    ------
    docs/accelerator.md section 6.

    Numerics
    --------
    docs/accelerator.md section 2.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            **{f"axi_{name}": Out(AxiRead(config)) for name in READS},
            "axi_result": Out(AxiWrite(config)),
            "axil": In(AxiLite()),
            "interrupt": Out(1),
        })

    def parts(self) -> tuple[Fetch, Engine]:
        """Return what fetches jobs, and what runs their layers."""
        return Fetch(self.config), Engine(self.config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        flush = Signal()
        m.submodules.control = control = Control(config)
        m.submodules.registers = registers = Registers(config)
        (fetch, engine), write = self.parts(), WriteMaster(config)
        arbiter = ReadArbiter(config, 2)
        reads = {name: ReadMaster(config) for name in READS}
        m.submodules.fetch = ResetInserter(~control.fetch)(fetch)
        parts = {f"read_{name}": master for name, master in reads.items()}
        parts |= {"engine": engine, "arbiter": arbiter, "write": write}
        for name, part in parts.items():
            m.submodules[name] = ResetInserter(flush)(part)
        m.d.comb += flush.eq(control.flush)

        # The bus.
        wiring.connect(m, wiring.flipped(self.axil), registers.axi)
        wiring.connect(m, write.axi, wiring.flipped(self.axi_result))
        wiring.connect(m, engine.o_write, write.i)
        wiring.connect(m, engine.o_results, write.i_data)
        for name, master in reads.items():
            wiring.connect(m, master.axi, wiring.flipped(getattr(self, f"axi_{name}")))
            m.d.comb += master.stop.eq(control.stop)
        for name, stem in (("index", "indexes"), ("outlier", "outliers"), ("act", "acts")):
            wiring.connect(m, getattr(engine, f"o_read_{stem}"), reads[name].i)
            wiring.connect(m, reads[name].o, getattr(engine, f"i_{stem}"))
        wiring.connect(m, arbiter.o_read, reads["job"].i)
        wiring.connect(m, reads["job"].o, arbiter.i)
        for n, (read, beats) in enumerate(((fetch.o_read, fetch.i),
                                           (engine.o_read_biases, engine.i_biases))):  # fmt: skip
            wiring.connect(m, read, arbiter.i_read[n])
            wiring.connect(m, arbiter.o[n], beats)
        m.d.comb += [arbiter.excused[0].eq(fetch.excused),
                     reads["job"].excused.eq(arbiter.o_excused)]  # fmt: skip
        m.d.comb += [write.stop.eq(control.stop), engine.pending.eq(write.pending),
                     engine.write_error.eq(write.error)]  # fmt: skip

        # Jobs.
        now = Signal(engine.now.shape())
        m.d.sync += now.eq(now + 1)
        wiring.connect(m, fetch.o, engine.i_layer)
        wiring.connect(m, engine.o_job, control.i_job)
        wiring.connect(m, control.o_failed, engine.i_failed)
        m.d.comb += [
            fetch.enable.eq(registers.control_enable), fetch.base.eq(registers.queue_base),
            fetch.slots.eq(registers.queue_slots), fetch.produced.eq(registers.queue_produced),
            fetch.completed.eq(control.completed), fetch.now.eq(now), engine.now.eq(now),
            control.fetched.slot.eq(fetch.slot), control.fetched.tag.eq(fetch.tag),
            control.fetched.start.eq(fetch.start), control.done.eq(engine.done),
            control.write_error.eq(write.error), control.clear.eq(registers.control_clear),
        ]  # fmt: skip

        # Errors: of several, that of the bus, since what follows from it may look like any.
        read_error = Cat(master.error for master in reads.values()).any()
        m.d.comb += control.error_code.eq(
            Mux(write.error, ARRAY_ERRORS["write"],
                Mux(read_error, ARRAY_ERRORS["read"],
                    Mux(engine.error_code != 0, engine.error_code, fetch.error_code)))
        )  # fmt: skip
        owed = [~master.idle & ~(master.axi.rvalid & ~master.axi.rready)
                for master in reads.values()]  # fmt: skip
        idle = Cat(write.idle, *(master.idle for master in reads.values())).all()
        m.d.comb += [
            control.moving.eq(Cat(*owed, write.owed, engine.moving).any()),
            control.bus_idle.eq(idle),
        ]

        # Registers.
        waiting = control.completed != registers.queue_produced
        m.d.comb += [
            registers.status_busy.eq(
                ~control.stopped
                & (~control.fetch | control.i_job.valid | (registers.control_enable & waiting))
            ),
            registers.status_stopped.eq(control.stopped),
            registers.status_idle.eq(idle),
            registers.error_code.eq(control.code),
            registers.error_tag.eq(control.tag),
            registers.queue_completed.eq(control.completed),
            registers.interrupt_done.eq(engine.done & engine.interrupt),
            registers.interrupt_error.eq(control.failed),
            self.interrupt.eq(registers.interrupt),
            registers.count_cycles.eq(1),
            registers.count_result_beats.eq(write.axi.wvalid & write.axi.wready),
            registers.count_jobs.eq(control.finished),
            registers.count_outliers.eq(engine.outliers),
            registers.count_busy.eq(engine.busy),
        ]
        for name in ("weights", "acts", "outliers", "drain"):
            count = getattr(registers, f"count_stall_{name}")
            m.d.comb += count.eq(getattr(engine, f"stall_{name}"))
        for name, master in reads.items():
            count = getattr(registers, f"count_{name}_beats")
            m.d.comb += count.eq(master.axi.rvalid & master.axi.rready)
        return m


def _flat(config: ArrayConfig) -> Iterator[tuple[str, str, str, wiring.Member]]:
    """Yield each port of the buses: its name, the core's interface, the signal there, and what it
    is from the side of the accelerator."""
    for name in READS:
        for signal, member in AxiRead(config).members.items():
            yield f"m_axi_{name}_{signal}", f"axi_{name}", signal, member
    for signal, member in AxiWrite(config).members.items():
        yield f"m_axi_result_{signal}", "axi_result", signal, member
    for signal, member in AxiLite().flip().members.items():
        yield f"s_axil_{signal}", "axil", signal, member


class Accelerator(wiring.Component):
    """The accelerator with AXI4 and AXI4-Lite names, ready to be instantiated from Verilog.

    Paper
    -----
    None: AMBA AXI4 names.

    Parameters
    ----------
    config : ArrayConfig
        All sizes.

    Members
    -------
    aclk, aresetn : In, 1
        Clock, rising edge; reset, synchronous, active low.
    irq : Out, 1
        Interrupt, a level.
    s_axil_* : In
        Registers: AXI4-Lite with 32 bits.
    m_axi_index_*, m_axi_outlier_*, m_axi_act_*, m_axi_job_* : Out
        Read channels of AXI4. IDs are 0, and not looked at.
    m_axi_result_* : Out
        Write channels of AXI4; so are their IDs.

    Timing
    ------
    That of :class:`Core`.

    Numerics
    --------
    Those of :class:`Core`.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        self._ids = [(f"m_axi_{name}_arid", f"m_axi_{name}_rid") for name in READS]
        self._ids.append(("m_axi_result_awid", "m_axi_result_bid"))
        super().__init__({
            "aclk": In(1),
            "aresetn": In(1),
            "irq": Out(1),
            **{name: member for name, _, _, member in _flat(config)},
            **{given: Out(1) for given, _ in self._ids},
            **{back: In(1) for _, back in self._ids},
        })

    def core(self) -> Core:
        """Return all of it but the names."""
        return Core(self.config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain(local=True)
        m.submodules.core = core = self.core()
        m.d.comb += [
            ClockSignal().eq(self.aclk),
            ResetSignal().eq(~self.aresetn),
            self.irq.eq(core.interrupt),
        ]
        for name, bus, signal, member in _flat(self.config):
            inner: Value = getattr(getattr(core, bus), signal)
            outer: Value = getattr(self, name)
            pair = (outer, inner) if member.flow == Out else (inner, outer)
            m.d.comb += pair[0].eq(pair[1])
        return m
