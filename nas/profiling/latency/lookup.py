"""Latency of a network that was not run, from those of its parts.

ms(network) = a + b * sum over its parts of ms(part), with a and b by relative least squares from networks that were run whole: what
the parts take by themselves is less (a warm cache) or more (a call for each) than in their place. A part that was not timed is
modelled by its kind's ms = w . (1, multiply-adds, activations, parameters, elements in and out), w >= 0, by relative
least squares too. The error is what the networks that were run whole are missed by, each predicted without itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas.networks.architecture import Architecture
from nas.profiling.latency.parts import FEATURES, Part, parts_of

Floats = NDArray[np.float64]
ENOUGH = 2 * FEATURES  # timed parts of a kind, from which on it has a model of its own
FEW = 4  # whole networks below which only the ratio is calibrated


@dataclass(frozen=True, slots=True)
class Lookup:
    """ms of parts by name, weights of the models by kind ("" for all others), and the calibration.

    error: root mean square of the relative error of whole networks that were left out in turn. rank: Spearman's correlation of
    the same. Both NaN where too few were run to say.
    """

    parts: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    offset: float = 0.0
    slope: float = 1.0
    error: float = float("nan")
    rank: float = float("nan")
    networks: int = 0  # that it was calibrated by

    def said(self) -> dict[str, float | int | None]:
        """How far predictions are to be trusted, as a run's settings keep it."""
        error, rank = (None if math.isnan(value) else round(value, 4) for value in (self.error, self.rank))
        return {"error": error, "rank_correlation": rank, "parts": len(self.parts), "networks": self.networks}

    def total(self, architecture: Architecture) -> float:
        """The sum over the parts, in ms."""
        return sum(self._ms(part) for part in parts_of(architecture))

    def predicted(self, architecture: Architecture) -> float:
        """Latency in ms, above 0."""
        return max(self.offset + self.slope * self.total(architecture), 1e-6)

    def timed_share(self, architecture: Architecture) -> float:
        """Of the parts, how many were timed and not modelled."""
        found = parts_of(architecture)
        return sum(part.name in self.parts for part in found) / len(found)

    def _ms(self, part: Part) -> float:
        known = self.parts.get(part.name)
        if known is not None:
            return known
        weights = self.weights.get(part.kind) or self.weights.get("") or (0.0,) * FEATURES
        return sum(weight * value for weight, value in zip(weights, part.features, strict=True))


def fitted(timed: Sequence[tuple[Part, float]], whole: Sequence[tuple[Architecture, float]]) -> Lookup:
    """A lookup of these parts, calibrated by these whole networks; both with their ms.

    Networks used here should not be those whose parts were timed, or the error is too small for others.
    """
    by_kind: dict[str, list[tuple[Part, float]]] = {"": list(timed)}
    for part, ms in timed:
        by_kind.setdefault(part.kind, []).append((part, ms))
    weights = {
        kind: _weights(np.array([part.features for part, _ in own]), np.array([ms for _, ms in own]))
        for kind, own in by_kind.items()
        if own and (not kind or len(own) >= ENOUGH)
    }
    raw = Lookup({part.name: ms for part, ms in timed}, weights)
    if not whole:
        return raw
    sums = np.array([raw.total(architecture) for architecture, _ in whole])
    times = np.array([ms for _, ms in whole])
    offset, slope = _calibration(sums, times)
    error = rank = float("nan")
    if len(whole) > FEW:
        others = [np.arange(len(whole)) != k for k in range(len(whole))]
        lines = [_calibration(sums[kept], times[kept]) for kept in others]
        missed = np.array([a + b * each for (a, b), each in zip(lines, sums, strict=True)])
        error = float(np.sqrt(np.mean((missed / times - 1) ** 2)))
        rank = spearman(missed, times)
    return Lookup(raw.parts, weights, offset, slope, error, rank, len(whole))


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; NaN where one of them does not vary."""
    ranks = [np.unique(each, return_inverse=True, return_counts=True) for each in (a, b)]
    places = [(np.cumsum(counts) - (counts + 1) / 2)[inverse] for _, inverse, counts in ranks]  # ties share their mean
    if any(np.ptp(own) == 0 for own in places):
        return float("nan")
    return float(np.corrcoef(places[0], places[1])[0, 1])


def _weights(features: Floats, times: Floats) -> tuple[float, ...]:
    """w >= 0 that minimises the sum of (w . features / ms - 1)^2."""
    import scipy.optimize

    scaled = features / times[:, np.newaxis]
    unit = np.maximum(scaled.max(axis=0), 1e-300)  # so that counts of millions and ones are of a size
    return tuple(float(w) for w in scipy.optimize.nnls(scaled / unit, np.ones(len(times)))[0] / unit)


def _calibration(sums: Floats, times: Floats) -> tuple[float, float]:
    """a, b >= 0 that minimise the sum of ((a + b s) / t - 1)^2; a = 0 where there are few."""
    columns = (sums / times)[:, np.newaxis]
    if len(times) >= FEW:
        columns = np.hstack([1 / times[:, np.newaxis], columns])
    import scipy.optimize

    unit = np.maximum(columns.max(axis=0), 1e-300)
    found = scipy.optimize.nnls(columns / unit, np.ones(len(times)))[0] / unit
    return (float(found[0]), float(found[1])) if len(found) > 1 else (0.0, float(found[0]))
