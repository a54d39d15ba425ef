"""The case that is worked out by hand, and small configurations, for the golden model's tests."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from gobo_rtl.config import CONFIGS, GoboConfig

TINY = CONFIGS["tiny"]  # 4 lanes, a group is 4 rows by 1 column, beats of 64 bits

CODEBOOK = np.array(
    [0xC000, 0xBC00, 0xB800, 0x0000, 0x3400, 0x3800, 0x3C00, 0x4000], np.uint16
)  # -2, -1, -0.5, 0, 0.25, 0.5, 1, 2

MATRIX = np.array([[0x3800, 0x4000], [0xC248, 0xBC00], [0xB800, 0x3555]], np.uint16)
"""3 x 2: two groups, of which lane 3 is padding.  Outliers 0xC248 and 0x3555."""

# Lanes 0..3: group 0 has the indexes 5 x 2 0, group 1 has 7 1 x 0; x is an outlier's, 0.
#   plane      0    1    2         0    1    2
#   bits      1000 0010 1000      1100 1000 1000      lowest lane first
INDEXES = bytes.fromhex("41 31 11 00 00000000")

# Group count 2, record count 2, the sums; then the records
#   lane 1, more 0, gap 0, 0xC248; lane 2, more 0, gap 1, 0x3555.
OUTLIERS = bytes.fromhex("0200 0200 ebcb 8a94  0100 48c2  0a00 5535")


@dataclass(frozen=True)
class Given:
    """Streams of a layer, written out."""

    indexes: np.ndarray
    outliers: np.ndarray
    indexes_last: np.ndarray
    outliers_last: np.ndarray
    codebook: np.ndarray
    index_width: int


def given_layer(
    indexes: bytes = INDEXES,
    outliers: bytes = OUTLIERS,
    *,
    config: GoboConfig = TINY,
    codebook: np.ndarray = CODEBOOK,
    ends: bool = True,
) -> Given:
    """Cut bytes into beats; without ``ends`` no beat has ``last``."""
    beats = [
        np.frombuffer(data, np.uint8).reshape(-1, config.beat_bytes) for data in (indexes, outliers)
    ]
    lasts = [(np.arange(len(b)) == len(b) - 1) & ends for b in beats]
    return Given(*beats, *lasts, codebook, int(codebook.size).bit_length() - 1)


@st.composite
def configs(draw: st.DrawFn) -> GoboConfig:
    """Any small configuration."""
    lanes = draw(st.sampled_from([4, 8, 16, 32]))
    lane_rows = draw(st.sampled_from([n for n in (1, 2, 4, 8, 16, 32) if n <= lanes]))
    widths = draw(st.sets(st.sampled_from([2, 3, 4]), min_size=1))
    return GoboConfig(
        lanes=lanes,
        index_widths=tuple(sorted(widths)),
        value_format=draw(st.sampled_from(["fp16", "bf16", "fp32"])),
        beat_width=draw(st.sampled_from([64, 128, 256])),
        lane_rows=lane_rows,
        tile_rows=lane_rows * draw(st.integers(1, 3)),
        burst_beats=draw(st.sampled_from([1, 2, 4])),
    )
