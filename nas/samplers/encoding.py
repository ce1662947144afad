"""Params -> the columns that the Gaussian process works on, and costs -> axes.

A choice becomes a one-hot block where its order means nothing, a position in [0, 1] where it means something, and both,
each with a weight of its own, where that can't be known. A conditional parameter that doesn't exist has a level of its own.

Parameters of equal values (the operation of each layer, the depth of each stage) are a family, and often mean the same wherever
they stand. So there are columns of counts too: how many of a family have each value, and the sum of their positions, over what
chance would give in units of its standard deviation. (The histogram of a graph's labels, the first step of the
Weisfeiler-Lehman kernel that NAS-BOWL searches with: Ru et al., ICLR 2021.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from nas.samplers.domain import Dimension, Domain, Params
from nas.samplers.process import CHOICE, COUNT, FEATURE, Floats, Layout

_HALF = 0.5**0.5  # two different one-hot rows are at a squared distance of 1


class Encoder:
    """Columns for the choices of a domain, then `features` columns of exact numbers, then counts."""

    def __init__(self, domain: Domain, features: int) -> None:
        self._blocks: list[
            tuple[str, Dimension, int, int, bool]
        ] = []  # name, dimension, first column, levels, position
        group: list[int] = []
        groups = 0
        for name, dimension in domain.dimensions.items():
            if dimension.count < 2 and dimension.values is not None:
                continue
            levels = len(dimension.values) if dimension.values is not None and dimension.ordered is not True else 0
            position = dimension.ordered is not False
            self._blocks.append((name, dimension, len(group), levels, position))
            if levels:
                group += [groups] * levels
                groups += 1
            if position:
                group += [groups] * 2  # the position, and whether there is one
                groups += 1
        self._choices = len(group)
        self._weigh, self._offset = self._families()
        self.width = self._choices + features + len(self._offset)
        part = [CHOICE] * self._choices + [FEATURE] * features + [COUNT] * len(self._offset)
        group += [*range(groups, groups + features), *[-1] * len(self._offset)]
        self.layout = Layout(np.array(group, dtype=np.intp), np.array(part, dtype=np.intp))

    def _families(self) -> tuple[Floats, Floats]:
        """Counts are choices @ weigh + offset: (columns of choices, counts), (counts,)."""
        families: dict[tuple[Any, ...], list[tuple[int, int, bool]]] = {}
        for _, dimension, column, levels, position in self._blocks:
            if dimension.values is not None:
                alike = (dimension.values, dimension.ordered, dimension.distribution)
                families.setdefault(alike, []).append((column, levels, position))
        weigh, offset = [np.zeros((self._choices, 0))], [np.zeros(0)]
        for members in families.values():
            n, (_, levels, position) = len(members), members[0]
            if n < 2:
                continue
            own, shift = np.zeros((self._choices, levels + position)), np.zeros(levels + position)
            if levels:
                unit = levels / (n * (levels - 1)) ** 0.5  # a level's count is binomial, of n at 1 / levels
                for column, _, _ in members:
                    own[np.arange(column, column + levels), np.arange(levels)] = unit / _HALF
                shift[:levels] = -unit * n / levels
            if position:
                unit = (12 / n) ** 0.5
                own[[column + levels for column, _, _ in members], levels] = unit
                shift[levels] = -unit * n / 2
            weigh.append(own)
            offset.append(shift)
        return np.hstack(weigh), np.concatenate(offset)

    def encode(self, params: Sequence[Params], features: Floats) -> Floats:
        """(n, width). features: (n, f), scaled already."""
        choices = self.choices(params)
        return np.hstack([choices, features, choices @ self._weigh + self._offset])

    def choices(self, params: Sequence[Params]) -> Floats:
        """The columns of choices alone."""
        rows = np.zeros((len(params), self._choices))
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
    middle: Floats  # medians, not yet on the axes

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
        axes = Axes(
            tuple(kinds), np.array(shifts), np.zeros(costs.shape[1]), np.ones(costs.shape[1]), np.zeros(0), np.zeros(0)
        )
        placed = axes.place(costs)
        spread = placed.std(axis=0)
        top, bottom = placed.max(axis=0), placed.min(axis=0)
        reference = top + 0.02 * np.where(top > bottom, top - bottom, 1.0)
        spread = np.where(spread > 1e-12, spread, 1.0)
        return Axes(axes.kind, axes.shift, placed.mean(axis=0), spread, reference, np.median(costs, axis=0))

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


def warped(values: Floats, sample: Floats) -> Floats:
    """Normal scores of the values' ranks in a sample: Phi^-1((rank + 1/2) / (n + 1)), ties at their mean rank.

    Nothing that did not learn sets the scale then, and no monotone change of the objective changes a search.
    """
    order = np.sort(sample)
    rank = (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right")) / 2.0
    return np.asarray(ndtri((rank + 0.5) / (len(order) + 1.0)), dtype=np.float64)
