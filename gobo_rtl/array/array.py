"""The array: rows (outputs) by columns (tokens) of processing elements."""

from functools import partial, reduce
from operator import or_

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import EXPONENT, StepLayout, SumsLayout
from ..emit import copies
from ..pe.align import Aligner
from ..pe.arith import delayed
from ..pe.bins import Bins
from ..pe.bins_fp16 import BinsFp16, CombineFp16
from ..pe.column import Column
from ..pe.combine import Combine, Resolve
from ..pe.mac import Mac
from ..pe.outlier import OutlierDecode
from ..pe.products import Products
from ..pe.select import Select, SelectLayout

__all__ = ["COLUMNS", "Array"]

# A column of each kind of PE, and what makes sums of what its rows hold, where that takes more.
COLUMNS: dict[str, tuple[type[Column], type[Combine] | None]] = {
    "products": (Products, Resolve),
    "bins": (Bins, Combine),
    "mac": (Mac, None),
    "bins_fp16": (BinsFp16, CombineFp16),
}


class Array(wiring.Component):
    """Sums activations x weights of ``rows`` outputs and ``columns`` tokens, a step a cycle.

    Does not count: the sums begin and end where the steps say so. Assumes that the first cycle of
    a pass has ``first`` and its last one ``last``, and that no value of ``i`` but ``planes``,
    ``entries``, ``plain``, ``first``, ``last`` and the activations changes within a pass.

    Paper
    -----
    Our own choice: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses all but the sizes of buffers and bus.

    Members
    -------
    i : In, stream of StepLayout
        Steps; never waits.
    o : Out, stream of SumsLayout
        Sums of a pass by columns, ``drain_lanes`` neighbouring rows a transfer, ascending; all
        rows and columns of the array.
    last_ready : Out, 1
        A step with ``last`` may be transferred in this cycle: no pass that has had its last is
        still on its way to the registers that hold finished sums, or in them.

    Timing
    ------
    ``o.valid`` rises ``latency`` cycles after the transfer of ``last``. ``last_ready`` falls in the
    cycle after that transfer and, when ``o`` never waits, rises ``turnaround`` cycles after it:
    passes of as many cycles or more follow each other without a bubble. ``o.ready`` acts on the
    registers in the same cycle.

    Numerics
    --------
    Exact when every row's sum of ``|weight|`` is below 2^``weight_sum_width``; PEs that compute in
    floating point take activations as they are, and round as their columns say.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        self.column, self.combine = COLUMNS[config.pe]
        super().__init__({
            "i": In(stream.Signature(StepLayout(config), always_ready=True)),
            "o": Out(stream.Signature(SumsLayout(config))),
            "last_ready": Out(1, init=1),
        })

    @property
    def start(self) -> int:
        """Cycles from ``i`` to the columns' ``a``."""
        if self.config.floating:
            return 0
        return max(Aligner.latency_of(self.config), OutlierDecode.latency)

    @property
    def latency(self) -> int:
        """Cycles from the transfer of ``last`` to the first sums on ``o``."""
        combine = self.combine.latency_of(self.config) if self.combine else 0
        return self.start + self.column.latency_of(self.config) + combine

    @property
    def turnaround(self) -> int:
        """Fewest cycles from one ``last`` to the next."""
        config = self.config
        drain = config.columns * config.rows // config.drain_lanes
        return self.start + self.column.latency_of(config) + drain

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, step, start = self.config, self.i.payload, self.start

        # Everything of a step, in the same cycle at the columns.
        m.submodules.select = select = Select(config)
        early = self.start + self.column.select_delay - select.latency
        names = ("planes", "plain", "entries", "first", "last", "index_width")
        m.d.comb += select.i.valid.eq(delayed(m, self.i.valid, early, "valid", reset=True))
        for name in names:
            m.d.comb += select.i.payload[name].eq(delayed(m, step[name], early, name))
        columns = copies(m, "column", config.columns, partial(self.column, config), platform)
        acts, outliers = self._operands(m, platform)
        m.d.comb += [column.a.eq(act) for column, act in zip(columns, acts, strict=True)]
        stages = [select.o]
        for n in range(1, self.column.stages_of(config)):
            stage = Signal(SelectLayout(config), name=f"select{n}", init={"last": 1})
            m.d.sync += stage.eq(stages[-1])
            stages.append(stage)
        for column in columns:
            m.d.comb += [stage.eq(taken)
                         for stage, taken in zip(column.select, stages, strict=True)]  # fmt: skip
            m.d.comb += [w.eq(o) for w, o in zip(column.outliers, outliers, strict=True)]
        codebook = Cat(list(step.codebook)[: config.shared])
        if self.column.codebook_delay is not None:
            centroids = delayed(
                m, step.codebook, start + self.column.codebook_delay - 1, "centroids"
            )
            coded = Cat(self.column.coded(config, centroids[n]) for n in range(config.shared))
            codebook = delayed(m, coded, 1, "codebook")
            for column in columns:
                m.d.comb += column.codebook.as_value().eq(codebook)

        # Finished sums are read one place after the other: rows by rows, the first column first.
        groups = config.rows // config.drain_lanes
        place, held, shift = Signal(config.columns * groups), Signal(), Signal()
        for n, column in enumerate(columns):
            m.d.comb += column.read.eq(place[n * groups : (n + 1) * groups])
        finish = self.i.valid & step.last
        cycles = start + self.column.latency_of(config) - 1
        arrives = delayed(m, finish, cycles, "last", reset=True)
        final = place[-1]
        with m.If(arrives):
            m.d.sync += [held.eq(1), place.eq(1)]
        with m.Elif(shift):
            m.d.sync += [held.eq(~final), place.eq(place << 1)]
        with m.If(finish):
            m.d.sync += self.last_ready.eq(0)
        with m.Elif(shift & final):
            m.d.sync += self.last_ready.eq(1)

        out = self.o
        if self.combine:
            m.submodules.combine = combine = self.combine(config)
            wiring.connect(m, combine.o, wiring.flipped(self.o))
            out = combine.i
            if combine.multiplies:
                layer = Signal(combine.codebook.shape(), reset_less=True)
                with m.If(finish):
                    m.d.sync += layer.as_value().eq(codebook)
                m.d.comb += combine.codebook.eq(layer)
        m.d.comb += [
            out.valid.eq(held),
            out.payload.last.eq(final),
            shift.eq(held & out.ready),
        ]
        if not config.floating:
            next_column = shift & Cat(list(place)[groups - 1 :: groups]).any()
            m.d.comb += self._units(m, out.payload, finish, next_column)
        sums = out.payload.rows if self.combine else out.payload.sums
        read = [reduce(or_, words) for words in zip(*(
            [Value.cast(row) for row in column.o] for column in columns
        ), strict=True)]  # fmt: skip
        m.d.comb += [Value.cast(total).eq(row) for total, row in zip(sums, read, strict=True)]
        return m

    def _operands(
        self, m: Module, platform: object
    ) -> tuple[list[Value], list[Value | data.View]]:
        """Return the columns' activations and the step's outliers, ``start`` cycles after ``i``;
        ``m`` gets what makes them."""
        config, step = self.config, self.i.payload
        if config.floating:
            return list(step.values), [entry.value for entry in step.entries]
        acts, outliers = [], []
        for n, entry in enumerate(step.entries):
            m.submodules[f"decode{n}"] = decode = OutlierDecode(config)
            m.d.comb += [decode.i.eq(entry.value), decode.unit.eq(step.unit)]
            outliers.append(delayed(m, decode.o, self.start - decode.latency, f"outlier{n}"))
        aligners = copies(m, "align", config.columns, partial(Aligner, config), platform)
        waits = self.start - Aligner.latency_of(config)
        for n, align in enumerate(aligners):
            m.d.comb += [align.i.eq(step.values[n]), align.scale.eq(step.scales[n])]
            acts.append(delayed(m, align.o, waits, f"a{n}"))
        return acts, outliers

    def _units(self, m: Module, out: data.View, finish: Value, next_column: Value) -> list[Value]:
        """Return the statements that give ``out`` the unit of its sums, and whether it means
        anything.

        What the layer is and the tokens' units are read with the last step, when the pass before
        has left.
        """
        config, step = self.config, self.i.payload
        base = Signal(signed(EXPONENT), reset_less=True)
        scales = Signal(step.scales.shape(), reset_less=True)
        with m.If(finish):
            m.d.sync += [
                scales.eq(step.scales),
                base.eq(step.unit + (step.act_exponent if config.act.integer else _unit(config))),
            ]
        with m.Elif(next_column):
            m.d.sync += [new.eq(old) for new, old in zip(scales, list(scales)[1:], strict=False)]
        scaled = not config.act.integer and config.align == "token"
        return [
            out.exponent.eq(base + (scales[0].exponent if scaled else 0)),
            out.special.eq(scales[0].special),
        ]


def _unit(config: ArrayConfig) -> int:
    """Return the exponent of an aligned activation's unit, less that of its token."""
    if config.align == "absolute":
        return -24
    precision = config.act.width - config.act.exponent_width
    bias = (1 << config.act.exponent_width - 1) - 2 + precision
    return precision + 1 - config.act_width - bias
