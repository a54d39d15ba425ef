// An array of one's own: a multiplier and an accumulator for each of ROWS outputs.
//
// It takes a column of FP16 weights a cycle, lane 0 is its first row, and multiplies it with the
// column's activation, an integer of 8 bits. After the last column of a tile ROWS sums leave, in
// units of 2^-24: of these every FP16 number is a whole one, so sums are exact. It knows nothing
// of 3-bit weights.
module dot_array #(
  parameter ROWS = 16,
  parameter COLUMNS = 128
) (
  input wire clk,
  input wire rst_n,

  // Activations: written before the layer starts.
  input wire act_write,
  input wire [15:0] act_address,
  input wire signed [7:0] act_data,

  // Someone else needs the multipliers in this cycle.
  input wire hold,

  input wire [16 * ROWS - 1:0] weight_tdata,
  input wire weight_tlast,
  input wire weight_tuser,
  input wire weight_tvalid,
  output wire weight_tready,

  output reg [64 * ROWS - 1:0] sum_tdata,
  output reg sum_tvalid,
  input wire sum_tready
);
  reg signed [7:0] acts [0:COLUMNS - 1];
  reg [15:0] column;
  wire signed [7:0] act = acts[column];

  // FP16 in units of 2^-24: subnormals are their fraction, others 1024 and it, shifted.
  function signed [63:0] scaled;
    input [15:0] weight;
    reg signed [63:0] magnitude;
    begin
      magnitude = $signed({54'd0, weight[9:0]});
      if (weight[14:10] != 5'd0)
        magnitude = (magnitude | 64'sd1024) << (weight[14:10] - 5'd1);
      scaled = weight[15] ? -magnitude : magnitude;
    end
  endfunction

  // Ready does not look at valid, and falls in the very cycle in which a word must not come.
  assign weight_tready = !hold && (!sum_tvalid || sum_tready);
  wire take = weight_tvalid && weight_tready;

  always @(posedge clk)
    if (act_write)
      acts[act_address] <= act_data;

  // A tile that is marked at its end is never used.
  always @(posedge clk)
    if (!rst_n) begin
      column <= 16'd0;
      sum_tvalid <= 1'b0;
    end else begin
      if (take)
        column <= weight_tlast ? 16'd0 : column + 16'd1;
      if (take && weight_tlast)
        sum_tvalid <= !weight_tuser;
      else if (sum_tready)
        sum_tvalid <= 1'b0;
    end

  genvar row;
  generate
    for (row = 0; row < ROWS; row = row + 1) begin : rows
      reg signed [63:0] sum;
      wire signed [63:0] product = scaled(weight_tdata[16 * row +: 16]) * act;
      wire signed [63:0] next = column == 16'd0 ? product : sum + product;
      always @(posedge clk)
        if (take) begin
          sum <= next;
          if (weight_tlast)
            sum_tdata[64 * row +: 64] <= $unsigned(next);
        end
    end
  endgenerate
endmodule
