"""What happens when something is wrong, and which job it is blamed on."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import CompletionLayout

__all__ = ["Control"]

SETTLE = 512  # cycles; longer than anything takes from one visible movement to the next


class Control(wiring.Component):
    """Counts the jobs that are done, and stops everything when one cannot be.

    An engine that meets an error gives nothing any more. All that does not need it goes on, so the
    jobs before get done; when nothing has moved for ``SETTLE`` cycles and there is an error, it is
    of the oldest job that is not done. Then the bus is drained, all engines are reset, the
    completion of that job is written, and the queue waits for ``clear``.

    Paper
    -----
    Our own choice: docs/accelerator.md section 4.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``address_width``.

    Members
    -------
    error_code : In, 4 bits
        What is wrong, 0 for nothing; kept by the engines until they are reset.
    moving : In, 1
        Something moves, or the bus owes an answer that would be taken.
    bus_idle : In, 1
        Nothing is outstanding on the bus.
    i_job : In, stream of CompletionLayout
        Jobs in their order, as they come from :class:`Fetch`; one is taken when it is done.
    fetched : In, CompletionLayout
        The job that is fetched: it has the error when no other is under way.
    done : In, 1
        For a cycle: a completion is written.
    write_error : In, 1
        A write had an error.
    o_failed : Out, stream of CompletionLayout
        A completion to be written, with its error.
    clear : In, 1
        Go on with the next job; without effect but when ``stopped``.
    fetch : Out, 1
        Jobs may be fetched; while it is 0 :class:`Fetch` is in reset.
    stop : Out, 1
        The masters are to end what they have begun and to begin nothing.
    flush : Out, 1
        Engines and masters are in reset.
    stopped : Out, 1
        ``clear`` is awaited.
    failed : Out, 1
        For a cycle: ``code`` and ``tag`` are new.
    code, tag : Out, 8 and 32 bits
        The last error, 0 after ``clear``, and the tag of its job.
    finished : Out, 1
        For a cycle: ``completed`` goes up.
    completed : Out, 32 bits
        Jobs done since reset.

    Timing
    ------
    ``stop`` rises ``SETTLE`` cycles after the last movement.

    Numerics
    --------
    ``completed`` is modulo 2^32.
    """

    def __init__(self, config: ArrayConfig):
        completion = CompletionLayout(config)
        super().__init__({
            "error_code": In(completion["error"].shape),
            "moving": In(1),
            "bus_idle": In(1),
            "i_job": In(stream.Signature(completion)),
            "fetched": In(completion),
            "done": In(1),
            "write_error": In(1),
            "o_failed": Out(stream.Signature(completion)),
            "clear": In(1),
            "fetch": Out(1),
            "stop": Out(1),
            "flush": Out(1),
            "stopped": Out(1),
            "failed": Out(1),
            "code": Out(8),
            "tag": Out(32),
            "finished": Out(1),
            "completed": Out(32),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        failed = self.o_failed.payload
        settled = Signal(range(SETTLE + 1))
        m.d.comb += [self.i_job.ready.eq(self.done), self.finished.eq(self.done | self.failed)]
        with m.If(self.finished):
            m.d.sync += self.completed.eq(self.completed + 1)
        with m.If(self.moving | (self.error_code == 0) | ~self.fetch):
            m.d.sync += settled.eq(0)
        with m.Else():
            m.d.sync += settled.eq(settled + 1)

        with m.FSM():
            with m.State("run"):
                m.d.comb += self.fetch.eq(1)
                with m.If(settled == SETTLE):
                    m.d.sync += [
                        failed.eq(Mux(self.i_job.valid, self.i_job.payload, self.fetched)),
                        failed.error.eq(self.error_code),
                    ]
                    m.next = "stop"
            with m.State("stop"):
                m.d.comb += self.stop.eq(1)
                with m.If(self.bus_idle):
                    m.next = "flush"
            with m.State("flush"):
                m.d.comb += self.flush.eq(1)
                m.next = "report"
            with m.State("report"):
                m.d.comb += self.o_failed.valid.eq(1)
                with m.If(self.o_failed.ready):
                    m.next = "written"
            with m.State("written"), m.If(self.done | self.write_error):
                m.d.sync += [self.code.eq(failed.error), self.tag.eq(failed.tag)]
                m.d.comb += self.failed.eq(1)
                m.next = "drain"
            with m.State("drain"):
                m.d.comb += self.stop.eq(1)
                with m.If(self.bus_idle):
                    m.next = "stopped"
            with m.State("stopped"):
                m.d.comb += [self.stopped.eq(1), self.flush.eq(1)]
                with m.If(self.clear):
                    m.d.sync += [self.code.eq(0), self.tag.eq(0)]
                    m.next = "run"
        return m
