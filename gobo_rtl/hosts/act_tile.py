"""Token tiles of activations on chip, given out weight tile by weight tile, and again."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..array_layout import ActBeatLayout, PassLayout
from ..host_config import HostConfig
from .layout import ActWordLayout

__all__ = ["ActTile"]


class ActTile(wiring.Component):
    """Keeps token tiles in a ring of words and gives one out a pass.

    The words of a token lie side by side, tokens one after another; where a word is of several
    tokens, these are side by side in it. A pass takes for each weight tile the words of its inputs,
    token by token. Does not look at scales, and gives rubbish for tokens that are not there.

    Paper
    -----
    Our own choice: docs/hosts.md section 1.

    Parameters
    ----------
    config : HostConfig
        Uses ``act_word``, ``act_banks``, ``tile_inputs``, ``act_depth`` and ``tokens``.

    Members
    -------
    i : In, stream of ActBeatLayout
        Beats of token tiles.
    i_pass : In, stream of PassLayout
        The passes, taken at their end: inputs, tokens, and whether the tile is released then.
    o : Out, stream of ActWordLayout
        The words of the passes.
    too_large : Out, 1
        A token tile can never fit. Stays until reset.

    Timing
    ------
    2 cycles from a tile's last beat to its first word; a beat and a word a cycle, without a bubble
    between passes while tiles are there.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: HostConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(ActBeatLayout(config.array))),
            "i_pass": In(stream.Signature(PassLayout(config.array))),
            "o": Out(stream.Signature(ActWordLayout(config))),
            "too_large": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i, o = self.config, self.i, self.o
        depth, banks, size = config.act_depth, config.act_banks, config.act_word
        beats = size // config.array.acts_per_beat
        # Pointers have a bit above the address, which tells a full ring from an empty one.
        head, base, at = (Signal(depth.bit_length(), name=n) for n in ("head", "base", "at"))

        # Write side: words from `head` on, those of tokens that share words from `start` on.
        beat, accept = i.payload, i.valid & i.ready
        number, start = Signal(range(max(2, beats))), Signal(depth.bit_length())
        offset, after_offset = Signal.like(start), Signal.like(start)
        place = Signal.like(head)
        bank = beat.column & (banks - 1)
        whole = (number == beats - 1) | beat.end
        m.d.comb += [
            after_offset.eq(offset + 1), place.eq(head + offset),
            i.ready.eq(offset < depth - (head - base)[: len(head)]),
        ]  # fmt: skip
        with m.If(accept):
            m.d.sync += number.eq(Mux(whole, 0, number + 1))
            with m.If(beat.last):
                m.d.sync += [head.eq(head + after_offset), offset.eq(0), start.eq(0)]
            with m.Elif(beat.end & (bank != banks - 1)):
                m.d.sync += offset.eq(start)
            with m.Elif(whole):
                m.d.sync += offset.eq(after_offset)
                with m.If(beat.end):
                    m.d.sync += start.eq(after_offset)

        # Read side: the word at the memory's output is that at `at`, when it is `there`. It is
        # `word` of its token and weight tile, which begin at `row`; its weight tile at `tile`.
        current, there, transfer = self.i_pass.payload, Signal(), Signal()
        steps = current.acts.steps
        row, tile = Signal.like(at), Signal.like(at)
        words = config.tile_inputs // size
        word, slot, first = Signal(range(max(2, words))), Signal(config.slot_bits), Signal(init=1)
        left, left_r, tile_left, tile_left_r = (
            Signal.like(steps, name=n) for n in ("left", "left_r", "tile_left", "tile_left_r")
        )
        ends_row, ends_tile, ends, release = (Signal(name=n) for n in ("r", "t", "e", "release"))
        m.d.comb += [
            tile_left.eq(Mux(first, steps, tile_left_r)),
            left.eq(Mux(word == 0, tile_left, left_r)),
            ends_row.eq((word == words - 1) | (left <= size)),
            ends_tile.eq(ends_row & (slot == (current.result.columns - 1) // banks)),
            ends.eq(ends_tile & (tile_left <= config.tile_inputs)),
            release.eq(current.acts.replay.release),
            transfer.eq(o.valid & o.ready),
            o.valid.eq(there & self.i_pass.valid),
            o.payload.uses.eq(Cat(left > n for n in range(size))),
            o.payload.slot.eq(slot), o.payload.first.eq(first),
            o.payload.begins.eq((slot == 0) & (word == 0)),
            o.payload.done.eq(ends_row), o.payload.ends.eq(ends_tile), o.payload.last.eq(ends),
            o.payload.tokens.eq(current.result.columns),
            self.i_pass.ready.eq(transfer & ends),
        ]  # fmt: skip

        after, next_row, next_tile, next_base, address = (
            Signal.like(at, name=n) for n in ("after", "next_row", "next_tile", "next_base", "to")
        )
        m.d.comb += [
            after.eq(at + 1), next_row.eq(row + (steps + (size - 1)) // size),
            next_tile.eq(tile + words), next_base.eq(Mux(release, after, base)), address.eq(at),
        ]  # fmt: skip
        m.d.sync += [at.eq(address), there.eq(address != head)]
        with m.If(transfer):
            m.d.sync += [word.eq(word + 1), left_r.eq(left - size)]
            m.d.comb += address.eq(after)
            with m.If(ends_row):
                m.d.comb += address.eq(next_row)
                m.d.sync += [row.eq(next_row), word.eq(0), slot.eq(slot + 1)]
            with m.If(ends_tile):
                m.d.comb += address.eq(next_tile)
                m.d.sync += [
                    row.eq(next_tile), tile.eq(next_tile), slot.eq(0), first.eq(0),
                    tile_left_r.eq(tile_left - config.tile_inputs),
                ]  # fmt: skip
            with m.If(ends):
                m.d.comb += address.eq(next_base)
                m.d.sync += [
                    row.eq(next_base), tile.eq(next_base), base.eq(next_base), first.eq(1),
                ]  # fmt: skip

        # A memory for each beat of a word.
        for n in range(banks):
            values = o.payload["values"][n].as_value()
            for part in range(beats):
                memory = Memory(shape=config.beat_width, depth=depth, init=[])
                m.submodules[f"bank{n}_{part}"] = memory
                write, read = memory.write_port(), memory.read_port()
                m.d.comb += [
                    write.addr.eq(place), write.data.eq(beat.data),
                    write.en.eq(accept & (bank == n) & (number == part)),
                    read.addr.eq(address), read.en.eq(transfer | ~there),
                    values.word_select(part, config.beat_width).eq(read.data),
                ]  # fmt: skip

        with m.If(i.valid & ~i.ready & (at == head)):
            m.d.sync += self.too_large.eq(1)
        return m
