"""Hypervolume: the volume that a front dominates up to a reference point, exact for any number of objectives.

In the private functions `points` are losses, (n, m), in any order, finite and strictly below the finite `corner`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from nas.pareto.losses import Floats, losses_and_reference
from nas.pareto.sorting import Staircase, distinct_rows, non_dominated


def hypervolume(values: ArrayLike, reference: ArrayLike, directions: Sequence[str]) -> float:
    """Volume of the union of the boxes between each row and `reference`, exact for every m.

    The unit is the product of the objectives' units. Rows that aren't strictly better than the reference in every
    objective, or that have a NaN, add nothing; an infinitely better one gives inf. reference: (m,), without NaN, in the
    orientation of `values`.
    """
    losses, corner = losses_and_reference(values, reference, directions)
    inside = losses[(losses < corner).all(axis=1)]
    if not np.isfinite(_box(inside, corner)).all():
        return np.inf
    return _volume(inside, corner)


def hypervolume_history(values: ArrayLike, reference: ArrayLike, directions: Sequence[str]) -> Floats:
    """Hypervolume of the first k rows for k = 1..n, (n,), never decreasing; rows and reference as in `hypervolume`.

    A new row adds its box minus the part that is covered already (the exclusive hypervolume of WFG: While, Bradstreet and
    Barone, 2012).
    """
    losses, corner = losses_and_reference(values, reference, directions)
    gains = np.zeros(len(losses))
    boxes = _box(losses, corner)
    archive = losses[:0]
    for k in np.flatnonzero((losses < corner).all(axis=1)):
        row = losses[k]
        if not np.isfinite(boxes[k]):
            gains[k] = np.inf
            break
        if (archive <= row).all(axis=1).any():
            continue
        # Rounding may make the difference slightly negative.
        gains[k] = max(0.0, boxes[k] - _volume(np.maximum(archive, row), corner))
        archive = np.vstack([archive[(archive < row).any(axis=1)], row])
    return np.cumsum(gains)


def _box(points: Floats, corner: Floats) -> Floats:
    """Volume, (n,), between each point and the corner; inf if it is unbounded or overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        volumes: Floats = np.prod(corner - points, axis=1)
    return volumes


def _volume(points: Floats, corner: Floats) -> float:
    if len(points) == 0:
        return 0.0
    match len(corner):
        case 1:
            return float(corner[0] - points.min())
        case 2:
            return _volume_2d(points, corner)
        case 3:
            return _volume_3d(points, corner)
    return sum(_slabs(points, corner))


def _volume_2d(points: Floats, corner: Floats) -> float:
    """In order of x, each point adds the strip between its y and the lowest y before it."""
    x, y = points[np.lexsort(points.T[::-1])].T
    ceiling = np.minimum.accumulate(np.concatenate([corner[1:], y]))[:-1]
    steps = y < ceiling
    return float(np.sum((corner[0] - x[steps]) * (ceiling[steps] - y[steps])))


def _volume_3d(points: Floats, corner: Floats) -> float:
    """A plane sweeps along x; the area of its intersection with the union grows by one step at each point."""
    stairs = Staircase()
    end: list[float] = corner.tolist()
    volume = area = x = 0.0
    rows: list[list[float]] = points[np.lexsort(points.T[::-1])].tolist()
    for row in rows:
        if not stairs.covers(row):
            volume += area * (row[0] - x)
            area += stairs.gain(row, end)
            x = row[0]
            stairs.add(row)
    return volume + area * (end[0] - x)


def _slabs(points: Floats, corner: Floats) -> Iterator[float]:
    """m >= 4: in order of x, the volume that each point adds to the points before it (WFG with slicing).

    Within the point's box, the boxes of those all begin at its x: the covered part is a prism over a union in m - 1 dimensions.
    """
    rows, _ = distinct_rows(points)
    rows = rows[non_dominated(rows)]
    boxes = _box(rows[:, 1:], corner[1:])
    for i, row in enumerate(rows):
        yield float(corner[0] - row[0]) * (float(boxes[i]) - _volume(np.maximum(rows[:i, 1:], row[1:]), corner[1:]))
