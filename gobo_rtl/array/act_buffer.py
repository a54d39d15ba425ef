"""Blocks of token tiles of activations on chip, given out step by step and again."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import ActBeatLayout, ActPassLayout, ActStepLayout, ScaleLayout
from .replay import Replay

__all__ = ["ActBuffer"]


class ActBuffer(wiring.Component):
    """Keeps token tiles of activations, a bank a column, and gives out one of each a step.

    A beat is a word of its column's bank; the rows of a tile lie side by side and come one after
    another, each from the tile's first place on. A tile can be read when it is complete. Its
    scales are kept in a slot of their own. Does not know which columns of a tile have a token: the
    others give what they hold.

    Paper
    -----
    Our own choice: docs/accelerator.md section 3.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``columns``, ``act_format``, ``beat_width``, ``act_depth`` and ``tile_slots``.

    Members
    -------
    i : In, stream of ActBeatLayout
        Beats of token tiles.
    i_pass : In, stream of ActPassLayout
        The steps of each tile that is given out, and what is done with it; taken at its end.
    o : Out, stream of ActStepLayout
        The steps of the tiles given out.
    too_large : Out, 1
        A block, or what is to be kept with it, can never fit: a beat waits for room, and none is
        released before its tile comes. Stays until reset.

    Timing
    ------
    2 cycles from a tile's last beat to its first step; a beat and a step a cycle, without a bubble
    between tiles, while beats and commands are there.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(ActBeatLayout(config))),
            "i_pass": In(stream.Signature(ActPassLayout(config))),
            "o": Out(stream.Signature(ActStepLayout(config))),
            "too_large": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i, o = self.config, self.i, self.o
        beat, command = i.payload, self.i_pass.payload
        depth = max(2, config.act_depth // config.acts_per_beat)
        m.submodules.words = words = Replay(depth)
        m.submodules.slots = slots = Replay(config.tile_slots)

        # Write side: the place in the row that is written, the same in every row of a tile.
        offset, place = Signal(range(depth)), Signal.like(words.head)
        accept = i.valid & i.ready
        complete = accept & beat.last
        m.d.comb += [
            place.eq(words.head + offset),
            i.ready.eq((place != words.limit) & (slots.head != slots.limit)),
            words.commit.eq(complete),
            words.end.eq(place + 1),
            slots.commit.eq(complete),
            slots.end.eq(slots.head + 1),
        ]
        with m.If(accept):
            m.d.sync += offset.eq(Mux(beat.end, 0, offset + 1))

        # Read side: a word of every bank holds the activations of so many steps.
        step = Signal(config.step_bits)
        lane = step[: (config.acts_per_beat - 1).bit_length()]
        ends = step + 1 == command.steps
        transfer = o.valid & o.ready
        m.d.comb += [
            o.valid.eq(words.valid & slots.valid),
            o.payload.last.eq(ends),
            words.next.eq(transfer & (ends | lane.all())),
            words.last.eq(ends),
            slots.next.eq(transfer & ends),
            slots.last.eq(1),
            self.i_pass.ready.eq(transfer & ends),
        ]
        for replay in (words, slots):
            m.d.comb += [replay.i.payload.eq(command.replay), replay.i.valid.eq(self.i_pass.valid)]
        with m.If(transfer):
            m.d.sync += step.eq(Mux(ends, 0, step + 1))

        # Banks.
        def connect(memory: Memory, replay: Replay) -> object:
            read = memory.read_port()
            m.d.comb += [read.addr.eq(replay.address), read.en.eq(replay.read)]
            return read.data

        here = [beat.column == n for n in range(config.columns)]
        for n, column in enumerate(here):
            m.submodules[f"bank{n}"] = bank = Memory(shape=config.beat_width, depth=depth, init=[])
            write = bank.write_port()
            m.d.comb += [
                write.addr.eq(place),
                write.data.eq(beat.data),
                write.en.eq(accept & column),
                o.payload.values[n].eq(connect(bank, words).word_select(lane, config.act.width)),
            ]
        scales = data.ArrayLayout(ScaleLayout(config), config.columns)
        m.submodules.scales = memory = Memory(shape=scales, depth=config.tile_slots, init=[])
        write = memory.write_port(granularity=1)
        m.d.comb += [
            write.addr.eq(slots.head),
            write.en.eq(Cat(accept & beat.end & column for column in here)),
            *(scale.eq(beat.scale) for scale in write.data),
            o.payload.scales.eq(connect(memory, slots)),
        ]

        # All tiles that are there have been read, and those kept leave no room for the next.
        with m.If(i.valid & ~i.ready & words.drained):
            m.d.sync += self.too_large.eq(1)
        return m
