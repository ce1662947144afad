"""Empirical distribution functions (EDFs) of error at matched cost: F(e) = sum over trials of w 1[error < e].

"On Network Design Spaces for Visual Recognition" (Radosavovic, Johnson, Xie, Lo and Dollar, ICCV 2019) compares two sets of
networks by their error distributions, not by their best network. To control for complexity, its range is divided into bins, and
each bin has the same weight in each set: w = 1 / (bins x networks of the set in this bin). A bin in which a set has no network
is left out. Confidence bands are pointwise, by bootstrap over trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nas.analysis.sample import Floats, Ints, Mask, Sample, equal_bins

LEVEL = 0.95
RESAMPLES = 400
POINTS = 120  # errors at which a curve is evaluated
LEAST = 10  # trials; a smaller set has no curve
PER_BIN = 5
MAX_BINS = 10
QUANTILES = (0.1, 0.5)


@dataclass(frozen=True, slots=True)
class Curve:
    """An EDF at `errors`, (p,), with its pointwise band. quantiles: by probability, the error quantile and its interval (low, high)."""

    name: str
    trials: int  # in the bins that are compared
    errors: Floats
    share: Floats
    low: Floats
    high: Floats
    quantiles: Mapping[float, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Curves over the same bins of `complexity`. left_out: trials in bins where some set has no trial."""

    complexity: str
    bins: int
    curves: tuple[Curve, ...]
    left_out: int


def edf(sample: Sample, sets: Mapping[str, Mask] | None = None, complexity: str | None = None) -> Comparison | None:
    """EDFs of the error 1 - accuracy at matched complexity, one for each of `sets` of trials; None if no set has a curve.

    sets: by name, (n,) masks (default: one set of all trials). complexity: a cost that the run minimises (default: the first).
    """
    groups = {"all trials": np.ones(len(sample), dtype=np.bool_)} if sets is None else dict(sets)
    groups = {name: mask for name, mask in groups.items() if int(mask.sum()) >= LEAST}
    if not groups or not sample.costs:
        return None
    name = next(iter(sample.costs)) if complexity is None else complexity
    logs = np.log10(sample.costs[name])
    smallest = min(int(mask.sum()) for mask in groups.values())
    union = np.logical_or.reduce(list(groups.values()))
    count = max(1, min(MAX_BINS, smallest // PER_BIN))
    bins = np.full(len(sample), -1, dtype=np.intp)
    bins[union] = equal_bins(logs[union], count)
    shared = [k for k in range(count) if all((mask & (bins == k)).any() for mask in groups.values())]
    if not shared:
        return None
    kept = np.isin(bins, shared)
    error = 1.0 - sample.accuracy
    inside = error[union & kept]
    pad = 0.02 * max(float(np.ptp(inside)), 1e-3)
    errors = np.linspace(max(0.0, inside.min() - pad), inside.max() + pad, POINTS)
    curves = tuple(_curve(label, error[mask & kept], bins[mask & kept], errors) for label, mask in groups.items())
    return Comparison(name, len(shared), curves, int((union & ~kept).sum()))


def weights(bins: Ints, counts: Floats | None = None) -> Floats:
    """Weight of each trial, 1 / (bins x trials in its bin), (n,); the weights sum to 1.

    counts: (r, n), how often each trial occurs in each of r resamples; the weights are then (r, n).
    """
    times = np.ones((1, len(bins))) if counts is None else counts
    result = np.zeros_like(times)
    filled = np.zeros(len(times))
    for number in np.unique(bins):
        inside = bins == number
        total = times[:, inside].sum(axis=1, keepdims=True)
        result[:, inside] = np.divide(times[:, inside], total, out=np.zeros_like(times[:, inside]), where=total > 0)
        filled += total[:, 0] > 0
    result /= filled[:, np.newaxis]
    return result[0] if counts is None else result


def _curve(name: str, error: Floats, bins: Ints, errors: Floats) -> Curve:
    order = np.argsort(error, kind="stable")
    error, bins = error[order], bins[order]
    n = len(error)
    rng = np.random.default_rng(0)
    rows = max(1, min(RESAMPLES, 4_000_000 // n))
    below = np.searchsorted(error, errors, side="right")
    point = np.concatenate([[0.0], np.cumsum(weights(bins))])
    draws: list[Floats] = []
    spans: dict[float, list[Floats]] = {q: [] for q in QUANTILES}
    for start in range(0, RESAMPLES, rows):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(rows, RESAMPLES - start)).astype(np.float64)
        summed = np.cumsum(weights(bins, counts), axis=1)
        draws.append(np.concatenate([np.zeros((len(summed), 1)), summed], axis=1)[:, below])
        for q in QUANTILES:
            spans[q].append(error[np.minimum((summed < q - 1e-12).sum(axis=1), n - 1)])
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(np.concatenate(draws), tails, axis=0)
    quantiles = {}
    for q in QUANTILES:
        at = error[min(int((point[1:] < q - 1e-12).sum()), n - 1)]
        ends = np.quantile(np.concatenate(spans[q]), tails)
        quantiles[q] = (float(at), float(ends[0]), float(ends[1]))
    return Curve(name, n, errors, point[below], low, high, quantiles)
