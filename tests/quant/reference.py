"""A plain quantiser to hold :mod:`quant` against: every distance to every centroid.

No cuts, no buckets, no prefix sums; no arithmetic here comes from ``quant``.  Sums are exact and
rounded once.
"""

import math
from fractions import Fraction

import numpy as np

from quant import Layer, decode
from quant.packing import unpack

CHUNK = 1 << 15  # weights whose distances are in memory at a time


def exact(numbers: np.ndarray) -> Fraction:
    """Return the sum of float32 ``numbers`` (n,).

    Those of one exponent are whole multiples of one unit and below 2^24 of it, so float64 adds
    up to 2^29 of them without rounding.
    """
    if not numbers.size:
        return Fraction(0)
    exponents = np.frexp(numbers)[1]
    return sum(map(Fraction, np.bincount(exponents - exponents.min(), weights=numbers).tolist()))


def outliers(weights: np.ndarray, kind: str, parameter: float) -> np.ndarray:
    """Return the mask (n,) of the outliers of float32 ``weights`` (n,)."""
    w = weights.astype(np.float64)
    mean = math.fsum(w) / w.size
    deviation = math.sqrt(math.fsum((w - mean) ** 2) / w.size)
    distance = np.abs(w - mean)
    if kind == "none" or deviation == 0:
        return np.zeros(w.size, bool)
    if kind == "logpdf":
        z = distance / deviation
        return -z * z / 2 - math.log(deviation * math.sqrt(2 * math.pi)) <= parameter
    if kind == "zscore":
        return distance >= parameter * deviation
    wanted = round(parameter * w.size)
    return distance > np.sort(distance)[::-1][wanted]


def nearest(weights: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the first of the nearest centroids of each weight; ascending float64 centroids.

    Where float64 cannot tell two distances apart, fractions do.
    """
    labels = np.zeros(weights.size, np.int8)
    for at in range(0, weights.size, CHUNK):
        part = weights[at : at + CHUNK].astype(np.float64)
        label = labels[at : at + CHUNK]
        distances = [np.abs(part - centroid) for centroid in centroids]
        least = distances[0].copy()
        for number, distance in enumerate(distances):
            label[distance < least] = number
            np.minimum(least, distance, out=least)
        within = least * (1 + 2.0**-50)
        close = sum((distance <= within).astype(np.int8) for distance in distances) > 1
        for value in np.unique(part[close]):
            fractions = [abs(Fraction(value) - Fraction(c)) for c in centroids.tolist()]
            label[part == value] = fractions.index(min(fractions))
    return labels


def means(weights: np.ndarray, labels: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the mean of each bin (bins,); an empty bin keeps its centroid."""
    result = kept.copy()
    for label in range(kept.size):
        members = weights[labels == label]
        if members.size:
            result[label] = float(exact(members)) / members.size
    return result


def l1(weights: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> float:
    """Return the exact sum of |w - centroid|, rounded once."""
    above = weights > centroids[labels]
    total = exact(weights[above]) - exact(weights[~above])
    for label, centroid in enumerate(centroids.tolist()):
        here = above[labels == label]
        total -= Fraction(centroid) * (2 * int(here.sum()) - here.size)
    return float(total)


def fit(group: np.ndarray, bins: int, policy: str) -> tuple[np.ndarray, int]:
    """Return centroids (bins,) and iterations for the Gaussian group, float32 (n,)."""
    if policy in ("linear", "minmax"):
        low, high = float(group.min()), float(group.max())
        step = np.arange(bins) / (bins - 1)
        return low * (1 - step) + high * step, 0
    weights = np.sort(group)
    runs = np.array_split(np.arange(weights.size), bins)
    labels = np.repeat(np.arange(bins), [run.size for run in runs])
    centroids = means(weights, labels, np.full(bins, float(weights[-1])))
    best, least = centroids, l1(weights, labels, centroids)
    iterations = 0
    while policy != "equal" and iterations < 1000:
        before, labels = labels, nearest(weights, centroids)
        if np.array_equal(before, labels):
            break
        iterations += 1
        centroids = means(weights, labels, centroids)
        now = l1(weights, labels, centroids)
        centroids = np.sort(centroids)
        if policy == "gobo" and now >= least:
            break
        best, least = centroids, now
    return best, iterations


def fitted(
    weights: np.ndarray, *, bits: int, policy: str, rule: tuple[str, float], symmetric: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return outlier mask (n,), centroids (2**bits,) and iterations of float32 ``weights`` (n,)."""
    mask = outliers(weights, *(("none", 0.0) if policy == "minmax" else rule))
    group = weights[~mask]
    if not symmetric:
        return mask, *fit(group, 2**bits, policy)
    if policy in ("linear", "minmax"):
        top = float(np.abs(group).max())
        levels, iterations = fit(np.array([-top, top], np.float32), 2**bits, policy)
        half = levels[2 ** (bits - 1) :]
    else:
        half, iterations = fit(np.abs(group), 2 ** (bits - 1), policy)
    return mask, np.concatenate([-half[::-1], half]), iterations


def expect_same(layer: Layer, weights: np.ndarray) -> None:
    """Compare outliers, centroids, iterations and indexes with the reference's."""
    options, flat = layer.options, weights.reshape(-1)
    mask, centroids, iterations = fitted(
        flat,
        bits=options.index_width,
        policy=options.policy,
        rule=(options.outliers.kind, options.outliers.parameter),
        symmetric=options.symmetric,
    )
    assert np.array_equal(layer.positions, np.flatnonzero(mask))
    assert layer.centroids.tolist() == centroids.tolist()
    assert layer.iterations == iterations
    indexes = unpack(layer.indexes, options.index_width, flat.size - layer.positions.size)
    assert np.array_equal(indexes, nearest(flat[~mask], layer.codebook.astype(np.float64)))
    decoded = decode(layer).reshape(-1)
    assert np.array_equal(decoded[~mask], layer.codebook[indexes])
    assert np.array_equal(decoded[mask], layer.outliers)
    expect_errors(layer, flat, decoded)


def expect_errors(layer: Layer, weights: np.ndarray, decoded: np.ndarray) -> None:
    """Compare the layer's error figures with those of each weight; squares as far as they go."""
    above = weights > decoded
    total = exact(weights[above]) + exact(decoded[~above])
    assert layer.l1 == float(total - exact(weights[~above]) - exact(decoded[above]))
    errors = np.abs(weights.astype(np.float64) - decoded)
    assert layer.max_error == errors.max()
    spread = weights.size * layer.deviation**2
    assert abs(layer.squared_error - np.square(errors).sum()) <= 1e-14 * spread
