"""Pareto analysis of (n, m) arrays: dominance, fronts, hypervolume, knee.

a dominates b if a is at least as good in every objective and better in one. The front of a set is its subset that no
element dominates. Its hypervolume is the Lebesgue measure of the points that the set dominates and that dominate a
reference point (Zitzler and Thiele, 1998).

Throughout, `values` is (n, m): a row for each candidate, a column for each objective, each in its own unit and
orientation. `directions` holds m times "maximize" or "minimize", m >= 1. `[]` is an array without rows. Infinite values
are allowed. A row with a NaN was not measured: it dominates nothing and is on no front. Wrong shapes and names raise
ValueError. Everything is computed on losses: the values, with maximized columns negated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.pareto.losses import as_array, as_losses, as_point, measured_losses
from nas.pareto.sorting import Layer, distinct_rows, front_of, new_layer, non_dominated


def dominates(a: ArrayLike, b: ArrayLike, directions: Sequence[str]) -> bool:
    """a is at least as good as b in every objective and better in one; False where either has a NaN. a, b: (m,)."""
    first, second = (as_point(point, directions, noun) for point, noun in ((a, "a"), (b, "b")))
    return bool((first <= second).all() and (first < second).any())


def front(values: ArrayLike, directions: Sequence[str]) -> NDArray[np.intp]:
    """Indices of the rows that no row dominates.

    Sorted by the first minimized objective, ascending, ties by index; by index if nothing is minimized. Equal rows don't
    dominate one another: if one is on the front, all its copies are.
    """
    array = as_array(values, directions)
    losses, measured = measured_losses(array, directions)
    rows, place = distinct_rows(losses)
    indices = measured[non_dominated(rows)[place]]
    if "minimize" in directions:
        indices = indices[np.argsort(array[indices, list(directions).index("minimize")], kind="stable")]
    return indices


def fronts(values: ArrayLike, directions: Sequence[str]) -> NDArray[np.intp]:
    """Rank of each row, (n,): 0 on the front, k on the front of the rows whose rank isn't below k.

    Equal rows have equal ranks. Rows with a NaN all have the last rank, one after the worst row without.
    (ENS-BS: Zhang, Tian, Cheng and Jin, 2015.)
    """
    array = as_array(values, directions)
    losses, measured = measured_losses(array, directions)
    rows, place = distinct_rows(losses)
    layers: list[Layer] = []
    ranks = np.empty(len(rows), dtype=np.intp)
    for i, row in enumerate(rows.tolist()):
        ranks[i] = rank = front_of(layers, row)
        if rank == len(layers):
            layers.append(new_layer(len(row)))
        layers[rank].add(row)
    result = np.full(len(array), len(layers), dtype=np.intp)
    result[measured] = ranks[place]
    return result


def knee(values: ArrayLike, directions: Sequence[str]) -> int | None:
    """Index of the front's row farthest, towards the ideal point, from the hyperplane through the front's extremes.

    The extremes are the rows that are best in an objective (Das, 1999: the convex hull of individual minima). Each
    objective is scaled to [0, 1] over the front, a minimized one that is positive everywhere on the front after log10, so
    that costs are compared by ratio. Of equal rows, the first.

    None if the front has fewer than 3 distinct finite rows, or no row is on the ideal point's side of the hyperplane:
    every row between the extremes is then a worse compromise than the straight line.
    """
    import scipy.optimize  # slow to import

    losses = as_losses(as_array(values, directions), directions)
    indices = front(values, directions)
    indices = indices[np.isfinite(losses[indices]).all(axis=1)]
    scaled = losses[indices]
    if len(distinct_rows(scaled)[0]) < 3:
        return None
    for column, direction in enumerate(directions):
        if direction == "minimize" and (scaled[:, column] > 0).all():
            scaled[:, column] = np.log10(scaled[:, column])
    scaled -= scaled.min(axis=0)
    spans = scaled.max(axis=0)
    scaled /= np.where(spans > 0, spans, 1.0)

    # An objective without spread is 0 everywhere and makes no row extreme.
    extreme = (scaled[:, spans > 0] == 0).any(axis=1)
    # The plane is normal @ x = 1. Least squares, because one row may be the best in several objectives and ties make more
    # extremes than objectives; non-negative, because a negative component would reward a row for being worse.
    normal = scipy.optimize.nnls(scaled[extreme], np.ones(extreme.sum()))[0]
    towards_ideal = 1.0 - scaled @ normal
    best = int(np.argmax(towards_ideal))
    return int(indices[best]) if towards_ideal[best] > 1e-9 else None
