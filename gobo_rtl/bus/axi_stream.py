"""The decode unit with AXI4-Stream ports."""

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import GoboConfig
from ..decode import DecodeUnit
from ..layout import several_widths

__all__ = ["DecodeAxis"]


class DecodeAxis(wiring.Component):
    """The decode unit with AXI4-Stream ports, ready to be instantiated from Verilog.

    Paper
    -----
    None: AMBA AXI-Stream names.

    Parameters
    ----------
    config : GoboConfig
        Sizes of the decode unit.

    Members
    -------
    aclk, aresetn : In, 1
        Clock, rising edge; reset, synchronous, active low.
    s_axis_codebook_* : In
        ``tdata`` the codebook, ``tuser`` the index width where several are taken.
    s_axis_index_*, s_axis_outlier_* : In
        Beats of the two streams; ``tlast`` with the last beat of a layer.
    m_axis_weight_* : Out
        ``tdata`` the weights, lane 0 lowest; ``tlast`` the tile's last group; ``tuser`` error.
    error_code, clear : Out, 3 bits; In, 1
        As of :class:`DecodeUnit`.

    Timing
    ------
    That of :class:`DecodeUnit`.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(self, config: GoboConfig):
        self.config = config
        beat = config.beat_width
        width = {"s_axis_codebook_tuser": In(3)} if several_widths(config) else {}
        super().__init__({
            "aclk": In(1),
            "aresetn": In(1),
            "s_axis_codebook_tdata": In(config.codebook_width),
            **width,
            "s_axis_codebook_tvalid": In(1),
            "s_axis_codebook_tready": Out(1),
            "s_axis_index_tdata": In(beat),
            "s_axis_index_tlast": In(1),
            "s_axis_index_tvalid": In(1),
            "s_axis_index_tready": Out(1),
            "s_axis_outlier_tdata": In(beat),
            "s_axis_outlier_tlast": In(1),
            "s_axis_outlier_tvalid": In(1),
            "s_axis_outlier_tready": Out(1),
            "m_axis_weight_tdata": Out(config.lanes * config.value_width),
            "m_axis_weight_tlast": Out(1),
            "m_axis_weight_tuser": Out(1),
            "m_axis_weight_tvalid": Out(1),
            "m_axis_weight_tready": In(1),
            "error_code": Out(3),
            "clear": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain(local=True)
        m.submodules.unit = unit = DecodeUnit(self.config)
        m.d.comb += [
            ClockSignal().eq(self.aclk),
            ResetSignal().eq(~self.aresetn),
            unit.i_codebook.payload.entries.as_value().eq(self.s_axis_codebook_tdata),
            unit.i_codebook.valid.eq(self.s_axis_codebook_tvalid),
            self.s_axis_codebook_tready.eq(unit.i_codebook.ready),
            unit.i_indexes.payload.data.eq(self.s_axis_index_tdata),
            unit.i_indexes.payload.last.eq(self.s_axis_index_tlast),
            unit.i_indexes.valid.eq(self.s_axis_index_tvalid),
            self.s_axis_index_tready.eq(unit.i_indexes.ready),
            unit.i_outliers.payload.data.eq(self.s_axis_outlier_tdata),
            unit.i_outliers.payload.last.eq(self.s_axis_outlier_tlast),
            unit.i_outliers.valid.eq(self.s_axis_outlier_tvalid),
            self.s_axis_outlier_tready.eq(unit.i_outliers.ready),
            self.m_axis_weight_tdata.eq(unit.o.payload.values),
            self.m_axis_weight_tlast.eq(unit.o.payload.last),
            self.m_axis_weight_tuser.eq(unit.o.payload.error),
            self.m_axis_weight_tvalid.eq(unit.o.valid),
            unit.o.ready.eq(self.m_axis_weight_tready),
            self.error_code.eq(unit.error_code),
            unit.clear.eq(self.clear),
        ]
        if several_widths(self.config):
            m.d.comb += unit.i_codebook.payload.index_width.eq(self.s_axis_codebook_tuser)
        return m
