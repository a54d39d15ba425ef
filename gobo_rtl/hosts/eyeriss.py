"""The row-stationary array."""

from functools import partial

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..emit import copies
from ..host_config import EyerissConfig
from ..pe.arith import delayed
from ..pe.float_adder import FloatAdder
from ..pe.float_multiplier import FloatMultiplier
from .accumulator import Accumulator
from .core import HostCore
from .drain import BANKS, Drain
from .layout import FP16, FP32

__all__ = ["EyerissArray", "EyerissPE", "EyerissStepLayout"]


class EyerissStepLayout(data.StructLayout):
    """What a PE does: it multiplies the weight of ``channel`` and ``filter`` and adds the product
    to the filter's sum, which begins with ``first``; or with ``passes`` it adds that sum to the one
    from the PE above. ``half`` and ``act_half`` are those of the scratchpads."""

    def __init__(self, config: EyerissConfig):
        super().__init__({
            "channel": range(config.channels), "filter": range(config.filters), "first": 1,
            "passes": 1, "half": 1, "act_half": 1,
        })  # fmt: skip


class EyerissPE(wiring.Component):
    """Scratchpads of filters, inputs and sums, a multiplier and an adder.

    Paper
    -----
    None: a row-stationary PE; docs/hosts.md section 3.2.

    Parameters
    ----------
    config : EyerissConfig
        Uses ``filters`` and ``channels``.

    Members
    -------
    load, channel, half, weights : In, 1, number, 1 and ``filters`` x 16 bits
        Weights of a channel, FP16, into a half of their scratchpad.
    act_load, act_half, acts, uses : In, 1, 1, ``channels`` x 16 bits and ``channels`` bits
        All inputs into a half of theirs, FP16, and which of them are in the matrix.
    step : In, EyerissStepLayout
        What is done.
    sum : In, 32 bits
        FP32: with ``passes``, 2 cycles after ``step``, what the filter's sum is added to.
    o : Out, 32 bits
        FP32: the sum, ``latency`` cycles after ``step``.

    Timing
    ------
    A step a cycle; the steps of a filter are at least 2 cycles apart. What is loaded can be used in
    the next cycle.

    Numerics
    --------
    The product is exact, the sum rounded to nearest even: :class:`FloatAdder`. An input that is not
    in the matrix adds nothing.
    """

    latency = 3

    def __init__(self, config: EyerissConfig):
        self.config = config
        super().__init__({
            "load": In(1), "channel": In(range(config.channels)), "half": In(1),
            "weights": In(config.filters * FP16.width),
            "act_load": In(1), "act_half": In(1), "acts": In(config.channels * FP16.width),
            "uses": In(config.channels),
            "step": In(EyerissStepLayout(config).size), "sum": In(FP32.width),
            "o": Out(FP32.width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        channels = config.channels
        step = data.View(EyerissStepLayout(config), self.step)
        m.submodules.multiplier = multiplier = FloatMultiplier(1)
        m.submodules.adder = adder = FloatAdder(FP32, 1, running=True)

        # Scratchpads: of filters, a word a channel; of inputs; and below of sums.
        m.submodules.filters = filters = Memory(
            shape=len(self.weights), depth=2 * channels, init=[]
        )
        write, read = filters.write_port(), filters.read_port()
        m.d.comb += [
            write.addr.eq(Cat(self.channel, self.half)), write.data.eq(self.weights),
            write.en.eq(self.load), read.addr.eq(Cat(step.channel, step.half)), read.en.eq(1),
        ]  # fmt: skip
        acts, uses = (
            [Signal(len(port), name=f"{name}{n}", reset_less=True) for n in range(2)]
            for name, port in (("acts", self.acts), ("uses", self.uses))
        )
        for n in range(2):
            with m.If(self.act_load & (self.act_half == n)):
                m.d.sync += [acts[n].eq(self.acts), uses[n].eq(self.uses)]

        # A step: its words are read, multiplied, added.
        second = Signal(step.shape(), reset_less=True)
        third = Signal(step.shape(), reset_less=True)
        act, use, used = Signal(FP16.width), Signal(), Signal()
        m.d.sync += [
            second.eq(step), third.eq(second),
            act.eq(Mux(step.act_half, acts[1], acts[0]).word_select(step.channel, FP16.width)),
            use.eq(Mux(step.act_half, uses[1], uses[0]).bit_select(step.channel, 1)),
            used.eq(use),
        ]  # fmt: skip
        m.d.comb += [
            multiplier.a.eq(read.data.word_select(second.filter, FP16.width)),
            multiplier.b.eq(act),
        ]
        m.submodules.sums = sums = Memory(shape=FP32.width, depth=config.filters, init=[])
        store = sums.write_port()
        before = sums.read_port(transparent_for=(store,))
        m.d.sync += store.addr.eq(third.filter)
        m.d.comb += [
            before.addr.eq(second.filter), before.en.eq(1),
            store.data.eq(adder.o), store.en.eq(1),
            adder.a.eq(before.data), adder.first.eq(third.first), adder.valid.eq(1),
            adder.b.eq(Mux(third.passes, self.sum, Mux(used, multiplier.o, 0))),
            self.o.eq(adder.o),
        ]  # fmt: skip
        return m


class EyerissArray(HostCore):
    """``pe_rows`` x ``pe_columns`` PEs: inputs down, tokens across, and an accumulator a column.

    Paper
    -----
    Our own choice: docs/hosts.md section 3.2.

    Parameters
    ----------
    config : EyerissConfig
        Uses all that is its own, ``tokens`` and what the layouts do.

    Timing
    ------
    ``filters * (channels + 1)`` cycles a weight tile and group of ``pe_columns`` tokens, or as many
    as the activations of a group have words; ``o.valid`` rises ``latency`` cycles after the last of
    them in a pass.

    Numerics
    --------
    docs/hosts.md section 3.2.
    """

    def __init__(self, config: EyerissConfig):
        self.config: EyerissConfig = config
        super().__init__(config)

    @property
    def latency(self) -> int:
        """Cycles from the last step of a pass to its first sums on ``o``."""
        return self._wait + 4

    @property
    def _wait(self) -> int:
        """Cycles from a step to what announces its sums at the foot of the columns."""
        return self.config.pe_rows - 1 + EyerissPE.latency - 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        channels, filters, columns = config.channels, config.filters, config.pe_columns
        m.submodules.drain = drain = Drain(config)
        wiring.connect(m, drain.o, wiring.flipped(self.o))
        pes = copies(m, "pe", config.pe_rows * columns, partial(EyerissPE, config), platform)
        grid = [pes[at : at + columns] for at in range(0, len(pes), columns)]

        # Steps of the group that is loaded: channel after channel, then the sums are passed on.
        groups, half, act_half = self._load(m, grid), Signal(), Signal()
        flags = data.View(self._flags, groups.r_data)
        turn, filter_ = Signal(range(channels + 1)), Signal(range(filters))
        last_filter = filter_ == filters - 1
        done = last_filter & (turn == channels)
        control = self.control(m, drain, groups.r_rdy, flags, done, lambda number: Const(1))
        number = Signal(range(self._groups))
        m.d.comb += groups.r_en.eq(control.taken)
        with m.If(control.use):
            m.d.sync += filter_.eq(filter_ + 1)
            with m.If(last_filter):
                m.d.sync += turn.eq(Mux(done, 0, turn + 1))
        with m.If(control.taken):
            m.d.sync += [number.eq(Mux(flags.ends, 0, number + 1)), act_half.eq(~act_half)]
        with m.If(control.swap):
            m.d.sync += half.eq(~half)
        step = Signal(EyerissStepLayout(config))
        m.d.comb += [
            step.channel.eq(turn), step.filter.eq(filter_), step.first.eq(turn == 0),
            step.passes.eq(turn == channels), step.half.eq(half), step.act_half.eq(act_half),
        ]  # fmt: skip

        # Each row does a cycle later what the one above does, and adds to its sums.
        bits = channels.bit_length() - 1
        later = step.as_value()
        for row, of_row in enumerate(grid):
            for column, pe in enumerate(of_row):
                m.d.comb += [
                    pe.load.eq(control.take & (control.number >> bits == row)),
                    pe.channel.eq(control.number[:bits]), pe.half.eq(~half),
                    pe.weights.eq(self.i_weights.payload["values"].as_value()),
                    pe.step.eq(later), pe.sum.eq(grid[row - 1][column].o if row else 0),
                ]  # fmt: skip
            later = delayed(m, later, 1, f"step{row}_")

        # Accumulators: a filter after the other, of each column's token.
        lanes = config.array.drain_lanes
        per_token = filters // lanes
        accumulators = copies(
            m, "accumulator", columns,
            partial(Accumulator, BANKS * self._groups * per_token, lanes), platform,
        )  # fmt: skip
        valids, ended = Signal(self._wait), Signal(self._wait + 2)
        m.d.sync += [
            valids.eq(Cat(control.use & step.passes, valids)),
            ended.eq(Cat(control.taken & flags.last, ended)),
        ]
        address = Cat(filter_, self._place(control.bank, number))
        where = delayed(m, Cat(flags.first, address), self._wait, "where")
        chosen = Signal(range(columns))
        with m.If(drain.read):
            m.d.sync += chosen.eq(Array(n % columns for n in range(config.tokens))[drain.token])
        of_token = Array(n // columns for n in range(config.tokens))[drain.token]
        for pe, accumulator in zip(grid[-1], accumulators, strict=True):
            m.d.comb += [
                accumulator.valid.eq(valids[-1]), accumulator.first.eq(where[0]),
                accumulator.address.eq(where[1:]), accumulator.term.eq(pe.o),
                accumulator.read.eq(drain.read),
                accumulator.place.eq(self._place(drain.bank, of_token) * per_token + drain.group),
            ]  # fmt: skip
        sums = Cat(accumulator.o for accumulator in accumulators)
        m.d.comb += [
            drain.i.eq(sums.word_select(chosen, len(drain.i))),
            drain.done.eq(ended[-1]),
            drain.tokens.eq(delayed(m, flags.tokens, len(ended), "tokens")),
        ]
        return m

    @property
    def _groups(self) -> int:
        """Groups of a token tile."""
        return -(-self.config.tokens // self.config.pe_columns)

    def _place(self, bank: Value, group: Value) -> Value:
        """Return the number of a group's sums in a column."""
        return bank * self._groups + group

    @property
    def _flags(self) -> data.StructLayout:
        """What is to be known of a group."""
        return data.StructLayout({
            "begins": 1, "ends": 1, "first": 1, "last": 1, "tokens": range(self.config.tokens + 1),
        })  # fmt: skip

    def _load(self, m: Module, grid: list[list[EyerissPE]]) -> SyncFIFO:
        """Return the groups whose inputs are in a half of the scratchpads, a token a column; ``m``
        gets what loads them."""
        config, acts = self.config, self.i.payload
        m.submodules.groups = groups = SyncFIFO(width=self._flags.size, depth=2)
        word = Signal(range(max(2, config.tile_inputs // config.act_word)))
        column, half, opens = Signal(range(max(2, config.pe_columns))), Signal(), Signal(init=1)
        group, take, closes = Signal(self._flags), Signal(), Signal()
        last_column = column == config.pe_columns - 1
        m.d.comb += [
            self.i.ready.eq(groups.w_rdy),
            take.eq(self.i.valid & self.i.ready),
            closes.eq(take & acts.done & (last_column | acts.ends)),
            groups.w_data.eq(group), groups.w_en.eq(closes), group.begins.eq(opens),
            *(group[name].eq(acts[name]) for name in ("ends", "first", "last", "tokens")),
        ]  # fmt: skip
        with m.If(take):
            m.d.sync += word.eq(Mux(acts.done, 0, word + 1))
            with m.If(acts.done):
                m.d.sync += column.eq(Mux(closes, 0, column + 1))
        with m.If(closes):
            m.d.sync += [half.eq(~half), opens.eq(acts.ends)]

        # A word is of some rows; with a token's first one the others have no inputs, until theirs
        # comes.
        per_word = config.act_word // config.channels
        size = config.channels * FP16.width
        for row, of_row in enumerate(grid):
            its, part = (word == row // per_word), row % per_word
            here = take & (its | (word == 0))
            uses = acts.uses.word_select(part, config.channels) & its.replicate(config.channels)
            for number, pe in enumerate(of_row):
                m.d.comb += [
                    pe.act_load.eq(here & (column == number)), pe.act_half.eq(half),
                    pe.acts.eq(acts["values"][0].as_value().word_select(part, size)),
                    pe.uses.eq(uses),
                ]  # fmt: skip
        return groups
