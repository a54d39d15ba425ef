"""Is a container what the quantiser makes of a model?  Checked weight by weight.

Only the definitions are used, not the quantiser: the moments are of the source's weights, a weight
is an outlier when the rule says so of these moments, an outlier is the rounded source, any other
weight is its nearest centroid, and what is not quantised is there byte for byte.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .container import Container
from .encoding import from_float32, to_float32
from .fit import Layer, OutlierRule
from .source import Source

__all__ = ["Comparison", "compare_layer", "verify", "wrong_split"]

_FORMAT_TYPES = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}
_BLOCK = 1 << 20  # weights compared at a time
_SLACK = 1e-12  # of the mean and the deviation: two ways to add up differ by less


@dataclass(frozen=True)
class Comparison:
    """What came out for a tensor: ``what`` is empty when it is as it has to be."""

    name: str
    weights: int
    mismatches: int
    max_error: float
    what: str = ""


def verify(
    container: Container, source: Source, done: Callable[[str], object] = lambda name: None
) -> list[Comparison]:
    """Compare every tensor of a container and a model, in order of name.

    A tensor that only one of them has is a mismatch of all its elements.
    """
    quantised = set(container.layers)
    results = []
    for name in sorted(quantised | set(container.stored) | set(source.tensors)):
        if name not in source.tensors:
            size = container.layer(name).size if name in quantised else container.stored[name].size
            results.append(Comparison(name, size, size, 0.0, "the model does not have it"))
        elif name in quantised:
            results.append(_compare_quantised(container, source, name))
        elif name in container.stored:
            results.append(_compare_stored(container, source, name))
        else:
            size = source.tensors[name].size
            results.append(Comparison(name, size, size, 0.0, "the container does not have it"))
        done(name)
    return results


def compare_layer(
    source: NDArray[np.float32],
    decoded: NDArray[np.float32],
    codebook: NDArray[np.float32],
    positions: NDArray[np.int64],
    value_format: str,
) -> tuple[int, float]:
    """Return how many decoded weights are not as they have to be, and the largest error.

    All are flat.  Of two centroids that are equally near either is right.
    """
    mismatches, max_error = 0, 0.0
    levels = codebook.astype(np.float64)
    for at in range(0, source.size, _BLOCK):
        wanted = source[at : at + _BLOCK].astype(np.float64)
        errors = np.abs(wanted - decoded[at : at + _BLOCK])
        above = np.clip(np.searchsorted(levels, wanted), 1, levels.size - 1)
        least = np.minimum(np.abs(wanted - levels[above - 1]), np.abs(wanted - levels[above]))
        wrong = ~(errors == least)  # a NaN is wrong, too
        low, high = np.searchsorted(positions, (at, at + wanted.size))
        wrong[positions[low:high] - at] = False
        mismatches += int(wrong.sum())
        max_error = max(max_error, float(errors.max()))
    kind = _FORMAT_TYPES[value_format]
    try:
        rounded = to_float32(from_float32(source[positions], kind), kind)
    except OverflowError:
        return mismatches + positions.size, max_error
    return mismatches + int((rounded != decoded[positions]).sum()), max_error


def wrong_split(source: NDArray[np.float32], layer: Layer) -> str:
    """Return what is wrong with the choice of outliers, or nothing.

    ``source`` is flat.  A weight that is within rounding of the rule's limit may be either.
    """
    blocks = range(0, source.size, _BLOCK)
    mean = math.fsum(float(source[at : at + _BLOCK].sum(dtype=np.float64)) for at in blocks)
    mean /= source.size
    spread = math.fsum(
        float(np.square(source[at : at + _BLOCK] - np.float64(mean)).sum()) for at in blocks
    )
    deviation = math.sqrt(spread / source.size)
    slack = _SLACK * (abs(mean) + deviation)
    if abs(mean - layer.mean) > slack or abs(deviation - layer.deviation) > slack:
        return f"mean and deviation are {mean:g}, {deviation:g}, not those of the record"
    inside, outside = 0.0, math.inf  # the farthest that is none, the nearest that is an outlier
    for group, outliers in _distances(source, layer.positions, mean):
        inside = max(inside, float(group.max(initial=0.0)))
        outside = min(outside, float(outliers.min(initial=math.inf)))
    rule, count = layer.options.rule, layer.positions.size
    if rule.kind == "share":
        wanted = round(rule.parameter * source.size)
        if count > wanted or (count and outside <= inside - slack):
            return f"{count} outliers are not the {wanted} weights farthest from the mean"
        ties = sum(int((g == inside).sum()) for g, _ in _distances(source, layer.positions, mean))
        if deviation and count + ties <= wanted:
            return f"{count} outliers, and {wanted} were asked for"
        return ""
    limit = _limit(rule, deviation)
    if inside >= limit + slack or outside < limit - slack:
        return f"the outliers are not those of {rule}"
    return ""


def _distances(
    source: NDArray[np.float32], positions: NDArray[np.int64], mean: float
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield, a block at a time, how far weights and outliers are from the mean."""
    for at in range(0, source.size, _BLOCK):
        distance = np.abs(source[at : at + _BLOCK] - np.float64(mean))
        low, high = np.searchsorted(positions, (at, at + distance.size))
        outlier = np.zeros(distance.size, np.bool_)
        outlier[positions[low:high] - at] = True
        yield distance[~outlier], distance[outlier]


def _limit(rule: OutlierRule, deviation: float) -> float:
    """Return how far from the mean a weight is an outlier."""
    if rule.kind == "none" or not deviation:
        return math.inf
    if rule.kind == "zscore":
        return rule.parameter * deviation
    exponent = -rule.parameter - math.log(deviation * math.sqrt(2 * math.pi))
    return deviation * math.sqrt(max(2 * exponent, 0.0))


def _compare_quantised(container: Container, source: Source, name: str) -> Comparison:
    stored, tensor = container.layer(name), source.tensors[name]
    layer = stored.layer
    if (tensor.shape, tensor.dtype) != (layer.shape, stored.source_type):
        what = _kinds(tensor.dtype, tensor.shape, stored.source_type, layer.shape)
        return Comparison(name, stored.size, stored.size, 0.0, what)
    weights = tensor.weights().reshape(-1)
    if not np.isfinite(weights).all():
        what = "the model has a weight that is not finite"
        return Comparison(name, stored.size, stored.size, 0.0, what)
    mismatches, max_error = compare_layer(
        weights, container.weights(name).reshape(-1), layer.codebook, layer.positions,
        layer.options.value_format,
    )  # fmt: skip
    if mismatches:
        what = f"{mismatches} weights are neither the nearest centroid nor a rounded outlier"
        return Comparison(name, stored.size, mismatches, max_error, what)
    what = wrong_split(weights, layer)
    if not what and max_error != layer.max_error:
        what = f"the largest error is {max_error:g}, the record says {layer.max_error:g}"
    return Comparison(name, stored.size, 1 if what else 0, max_error, what)


def _compare_stored(container: Container, source: Source, name: str) -> Comparison:
    entry, tensor = container.stored[name], source.tensors[name]
    if (entry.dtype, entry.shape) != (tensor.dtype, tensor.shape):
        what = _kinds(tensor.dtype, tensor.shape, entry.dtype, entry.shape)
        return Comparison(name, entry.size, entry.size, 0.0, what)
    different = int((container.raw(name) != tensor.raw()).sum())
    what = f"{different} bytes differ" if different else ""
    return Comparison(name, entry.size, min(different, entry.size), 0.0, what)


def _kinds(there: str, shape: tuple[int, ...], here: str, own: tuple[int, ...]) -> str:
    return f"{there} {list(shape)} in the model, {here} {list(own)} in the container"
