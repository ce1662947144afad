"""Encoding of params as input columns of the Gaussian process, and of costs as values on axes.

A choice without order becomes a one-hot block, an ordered one a position in [0, 1]. A choice whose order is unknown becomes both,
each with a separate weight. A conditional parameter that doesn't exist has a separate level.

Parameters with equal values (the operation of each layer, the depth of each stage) are a family. Their values often have the same
effect in every place. Therefore columns of counts are added: the number of members of a family that have each value, and the sum
of their positions. Each is centered on its expectation under uniform choice and divided by its standard deviation. (This is the
histogram of a graph's labels, the first step of the Weisfeiler-Lehman kernel of NAS-BOWL: Ru et al., ICLR 2021.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from nas.samplers.domain import Dimension, Domain, Params
from nas.samplers.gaussian_process import CHOICE, COUNT, FEATURE, Floats, Layout

_HALF = 0.5**0.5  # two different one-hot rows are at a squared distance of 1
_GRID = 2.0**32  # positions are multiples of its inverse


class Encoder:
    """Columns of the choices of a domain, then of counts, then `features` columns of exact numbers.

    Choices and counts are exact to the last bit: equal params have equal columns, whatever other params are encoded with them.
    """

    def __init__(self, domain: Domain, features: int) -> None:
        self._blocks: list[
            tuple[str, Dimension, int, int, bool]
        ] = []  # name, dimension, first column, levels, position
        group: list[int] = []
        heights: list[float] = []  # of an active entry in each column of choices
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
            heights += [_HALF] * levels
            if position:
                group += [groups] * 2  # the position, and whether the parameter exists
                groups += 1
                heights += [1.0, _HALF]
        self._choices, self._height = len(group), np.array(heights)
        self._members, self._unit, self._offset = self._families()
        counts = len(self._unit)
        self.width = self._choices + counts + features
        part = [CHOICE] * self._choices + [COUNT] * counts + [FEATURE] * features
        group += [*[-1] * counts, *range(groups, groups + features)]
        self.layout = Layout(np.array(group, dtype=np.intp), np.array(part, dtype=np.intp))

    def _families(self) -> tuple[Floats, Floats, Floats]:
        """members (columns of choices, counts) of 0 and 1, unit (counts,), and offset (counts,).

        counts = (amounts @ members) * unit + offset.
        """
        families: dict[tuple[Any, ...], list[tuple[int, int, bool]]] = {}
        for _, dimension, column, levels, position in self._blocks:
            if dimension.values is not None:
                alike = (dimension.values, dimension.ordered, dimension.distribution)
                families.setdefault(alike, []).append((column, levels, position))
        members, units, offsets = [np.zeros((self._choices, 0))], [np.zeros(0)], [np.zeros(0)]
        for family in families.values():
            n, (_, levels, position) = len(family), family[0]
            if n < 2:
                continue
            member, unit = np.zeros((self._choices, levels + position)), np.zeros(levels + position)
            if levels:
                for column, _, _ in family:
                    member[np.arange(column, column + levels), np.arange(levels)] = 1.0
                unit[:levels] = levels / (n * (levels - 1)) ** 0.5  # a count is binomial: n draws, p = 1 / levels
            if position:
                member[[column + levels for column, _, _ in family], levels] = 1.0
                unit[levels] = (12 / n) ** 0.5
            members.append(member)
            units.append(unit)
            offsets.append(-unit * np.array([n / (levels or 1)] * levels + [n / 2] * position))
        return np.hstack(members), np.concatenate(units), np.concatenate(offsets)

    def columns(self, params: Sequence[Params]) -> Floats:
        """Choices and counts, (n, width - features)."""
        amounts = self._amounts(params)
        # Sums of a few multiples of 2^-32 are exact in any order of addition.
        return np.hstack([amounts * self._height, (amounts @ self._members) * self._unit + self._offset])

    def choices(self, params: Sequence[Params]) -> Floats:
        """The columns of choices alone."""
        return np.asarray(self._amounts(params) * self._height)

    def _amounts(self, params: Sequence[Params]) -> Floats:
        """Choices, (n, columns of choices): 1 for active entries, positions rounded to the grid."""
        rows = np.zeros((len(params), self._choices))
        for row, chosen in zip(rows, params, strict=True):
            for name, dimension, column, levels, position in self._blocks:
                exists = name in chosen
                if levels and exists:
                    index = dimension.index(chosen[name])
                    if index is not None:
                        row[column + index] = 1.0
                if position:
                    at = column + levels
                    row[at] = dimension.position(chosen[name]) if exists else 0.5
                    row[at + 1] = float(exists)
        return np.asarray(np.rint(rows * _GRID) / _GRID)


@dataclass(frozen=True, slots=True)
class Axes:
    """The axis of each cost c: log(c) if all sampled costs are positive, log(c + smallest positive) if some are 0, c if some are negative.

    reference (k,): upper end of the hypervolumes, on the axes.
    """

    kind: tuple[str, ...]
    shift: Floats
    centre: Floats
    spread: Floats
    reference: Floats
    middle: Floats  # medians, before the transform to the axes

    @staticmethod
    def of(costs: Floats) -> Axes:
        """From the finite costs of a sample of the domain, (n, k)."""
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
        """Costs on their axes, (n, k); values too small for a log axis are set to its lower end."""
        placed = np.array(costs, dtype=np.float64)
        for k, kind in enumerate(self.kind):
            if kind == "log":
                placed[:, k] = np.log(np.maximum(placed[:, k] + self.shift[k], 1e-300))
        return placed

    def scaled(self, placed: Floats) -> Floats:
        """Features of the model: standardized to mean 0 and standard deviation 1 over the sample."""
        return (placed - self.centre) / self.spread


def warped(values: Floats, sample: Floats) -> Floats:
    """Normal scores of the values' ranks in a sample: Phi^-1((rank + 1/2) / (n + 1)), ties at their mean rank.

    So networks that learned nothing don't set the scale, and a monotone transform of the objective doesn't change the search.
    """
    order = np.sort(sample)
    rank = (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right")) / 2.0
    return np.asarray(ndtri((rank + 0.5) / (len(order) + 1.0)), dtype=np.float64)
