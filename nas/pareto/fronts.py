"""Pareto analysis of (n, m) arrays: dominance, fronts, hypervolume, knee.

a dominates b when a is at least as good in every objective and better in one. The front of a set is what none of the
set dominates. Its hypervolume is the Lebesgue measure of what the set dominates and what itself dominates a reference
point (Zitzler and Thiele, 1998).

Throughout, `values` is (n, m): a row for each candidate, a column for each objective, each in its own unit and
orientation. `directions` holds m times "maximize" or "minimize", m >= 1. `[]` is an array without rows. An infinite
value is a value like any other. A row with a NaN was not measured: it dominates nothing and is on no front. Wrong
shapes and names raise ValueError. Everything is computed on losses: the values, maximised columns negated.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.pareto.objectives import DIRECTIONS, _unknown

Floats: TypeAlias = NDArray[np.float64]


def dominates(a: ArrayLike, b: ArrayLike, directions: Sequence[str]) -> bool:
    """a is at least as good as b in every objective and better in one; False where either has a NaN. a, b: (m,)."""
    first, second = (_point(point, directions, noun) for point, noun in ((a, "a"), (b, "b")))
    return bool((first <= second).all() and (first < second).any())


def front(values: ArrayLike, directions: Sequence[str]) -> NDArray[np.intp]:
    """Indices of the rows that no row dominates.

    By rising first minimised objective, ties by index; all by index if nothing is minimised. Equal rows don't
    dominate one another: where one is on the front, all its copies are.
    """
    array = _array(values, directions)
    losses, measured = _measured(array, directions)
    rows, place = _distinct(losses)
    indices = measured[_non_dominated(rows)[place]]
    if "minimize" in directions:
        indices = indices[np.argsort(array[indices, list(directions).index("minimize")], kind="stable")]
    return indices


def fronts(values: ArrayLike, directions: Sequence[str]) -> NDArray[np.intp]:
    """Rank of each row, (n,): 0 on the front, k on the front of what is left without the ranks below k.

    Equal rows have equal ranks. Rows with a NaN all have the last rank, one worse than the worst row without.
    (ENS-BS: Zhang, Tian, Cheng and Jin, 2015.)
    """
    array = _array(values, directions)
    losses, measured = _measured(array, directions)
    rows, place = _distinct(losses)
    layers: list[_Layer] = []
    ranks = np.empty(len(rows), dtype=np.intp)
    for i, row in enumerate(rows.tolist()):
        ranks[i] = rank = _rank(layers, row)
        if rank == len(layers):
            layers.append(_layer(len(row)))
        layers[rank].add(row)
    result = np.full(len(array), len(layers), dtype=np.intp)
    result[measured] = ranks[place]
    return result


def knee(values: ArrayLike, directions: Sequence[str]) -> int | None:
    """Index of the front's row furthest, towards the ideal point, from the hyperplane through the front's extremes.

    The extremes are the rows that are best in an objective (Das, 1999: the convex hull of individual minima). Each
    objective is scaled to [0, 1] over the front; a minimised one that is positive all over the front after log10, so
    that costs are compared by ratio. Of equal rows, the first.

    None if the front has fewer than 3 distinct finite rows, or bends nowhere towards the ideal point: then every row
    between the extremes is a worse compromise than the straight line.
    """
    import scipy.optimize  # half of what importing this module would take otherwise

    losses = _losses(_array(values, directions), directions)
    indices = front(values, directions)
    indices = indices[np.isfinite(losses[indices]).all(axis=1)]
    scaled = losses[indices]
    if len(_distinct(scaled)[0]) < 3:
        return None
    for column, direction in enumerate(directions):
        if direction == "minimize" and (scaled[:, column] > 0).all():
            scaled[:, column] = np.log10(scaled[:, column])
    scaled -= scaled.min(axis=0)
    spans = scaled.max(axis=0)
    scaled /= np.where(spans > 0, spans, 1.0)

    # An objective without spread is 0 everywhere: it tells no rows apart, nor does it make one extreme.
    extreme = (scaled[:, spans > 0] == 0).any(axis=1)
    # The plane is normal @ x = 1. Least squares, because the smallest network may have the fewest MACs too, and ties make
    # more extremes than objectives; non-negative, because a negative component would reward a row for being worse.
    normal = scipy.optimize.nnls(scaled[extreme], np.ones(extreme.sum()))[0]
    towards_ideal = 1.0 - scaled @ normal
    best = int(np.argmax(towards_ideal))
    return int(indices[best]) if towards_ideal[best] > 1e-9 else None


# Checked input


def _array(values: ArrayLike, directions: Sequence[str]) -> Floats:
    m = _columns(directions)
    array = np.asarray(values, dtype=np.float64)
    if array.shape == (0,):
        return array.reshape(0, m)
    if array.ndim != 2 or array.shape[1] != m:
        raise ValueError(f"values must have the shape (n, {m}), a column a direction; got {array.shape}")
    return array


def _columns(directions: Sequence[str]) -> int:
    if isinstance(directions, str) or len(directions) == 0:
        raise ValueError(f"directions must be a sequence such as ['maximize', 'minimize']; got {directions!r}")
    for direction in directions:
        if direction not in DIRECTIONS:
            raise ValueError(_unknown(direction))
    return len(directions)


def _point(point: ArrayLike, directions: Sequence[str], noun: str) -> Floats:
    """The losses, (m,), of one point."""
    m = _columns(directions)
    array = np.asarray(point, dtype=np.float64)
    if array.shape != (m,):
        raise ValueError(f"{noun} must have the shape ({m},), a number a direction; got {array.shape}")
    return _losses(array, directions)


def _losses(values: Floats, directions: Sequence[str]) -> Floats:
    return np.where([direction == "maximize" for direction in directions], -values, values)


def _measured(array: Floats, directions: Sequence[str]) -> tuple[Floats, NDArray[np.intp]]:
    """The losses of the rows without a NaN, and the indices of these rows."""
    measured = np.flatnonzero(~np.isnan(array).any(axis=1))
    return _losses(array[measured], directions), measured


# Non-dominated sets of losses. Rows are visited in lexicographic order, without copies: none is dominated by a later
# row, and an earlier one, whose first coordinate is no greater, dominates it exactly if the others are no greater too.


def _distinct(losses: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """The distinct rows in lexicographic order, and for each row of `losses` its place among them."""
    order = np.lexsort(losses.T[::-1])
    rows = losses[order]
    new = np.ones(len(rows), dtype=np.bool_)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    place = np.empty(len(rows), dtype=np.intp)
    place[order] = np.cumsum(new) - 1
    return rows[new], place


def _non_dominated(rows: Floats) -> NDArray[np.bool_]:
    """Mask of the rows, distinct and in lexicographic order, that none dominates."""
    layer = _layer(rows.shape[1])
    mask = np.zeros(len(rows), dtype=np.bool_)
    for i, row in enumerate(rows.tolist()):
        if not layer.covers(row):
            layer.add(row)
            mask[i] = True
    return mask


class _Layer(Protocol):
    """Rows that don't dominate one another."""

    def covers(self, row: list[float]) -> bool:
        """Whether one of the rows dominates `row`, which comes after them all."""

    def add(self, row: list[float]) -> None:
        """Takes in `row`, which isn't covered."""


def _layer(m: int) -> _Layer:
    return _Lowest() if m <= 2 else _Staircase() if m == 3 else _Rows(m)


def _rank(layers: list[_Layer], row: list[float]) -> int:
    """Place of the first layer that doesn't cover `row`; none after it does, for it covers what is in those."""
    return bisect_left(layers, True, key=lambda layer: not layer.covers(row))


class _Lowest:
    """m <= 2: the row with the lowest last coordinate stands for all; O(1)."""

    __slots__ = ("lowest",)

    def __init__(self) -> None:
        self.lowest: float | None = None

    def covers(self, row: list[float]) -> bool:
        return self.lowest is not None and self.lowest <= row[-1]

    def add(self, row: list[float]) -> None:
        self.lowest = row[-1]


class _Staircase:
    """m = 3: the non-dominated (y, z) of the rows (x, y, z), y rising and z falling; O(log n) to look up."""

    __slots__ = ("ys", "zs")

    def __init__(self) -> None:
        self.ys: list[float] = []
        self.zs: list[float] = []

    def covers(self, row: list[float]) -> bool:
        _, y, z = row
        below = bisect_right(self.ys, y)
        return below > 0 and self.zs[below - 1] <= z

    def add(self, row: list[float]) -> None:
        _, y, z = row
        start, stop = self._hidden(y, z)
        self.ys[start:stop] = [y]
        self.zs[start:stop] = [z]

    def gain(self, row: list[float], corner: list[float]) -> float:
        """Area that `row`, which isn't covered, would add to what the steps cover below `corner`, also (x, y, z)."""
        _, y, z = row
        start, stop = self._hidden(y, z)
        gain, left, ceiling = 0.0, y, self.zs[start - 1] if start else corner[2]
        for step_y, step_z in zip(self.ys[start:stop], self.zs[start:stop], strict=True):
            gain += (step_y - left) * (ceiling - z)
            left, ceiling = step_y, step_z
        right = self.ys[stop] if stop < len(self.ys) else corner[1]
        return gain + (right - left) * (ceiling - z)

    def _hidden(self, y: float, z: float) -> tuple[int, int]:
        """The slice of steps that (y, z) dominates."""
        start = stop = bisect_left(self.ys, y)
        while stop < len(self.zs) and self.zs[stop] >= z:
            stop += 1
        return start, stop


class _Rows:
    """m >= 4: all the rows, compared at once; O(n m). Kept as columns in a buffer that doubles."""

    __slots__ = ("columns", "count")

    def __init__(self, m: int) -> None:
        self.columns = np.empty((m - 1, 16))
        self.count = 0

    def covers(self, row: list[float]) -> bool:
        below = self.columns[:, : self.count] <= np.array(row[1:])[:, np.newaxis]
        return bool(np.logical_and.reduce(below).any())

    def add(self, row: list[float]) -> None:
        if self.count == self.columns.shape[1]:
            self.columns = np.concatenate([self.columns, np.empty_like(self.columns)], axis=1)
        self.columns[:, self.count] = row[1:]
        self.count += 1


# Volumes. `points` are losses, (n, m), in any order, each strictly below `corner`, and all is finite.
