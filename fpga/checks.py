# amaranth: UnusedElaboratable=no
"""The decode unit on a stored layer, and what is found in memory, both held against what is due."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gobo_rtl.bus.axi import AxiRead
from gobo_rtl.bus.read_master import ReadMaster
from gobo_rtl.decode import DecodeUnit
from gobo_rtl.layout import WeightLayout, several_widths

from .compare import COUNT, Compare
from .stored import Stored

__all__ = ["DecodeCheck", "ResultCheck"]


def _once(m: Module, port: stream.Interface, go: Value) -> None:
    """Make a stream offer one transfer, after ``go``."""
    sent = Signal()
    m.d.comb += port.valid.eq(go & ~sent)
    with m.If(port.valid & port.ready):
        m.d.sync += sent.eq(1)


def _read(m: Module, name: str, stored: Stored, region: tuple[int, int], go: Value) -> ReadMaster:
    """Return a master that reads a region, (address, beats), once after ``go``."""
    m.submodules[name] = master = ReadMaster(stored.config)
    m.d.comb += [master.i.payload.address.eq(region[0]), master.i.payload.beats.eq(region[1])]
    _once(m, master.i, go)
    return master


class DecodeCheck(wiring.Component):
    """Sends a layer from memory through a decode unit and compares every weight, and where tiles
    end.

    Paper
    -----
    None: it is a test.

    Parameters
    ----------
    stored : Stored
        The layer, and the groups that are due.

    Members
    -------
    go : In, 1
        Begin; stays 1 until reset.
    axi_indexes, axi_outliers : Out, AxiRead
        To the memory with the layer.
    plant : In, 1
        As of :class:`Compare`.
    words, wrong, done : Out, 20, 20, 1 bits
        As of :class:`Compare`.

    Timing
    ------
    A group a cycle, when memory gives it.

    Numerics
    --------
    None: bits are compared.
    """

    def __init__(self, stored: Stored):
        self.stored, packed = stored, stored.config.image
        flags = WeightLayout(packed).size - packed.lanes * packed.value_width
        self.compare = Compare(packed.value_width, packed.lanes, flags, stored.groups)
        super().__init__({
            "go": In(1),
            "axi_indexes": Out(AxiRead(stored.config)),
            "axi_outliers": Out(AxiRead(stored.config)),
            "plant": In(1),
            "words": Out(COUNT),
            "wrong": Out(COUNT),
            "done": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stored, packed = self.stored, self.stored.config.image
        m.submodules.unit = unit = DecodeUnit(packed)
        m.submodules.compare = compare = self.compare
        for name, region in (("indexes", stored.indexes), ("outliers", stored.outliers)):
            master = _read(m, name, stored, region, self.go)
            wiring.connect(m, master.o, getattr(unit, f"i_{name}"))
            wiring.connect(m, master.axi, wiring.flipped(getattr(self, f"axi_{name}")))
        _once(m, unit.i_codebook, self.go)
        m.d.comb += unit.i_codebook.payload.entries.as_value().eq(stored.codebook)
        if several_widths(packed):
            m.d.comb += unit.i_codebook.payload.index_width.eq(stored.index_width)
        m.d.comb += [
            compare.i.payload.eq(Cat(unit.o.payload)), compare.i.valid.eq(unit.o.valid),
            unit.o.ready.eq(compare.i.ready), compare.plant.eq(self.plant),
            self.words.eq(compare.words), self.wrong.eq(compare.wrong), self.done.eq(compare.done),
        ]  # fmt: skip
        return m


class ResultCheck(wiring.Component):
    """Reads results from memory and compares every word.

    Paper
    -----
    None: it is a test.

    Parameters
    ----------
    stored : Stored
        Where the results are, and those that are due.

    Members
    -------
    go : In, 1
        Begin; stays 1 until reset.
    axi : Out, AxiRead
        To the memory with the results.
    plant : In, 1
        As of :class:`Compare`.
    words, wrong, done : Out, 20, 20, 1 bits
        As of :class:`Compare`.

    Timing
    ------
    A beat a cycle, when memory gives it.

    Numerics
    --------
    None: bits are compared.
    """

    def __init__(self, stored: Stored):
        self.stored, config = stored, stored.config
        width = config.result.width
        self.compare = Compare(width, config.beat_width // width, 0, stored.result_beats)
        super().__init__({
            "go": In(1),
            "axi": Out(AxiRead(stored.config)),
            "plant": In(1),
            "words": Out(COUNT),
            "wrong": Out(COUNT),
            "done": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stored = self.stored
        m.submodules.compare = compare = self.compare
        region = (stored.results, len(stored.result_beats))
        master = _read(m, "results", stored, region, self.go)
        wiring.connect(m, master.axi, wiring.flipped(self.axi))
        m.d.comb += [
            compare.i.payload.eq(master.o.payload.data), compare.i.valid.eq(master.o.valid),
            master.o.ready.eq(compare.i.ready), compare.plant.eq(self.plant),
            self.words.eq(compare.words), self.wrong.eq(compare.wrong), self.done.eq(compare.done),
        ]  # fmt: skip
        return m
