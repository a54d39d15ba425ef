// The emitted decode unit before the array: two streams of memory beats and a codebook in, sums out.
module plug_in #(
  parameter COLUMNS = 128
) (
  input wire aclk,
  input wire aresetn,

  input wire [127:0] s_axis_codebook_tdata,
  input wire s_axis_codebook_tvalid,
  output wire s_axis_codebook_tready,

  input wire [127:0] s_axis_index_tdata,
  input wire s_axis_index_tlast,
  input wire s_axis_index_tvalid,
  output wire s_axis_index_tready,

  input wire [127:0] s_axis_outlier_tdata,
  input wire s_axis_outlier_tlast,
  input wire s_axis_outlier_tvalid,
  output wire s_axis_outlier_tready,

  input wire act_write,
  input wire [15:0] act_address,
  input wire signed [7:0] act_data,
  input wire hold,

  output wire [1023:0] m_axis_sum_tdata,
  output wire m_axis_sum_tvalid,
  input wire m_axis_sum_tready,

  output wire [2:0] error_code,
  input wire clear
);
  wire [255:0] weight_tdata;
  wire weight_tlast, weight_tuser, weight_tvalid, weight_tready;

  decode_default decode (
    .aclk(aclk),
    .aresetn(aresetn),
    .s_axis_codebook_tdata(s_axis_codebook_tdata),
    .s_axis_codebook_tvalid(s_axis_codebook_tvalid),
    .s_axis_codebook_tready(s_axis_codebook_tready),
    .s_axis_index_tdata(s_axis_index_tdata),
    .s_axis_index_tlast(s_axis_index_tlast),
    .s_axis_index_tvalid(s_axis_index_tvalid),
    .s_axis_index_tready(s_axis_index_tready),
    .s_axis_outlier_tdata(s_axis_outlier_tdata),
    .s_axis_outlier_tlast(s_axis_outlier_tlast),
    .s_axis_outlier_tvalid(s_axis_outlier_tvalid),
    .s_axis_outlier_tready(s_axis_outlier_tready),
    .m_axis_weight_tdata(weight_tdata),
    .m_axis_weight_tlast(weight_tlast),
    .m_axis_weight_tuser(weight_tuser),
    .m_axis_weight_tvalid(weight_tvalid),
    .m_axis_weight_tready(weight_tready),
    .error_code(error_code),
    .clear(clear)
  );

  dot_array #(.ROWS(16), .COLUMNS(COLUMNS)) array (
    .clk(aclk),
    .rst_n(aresetn),
    .act_write(act_write),
    .act_address(act_address),
    .act_data(act_data),
    .hold(hold),
    .weight_tdata(weight_tdata),
    .weight_tlast(weight_tlast),
    .weight_tuser(weight_tuser),
    .weight_tvalid(weight_tvalid),
    .weight_tready(weight_tready),
    .sum_tdata(m_axis_sum_tdata),
    .sum_tvalid(m_axis_sum_tvalid),
    .sum_tready(m_axis_sum_tready)
  );
endmodule
