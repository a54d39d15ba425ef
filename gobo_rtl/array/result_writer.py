"""Where results go, and the completion of their job."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import (
    CYCLES,
    CommandLayout,
    CompletionLayout,
    LayerLayout,
    ResultBeatLayout,
    ResultPassLayout,
)
from ..formats import COMPLETION, JOB

__all__ = ["ResultWriter"]

AHEAD = 15  # columns that have a command and no last beat yet


def _record(fields: dict[str, Value]) -> Value:
    """Return the bits of a completion."""
    magic = Const(int.from_bytes(COMPLETION.magic, "little"), 8 * len(COMPLETION.magic))
    bits, end = [], 0
    for field in COMPLETION.fields:
        value = {"magic": magic, **fields}[field.name]
        bits += [Const(0, field.offset - end), value]
        end = field.offset + len(value)
    return Cat(*bits, Const(0, COMPLETION.width - end))


class ResultWriter(wiring.Component):
    """Gives a write for each column of a pass, and when all of a layer's are done, one for the
    completion of its job.

    Keeps the address of the next token, and that of the first token of the block: passes come by
    blocks, strips and token tiles, as :class:`Schedule` gives them.

    Paper
    -----
    Our own choice: docs/accelerator.md sections 3 and 5.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``rows``, ``columns``, ``result_format``, ``beat_width`` and ``address_width``.

    Members
    -------
    i_layer : In, stream of LayerLayout
        One a layer; taken when the completion of the one before is written.
    i_pass : In, stream of ResultPassLayout
        One a pass, of the layers in their order.
    i : In, stream of ResultBeatLayout
        The results of the passes' columns, ``last`` with the end of a column: as many beats as the
        rows of the pass fill.
    i_failed : In, stream of CompletionLayout
        A completion to be written, of a job that has an error; taken between layers, before
        ``i_layer``.
    o_write : Out, stream of CommandLayout
        To the write master.
    o : Out, stream of ResultBeatLayout
        To the write master.
    pending : In, 1
        Of the write master: a write is not done.
    hold : In, 1
        Write no completion and say nothing done: there was a write error.
    now : In, 48 bits
        Cycles; a completion tells those since ``start`` of the layer.
    done : Out, 1
        For a cycle: a completion is written, its response is there.
    tag, error, interrupt : Out, 32, 4, 1 bits
        With ``done``: of the job; a job from ``i_failed`` has no ``interrupt``.
    idle : Out, 1
        No layer is begun.

    Timing
    ------
    A pass takes a cycle, and one for each of its columns while writes are taken; beats are passed
    on in the same cycle, once their column's command is made. From the last result's response to
    the command of the completion 2 cycles; ``done`` the cycle after its response.

    Numerics
    --------
    Addresses are modulo ``2^address_width``.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        completion = CompletionLayout(config)
        super().__init__({
            "i_layer": In(stream.Signature(LayerLayout(config))),
            "i_pass": In(stream.Signature(ResultPassLayout(config))),
            "i": In(stream.Signature(ResultBeatLayout(config))),
            "i_failed": In(stream.Signature(completion)),
            "o_write": Out(stream.Signature(CommandLayout(config))),
            "o": Out(stream.Signature(ResultBeatLayout(config))),
            "pending": In(1),
            "hold": In(1),
            "now": In(CYCLES),
            "done": Out(1),
            "tag": Out(32),
            "error": Out(completion["error"].shape),
            "interrupt": Out(1),
            "idle": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, write, layer = self.config, self.o_write, self.i_layer.payload
        results = config.beat_width // config.result.width  # in a beat
        strip_bytes = config.rows * config.result.width // 8

        # The job.
        job = Signal(CompletionLayout(config))
        interrupt, cycles = Signal(), Signal(CYCLES)
        stride = Signal.like(layer.result_stride)

        # The pass: `token` is the address of the next column's token.
        current = self.i_pass.payload
        token, block, offset = (Signal(config.address_width) for _ in range(3))
        first, last = Signal(), Signal()  # of the layer
        left, beats = Signal.like(current.columns), Signal.like(write.payload.beats)
        opens_block = current.new_strip & (current.strip == 0)
        begin = Signal(config.address_width)
        m.d.comb += begin.eq(Mux(current.new_strip & (current.strip != 0), block, token))

        # Columns with a command, whose beats may pass.
        owed = Signal(range(AHEAD + 1))
        made, ended = Signal(), Signal()
        m.d.sync += owed.eq(owed + made - ended)
        m.d.comb += [
            self.o.valid.eq(self.i.valid & (owed != 0)),
            self.o.payload.eq(self.i.payload),
            self.i.ready.eq(self.o.ready & (owed != 0)),
            ended.eq(self.i.valid & self.i.ready & self.i.payload.last),
        ]
        free = ~write.valid | write.ready
        with m.If(write.ready):
            m.d.sync += write.valid.eq(0)
        quiet = ~write.valid & ~self.pending & ~self.hold

        record = _record({"tag": job.tag, "cycles": cycles, "error": job.error})
        count = max(1, COMPLETION.width // config.beat_width)
        beat = Signal(range(max(2, count)))
        m.d.comb += [self.tag.eq(job.tag), self.error.eq(job.error), self.interrupt.eq(interrupt)]
        with m.FSM():
            with m.State("idle"):
                m.d.comb += [
                    self.idle.eq(1), self.i_failed.ready.eq(1),
                    self.i_layer.ready.eq(~self.i_failed.valid),
                ]  # fmt: skip
                with m.If(self.i_failed.valid):
                    m.d.sync += [job.eq(self.i_failed.payload), interrupt.eq(0)]
                    m.next = "results"
                with m.Elif(self.i_layer.valid):
                    m.d.sync += [
                        job.slot.eq(layer.slot), job.tag.eq(layer.tag), job.start.eq(layer.start),
                        job.error.eq(0), interrupt.eq(layer.interrupt),
                        token.eq(layer.result_address), stride.eq(layer.result_stride), first.eq(1),
                    ]  # fmt: skip
                    m.next = "pass"
            with m.State("pass"):
                m.d.comb += self.i_pass.ready.eq(1)
                with m.If(self.i_pass.valid):
                    m.d.sync += [
                        token.eq(begin), offset.eq(current.strip * strip_bytes),
                        left.eq(current.columns), first.eq(0), last.eq(current.last),
                        beats.eq((current.rows + (results - 1)) // results),
                    ]  # fmt: skip
                    with m.If(first | opens_block):
                        m.d.sync += block.eq(begin)
                    m.next = "columns"
            with m.State("columns"), m.If(free & (owed != AHEAD)):
                m.d.comb += made.eq(1)
                m.d.sync += [
                    write.valid.eq(1), write.payload.address.eq(token + offset),
                    write.payload.beats.eq(beats),
                    token.eq(token + stride), left.eq(left - 1),
                ]  # fmt: skip
                with m.If(left == 1):
                    m.next = "pass"
                    with m.If(last):
                        m.next = "results"
            with m.State("results"):
                m.d.sync += [cycles.eq(self.now - job.start), beat.eq(0)]
                with m.If(quiet):
                    m.d.sync += [
                        write.valid.eq(1), write.payload.address.eq(job.slot + JOB.size),
                        write.payload.beats.eq(count),
                    ]  # fmt: skip
                    m.next = "completion"
            with m.State("completion"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.data.eq(record >> (beat * config.beat_width)),
                    self.o.payload.keep.eq((1 << min(COMPLETION.size, config.beat_bytes)) - 1),
                    self.o.payload.last.eq(beat == count - 1),
                ]
                with m.If(self.o.ready):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(self.o.payload.last):
                        m.next = "response"
            with m.State("response"), m.If(quiet):
                m.d.comb += self.done.eq(1)
                m.next = "idle"
        return m
