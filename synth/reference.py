"""What a decoder cannot do without: the bare multiplexers, to measure its overhead against."""

__all__ = ["mux_verilog"]


def mux_verilog(lanes: int, index_width: int, value_width: int) -> str:
    """Return Verilog of module ``mux``: ``lanes`` look-ups in one codebook, and nothing else.

    Combinational: no registers, no outliers, no handshake. Bit for bit the look-up of a decoder
    whose codebook and indexes are already in registers.
    """
    bins = 1 << index_width
    return f"""\
module mux (
  input [{lanes * index_width - 1}:0] index,
  input [{bins * value_width - 1}:0] codebook,
  output [{lanes * value_width - 1}:0] o
);
  genvar lane;
  generate
    for (lane = 0; lane < {lanes}; lane = lane + 1) begin : lookup
      assign o[{value_width} * lane +: {value_width}] =
        codebook[{value_width} * index[{index_width} * lane +: {index_width}] +: {value_width}];
    end
  endgenerate
endmodule
"""
