"""Centroids of a layer, checked, to what the array takes."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import EXPONENT, centroid_shape
from ..pe.arith import delayed
from .record import WORD

__all__ = ["CodebookReader"]


class CodebookReader(wiring.Component):
    """Turns the values of a codebook into integers in the layer's unit, or for PEs that compute in
    floating point only checks that they are such.

    Paper
    -----
    Our own choice: docs/accelerator.md section 2.

    Parameters
    ----------
    config : ArrayConfig
        Uses ``pe``, ``value_format``, ``index_widths`` and ``symmetric``.

    Members
    -------
    start : In, 1
        The next word is the codebook's first.
    index_width : In, 3 bits
        Bits of the layer's indexes; constant from ``start`` to ``done``.
    unit : In, signed
        The layer's unit is ``2^unit``; constant from ``start`` to ``done``.
    i : In, stream of 16 bits
        The values, ``2^index_width``; none is taken after the last.
    last : Out, 1
        The next word is the last.
    done : Out, 1
        The codebook is there.
    codebook : Out, ``bins`` x ``centroid_shape``
        With ``done``, until ``start``; above the layer's centroids 0.
    bad : Out, 1
        With ``done``: a centroid is NaN, infinite or no integer of ``grid_width`` bits in the unit;
        or the codebook is not symmetric, where the configuration demands it.

    Timing
    ------
    A value a cycle; ``done`` 4 cycles after the last, with ``symmetric`` one more for each value
    but one.

    Numerics
    --------
    Exact, or ``bad``. A value ``M * 2^e`` with an integer ``M`` is shifted by ``e - unit``: the
    integer must fit ``grid_width - 1`` bits, and what is shifted out must be 0.
    """

    def __init__(self, config: ArrayConfig):
        assert config.value.width == WORD and config.value.fraction_width + 2 == config.grid_width
        self.config = config
        super().__init__({
            "start": In(1),
            "index_width": In(3),
            "unit": In(signed(EXPONENT)),
            "i": In(stream.Signature(WORD)),
            "last": Out(1),
            "done": Out(1),
            "codebook": Out(data.ArrayLayout(centroid_shape(config), config.bins)),
            "bad": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, value = self.config, self.config.value
        bits = config.grid_width - 1  # of a significand, and of a centroid's magnitude
        bias = (1 << (value.exponent_width - 1)) - 1 + value.fraction_width
        entries = Array(self.codebook[n] for n in range(config.bins))

        # Fields of the value; the significand is shifted by `amount` less `bits`.
        count, top = Signal(range(config.bins + 1)), Signal(range(config.bins))
        fraction = self.i.payload[: value.fraction_width]
        exponent = self.i.payload[value.fraction_width : -1]
        amount = Signal(signed(EXPONENT + 2))
        take = self.i.valid & self.i.ready
        m.d.comb += [
            amount.eq(Mux(exponent == 0, 1, exponent) - self.unit + (bits - bias)),
            top.eq((1 << self.index_width) - 1),
            self.last.eq(count == top),
            self.i.ready.eq(count <= top),
        ]
        valid, sign, special, far = Signal(), Signal(), Signal(), Signal()
        place = Signal(range(config.bins))
        significand, shift = Signal(bits), Signal(range(2 * bits + 1))
        m.d.sync += [
            valid.eq(take),
            place.eq(count),
            sign.eq(self.i.payload[-1]),
            special.eq(exponent.all()),
            significand.eq(fraction | ((exponent != 0) << value.fraction_width)),
            shift.eq(amount),
            far.eq((amount < 0) | (amount > 2 * bits)),
        ]
        with m.If(take):
            m.d.sync += count.eq(count + 1)

        # The integer stands in the middle of what is shifted.
        shifted = Signal(3 * bits)
        magnitude = shifted[bits : 2 * bits]
        inexact = shifted[:bits].any() | shifted[2 * bits :].any()
        m.d.comb += shifted.eq(significand << shift)
        centroid = Mux(sign, -magnitude, magnitude)
        if config.floating:
            centroid = delayed(m, self.i.payload, 1, "value")
        with m.If(valid):
            m.d.sync += entries[place].eq(centroid)
            with m.If(special | ((significand != 0) & (far | inexact))):
                m.d.sync += self.bad.eq(1)

        # All there: with `symmetric` compare from both ends.
        other, mirror = Signal(range(config.bins)), Signal(range(config.bins))
        ended = Signal()
        m.d.comb += mirror.eq(top - other)
        low, high = entries[other], entries[mirror]
        opposite = low + high == 0
        if config.floating:  # but for the signs of zeros
            opposite = ((low ^ high) == 1 << (WORD - 1)) | ~(low | high)[:-1].any()
        m.d.sync += ended.eq(~self.i.ready & ~valid & ~self.start)
        if config.symmetric:
            with m.If(ended & ~self.done):
                m.d.sync += [other.eq(other + 1), self.done.eq(other == top)]
                with m.If(~opposite):
                    m.d.sync += self.bad.eq(1)
        else:
            m.d.sync += self.done.eq(ended)
        with m.If(self.start):
            m.d.sync += [count.eq(0), self.bad.eq(0), self.done.eq(0), other.eq(0)]
            m.d.sync += [ended.eq(0), valid.eq(0)]
            m.d.sync += [entry.eq(0) for entry in entries]
        return m
