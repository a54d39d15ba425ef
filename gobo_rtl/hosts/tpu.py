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

__all__ = ["TpuArray", "TpuPE", "TpuRow"]


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
    apply, act : In, 1 and 16 bits
        An activation, FP16; without ``apply`` nothing is added.
    first : In, 1
        The sum begins here, with +0; only with ``apply``. Constant for a PE.
    sum : In, 32 bits
        FP32: the sum of the activation in the cycle before.
    load_o, swap_o, apply_o, act_o : Out
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
            "load": In(1), "weight": In(FP16.width), "swap": In(1), "apply": In(1),
            "act": In(FP16.width), "first": In(1), "sum": In(FP32.width),
            "load_o": Out(1), "swap_o": Out(1), "apply_o": Out(1), "act_o": Out(FP16.width),
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
        for name in ("load", "swap", "apply", "act"):
            m.d.sync += getattr(self, f"{name}_o").eq(getattr(self, name))
        m.d.comb += [
            multiplier.a.eq(own), multiplier.b.eq(self.act),
            adder.a.eq(self.sum), adder.b.eq(multiplier.o),
            adder.first.eq(self.first), adder.valid.eq(self.apply_o),
            self.sum_o.eq(adder.o),
        ]  # fmt: skip
        return m


class TpuRow(wiring.Component):
    """The PEs of an input: all outputs.

    Paper
    -----
    None: a weight-stationary systolic array; docs/hosts.md section 3.1.

    Parameters
    ----------
    size : int
        PEs.

    Members
    -------
    load, swap, apply, act, first : In
        Of the first PE; of the others as many cycles later as they are further right, but
        ``first``, which is constant.
    weights : In, ``size`` x 16 bits
        The PEs' weights.
    sums : In, ``size`` x 32 bits
        FP32: the sums of the row before.
    o : Out, ``size`` x 32 bits
        FP32: those for the next one.

    Timing
    ------
    That of :class:`TpuPE`.

    Numerics
    --------
    Those of :class:`TpuPE`.
    """

    def __init__(self, size: int):
        self.size = size
        super().__init__({
            "load": In(1), "swap": In(1), "apply": In(1), "act": In(FP16.width), "first": In(1),
            "weights": In(size * FP16.width), "sums": In(size * FP32.width),
            "o": Out(size * FP32.width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pes = copies(m, "pe", self.size, TpuPE, platform)
        names = ("load", "swap", "apply", "act")
        m.d.comb += [getattr(pes[0], name).eq(getattr(self, name)) for name in names]
        for before, after in pairwise(pes):
            m.d.comb += [getattr(after, name).eq(getattr(before, f"{name}_o")) for name in names]
        for n, pe in enumerate(pes):
            m.d.comb += [
                pe.first.eq(self.first), pe.weight.eq(self.weights.word_select(n, FP16.width)),
                pe.sum.eq(self.sums.word_select(n, FP32.width)),
                self.o.word_select(n, FP32.width).eq(pe.sum_o),
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
        rows = copies(m, "row", size, partial(TpuRow, size), platform)
        swaps, weights = Signal(size), Signal(size * FP16.width)
        m.d.sync += swaps.eq(Cat(swap, swaps))
        inputs = _skewed(m, acts["values"][0].as_value(), size, "act")
        uses = _skewed(m, acts.uses & use.replicate(size), size, "apply")
        for number, (row, act, used) in enumerate(zip(rows, inputs, uses, strict=True)):
            m.d.comb += [
                row.load.eq(control.take & (control.number == number)),
                row.swap.eq(Cat(swap, swaps)[number]), row.apply.eq(used), row.act.eq(act),
                row.first.eq(number == 0), row.weights.eq(weights),
                row.sums.eq(rows[number - 1].o if number else 0),
            ]  # fmt: skip
        given = _skewed(m, self.i_weights.payload["values"].as_value(), size, "weight")
        m.d.comb += weights.eq(Cat(given))

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
            m.d.comb += [
                accumulator.valid.eq(Cat(use, valids)[wait + column]),
                accumulator.first.eq(where[0]), accumulator.address.eq(where[1:]),
                accumulator.term.eq(rows[-1].o.word_select(column, FP32.width)),
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


def _skewed(m: Module, values: Value, count: int, name: str) -> list[Value]:
    """Return the ``count`` parts of ``values``, each a cycle later than the one before."""
    width, found = len(values) // count, [values[: len(values) // count]]
    for n in range(1, count):
        later = Signal(len(values) - width, name=f"{name}_{n}", reset_less=True)
        m.d.sync += later.eq(values[width:])
        values = later
        found.append(values[:width])
    return found
