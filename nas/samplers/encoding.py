"""Params -> the columns that the Gaussian process works on, and costs -> axes.

A choice becomes a one-hot block where its order means nothing, a position in [0, 1] where it means something, and both,
each with a weight of its own, where that can't be known. A conditional parameter that doesn't exist has a level of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.samplers.domain import Dimension, Domain, Params
from nas.samplers.process import Floats, Layout

_HALF = 0.5**0.5  # two different one-hot rows are at a squared distance of 1


class Encoder:
    """Columns for the choices of a domain, then `features` columns of exact numbers."""

    def __init__(self, domain: Domain, features: int) -> None:
        self._blocks: list[
            tuple[str, Dimension, int, int, bool]
        ] = []  # name, dimension, first column, levels, position
        group: list[int] = []
        width = groups = 0
        for name, dimension in domain.dimensions.items():
            if dimension.count < 2 and dimension.values is not None:
                continue
            levels = len(dimension.values) if dimension.values is not None and dimension.ordered is not True else 0
            position = dimension.ordered is not False
            self._blocks.append((name, dimension, width, levels, position))
            if levels:
                group += [groups] * levels
                groups += 1
            if position:
                group += [groups] * 2  # the position, and whether there is one
                groups += 1
            width = len(group)
        self.width = width + features
        self._features = width
        part = [0] * width + [1] * features
        group += range(groups, groups + features)
        self.layout = Layout(np.array(group, dtype=np.intp), np.array(part, dtype=np.intp))

    def encode(self, params: Sequence[Params], features: Floats) -> Floats:
        """(n, width). features: (n, f), scaled already."""
        rows = np.zeros((len(params), self.width))
        rows[:, self._features :] = features
        for row, chosen in zip(rows, params, strict=True):
            for name, dimension, column, levels, position in self._blocks:
                exists = name in chosen
                if levels and exists:
                    index = dimension.index(chosen[name])
                    if index is not None:
                        row[column + index] = _HALF
                if position:
                    at = column + levels
                    row[at] = dimension.position(chosen[name]) if exists else 0.5
                    row[at + 1] = _HALF if exists else 0.0
        return rows


@dataclass(frozen=True, slots=True)
class Axes:
    """How each cost is put on its axis: log(c) where all costs seen are positive, log(c + smallest positive) where some are 0,
    c itself where some are negative. `reference` (k,) is where volumes end, on the axes."""

    kind: tuple[str, ...]
    shift: Floats
    centre: Floats
    spread: Floats
    reference: Floats

    @staticmethod
    def of(costs: Floats) -> Axes:
        """From the costs of a sample of the domain, (n, k), finite."""
        kinds, shifts = [], []
        for column in costs.T:
            positive = column[column > 0]
            if (column < 0).any() or not positive.size:
                kinds.append("linear")
                shifts.append(0.0)
            else:
                kinds.append("log")
                shifts.append(float(positive.min()) if (column == 0).any() else 0.0)
        axes = Axes(tuple(kinds), np.array(shifts), np.zeros(costs.shape[1]), np.ones(costs.shape[1]), np.zeros(0))
        placed = axes.place(costs)
        spread = placed.std(axis=0)
        top, bottom = placed.max(axis=0), placed.min(axis=0)
        reference = top + 0.02 * np.where(top > bottom, top - bottom, 1.0)
        return Axes(axes.kind, axes.shift, placed.mean(axis=0), np.where(spread > 1e-12, spread, 1.0), reference)

    def place(self, costs: Floats) -> Floats:
        """Costs on their axes, (n, k); what lies below a log axis's reach is put at its end."""
        placed = np.array(costs, dtype=np.float64)
        for k, kind in enumerate(self.kind):
            if kind == "log":
                placed[:, k] = np.log(np.maximum(placed[:, k] + self.shift[k], 1e-300))
        return placed

    def scaled(self, placed: Floats) -> Floats:
        """As features of the model: of zero mean and unit spread over the sample."""
        return (placed - self.centre) / self.spread


def warped(values: Floats) -> tuple[Floats, float, float]:
    """Qualities with the lowest drawn in, so that the unlearnable do not set the scale; and the centre and scale they came from.

    (y - median) / scale with the scale of the better half; below -2, -2 - log(1 - (z + 2)). Ranks are kept, and the better
    part stays linear, so that volumes are in the unit of the objective there.
    """
    centre = float(np.median(values))
    upper = np.quantile(values, 0.9) - centre
    scale = float(upper) / 1.28 if upper > 1e-12 else float(values.std())
    if not scale > 1e-12:
        scale = 1.0
    z = (values - centre) / scale
    low = z < -2.0
    z[low] = -2.0 - np.log1p(-2.0 - z[low])
    return z, centre, scale


Rows = NDArray[np.intp]
