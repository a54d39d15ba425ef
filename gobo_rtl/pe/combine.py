"""The end of a sum: what the rows held becomes sums."""

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import EXPONENT, SumsLayout
from .arith import delayed
from .bins import Bins

__all__ = ["BinSumsLayout", "Combine"]


class BinSumsLayout(data.StructLayout):
    """:class:`SumsLayout` before the centroids are multiplied in."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "rows": data.ArrayLayout(Bins.sum_shape(config), config.drain_lanes),
            "exponent": signed(EXPONENT), "special": 1, "last": 1,
        })  # fmt: skip


class Combine(wiring.Component):
    """Multiplies bins by centroids and adds up: ``drain_lanes`` rows a cycle, shared by the array.

    Paper
    -----
    The published idea, multiplication at the end: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``shared``, ``drain_lanes`` and the widths.

    Members
    -------
    i : In, stream of BinSumsLayout
        Rows as :class:`Bins` gives them.
    codebook : In, ``shared`` x signed(``grid_width``)
        Shared centroids, read with every transfer on ``i``.
    o : Out, stream of SumsLayout
        Their sums.

    Timing
    ------
    ``o.valid`` ``latency`` cycles after the transfer on ``i``; a transfer a cycle. ``o.ready`` acts
    on ``i.ready`` in the same cycle: all stages move or none.

    Numerics
    --------
    Exact when every row's sum of ``|weight|`` is below 2^``weight_sum_width``.
    """

    def __init__(self, config: ArrayConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(BinSumsLayout(config))),
            "codebook": In(data.ArrayLayout(signed(config.grid_width), config.shared)),
            "o": Out(stream.Signature(SumsLayout(config))),
        })

    @staticmethod
    def latency_of(config: ArrayConfig) -> int:
        """Return the cycles from ``i`` to ``o``: a stage of multipliers, and levels of adders."""
        return 1 + config.shared.bit_length()

    @property
    def latency(self) -> int:
        """Cycles from ``i`` to ``o``."""
        return self.latency_of(self.config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, o = self.i, self.o
        move = Signal()
        valid = delayed(m, i.valid, self.latency, "valid", move)
        m.d.comb += [o.valid.eq(valid), move.eq(~valid | o.ready), i.ready.eq(move)]
        for lane, (row, out) in enumerate(zip(i.payload.rows, o.payload.sums, strict=True)):
            def stage(value: Value, name: str, lane: int = lane) -> Value:
                """Return ``value`` registered, modulo the width of a sum."""
                made = Signal(signed(self.config.acc_width), name=f"{name}_{lane}")
                with m.If(move):
                    m.d.sync += made.eq(value)
                return made

            terms = [stage(b * c, "product")
                     for b, c in zip(row.bins, self.codebook, strict=True)]  # fmt: skip
            terms.append(stage(row.outliers, "outliers"))
            levels = 1
            while len(terms) > 1:
                pairs = [terms[n : n + 2] for n in range(0, len(terms), 2)]
                terms = [stage(sum(pair[1:], pair[0]), "sum") for pair in pairs]
                levels += 1
            assert levels == self.latency
            m.d.comb += out.eq(terms[0])
        rest = Cat(i.payload.exponent, i.payload.special, i.payload.last)
        m.d.comb += Cat(o.payload.exponent, o.payload.special, o.payload.last).eq(
            delayed(m, rest, self.latency, "rest", move)
        )
        return m
