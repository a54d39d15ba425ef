"""The accelerator's registers on AXI4-Lite."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from .axi import OKAY
from .registers import ADDRESS_WIDTH, REGISTERS, Field, constants

__all__ = ["AxiLite", "AxiLiteSlave", "Registers"]

SLVERR = 2
WORD = 32
INCREMENT = 3  # bits that a counter may go up by in a cycle


class AxiLite(wiring.Signature):
    """AXI4-Lite with 32-bit data, from the master's side."""

    def __init__(self) -> None:
        super().__init__({
            "awaddr": Out(ADDRESS_WIDTH), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(WORD), "wstrb": Out(WORD // 8), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "araddr": Out(ADDRESS_WIDTH), "arvalid": Out(1), "arready": In(1),
            "rdata": In(WORD), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
        })  # fmt: skip


class AxiLiteSlave(wiring.Component):
    """Accesses of AXI4-Lite one at a time.

    Paper
    -----
    None: AMBA AXI4-Lite.

    Parameters
    ----------
    None.

    Members
    -------
    axi : In, AxiLite
        The bus.
    write : Out, 1
        A write happens in this cycle.
    write_word : Out, 6 bits
        Which word it writes.
    data, mask : Out, 32 bits
        With ``write``: the word, and the bits of it that are written.
    read : Out, 1
        A read happens in this cycle.
    read_word : Out, 6 bits
        Which word it reads.
    value : In, 32 bits
        With ``read``: the word's value.
    writable, readable : In, 1
        In the same cycle: there is such a word; without, the answer is SLVERR.

    Timing
    ------
    A read happens in the cycle of its address, one a cycle; a write when address and data are
    there, in whichever order, one in 2 cycles. Both are answered from the next cycle on.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self) -> None:
        word = ADDRESS_WIDTH - 2
        super().__init__({
            "axi": In(AxiLite()),
            "write": Out(1), "write_word": Out(word), "data": Out(WORD), "mask": Out(WORD),
            "writable": In(1),
            "read": Out(1), "read_word": Out(word), "value": In(WORD), "readable": In(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi

        # Address and data of a write are kept until both are there.
        has_address, has_data, strobes = Signal(), Signal(), Signal(WORD // 8)
        m.d.comb += [
            axi.awready.eq(~has_address),
            axi.wready.eq(~has_data),
            self.write.eq(has_address & has_data & (~axi.bvalid | axi.bready)),
            self.mask.eq(Cat(strobe.replicate(8) for strobe in strobes)),
        ]
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += [has_address.eq(1), self.write_word.eq(axi.awaddr >> 2)]
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += [has_data.eq(1), self.data.eq(axi.wdata), strobes.eq(axi.wstrb)]
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(self.write):
            m.d.sync += [
                has_address.eq(0), has_data.eq(0),
                axi.bvalid.eq(1), axi.bresp.eq(Mux(self.writable, OKAY, SLVERR)),
            ]  # fmt: skip

        m.d.comb += [
            axi.arready.eq(~axi.rvalid | axi.rready),
            self.read.eq(axi.arvalid & axi.arready),
            self.read_word.eq(axi.araddr >> 2),
        ]
        with m.If(axi.rready):
            m.d.sync += axi.rvalid.eq(0)
        with m.If(self.read):
            m.d.sync += [
                axi.rvalid.eq(1), axi.rdata.eq(self.value),
                axi.rresp.eq(Mux(self.readable, OKAY, SLVERR)),
            ]  # fmt: skip
        return m


def _port(field: Field) -> dict[str, wiring.Member]:
    """Return the signal of a field, if it has one."""
    kinds = {
        "read": In(field.width), "write": Out(field.width, init=field.reset), "pulse": Out(1),
        "event": In(1), "count": In(INCREMENT),
    }  # fmt: skip
    return {field.port: kinds[field.access]} if field.access in kinds else {}


class Registers(wiring.Component):
    """The registers of ``bus/registers.py`` as an AXI4-Lite slave, counters included.

    Paper
    -----
    None: AMBA AXI4-Lite; the map is docs/registers.md.

    Parameters
    ----------
    config : ArrayConfig
        Gives the constants.

    Members
    -------
    axi : In, AxiLite
        The bus.
    interrupt : Out, 1
        An enabled event is 1; a level.
    control_enable, control_clear, control_clear_counters : Out, 1
        The first is held, the others are 1 for a cycle.
    status_* : In, 1
        ``busy``, ``stopped``, ``idle``.
    error_code, error_tag : In, 8 and 32 bits
        Kept by the hardware.
    interrupt_enable_* : Out, 1
        As the host wrote them; ``interrupt`` minds them.
    interrupt_done, interrupt_error : In, 1
        The event happens in this cycle.
    queue_base, queue_slots, queue_produced : Out, 64, 32, 32 bits
        As the host wrote them.
    queue_completed : In, 32 bits
        Kept by the hardware.
    count_* : In, 3 bits
        How much each counter goes up in this cycle.

    Timing
    ------
    A read is answered in the next cycle, one a cycle. A write is done when address and data are
    there, in whichever order, and answered in the cycle after; one in 2 cycles. Counters and
    ``interrupt`` follow their inputs by a cycle.

    Numerics
    --------
    Counters are modulo 2^64.
    """

    def __init__(self, config: ArrayConfig):
        self.constants = constants(config)
        self.held: dict[str, Signal] = {}  # events and counts
        ports = [_port(field) for register in REGISTERS for field in register.fields]
        super().__init__({
            "axi": In(AxiLite()),
            "interrupt": Out(1),
            **{name: member for port in ports for name, member in port.items()},
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.slave = slave = AxiLiteSlave()
        wiring.connect(m, wiring.flipped(self.axi), slave.axi)
        self.upper = Signal(WORD)  # of the counter whose lower word was read last
        for register in REGISTERS:
            shown = Signal(register.width, name=register.name)
            for word in range(register.width // WORD):
                place = register.offset // 4 + word
                part = shown[WORD * word : WORD * (word + 1)]
                ones = Signal(WORD, name=f"{register.name}_{word}_ones")  # written now
                zeros = Signal(WORD, name=f"{register.name}_{word}_zeros")
                with m.If(slave.write_word == place):
                    m.d.comb += slave.writable.eq(1)
                    with m.If(slave.write):
                        m.d.comb += ones.eq(slave.mask & slave.data)
                        m.d.comb += zeros.eq(slave.mask & ~slave.data)
                with m.If(slave.read_word == place):
                    m.d.comb += [slave.readable.eq(1), slave.value.eq(part)]
                for field in register.fields:
                    low = max(field.low - WORD * word, 0)
                    first = max(WORD * word - field.low, 0)  # bit of the field
                    width = min(field.width - first, WORD - low)
                    self._field(m, field, slice(first, first + width),
                                part[low : low + width], ones[low : low + width],
                                zeros[low : low + width],
                                slave.read & (slave.read_word == place))  # fmt: skip
        enabled = [self.interrupt_enable_done & self.held["interrupt_done"],
                   self.interrupt_enable_error & self.held["interrupt_error"]]  # fmt: skip
        m.d.comb += self.interrupt.eq(Cat(enabled).any())
        return m

    def _field(
        self, m: Module, field: Field, bits: slice, shown: Value, ones: Value, zeros: Value,
        read: Value,
    ) -> None:  # fmt: skip
        """Make the ``bits`` of a field that are in one word, ``shown`` when it is read."""
        port = getattr(self, field.port, None)
        if field.access == "constant":
            m.d.comb += shown.eq(self.constants[field.port] >> bits.start)
        elif field.access == "read":
            m.d.comb += shown.eq(port[bits])
        elif field.access == "write":
            m.d.comb += shown.eq(port[bits])
            m.d.sync += port[bits].eq((port[bits] | ones) & ~zeros)
        elif field.access == "pulse":
            m.d.comb += port.eq(ones)
        elif field.access == "event":
            held = self.held[field.port] = Signal(name=f"{field.port}_held")
            m.d.comb += shown.eq(held)
            m.d.sync += held.eq((held & ~ones) | port)
        elif bits.start == 0:
            count = self.held[field.port] = Signal(field.width, name=f"{field.port}_held")
            m.d.comb += shown.eq(count)
            m.d.sync += count.eq(Mux(self.control_clear_counters, 0, count + port))
            with m.If(read):
                m.d.sync += self.upper.eq(count[WORD:])
        else:
            m.d.comb += shown.eq(self.upper)
