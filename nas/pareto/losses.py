"""Values as losses: maximized columns negated, rows with a NaN left out. Checks of shapes and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.pareto.objectives import DIRECTIONS, unknown_direction

Floats: TypeAlias = NDArray[np.float64]


def as_array(values: ArrayLike, directions: Sequence[str]) -> Floats:
    m = check_directions(directions)
    array = np.asarray(values, dtype=np.float64)
    if array.shape == (0,):
        return array.reshape(0, m)
    if array.ndim != 2 or array.shape[1] != m:
        raise ValueError(f"values must have the shape (n, {m}), one column per direction; got {array.shape}")
    return array


def check_directions(directions: Sequence[str]) -> int:
    if isinstance(directions, str) or len(directions) == 0:
        raise ValueError(f"directions must be a sequence such as ['maximize', 'minimize']; got {directions!r}")
    for direction in directions:
        if direction not in DIRECTIONS:
            raise ValueError(unknown_direction(direction))
    return len(directions)


def as_point(point: ArrayLike, directions: Sequence[str], noun: str) -> Floats:
    """The losses, (m,), of one point."""
    m = check_directions(directions)
    array = np.asarray(point, dtype=np.float64)
    if array.shape != (m,):
        raise ValueError(f"{noun} must have the shape ({m},), one number per direction; got {array.shape}")
    return as_losses(array, directions)


def as_losses(values: Floats, directions: Sequence[str]) -> Floats:
    return np.where([direction == "maximize" for direction in directions], -values, values)


def measured_losses(array: Floats, directions: Sequence[str]) -> tuple[Floats, NDArray[np.intp]]:
    """The losses of the rows without a NaN, and the indices of these rows."""
    measured = np.flatnonzero(~np.isnan(array).any(axis=1))
    return as_losses(array[measured], directions), measured


def losses_and_reference(values: ArrayLike, reference: ArrayLike, directions: Sequence[str]) -> tuple[Floats, Floats]:
    corner = as_point(reference, directions, "reference")
    if np.isnan(corner).any():
        raise ValueError(f"reference must not have a NaN; got {reference!r}")
    return as_losses(as_array(values, directions), directions), corner
