r"""Expected hypervolume improvement where costs are known and only the quality y ~ N(m, s^2) of a candidate is not.

Let A(c) be the best quality that the front has at costs of at most c, or the floor where it has nothing. A candidate of
costs c(x) raises A to max(A, y) on the box from c(x) to the reference, so that

    EHVI(x) = integral over [c(x), reference] of EI(A(c)) dc,    EI(a) = s phi(u) + (m - a) Phi(u),  u = (m - a) / s.

The process may model a monotone transform of what quality is measured in. Improvements are then those of g(y), g the way back,
piecewise linear: E[max(g(y) - g(a), 0)] is a sum of EIs at its knots (`Worth`), in closed form too.

A is constant on the cells of a partition of the cost space, and the integral is a finite sum, exact for every number of
costs. With one cost the cells are the steps of the staircase: sum_j w_j EI(A_j) with w_j the width of step j right of c(x).
With more, collecting the cells of one level gives the layer cake sum_j V_j(x) [EI(a_j) - EI(a_{j+1})] over rising levels a_j,
V_j the volume of [c(x), reference] that the front's points of quality above a_j leave undominated.

Qualities are maximised, costs minimised, each on its axis (log costs). Everything is a NumPy array of float64.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

KNOTS = 24  # of what a quality is worth
MAX_FRONT = 64  # points that are cut into cells with three costs or more, where cells multiply


@dataclass(frozen=True, slots=True)
class Cells:
    """A partition of the cost space below the reference: boxes [low, high), (c, k), the first ones open to -inf.

    `levels` (l,) are the distinct values of A, rising from the floor; `level` (c,) is each box's index among them.
    """

    low: Floats
    high: Floats
    level: NDArray[np.intp]
    levels: Floats


def cells(qualities: Floats, costs: Floats, reference: Floats, floor: float) -> Cells:
    """Where A is constant. qualities: (f,), costs: (f, k), reference: (k,). Points outside of floor and reference are ignored."""
    inside = (qualities > floor) & (costs < reference).all(axis=1)
    order = np.lexsort((costs[inside].sum(axis=1), -qualities[inside]))
    qualities, costs = qualities[inside][order], costs[inside][order]
    k = len(reference)
    if k >= 3 and len(qualities) > MAX_FRONT:  # keep the spread of qualities, both ends included
        kept = np.unique(np.linspace(0, len(qualities) - 1, MAX_FRONT).round().astype(int))
        qualities, costs = qualities[kept], costs[kept]
    if k == 1:
        low, high, value = _steps(qualities, costs[:, 0], float(reference[0]), floor)
    elif k == 2:
        low, high, value = _rectangles(qualities, costs, reference, floor)
    else:
        low, high, value = _boxes(qualities, costs, reference, floor)
    levels, level = np.unique(value, return_inverse=True)
    return Cells(low, high, level.astype(np.intp), levels)


def expected_improvement(mean: Floats, deviation: Floats, levels: Floats) -> Floats:
    """E[max(y - a, 0)] of y ~ N(mean, deviation^2), (n, l). mean, deviation: (n,); a deviation of 0 is a known value."""
    gap = mean[:, None] - levels[None, :]
    spread = np.maximum(deviation, 1e-12)[:, None]
    u = gap / spread
    density = np.exp(-0.5 * u * u) * 0.3989422804014327
    return np.asarray(np.maximum(spread * density + gap * ndtr(u), 0.0))


@dataclass(frozen=True, slots=True)
class Worth:
    """What a quality on the model's scale is worth: g, piecewise linear and rising.

    at (k,): its knots. worth (k,): there. slope (k,): right of each; the first one's holds left of it too.
    """

    at: Floats
    worth: Floats
    slope: Floats

    @staticmethod
    def of(scale: Floats, values: Floats) -> Worth:
        """g(scale) = values, both (n,), at `KNOTS` quantiles of them. Beyond the best, the mean slope of the upper quarter."""
        at, first = np.unique(scale, return_index=True)
        values = values[first]
        if len(at) < 3:
            return Worth(np.zeros(1), np.zeros(1), np.ones(1))
        kept = np.unique(np.linspace(0, len(at) - 1, KNOTS).round().astype(int))
        at, values = at[kept], values[kept]
        quarter = len(at) * 3 // 4 - 1
        last = (values[-1] - values[quarter]) / (at[-1] - at[quarter])
        return Worth(at, values, np.append(np.diff(values) / np.diff(at), last))

    def of_scale(self, scale: Floats) -> Floats:
        """g, (n,)."""
        piece = np.maximum(np.searchsorted(self.at, scale, "right") - 1, 0)
        return np.asarray(self.worth[piece] + self.slope[piece] * (scale - self.at[piece]))

    def to_scale(self, worth: float) -> float:
        """The scale's value of this worth."""
        piece = max(int(np.searchsorted(self.worth, worth, "right")) - 1, 0)
        return float(self.at[piece] + (worth - self.worth[piece]) / max(float(self.slope[piece]), 1e-12))

    def gains(self, mean: Floats, deviation: Floats, levels: Floats) -> Floats:
        """E[max(g(y) - g(a), 0)] of y ~ N(mean, deviation^2), (n, l): the sum over g's pieces right of a of slope times
        E[max(y - start, 0)] - E[max(y - end, 0)]. levels: rising."""
        knots = np.unique(np.concatenate([levels, self.at[self.at > levels[0]]]))
        slope = self.slope[np.maximum(np.searchsorted(self.at, knots, "right") - 1, 0)]
        above = expected_improvement(mean, deviation, knots)
        pieces = slope * (above - np.column_stack([above[:, 1:], np.zeros(len(mean))]))
        total = np.cumsum(pieces[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(total[:, np.searchsorted(knots, levels)])


def ehvi(mean: Floats, deviation: Floats, costs: Floats, parts: Cells, worth: Worth | None = None) -> Floats:
    """Expected hypervolume improvement of each candidate alone, (n,). mean, deviation: (n,); costs: (n, k).

    worth: volume is that of g(quality), not of the quality itself.
    """
    gains = _gains(mean, deviation, parts, worth)
    volumes = np.ones((len(costs), len(parts.level)))
    for axis in range(costs.shape[1]):
        sides = parts.high[None, :, axis] - np.maximum(parts.low[None, :, axis], costs[:, axis, None])
        volumes *= np.maximum(sides, 0.0)
    # Cells of one level share their EI: summed by level first, then one product a level.
    if parts.levels.size < parts.level.size:
        members = np.zeros((parts.level.size, parts.levels.size))
        members[np.arange(parts.level.size), parts.level] = 1.0
        volumes = volumes @ members
        return np.asarray((volumes * gains).sum(axis=1))
    return np.asarray((volumes * gains[:, parts.level]).sum(axis=1))


def ei(mean: Floats, deviation: Floats, costs: Floats, parts: Cells, worth: Worth | None = None) -> Floats:
    """EI(A(c)) at each candidate's own costs c, (n,), whatever volume is behind it; 0 beyond the reference. As `ehvi` else."""
    own: NDArray[np.bool_] = np.all((parts.low <= costs[:, None, :]) & (costs[:, None, :] < parts.high), axis=2)
    level = parts.level[own.argmax(axis=1)]
    gains = _gains(mean, deviation, parts, worth)[np.arange(len(mean)), level]
    return np.asarray(np.where(own.any(axis=1), gains, 0.0))


def _gains(mean: Floats, deviation: Floats, parts: Cells, worth: Worth | None) -> Floats:
    """Expected improvement on each level, (n, l)."""
    if worth is None:
        return expected_improvement(mean, deviation, parts.levels)
    return worth.gains(mean, deviation, parts.levels)


def _steps(qualities: Floats, costs: Floats, reference: float, floor: float) -> tuple[Floats, Floats, Floats]:
    """k = 1: by falling quality, a point owns what lies between its cost and the lowest cost before it."""
    ends = np.minimum.accumulate(np.concatenate([[reference], costs]))
    starts = ends[1:]
    own = starts < ends[:-1]
    low = np.concatenate([starts[own], [-np.inf]])
    high = np.concatenate([ends[:-1][own], [ends[-1]]])
    return low[:, None], high[:, None], np.concatenate([qualities[own], [floor]])


def _rectangles(qualities: Floats, costs: Floats, reference: Floats, floor: float) -> tuple[Floats, Floats, Floats]:
    """k = 2: by falling quality, a point owns its quadrant less what the staircase of those before it covers.

    Each rectangle but one a point uses up a step of the staircase: there are at most 3f + 1.
    """
    xs: list[float] = []  # the staircase: x rising, y falling
    ys: list[float] = []
    right, top = float(reference[0]), float(reference[1])
    found: list[tuple[float, float, float, float, float]] = []
    for quality, (x, y) in zip(qualities.tolist(), costs.tolist(), strict=True):
        start = bisect_left(xs, x)
        if (start and ys[start - 1] <= y) or (start < len(xs) and xs[start] == x and ys[start] <= y):
            continue
        left, ceiling, stop = x, ys[start - 1] if start else top, start
        while stop < len(xs) and ys[stop] >= y:
            if xs[stop] > left:
                found.append((left, y, xs[stop], ceiling, quality))
            left, ceiling = xs[stop], ys[stop]
            stop += 1
        found.append((left, y, xs[stop] if stop < len(xs) else right, ceiling, quality))
        xs[start:stop], ys[start:stop] = [x], [y]
    # What nothing dominates: below the staircase, a strip for each step.
    left, ceiling = -np.inf, top
    for x, y in zip(xs, ys, strict=True):
        found.append((left, -np.inf, x, ceiling, floor))
        left, ceiling = x, y
    found.append((left, -np.inf, right, ceiling, floor))
    table = np.array([row for row in found if row[2] > row[0] and row[3] > row[1]])
    return table[:, 0:2], table[:, 2:4], table[:, 4]


def _boxes(qualities: Floats, costs: Floats, reference: Floats, floor: float) -> tuple[Floats, Floats, Floats]:
    """k >= 3: by falling quality, a point owns its orthant less those of the points before it, cut box by box."""
    lows, highs, values = [], [], []
    for i in range(len(qualities) + 1):
        corner = costs[i] if i < len(qualities) else np.full(len(reference), -np.inf)
        low, high = _difference(corner, np.maximum(costs[:i], corner), reference)
        lows.append(low)
        highs.append(high)
        values.append(np.full(len(low), qualities[i] if i < len(qualities) else floor))
    return np.concatenate(lows), np.concatenate(highs), np.concatenate(values)


def _difference(corner: Floats, points: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """[corner, reference] less the orthants from `points` up, as disjoint boxes: (b, k) lower and upper ends."""
    k = len(reference)
    low, high = corner[None, :].copy(), reference[None, :].copy()
    for point in _minimal(points):
        hit = (high > point).all(axis=1)
        if not hit.any():
            continue
        rest_low, rest_high = low[hit].copy(), high[hit]
        new_low, new_high = [low[~hit]], [high[~hit]]
        for axis in range(k):  # the part of the box below the point on this axis, and at or above it on those before
            part_low, part_high = rest_low.copy(), rest_high.copy()
            part_high[:, axis] = point[axis]
            solid = part_low[:, axis] < point[axis]
            new_low.append(part_low[solid])
            new_high.append(part_high[solid])
            rest_low[:, axis] = np.maximum(rest_low[:, axis], point[axis])
        low, high = np.concatenate(new_low), np.concatenate(new_high)
    return low, high


def _minimal(points: Floats) -> Floats:
    """The points that no other is below in all coordinates, each once, in lexicographic order."""
    points = np.unique(points, axis=0)
    below = (points[None, :, :] <= points[:, None, :]).all(axis=2)
    minimal: Floats = points[below.sum(axis=1) == 1]
    return minimal
