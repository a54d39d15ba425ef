"""The faults that are planted, and the benches that are to catch them."""

from .plant import Fault

__all__ = ["BENCHES", "FAULTS"]

# What pytest runs for a file whose path begins so, the first that fits: the quickest that will do.
BENCHES: dict[str, tuple[str, ...]] = {
    "gobo_rtl/pe/align.py": ("tests/rtl/test_align.py",),
    "gobo_rtl/pe/round.py": ("tests/rtl/test_finish.py", "-k", "hand or cancel or corner"),
    "gobo_rtl/pe/": ("tests/rtl/test_array.py", "-k", "hand or default or shapes"),
    "gobo_rtl/array/array.py": ("tests/rtl/test_array.py", "-k", "hand or default or bubble"),
    "gobo_rtl/array/finish.py": ("tests/rtl/test_finish.py", "-k", "golden and tiny or hand"),
    "gobo_rtl/array/schedule.py": ("tests/rtl/test_schedule.py",),
    "gobo_rtl/array/steps.py": ("tests/rtl/test_steps.py",),
    "gobo_rtl/array/strip_buffer.py": ("tests/rtl/test_strip_buffer.py",),
    "gobo_rtl/array/act_buffer.py": ("tests/rtl/test_act_buffer.py",),
    "gobo_rtl/array/replay.py": ("tests/rtl/test_act_buffer.py", "tests/rtl/test_strip_buffer.py"),
    "gobo_rtl/array/act_loader.py": ("tests/rtl/test_loaders.py",),
    "gobo_rtl/array/result_writer.py": ("tests/rtl/test_result_writer.py",),
    "gobo_rtl/array/weight_loader.py": ("tests/rtl/test_weight_loader.py", "-k", "every_cycle"),
    "gobo_rtl/bus/": ("tests/rtl/test_axi.py", "-k", "multiples or error or commands and tiny"),
    # One outlier a cycle, several, and the widest gaps: what needs more is left to `make test`.
    "gobo_rtl/decode/": (
        "tests/rtl/test_decode.py",
        "-k", "hand or tiny or gaps or (four and pace) or (rows and pace0)",
    ),
    "sim/golden/tile.py": ("tests/golden/test_decode.py", "tests/golden/test_matrix.py"),
    "sim/golden/crc.py": ("tests/golden/test_crc.py",),
    "sim/golden/": tuple(
        f"tests/golden/test_{name}.py" for name in ("align", "array", "layer", "finish")
    ),
}

CHECKS = "gobo_rtl/decode/checks.py"
LANES = "gobo_rtl/decode/lanes.py"
MERGE = "gobo_rtl/decode/merge.py"
SCHEDULE = "gobo_rtl/decode/schedule.py"
INDEXES = "gobo_rtl/decode/index_reader.py"
OUTLIERS = "gobo_rtl/decode/outlier_reader.py"
UNPACKER = "gobo_rtl/decode/unpacker.py"
UNIT = "gobo_rtl/decode/unit.py"
SELECT = "gobo_rtl/pe/select.py"
PRODUCTS = "gobo_rtl/pe/products.py"
BINS = "gobo_rtl/pe/bins.py"
ROUND = "gobo_rtl/pe/round.py"
ARRAY = "gobo_rtl/array/array.py"
FINISH = "gobo_rtl/array/finish.py"
PASSES = "gobo_rtl/array/schedule.py"
STEPS = "gobo_rtl/array/steps.py"
STRIPS = "gobo_rtl/array/strip_buffer.py"
ACTS = "gobo_rtl/array/act_buffer.py"
WRITER = "gobo_rtl/array/result_writer.py"
TILE = "sim/golden/tile.py"
CRC = "sim/golden/crc.py"

FAULTS: tuple[Fault, ...] = (
    Fault("an outlier in the last lane is dropped", LANES,
          "outlier.eq(any_of(list(here)))",
          "outlier.eq(any_of(list(here)) if lane + 1 < config.lanes else 0)"),
    Fault("an outlier goes to the lane above", LANES,
          "(records[n].lane == lane)", "(records[n].lane + 1 == lane)"),
    Fault("two centroids are swapped", LANES,
          "centroid.eq(self.codebook[n])", "centroid.eq(self.codebook[n ^ 1 if n < 2 else n])"),
    Fault("the codebook of the next layer is not taken", MERGE,
          "with m.If(i.payload.first):", "with m.If(i.payload.first & ~group.end):"),
    Fault("the last group of a tile is not marked", MERGE,
          "last.eq((done & group.last) | killed)", "last.eq(killed)"),
    Fault("an escape is taken for an outlier", LANES,
          "due[n] & ~escape[n] & (", "due[n] & ("),
    Fault("the CRC of the groups is not compared", CHECKS,
          "sum_bad.eq(after != self.index_crc16)", "sum_bad.eq(0)"),
    Fault("a lane twice in a group is let through", CHECKS,
          "disorder_r.eq(step & disorder)", "disorder_r.eq(0)"),
    Fault("records left over are let through", CHECKS,
          "left_over.eq(finish & self.left)", "left_over.eq(0)"),
    Fault("a group is overwritten while the output waits", MERGE,
          "free = ~valid | o.ready", "free = ~valid | o.ready | self.i.valid"),
    Fault("a record is taken a group too late", SCHEDULE,
          "Mux(unknown, since, after_since)", "since"),
    Fault("groups since the last record are not counted", SCHEDULE,
          "Mux(done, after_since, since)", "since"),
    Fault("valid falls while it waits", MERGE,
          "o.valid.eq(valid | bad)", "o.valid.eq((valid & i.valid) | bad)"),
    Fault("a tile has a group too few", INDEXES,
          "self.i_tile.payload.group_count == 1)", "self.i_tile.payload.group_count <= 2)"),
    Fault("the CRC of the records is not compared", OUTLIERS,
          "(after != expected)", "(after != after)"),
    Fault("a record's place in the window is off by one", OUTLIERS,
          "entry.eq(arrivals[n - at])", "entry.eq(arrivals[max(n - at - 1, 0)])"),
    Fault("the unpacker stores the wrong end of a beat", UNPACKER,
          'source = ("beat", used + take - stored + n)', 'source = ("beat", used + n)'),
    Fault("the unpacker keeps a beat when its section ends", UNPACKER,
          "(used_up | self.final)", "used_up"),
    Fault("beats that end too early are not noticed", UNIT,
          "starved.eq(indexes.starved)", "starved.eq(0)"),
    Fault("an activation goes to a neighbour of its bin", BINS,
          "(row.index == n)", "(row.index == n ^ 1)"),
    Fault("the product of a neighbouring centroid", PRODUCTS,
          "Array(products)[row.index]", "Array(products)[row.index ^ 1]"),
    Fault("the last term is not in the sum", "gobo_rtl/pe/column.py",
          "self.select.last, since, ", "self.select.last, since - 1, "),
    Fault("outliers of the last row are dropped", SELECT,
          "row.hits.eq(hits)", "row.hits.eq(hits if number + 1 < config.rows else 0)"),
    Fault("an outlier's row takes its centroid too", SELECT,
          "plain & ~seen & ~hits.any()", "plain & ~seen"),
    Fault("an activation is aligned half to odd", "gobo_rtl/pe/align.py",
          "shifted[: fraction - 1].any() | shifted[fraction])",
          "shifted[: fraction - 1].any() | ~shifted[fraction])"),
    Fault("an outlier is shifted a place too far", "gobo_rtl/pe/outlier.py",
          "bias(value) + value.fraction_width", "bias(value) + value.fraction_width - 1"),
    Fault("a result is rounded half to odd", ROUND,
          "s.number[: rest - 1].any() | s.number[rest])",
          "s.number[: rest - 1].any() | ~s.number[rest])"),
    Fault("a NaN among the activations is lost", ROUND,
          "nan=s.special | addend.nan", "nan=addend.nan"),
    Fault("the unit of the sums is one off", ARRAY,
          "base.eq(step.unit + (", "base.eq(step.unit + 1 + ("),
    Fault("sums leave a cycle too early", ARRAY,
          "start + self.column.latency - 1, ", "start + self.column.latency - 2, "),
    Fault("the end of a pass does not wait for the sums before", ARRAY,
          "m.d.sync += self.last_ready.eq(0)", "m.d.sync += self.last_ready.eq(1)"),
    Fault("the codebook of the first layer stays", STEPS,
          "with m.If(give & begins):",
          "with m.If(give & begins & (o.payload.index_width == 0)):"),
    Fault("a step that has further outliers takes its activation along", STEPS,
          "self.i_acts.ready.eq(give & weights.done)", "self.i_acts.ready.eq(give)"),
    Fault("the biases of the strip before", FINISH,
          "after.eq(bank ^ held)", "after.eq(bank)"),
    Fault("a row past the edge is written", FINISH,
          "row + n < current.rows for", "row + n <= current.rows for"),
    Fault("a block has a token tile too many", PASSES,
          "(number + 1 == layer.block)", "(number == layer.block)"),
    Fault("a strip is released before its last tile", PASSES,
          "o.weights.release.eq(closes)", "o.weights.release.eq(opens)"),
    Fault("outliers come a step too early", STRIPS,
          "here = outlier.step == step", "here = outlier.step == step + 1"),
    Fault("a strip begins anew with further outliers", STRIPS,
          "further.eq(~o.payload.done)", "further.eq(0)"),
    Fault("words are released that are to be read again", "gobo_rtl/array/replay.py",
          "m.If(ends & command.release)", "m.If(ends)"),
    Fault("a tile is read before it is complete", ACTS,
          "words.commit.eq(complete)", "words.commit.eq(accept & beat.end)"),
    Fault("a NaN before a token's last beat is lost", "gobo_rtl/array/act_loader.py",
          "so_far.special | beat.special", "beat.special"),
    Fault("a strip's end is not told without an outlier", "gobo_rtl/array/weight_loader.py",
          "any_of(list(due)) | last", "any_of(list(due))"),
    Fault("the second strip goes to the next block's tokens", WRITER,
          "Mux(current.new_strip & (current.strip != 0), block, token)", "token"),
    Fault("a completion is written before the last response", WRITER,
          "~write.valid & ~self.pending & ~self.hold", "~write.valid & ~self.hold"),
    Fault("a burst over 4 KB", "gobo_rtl/bus/axi.py",
          "room.eq(beats - (place & (beats - 1)))", "room.eq(beats)"),
    Fault("a beat with an error is given", "gobo_rtl/bus/read_master.py",
          "o.valid.eq(axi.rvalid & ~bad & ~silent)", "o.valid.eq(axi.rvalid & ~silent)"),
    Fault("the last beat of a burst is not marked", "gobo_rtl/bus/write_master.py",
          "axi.wlast.eq(last)", "axi.wlast.eq(last & (lengths.r_data == 0))"),
    Fault("golden: an outlier is a group too far", TILE,
          "np.cumsum(self.gap, dtype=np.int64)", "np.cumsum(self.gap + 1, dtype=np.int64)"),
    Fault("golden: planes in reverse", TILE,
          "planes[:, j] << j", "planes[:, j] << (index_width - 1 - j)"),
    Fault("golden: lanes in reverse", TILE,
          "lane=place & (config.lanes - 1)", "lane=~place & (config.lanes - 1)"),
    Fault("golden: fields of the header are swapped", TILE,
          "whole >> f.offset &", "whole >> (f.offset ^ 16) &"),
    Fault("golden: an escape is taken for an outlier", TILE,
          "~records.escape & (group < len(values))", "group < len(values)"),
    Fault("golden: a beat too many after a full one", TILE,
          "-(-bits // config.beat_width)", "bits // config.beat_width + 1"),
    Fault("golden: another polynomial", CRC,
          "CRC16.polynomial if", "CRC16.polynomial ^ 2 if"),
    Fault("golden: another first remainder", CRC,
          "_mirror(CRC16.initial, 16)", "_mirror(CRC16.initial ^ 1, 16)"),
    Fault("golden: an activation goes to a neighbour of its bin", "sim/golden/bins.py",
          "place = count - 1 - chosen if mirrored", "place = count - chosen if mirrored"),
    Fault("golden: only the last outlier of a row counts", "sim/golden/bins.py",
          "outliers += product(", "outliers = product("),
    Fault("golden: an outlier is dropped", "sim/golden/products.py",
          "if outlier[row, k]:", "if outlier[row, k] and row + 1 < rows:"),
    Fault("golden: the last term is lost", "sim/golden/products.py",
          "for k in range(steps):", "for k in range(steps - 1):"),
    Fault("golden: the unit of the sums is one off", "sim/golden/layer.py",
          "aligned.exponent + layer.unit", "aligned.exponent + layer.unit + 1"),
    Fault("golden: half to odd", "sim/golden/arith.py",
          "(kept & 1 == 1)", "(kept & 1 == 0)"),
    Fault("golden: a NaN among the activations is lost", "sim/golden/finish.py",
          "results[special] = nan", "results[special] = 0"),
    Fault("golden: infinity is taken for a number", "sim/golden/align.py",
          "field == (1 << act.exponent_width) - 1", "field > (1 << act.exponent_width) - 1"),
    Fault("golden: a strip's end takes no outlier word", "sim/golden/steps.py",
          "np.maximum(words[:, -1], 1)", "words[:, -1]"),
    Fault("golden: a strip at a time for all tiles", "sim/golden/schedule.py",
          "min(block + block_tiles, tiles)", "tiles"),
)  # fmt: skip
