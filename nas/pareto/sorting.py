"""Non-dominated sorting of losses: distinct rows, in lexicographic order, are added to the fronts so far one by one.

No row is dominated by a later one. An earlier row, whose first coordinate is no greater, dominates a later one exactly if its
other coordinates are no greater too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.pareto.losses import Floats


def distinct_rows(losses: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """The distinct rows in lexicographic order, and for each row of `losses` its index among them."""
    order = np.lexsort(losses.T[::-1])
    rows = losses[order]
    new = np.ones(len(rows), dtype=np.bool_)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    place = np.empty(len(rows), dtype=np.intp)
    place[order] = np.cumsum(new) - 1
    return rows[new], place


def non_dominated(rows: Floats) -> NDArray[np.bool_]:
    """Mask of the rows, distinct and in lexicographic order, that no row dominates."""
    layer = new_layer(rows.shape[1])
    mask = np.zeros(len(rows), dtype=np.bool_)
    for i, row in enumerate(rows.tolist()):
        if not layer.covers(row):
            layer.add(row)
            mask[i] = True
    return mask


class Layer(Protocol):
    """Rows that don't dominate one another."""

    def covers(self, row: list[float]) -> bool:
        """Whether one of the rows dominates `row`, which is later than all of them."""

    def add(self, row: list[float]) -> None:
        """Add `row`, which isn't covered."""


def new_layer(m: int) -> Layer:
    return Lowest() if m <= 2 else Staircase() if m == 3 else Rows(m)


def front_of(layers: list[Layer], row: list[float]) -> int:
    """Index of the first layer that doesn't cover `row`. Bisection, since the layers that cover it all come first."""
    return bisect_left(layers, True, key=lambda layer: not layer.covers(row))


class Lowest:
    """m <= 2: keeps the lowest last coordinate; O(1)."""

    __slots__ = ("lowest",)

    def __init__(self) -> None:
        self.lowest: float | None = None

    def covers(self, row: list[float]) -> bool:
        return self.lowest is not None and self.lowest <= row[-1]

    def add(self, row: list[float]) -> None:
        self.lowest = row[-1]


class Staircase:
    """m = 3: the non-dominated (y, z) of the rows (x, y, z), y ascending and z descending; a lookup is O(log n)."""

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
        """Area that `row`, which isn't covered, would add to the area that the steps cover below `corner`, also (x, y, z)."""
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


class Rows:
    """m >= 4: all rows, compared at once; O(n m). Stored as columns in a buffer that doubles."""

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
