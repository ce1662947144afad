"""Prediction of a network's latency from the latencies of its parts.

ms(network) = a + b * sum over its parts of ms(part). a and b are fitted by relative least squares to networks that were measured
as a whole, because a part takes less time alone (a warm cache) or more (the overhead of a call) than within a network. A part
that was not timed is modelled for its kind by ms = w . (1, multiply-adds, activations, parameters, elements in and out), w >= 0,
also by relative least squares. The reported error is the leave-one-out error over the networks measured as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.networks.architecture import Architecture
from nas.profiling.fitting import Floats, relative_weights
from nas.profiling.latency.parts import FEATURES, Part, parts_of

ENOUGH = 2 * FEATURES  # timed parts of a kind; with fewer, it has no separate model
FEW = 4  # whole networks; with fewer, only the slope is calibrated


@dataclass(frozen=True, slots=True)
class Lookup:
    """ms of parts by name, weights of the models by kind ("" for all others), and the calibration.

    error: root mean square of the relative leave-one-out errors of whole networks. rank: Spearman's correlation of the
    leave-one-out predictions with the measurements. Both are NaN if too few networks were measured.
    """

    parts: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    offset: float = 0.0
    slope: float = 1.0
    error: float = float("nan")
    rank: float = float("nan")
    networks: int = 0  # in the calibration

    def summary(self) -> dict[str, float | int | None]:
        """The accuracy of the predictions, as kept in a run's settings."""
        error, rank = (None if math.isnan(value) else round(value, 4) for value in (self.error, self.rank))
        return {"error": error, "rank_correlation": rank, "parts": len(self.parts), "networks": self.networks}

    def total(self, architecture: Architecture) -> float:
        """The sum over the parts, in ms."""
        return sum(self._ms(part) for part in parts_of(architecture))

    def predicted(self, architecture: Architecture) -> float:
        """Latency in ms, above 0."""
        return max(self.offset + self.slope * self.total(architecture), 1e-6)

    def timed_share(self, architecture: Architecture) -> float:
        """Share of the parts that were timed rather than modelled."""
        parts = parts_of(architecture)
        return sum(part.name in self.parts for part in parts) / len(parts)

    def _ms(self, part: Part) -> float:
        known = self.parts.get(part.name)
        if known is not None:
            return known
        weights = self.weights.get(part.kind) or self.weights.get("") or (0.0,) * FEATURES
        return sum(weight * value for weight, value in zip(weights, part.features, strict=True))


def fitted(timed: Sequence[tuple[Part, float]], whole: Sequence[tuple[Architecture, float]]) -> Lookup:
    """A lookup of these parts, calibrated by these whole networks; both with their ms.

    The networks should not be those whose parts were timed; otherwise the error is underestimated.
    """
    by_kind: dict[str, list[tuple[Part, float]]] = {"": list(timed)}
    for part, ms in timed:
        by_kind.setdefault(part.kind, []).append((part, ms))
    weights = {
        kind: _weights(np.array([part.features for part, _ in members]), np.array([ms for _, ms in members]))
        for kind, members in by_kind.items()
        if members and (not kind or len(members) >= ENOUGH)
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
    if any(np.ptp(place) == 0 for place in places):
        return float("nan")
    return float(np.corrcoef(places[0], places[1])[0, 1])


def _weights(features: Floats, times: Floats) -> tuple[float, ...]:
    """The w >= 0 that minimises the sum of (w . features / ms - 1)^2."""
    return tuple(map(float, relative_weights(features / times[:, np.newaxis])))


def _calibration(sums: Floats, times: Floats) -> tuple[float, float]:
    """The a, b >= 0 that minimise the sum of ((a + b s) / t - 1)^2; a = 0 for fewer than `FEW` networks."""
    columns = (sums / times)[:, np.newaxis]
    if len(times) >= FEW:
        columns = np.hstack([1 / times[:, np.newaxis], columns])
    weights = relative_weights(columns)
    return (float(weights[0]), float(weights[1])) if len(weights) > 1 else (0.0, float(weights[0]))
