r"""Expected hypervolume improvement of a candidate with known costs and uncertain quality y ~ N(m, s^2).

Let A(c) be the best quality on the front at costs of at most c, or the floor if there is none. A candidate with costs c(x) raises
A to max(A, y) on the box from c(x) to the reference. Therefore

    EHVI(x) = integral over [c(x), reference] of EI(A(c)) dc,    EI(a) = s phi(u) + (m - a) Phi(u),  u = (m - a) / s.

The process may model a monotone transform of the quality. Improvements are then those of g(y), where the piecewise linear g is the
inverse transform: E[max(g(y) - g(a), 0)] is a sum of EIs at its knots (`Worth`), also in closed form.

A is constant on the cells of a partition of the cost space, and the integral is a finite sum, exact for any number of costs. With
one cost the cells are the steps of the staircase: sum_j w_j EI(A_j), where w_j is the width of step j right of c(x). With more
costs, grouping the cells by level gives the layer-cake sum_j V_j(x) [EI(a_j) - EI(a_{j+1})] over rising levels a_j, where V_j is
the volume of [c(x), reference] that points of the front with quality above a_j leave undominated.

Qualities are maximized and costs minimized, each on its axis (log costs). All arrays are NumPy float64.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

KNOTS = 24  # of `Worth`
MAX_FRONT = 64  # points of the front used with three costs or more, because the number of cells grows fast


@dataclass(frozen=True, slots=True)
class Cells:
    """A partition of the cost space below the reference into boxes [low, high), (c, k); some extend to -inf.

    levels (l,): distinct values of A, ascending from the floor. level (c,): index of each box's value in `levels`.
    """

    low: Floats
    high: Floats
    level: NDArray[np.intp]
    levels: Floats


def cells(qualities: Floats, costs: Floats, reference: Floats, floor: float) -> Cells:
    """The cells on which A is constant. qualities: (f,), costs: (f, k), reference: (k,). Points beyond floor or reference are ignored."""
    inside = (qualities > floor) & (costs < reference).all(axis=1)
    order = np.lexsort((costs[inside].sum(axis=1), -qualities[inside]))
    qualities, costs = qualities[inside][order], costs[inside][order]
    k = len(reference)
    if k >= 3 and len(qualities) > MAX_FRONT:  # an even selection by quality, both ends included
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
    """E[max(y - a, 0)] for y ~ N(mean, deviation^2) and each level a, (n, l). mean, deviation: (n,); a deviation of 0 is a known value."""
    gap = mean[:, None] - levels[None, :]
    spread = np.maximum(deviation, 1e-12)[:, None]
    u = gap / spread
    density = np.exp(-0.5 * u * u) * 0.3989422804014327
    return np.asarray(np.maximum(spread * density + gap * ndtr(u), 0.0))


@dataclass(frozen=True, slots=True)
class Worth:
    """g: maps a quality on the model's scale to its original scale; piecewise linear and increasing.

    at (k,): knots. worth (k,): values at the knots. slope (k,): right of each knot; the first one also holds left of the first knot.
    """

    at: Floats
    worth: Floats
    slope: Floats

    @staticmethod
    def of(scale: Floats, values: Floats) -> Worth:
        """Interpolate g(scale) = values, both (n,), at `KNOTS` quantiles. Beyond the best, the slope is the mean of the upper quarter."""
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
        """g(scale), (n,)."""
        piece = np.maximum(np.searchsorted(self.at, scale, "right") - 1, 0)
        return np.asarray(self.worth[piece] + self.slope[piece] * (scale - self.at[piece]))

    def to_scale(self, worth: float) -> float:
        """The inverse of g."""
        piece = max(int(np.searchsorted(self.worth, worth, "right")) - 1, 0)
        return float(self.at[piece] + (worth - self.worth[piece]) / max(float(self.slope[piece]), 1e-12))

    def gains(self, mean: Floats, deviation: Floats, levels: Floats) -> Floats:
        """E[max(g(y) - g(a), 0)] for y ~ N(mean, deviation^2) and each level a, (n, l). levels: ascending.

        It is the sum of slope * (E[max(y - start, 0)] - E[max(y - end, 0)]) over the pieces of g right of a.
        """
        knots = np.unique(np.concatenate([levels, self.at[self.at > levels[0]]]))
        slope = self.slope[np.maximum(np.searchsorted(self.at, knots, "right") - 1, 0)]
        above = expected_improvement(mean, deviation, knots)
        pieces = slope * (above - np.column_stack([above[:, 1:], np.zeros(len(mean))]))
        total = np.cumsum(pieces[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(total[:, np.searchsorted(knots, levels)])


def ehvi(mean: Floats, deviation: Floats, costs: Floats, parts: Cells, worth: Worth | None = None) -> Floats:
    """Expected hypervolume improvement of each candidate alone, (n,). mean, deviation: (n,); costs: (n, k).

    worth: g, if the volume is measured in g(quality) instead of quality.
    """
    gains = _gains(mean, deviation, parts, worth)
    volumes = np.ones((len(costs), len(parts.level)))
    for axis in range(costs.shape[1]):
        sides = parts.high[None, :, axis] - np.maximum(parts.low[None, :, axis], costs[:, axis, None])
        volumes *= np.maximum(sides, 0.0)
    # Cells of one level have the same EI: sum their volumes first, so that there is one product for each level.
    if parts.levels.size < parts.level.size:
        members = np.zeros((parts.level.size, parts.levels.size))
        members[np.arange(parts.level.size), parts.level] = 1.0
        volumes = volumes @ members
        return np.asarray((volumes * gains).sum(axis=1))
    return np.asarray((volumes * gains[:, parts.level]).sum(axis=1))


def ei(mean: Floats, deviation: Floats, costs: Floats, parts: Cells, worth: Worth | None = None) -> Floats:
    """EI(A(c)) at the costs c of each candidate, (n,), regardless of volume; 0 beyond the reference. Arguments as in `ehvi`."""
    inside: NDArray[np.bool_] = np.all((parts.low <= costs[:, None, :]) & (costs[:, None, :] < parts.high), axis=2)
    level = parts.level[inside.argmax(axis=1)]
    gains = _gains(mean, deviation, parts, worth)[np.arange(len(mean)), level]
    return np.asarray(np.where(inside.any(axis=1), gains, 0.0))


def _gains(mean: Floats, deviation: Floats, parts: Cells, worth: Worth | None) -> Floats:
    """Expected improvement over each level, (n, l)."""
    if worth is None:
        return expected_improvement(mean, deviation, parts.levels)
    return worth.gains(mean, deviation, parts.levels)


def _steps(qualities: Floats, costs: Floats, reference: float, floor: float) -> tuple[Floats, Floats, Floats]:
    """k = 1: in order of falling quality, a point gets the interval from its cost to the lowest cost before it."""
    ends = np.minimum.accumulate(np.concatenate([[reference], costs]))
    starts = ends[1:]
    visible = starts < ends[:-1]
    low = np.concatenate([starts[visible], [-np.inf]])
    high = np.concatenate([ends[:-1][visible], [ends[-1]]])
    return low[:, None], high[:, None], np.concatenate([qualities[visible], [floor]])


def _rectangles(qualities: Floats, costs: Floats, reference: Floats, floor: float) -> tuple[Floats, Floats, Floats]:
    """k = 2: in order of falling quality, a point gets its quadrant minus the area covered by the staircase of the points before it.

    Each rectangle, except one for each point, removes a step of the staircase: there are at most 3f + 1 rectangles.
    """
    xs: list[float] = []  # the staircase: x ascending, y descending
    ys: list[float] = []
    right, top = float(reference[0]), float(reference[1])
    rectangles: list[tuple[float, float, float, float, float]] = []
    for quality, (x, y) in zip(qualities.tolist(), costs.tolist(), strict=True):
        start = bisect_left(xs, x)
        if (start and ys[start - 1] <= y) or (start < len(xs) and xs[start] == x and ys[start] <= y):
            continue
        left, ceiling, stop = x, ys[start - 1] if start else top, start
        while stop < len(xs) and ys[stop] >= y:
            if xs[stop] > left:
                rectangles.append((left, y, xs[stop], ceiling, quality))
            left, ceiling = xs[stop], ys[stop]
            stop += 1
        rectangles.append((left, y, xs[stop] if stop < len(xs) else right, ceiling, quality))
        xs[start:stop], ys[start:stop] = [x], [y]
    # The undominated area below the staircase: a strip for each step.
    left, ceiling = -np.inf, top
    for x, y in zip(xs, ys, strict=True):
        rectangles.append((left, -np.inf, x, ceiling, floor))
        left, ceiling = x, y
    rectangles.append((left, -np.inf, right, ceiling, floor))
    table = np.array([row for row in rectangles if row[2] > row[0] and row[3] > row[1]])
    return table[:, 0:2], table[:, 2:4], table[:, 4]


def _boxes(qualities: Floats, costs: Floats, reference: Floats, floor: float) -> tuple[Floats, Floats, Floats]:
    """k >= 3: in order of falling quality, a point gets its orthant minus those of the points before it, cut into boxes."""
    lows, highs, values = [], [], []
    for i in range(len(qualities) + 1):
        corner = costs[i] if i < len(qualities) else np.full(len(reference), -np.inf)
        low, high = _difference(corner, np.maximum(costs[:i], corner), reference)
        lows.append(low)
        highs.append(high)
        values.append(np.full(len(low), qualities[i] if i < len(qualities) else floor))
    return np.concatenate(lows), np.concatenate(highs), np.concatenate(values)


def _difference(corner: Floats, points: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """[corner, reference] minus the orthants above `points`, as disjoint boxes: lower and upper ends, (b, k) each."""
    k = len(reference)
    low, high = corner[None, :].copy(), reference[None, :].copy()
    for point in _minimal(points):
        hit = (high > point).all(axis=1)
        if not hit.any():
            continue
        rest_low, rest_high = low[hit].copy(), high[hit]
        new_low, new_high = [low[~hit]], [high[~hit]]
        for axis in range(k):  # the part below the point on this axis, and at or above it on the axes before
            part_low, part_high = rest_low.copy(), rest_high.copy()
            part_high[:, axis] = point[axis]
            solid = part_low[:, axis] < point[axis]
            new_low.append(part_low[solid])
            new_high.append(part_high[solid])
            rest_low[:, axis] = np.maximum(rest_low[:, axis], point[axis])
        low, high = np.concatenate(new_low), np.concatenate(new_high)
    return low, high


def _minimal(points: Floats) -> Floats:
    """The points that no other point dominates (is at most equal in all coordinates), each once, in lexicographic order."""
    points = np.unique(points, axis=0)
    below = (points[None, :, :] <= points[:, None, :]).all(axis=2)
    minimal: Floats = points[below.sum(axis=1) == 1]
    return minimal
