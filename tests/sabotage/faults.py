"""The faults that are planted, and the benches that are to catch them."""

from .plant import Fault

__all__ = ["BENCHES", "FAULTS"]

# For a file under the folder: what pytest runs.
BENCHES: dict[str, tuple[str, ...]] = {
    # One outlier a cycle, several, and the widest gaps: what needs more is left to `make test`.
    "gobo_rtl/": (
        "tests/rtl/test_decode.py",
        "-k", "hand or tiny or gaps or (four and pace) or (rows and pace0)",
    ),
    "sim/golden/": ("tests/golden",),
}

CHECKS = "gobo_rtl/decode/checks.py"
LANES = "gobo_rtl/decode/lanes.py"
MERGE = "gobo_rtl/decode/merge.py"
SCHEDULE = "gobo_rtl/decode/schedule.py"
INDEXES = "gobo_rtl/decode/index_reader.py"
OUTLIERS = "gobo_rtl/decode/outlier_reader.py"
UNPACKER = "gobo_rtl/decode/unpacker.py"
UNIT = "gobo_rtl/decode/unit.py"
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
)  # fmt: skip
