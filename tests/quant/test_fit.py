"""The fit of a layer, by hand and against the plain reference, bit for bit."""

import math
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant import Options, OutlierRule, decode, quantise
from quant import ranks as quant_ranks
from quant.centroids import _thirds
from quant.packing import unpack
from quant.ranks import Ranks, limbs

from .reference import expect_same

SEED = 22
NONE = OutlierRule("none")
POLICIES = ["gobo", "kmeans", "equal", "linear", "minmax"]


@pytest.fixture
def few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make small arrays take the way of large ones: counted, sketched, opened."""
    monkeypatch.setattr(quant_ranks, "BUCKETS", 64)


def options(**kwargs: object) -> Options:
    """FP32 holds every scale, so that only the fit is looked at."""
    return Options(**{"value_format": "fp32", **kwargs})  # type: ignore[arg-type]


def normal(size: int, *, scale: float = 0.04, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(SEED).normal(mean, scale, size).astype(np.float32)


def samples() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(SEED)
    ticks = rng.integers(-8, 9, 3000) / 64
    return {
        "normal": normal(5000),
        "offset": normal(5000, mean=3.0),
        "far offset": normal(5000, mean=1000.0),
        "farther than keys can tell": normal(5000, mean=60_000.0),
        "heavy tail": (rng.standard_t(2, 5000) * 0.03).astype(np.float32),
        "many ties": ticks.astype(np.float32),
        "few values": rng.choice([-0.5, 0.0, 0.25], 3000).astype(np.float32),
        "midpoints": (ticks[:, None] + [0, 1 / 128]).astype(np.float32).reshape(-1),
        "tiny": normal(3000, scale=1e-8),
        "subnormal": normal(3000, scale=1e-42),
        "wide": (normal(4000) * 10.0 ** rng.integers(-30, 1, 4000)).astype(np.float32),
        "mostly zero": np.where(rng.random(5000) < 0.9, 0, normal(5000)).astype(np.float32),
    }


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("name", samples())
def test_layer_equals_the_reference(name: str, bits: int, policy: str, symmetric: bool) -> None:
    weights = samples()[name].reshape(-1, 8)
    expect_same(
        quantise(weights, options(index_width=bits, policy=policy, symmetric=symmetric)), weights
    )


@pytest.mark.usefixtures("few_buckets")
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", samples())
def test_counted_layer_equals_the_reference(name: str, policy: str, symmetric: bool) -> None:
    weights = samples()[name]
    expect_same(quantise(weights, options(policy=policy, symmetric=symmetric)), weights)


@pytest.mark.parametrize("rule", ["logpdf:-4", "zscore:2.5", "zscore:1", "share:1%", "none"])
@pytest.mark.parametrize("name", samples())
def test_outliers_equal_the_reference(name: str, rule: str) -> None:
    weights = samples()[name]
    expect_same(quantise(weights, options(outliers=OutlierRule.parse(rule))), weights)


def test_a_layer_of_several_blocks_equals_the_reference() -> None:
    weights = normal(300_007)
    weights[::5000] *= 20
    for policy in ("gobo", "equal", "linear"):
        expect_same(quantise(weights, Options(policy=policy)), weights)


RULES = [OutlierRule.parse(r) for r in ("none", "zscore:1", "zscore:2", "share:10%", "logpdf:-9")]


@settings(max_examples=60, deadline=None)
@given(
    weights=hnp.arrays(
        np.float32,
        st.integers(1, 40),
        elements=st.one_of(
            st.floats(-1, 1, width=32), st.sampled_from([0.0, 0.5, 1.0, -1.0, 2.0**-149])
        ),
    ),
    bits=st.integers(2, 4),
    policy=st.sampled_from(POLICIES),
    rule=st.sampled_from(RULES),
    symmetric=st.booleans(),
    buckets=st.sampled_from([8, 64]),
)
def test_any_small_layer_equals_the_reference(
    weights: np.ndarray, bits: int, policy: str, rule: OutlierRule, symmetric: bool, buckets: int
) -> None:
    chosen = options(index_width=bits, policy=policy, outliers=rule, symmetric=symmetric)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quant_ranks, "BUCKETS", buckets)
        try:
            layer = quantise(weights, chosen)
        except ValueError as error:
            assert re.search("makes every weight an outlier|no format holds it", str(error))
            return
    expect_same(layer, weights)


# -- by hand ------------------------------------------------------------------------------------


def test_one_round_by_hand() -> None:
    # Equal bins {0, 1} {2, 3} {10, 11} {12, 20}: means 0.5, 2.5, 10.5, 16, L1 = 1 + 1 + 1 + 8.
    # Nearest puts 12 with 10 and 11: means 0.5, 2.5, 11, 20, L1 = 1 + 1 + 2; nothing moves then.
    weights = np.array([20, 0, 11, 2, 3, 10, 1, 12], np.float32)
    layer = quantise(weights, options(index_width=2, outliers=NONE))
    assert layer.centroids.tolist() == [0.5, 2.5, 11, 20]
    assert layer.iterations == 1
    assert (layer.l1, layer.max_error, layer.squared_error) == (4.0, 1.0, 3.0)
    assert unpack(layer.indexes, 2, 8).tolist() == [3, 0, 2, 1, 1, 2, 0, 2]
    assert decode(layer).tolist() == [20, 0.5, 11, 2.5, 2.5, 11, 0.5, 11]


def test_a_tie_goes_to_the_lower_centroid() -> None:
    weights = np.array([0, 2, 4, 6, 1, 3, 5], np.float32)
    layer = quantise(weights, options(index_width=2, policy="linear", outliers=NONE))
    assert layer.centroids.tolist() == [0, 2, 4, 6]
    assert unpack(layer.indexes, 2, 7).tolist() == [0, 1, 2, 3, 0, 1, 2]


def test_outliers_and_their_rounding_by_hand() -> None:
    # m = 1 and s = 3: only 10 is at least 2.9 s away. 10.001 is 10 in FP16, off by 2^-10 or so.
    weights = np.array([0] * 9 + [10.001], np.float32)
    layer = quantise(weights, Options(outliers=OutlierRule("zscore", 2.9)))
    assert layer.positions.tolist() == [9]
    assert layer.outliers.tolist() == [10.0]
    assert layer.outlier_error == (weights[9].item() - 10) / weights[9].item()
    assert layer.max_error == layer.l1 == weights[9].item() - 10


def test_share_leaves_out_no_more_than_asked() -> None:
    weights = np.array([-4, -3, -1, 0, 0, 0, 0, 1, 3, 4], np.float32)
    for share, expected in [("10%", []), ("20%", [0, 9]), ("30%", [0, 9]), ("40%", [0, 1, 8, 9])]:
        rule = OutlierRule.parse(f"share:{share}")
        assert quantise(weights, options(outliers=rule)).positions.tolist() == expected


def test_logpdf_share_of_a_gaussian_is_the_published_scale() -> None:
    # ln pdf <= -4 at s = 0.04 is |z| >= sqrt(2 (4 - ln 0.04 - ln(2 pi) / 2)) = 3.55.
    layer = quantise(normal(1_000_000))
    assert layer.positions.size == pytest.approx(1_000_000 * math.erfc(3.5497 / 2**0.5), rel=0.15)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_constant_layers_are_exact_to_the_grid(value: float, size: int, policy: str) -> None:
    weights = np.full((1, size), value, np.float32)
    layer = quantise(weights, Options(policy=policy))
    assert layer.deviation == 0.0
    assert layer.positions.size == 0
    assert decode(layer).shape == weights.shape
    assert np.abs(decode(layer) - weights).max() <= abs(value) * 2**-11


def test_paper_keeps_centroids_in_fp32() -> None:
    layer = quantise(normal(4000), options(paper=True))
    assert layer.unit is None
    assert layer.codebook.tolist() == layer.centroids.astype(np.float32).tolist()


def test_symmetric_codebook_is_its_own_negative() -> None:
    layer = quantise(normal(4000, mean=0.01), Options(symmetric=True))
    assert layer.codebook.tolist() == (-layer.codebook[::-1]).tolist()


def test_the_same_weights_give_the_same_bytes_in_any_layout() -> None:
    weights = normal(6000).reshape(60, 100)
    one, two = quantise(weights), quantise(np.asfortranarray(weights))
    assert one.indexes.tobytes() == two.indexes.tobytes()
    assert one.codebook.tobytes() == two.codebook.tobytes()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_word_embeddings_take_less_extra_memory_than_their_own_size_and_a_half(bits: int) -> None:
    weights = normal(30522 * 768)
    tracemalloc.start()
    try:
        quantise(weights, Options(index_width=bits))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most <= 1.5 * weights.nbytes


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 70_000])
def test_a_weight_that_is_not_finite_is_named(bad: float, place: int) -> None:
    weights = np.zeros(80_000, np.float32)
    weights[place] = bad
    with pytest.raises(ValueError, match=f"flat position {place} is {bad}"):
        quantise(weights)


def test_both_infinities_are_found() -> None:
    with pytest.raises(ValueError, match="flat position 1 is inf"):
        quantise(np.array([0, np.inf, -np.inf], np.float32))


def test_a_rule_that_leaves_no_group_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"logpdf:-4 makes every weight .*deviation 49.7.*zscore"):
        quantise(normal(1000, scale=50.0))


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int8])
def test_other_types_are_refused(kind: type) -> None:
    with pytest.raises(TypeError, match="weights must be float32"):
        quantise(np.zeros(4, kind))


def test_no_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="not 0"):
        quantise(np.zeros((0, 3), np.float32))


def test_a_layer_too_small_for_fp16_is_refused() -> None:
    with pytest.raises(ValueError, match="lost on the grid of fp16"):
        quantise(normal(1000, scale=1e-9))


def test_an_outlier_too_large_for_fp16_is_named() -> None:
    weights = normal(1000)
    weights[17] = 1e6
    with pytest.raises(ValueError, match=r"outlier 1e\+06 at flat position 17 .*bf16"):
        quantise(weights, Options(outliers=OutlierRule("zscore", 3)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"index_width": 5}, "index_width must be 2, 3 or 4 bits, not 5"),
        ({"policy": "best"}, "policy must be one of gobo"),
        ({"value_format": "fp8"}, "value_format must be one of fp16"),
        ({"centroid_width": 13}, "centroid_width must be in 4..12 bits for fp16, not 13"),
        ({"paper": True}, "paper keeps FP32"),
    ],
)
def test_wrong_options_are_refused(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["none", "logpdf:-4", "zscore:3.5", "share:0.1%", "share:0%"])
def test_a_rule_is_written_as_it_is_read(text: str) -> None:
    assert str(OutlierRule.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "sigma:3", "logpdf", "none:1", "zscore:x", "zscore:-1", "zscore:0", "share:0.1",
     "share:100%", "logpdf:nan", "logpdf:inf"],
)  # fmt: skip
def test_wrong_rules_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"rule|zscore|share|finite"):
        OutlierRule.parse(text)


# -- ranks --------------------------------------------------------------------------------------


def test_limbs_add_up_and_are_short() -> None:
    numbers = np.array([1.0, -1 / 3, 2.0**-149, 0.0, 12345.678])
    parts = list(limbs(numbers))
    assert [math.fsum(column) for column in zip(*parts, strict=True)] == numbers.tolist()
    assert all(np.ptp(np.frexp(row[row != 0])[1]) <= 24 for row in parts if row.any())


def test_thirds_add_up_and_are_short() -> None:
    numbers = np.concatenate([normal(1000).astype(np.float64) / 3, [2.0**-149, 1 - 2.0**-53, 0.0]])
    parts = _thirds(numbers)
    assert [math.fsum(column) for column in parts.T.tolist()] == numbers.tolist()
    assert (np.ldexp(np.frexp(parts)[0], 24) % 1 == 0).all()


@pytest.mark.parametrize("buckets", [8, 64, 1 << 14])
def test_ranks_equal_sorting(buckets: int) -> None:
    weights = np.concatenate([normal(30_000), normal(3000, scale=1e-12), np.zeros(50, np.float32)])
    low, high = np.float32(-0.11), np.float32(0.12)
    group = Ranks(lambda: iter(np.array_split(weights, 3)), float(low), float(high), buckets)
    group.open(np.zeros(0, np.int64))
    ordered = np.sort(weights[(weights > low) & (weights < high)])
    assert group.count == ordered.size
    below, above = group.around(np.array([-np.inf, np.inf], np.float32))
    assert (above[0], below[1]) == (ordered[0], ordered[-1])
    points = np.concatenate([ordered[::1000], normal(50)])
    ranks, sums = group.below(points)
    assert np.array_equal(ranks, np.searchsorted(ordered, points, side="right"))
    for rank, terms in zip(ranks.tolist(), sums.T.tolist(), strict=True):
        assert math.fsum(terms) == math.fsum(ordered[:rank].tolist())
    ranks = np.arange(0, ordered.size + 1, ordered.size // 7)
    for rank, terms in zip(ranks.tolist(), group.first(ranks).T.tolist(), strict=True):
        assert math.fsum(terms) == math.fsum(ordered[:rank].tolist())


@pytest.mark.parametrize("value", [0.011, 0.03, 0.047])
@pytest.mark.parametrize(
    "crowd", [np.ones(40_000), np.linspace(0.9, 1.1, 40_000), np.linspace(1e-12, 1e-10, 300)]
)
def test_a_bucket_of_many_or_of_tiny_weights_is_exact(value: float, crowd: np.ndarray) -> None:
    # Not asked for itself: its count and sum come from the total, or it had to be opened.
    weights = np.concatenate([value * crowd, [-0.1, 0.1]]).astype(np.float32)
    group = Ranks(lambda: iter([weights[:200], weights[200:]]), -0.11, 0.12, 64)
    group.open(np.zeros(0, np.int64))
    ranks, sums = group.below(np.array([0.09], np.float32))
    assert ranks.tolist() == [crowd.size + 1]
    assert math.fsum(sums[:, 0].tolist()) == math.fsum(weights[weights < 0.09].tolist())
