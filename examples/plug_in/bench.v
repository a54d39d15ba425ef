// Runs a layer through plug_in three times: as it is, with one bit of its indexes wrong, and, after
// `clear`, as it is again. Every word between decode unit and array, and every sum, is compared.
// Sizes and data are files of vectors.py; streams pause, and the array and its reader stall, by a
// sequence of pseudo-random numbers.

// Gives the words of a file, the last one with `tlast`, from each `start` on.
module source #(
  parameter WIDTH = 128,
  parameter WORDS = 1,
  parameter NAME = ""
) (
  input wire clk,
  input wire rst_n,
  input wire start,
  input wire pause,
  input wire [WIDTH - 1:0] flip,
  output reg [WIDTH - 1:0] tdata,
  output reg tlast,
  output reg tvalid,
  input wire tready,
  output wire busy
);
  reg [WIDTH - 1:0] words [0:WORDS - 1];
  integer at;

  initial $readmemh(NAME, words);
  assign busy = at != WORDS || tvalid;

  // What is offered stays until it is taken.
  always @(posedge clk)
    if (!rst_n) begin
      at <= WORDS;
      tvalid <= 1'b0;
    end else if (start)
      at <= 0;
    else if (!tvalid || tready) begin
      tvalid <= at != WORDS && !pause;
      if (at != WORDS && !pause) begin
        tdata <= words[at] ^ (at == WORDS / 2 ? flip : {WIDTH{1'b0}});
        tlast <= at == WORDS - 1;
        at <= at + 1;
      end
    end
endmodule

module bench;
  `include "sizes.vh"

  reg aclk = 1'b0, aresetn = 1'b0, start = 1'b0, clear = 1'b0, act_write = 1'b0;
  reg faulty = 1'b0;
  reg [15:0] act_address = 16'd0;
  reg [7:0] act_data = 8'd0;

  wire [127:0] codebook_tdata, index_tdata, outlier_tdata;
  wire codebook_tlast, codebook_tvalid, codebook_tready, codebook_busy;
  wire index_tlast, index_tvalid, index_tready, index_busy;
  wire outlier_tlast, outlier_tvalid, outlier_tready, outlier_busy;
  wire [1023:0] sum_tdata;
  wire sum_tvalid;
  wire [2:0] error_code;

  // Numbers for pauses and stalls: xorshift, a step a cycle.
  reg [31:0] noise = 32'd20260122;
  function [31:0] step;
    input [31:0] x;
    begin
      x = x ^ (x << 13);
      x = x ^ (x >> 17);
      step = x ^ (x << 5);
    end
  endfunction
  always @(posedge aclk) noise <= step(noise);
  wire hold = noise[1:0] == 2'd0;
  wire sum_tready = noise[5:2] == 4'd0;

  always #5 aclk = !aclk;

  source #(.WORDS(1), .NAME("codebook.hex")) codebook (
    .clk(aclk), .rst_n(aresetn), .start(start), .pause(noise[8]), .flip(128'd0),
    .tdata(codebook_tdata), .tlast(codebook_tlast), .tvalid(codebook_tvalid),
    .tready(codebook_tready), .busy(codebook_busy)
  );
  source #(.WORDS(INDEX_BEATS), .NAME("index.hex")) index (
    .clk(aclk), .rst_n(aresetn), .start(start), .pause(noise[13:12] == 2'd0),
    .flip({127'd0, faulty}),
    .tdata(index_tdata), .tlast(index_tlast), .tvalid(index_tvalid), .tready(index_tready),
    .busy(index_busy)
  );
  source #(.WORDS(OUTLIER_BEATS), .NAME("outlier.hex")) outlier (
    .clk(aclk), .rst_n(aresetn), .start(start), .pause(noise[17:16] == 2'd0), .flip(128'd0),
    .tdata(outlier_tdata), .tlast(outlier_tlast), .tvalid(outlier_tvalid),
    .tready(outlier_tready), .busy(outlier_busy)
  );

  plug_in #(.COLUMNS(COLUMNS)) dut (
    .aclk(aclk),
    .aresetn(aresetn),
    .s_axis_codebook_tdata(codebook_tdata),
    .s_axis_codebook_tvalid(codebook_tvalid),
    .s_axis_codebook_tready(codebook_tready),
    .s_axis_index_tdata(index_tdata),
    .s_axis_index_tlast(index_tlast),
    .s_axis_index_tvalid(index_tvalid),
    .s_axis_index_tready(index_tready),
    .s_axis_outlier_tdata(outlier_tdata),
    .s_axis_outlier_tlast(outlier_tlast),
    .s_axis_outlier_tvalid(outlier_tvalid),
    .s_axis_outlier_tready(outlier_tready),
    .act_write(act_write),
    .act_address(act_address),
    .act_data(act_data),
    .hold(hold),
    .m_axis_sum_tdata(sum_tdata),
    .m_axis_sum_tvalid(sum_tvalid),
    .m_axis_sum_tready(sum_tready),
    .error_code(error_code),
    .clear(clear)
  );

  // What is due.
  reg [7:0] acts [0:COLUMNS - 1];
  reg [255:0] words [0:GROUPS - 1];
  reg [1023:0] sums [0:TILES - 1];
  integer group = 0, tile = 0, compared = 0, checked = 0, wrong = 0, stalls = 0, cycles = 0;
  integer broken = 0, n;

  always @(posedge aclk)
    if (start) begin
      group <= 0;
      tile <= 0;
    end else if (aresetn) begin
      cycles <= cycles + 1;
      if (dut.weight_tvalid && !dut.weight_tready)
        stalls <= stalls + 1;
      // Of a tile with an error the words mean nothing, and where it is the unit tells at its end.
      if (dut.weight_tvalid && dut.weight_tready && !faulty) begin
        group <= group + 1;
        compared <= compared + 1;
        if (group >= GROUPS || dut.weight_tdata !== words[group]
            || dut.weight_tlast !== ((group + 1) % (GROUPS / TILES) == 0) || dut.weight_tuser) begin
          wrong <= wrong + 1;
          $display("word %0d is %h, %h is due", group, dut.weight_tdata, words[group]);
        end
      end
      if (sum_tvalid && sum_tready) begin
        tile <= tile + 1;
        checked <= checked + 1;
        if (tile >= TILES || sum_tdata !== sums[tile]) begin
          wrong <= wrong + 1;
          $display("sums of tile %0d are %h, %h are due", tile, sum_tdata, sums[tile]);
        end
      end
    end

  // All below moves between clock edges. A layer: until all its beats are taken, and the last sums
  // have had time to leave.
  task layer;
    input fault;
    begin
      faulty = fault;
      start = 1'b1;
      @(negedge aclk) start = 1'b0;
      for (n = 0; n < 16 * GROUPS && (codebook_busy || index_busy || outlier_busy); n = n + 1)
        @(negedge aclk);
      repeat (400) @(negedge aclk);
    end
  endtask

  task must;
    input holds;
    input [8 * 40 - 1:0] what;
    if (!holds) begin
      broken = broken + 1;
      $display("%0s: error_code %0d, %0d groups, %0d tiles", what, error_code, group, tile);
    end
  endtask

  initial begin
    $readmemh("acts.hex", acts);
    $readmemh("words.hex", words);
    $readmemh("sums.hex", sums);
    repeat (4) @(negedge aclk);
    aresetn = 1'b1;
    act_write = 1'b1;
    for (n = 0; n < COLUMNS; n = n + 1) begin
      act_address = n[15:0];
      act_data = acts[n];
      @(negedge aclk);
    end
    act_write = 1'b0;

    layer(1'b0);
    must(error_code == 3'd0 && group == GROUPS && tile == TILES, "the layer is not whole");

    layer(1'b1);
    must(error_code == 3'd1 && tile == TILES / 2, "a wrong bit is not found");
    must(!index_busy && !outlier_busy, "the streams are held up");
    clear = 1'b1;
    @(negedge aclk) clear = 1'b0;
    must(error_code == 3'd0, "clear does not clear");

    layer(1'b0);
    must(error_code == 3'd0 && group == GROUPS && tile == TILES, "not whole after clear");
    must(stalls > GROUPS / 8, "hardly a group has waited");

    $display("%0d words and %0d sums compared, %0d groups or tiles wrong, %0d rules broken",
             compared * 16, checked * 16, wrong, broken);
    $display("%0d groups waited; %0d cycles", stalls, cycles);
    if (wrong == 0 && broken == 0)
      $display("PASS");
    else
      $display("FAIL");
    $finish;
  end
endmodule
