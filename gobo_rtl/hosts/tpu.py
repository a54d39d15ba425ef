"""The weight-stationary systolic array."""

from functools import partial
from itertools import pairwise

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..emit import copies
from ..host_config import TpuConfig
from ..pe.arith import delayed
from ..pe.float_adder import FloatAdder
from ..pe.float_multiplier import FloatMultiplier
from .accumulator import Accumulator
from .core import HostCore
from .drain import BANKS, Drain
from .layout import FP16, FP32

__all__ = ["TpuArray", "TpuPE"]


class TpuPE(wiring.Component):
    """Holds a weight, multiplies it by the activations that pass, and adds to the sums that pass.

    Paper
    -----
    None: a weight-stationary systolic array; docs/hosts.md section 3.1.

    Parameters
    ----------
    None.

    Members
    -------
    load, weight : In, 1 and 16 bits
        The next weight, FP16.
    swap : In, 1
        The next weight, loaded before, is the PE's own from the next cycle on.
    use, act : In, 1 and 16 bits
        An activation, FP16; without ``use`` nothing is added.
    begin : In, 1
        The sum begins here, with +0; only with ``use``. Constant for a PE.
    sum : In, 32 bits
        FP32: the sum of the activation in the cycle before.
    load_o, swap_o, use_o, act_o : Out
        The same a cycle later, for the next column.
    sum_o : Out, 32 bits
        The sum for the next row, 2 cycles after its activation.

    Timing
    ------
    An activation a cycle.

    Numerics
    --------
    The product is exact, the sum rounded to nearest even: :class:`FloatAdder`.
    """

    latency = 2

    def __init__(self) -> None:
        super().__init__({
            "load": In(1), "weight": In(FP16.width), "swap": In(1), "use": In(1),
            "act": In(FP16.width), "begin": In(1), "sum": In(FP32.width),
            "load_o": Out(1), "swap_o": Out(1), "use_o": Out(1), "act_o": Out(FP16.width),
            "sum_o": Out(FP32.width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = FloatMultiplier(1)
        m.submodules.adder = adder = FloatAdder(FP32, 1, running=True)
        assert multiplier.latency + adder.latency == self.latency
        coming, own = (Signal(FP16.width, name=n, reset_less=True) for n in ("coming", "own"))
        with m.If(self.load):
            m.d.sync += coming.eq(self.weight)
        with m.If(self.swap):
            m.d.sync += own.eq(coming)
        for name in ("load", "swap", "use", "act"):
            m.d.sync += getattr(self, f"{name}_o").eq(getattr(self, name))
        m.d.comb += [
            multiplier.a.eq(own), multiplier.b.eq(self.act),
            adder.a.eq(self.sum), adder.b.eq(multiplier.o),
            adder.first.eq(self.begin), adder.valid.eq(self.use_o),
            self.sum_o.eq(adder.o),
        ]  # fmt: skip
        return m


class TpuArray(HostCore):
    """``size`` inputs by ``size`` outputs of PEs, and an accumulator for each output.

    Paper
    -----
    None: a weight-stationary systolic array; docs/hosts.md section 3.1.

    Parameters
    ----------
    config : TpuConfig
        Uses ``size``, ``tokens`` and what the layouts do.

    Timing
    ------
    A weight tile of m words takes as many cycles as a token tile has tokens, or m if that is more;
    ``o.valid`` rises ``latency`` cycles after the transfer of the pass's last activations.

    Numerics
    --------
    docs/hosts.md section 3.1.
    """

    def __init__(self, config: TpuConfig):
        self.config: TpuConfig = config
        super().__init__(config)

    @property
    def latency(self) -> int:
        """Cycles from the last activations of a pass to its first sums on ``o``."""
        return self._done + 2

    @property
    def _done(self) -> int:
        """Cycles from the last activations to the cycle in which their last sum is written."""
        return self.config.size + TpuPE.latency - 1 + self.config.size - 1 + 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        size, acts = self.config.size, self.i.payload
        m.submodules.drain = drain = Drain(self.config)
        wiring.connect(m, drain.o, wiring.flipped(self.o))
        # Row 0 uses its weight first, a cycle after the swap; a tile's last word is for another
        # row, unless it is the only one.
        control = self.control(m, drain, self.i.valid, acts, 1, lambda number: number != 0)
        use, swap = control.use, control.swap
        m.d.comb += self.i.ready.eq(control.ready)

        # PEs: rows are inputs, columns outputs.
        pes = copies(m, "pe", size * size, TpuPE, platform)
        grid = [pes[row * size : (row + 1) * size] for row in range(size)]
        swaps = Signal(size)
        m.d.sync += swaps.eq(Cat(swap, swaps))
        for row, of_row in enumerate(grid):
            first = of_row[0]
            m.d.comb += [
                first.load.eq(control.take & (control.number == row)),
                first.swap.eq(Cat(swap, swaps)[row]),
                first.use.eq(delayed(m, use & acts.uses[row], row, f"use{row}")),
                first.act.eq(delayed(m, acts["values"][0][row], row, f"act{row}")),
            ]  # fmt: skip
            for pe, after in pairwise(of_row):
                m.d.comb += [getattr(after, name).eq(getattr(pe, f"{name}_o"))
                             for name in ("load", "swap", "use", "act")]  # fmt: skip
            m.d.comb += [pe.begin.eq(row == 0) for pe in of_row]
            if row:
                m.d.comb += [pe.sum.eq(above.sum_o)
                             for pe, above in zip(of_row, grid[row - 1], strict=True)]  # fmt: skip

        # Accumulators: an output's sums come a cycle after those of the output before.
        depth = BANKS * self.config.tokens
        accumulators = copies(m, "accumulator", size, partial(Accumulator, depth), platform)
        where = Cat(acts.first, self.place(acts.slot, control.bank))
        wait = size + TpuPE.latency - 2  # cycles from activations to what announces their sums
        valids = Signal(wait + size)
        m.d.sync += valids.eq(Cat(use, valids))
        where = delayed(m, where, wait, "where")
        sums, group = Signal(data.ArrayLayout(FP32.width, size)), Signal.like(drain.group)
        with m.If(drain.read):
            m.d.sync += group.eq(drain.group)
        m.d.comb += drain.i.eq(sums.as_value().word_select(group, len(drain.i)))
        for column, accumulator in enumerate(accumulators):
            weight = self.i_weights.payload["values"][column]
            weight = delayed(m, weight, column, f"weight{column}")
            m.d.comb += [
                *(of_row[column].weight.eq(weight) for of_row in grid),
                accumulator.valid.eq(Cat(use, valids)[wait + column]),
                accumulator.first.eq(where[0]), accumulator.address.eq(where[1:]),
                accumulator.term.eq(grid[-1][column].sum_o),
                accumulator.read.eq(drain.read),
                accumulator.place.eq(self.place(drain.token, drain.bank)),
                sums[column].eq(accumulator.o),
            ]  # fmt: skip
            where = delayed(m, where, 1, f"where{column}_")

        ended = Signal(self._done)
        m.d.sync += ended.eq(Cat(control.taken & acts.last, ended))
        m.d.comb += [
            drain.done.eq(ended[-1]),
            drain.tokens.eq(delayed(m, acts.tokens, self._done, "tokens")),
        ]
        return m

    def place(self, slot: Value, bank: Value) -> Value:
        """Return the address of a token's sum."""
        return slot + bank * self.config.tokens
