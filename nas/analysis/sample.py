"""A run as arrays: accuracies, costs and knobs of its searched trials, and accuracy at matched cost.

Accuracy rises with cost, so that any knob that makes networks expensive seems good. The effect of a knob is therefore measured
on the residual r = a - f(log10 c), where f is the least squares polynomial of degree 2 in the costs that the run minimises, and
among trials within one bin of f, whose costs are about equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.networks.blocks._base import Value

if TYPE_CHECKING:
    from nas.runs.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]

MAX_BINS = 10  # of cost
PER_BIN = 12  # least trials in a bin, if the run has as many; the best quarter of fewer would be too small
NEAR = 0.25  # share of a bin's trials that counts as near the front
ABSENT = -1


@dataclass(frozen=True, slots=True)
class Factor:
    """One knob over the trials. codes: (n,), indices into `values`, `ABSENT` where the knob does not exist. Numbers are ascending."""

    values: tuple[Value, ...]
    codes: Ints

    @property
    def exists(self) -> Mask:
        exists: Mask = self.codes != ABSENT
        return exists

    @property
    def ordinal(self) -> bool:
        return not any(isinstance(value, str) for value in self.values)


@dataclass(frozen=True)
class Sample:
    """n complete trials of the search, without baselines, in the order of their numbers. Accuracies are in [0, 1]."""

    numbers: Ints
    accuracy: Floats
    costs: Mapping[str, Floats]  # those that the run minimises, in its order
    knobs: Mapping[str, Factor]  # in the order of the space
    front: Mask  # trials on the run's Pareto front, for which baselines compete too

    def __len__(self) -> int:
        return len(self.accuracy)

    def subset(self, chosen: Mask | Ints) -> Sample:
        """Only these trials; everything fitted is fitted again, but `front` remains that of the run."""
        return Sample(
            self.numbers[chosen],
            self.accuracy[chosen],
            {name: cost[chosen] for name, cost in self.costs.items()},
            {key: Factor(factor.values, factor.codes[chosen]) for key, factor in self.knobs.items()},
            self.front[chosen],
        )

    def allows(self, kept: Mapping[str, Sequence[Value]]) -> Mask:
        """Mask of the trials whose existing knobs all have one of their values in `kept`, (n,)."""
        allowed = np.ones(len(self), dtype=np.bool_)
        for key, values in kept.items():
            if key in self.knobs:
                factor = self.knobs[key]
                good = np.array([value in values for value in factor.values] + [True])  # the last: absent
                allowed &= good[factor.codes]
        return allowed

    @cached_property
    def expected(self) -> Floats:
        """f(log10 c), (n,): the expected accuracy at a trial's costs."""
        return expected(np.log10(np.column_stack([*self.costs.values()])), self.accuracy)

    @cached_property
    def residual(self) -> Floats:
        """Accuracy minus `expected`, (n,)."""
        return self.accuracy - self.expected

    @cached_property
    def gap(self) -> Floats:
        """Distance to the front, (n,), >= 0: max r - r. The front is approximated by f, raised until it touches the best trial.

        The distance to dominating trials would not do: for the cheapest trials none exist.
        """
        return self.residual.max(initial=-np.inf) - self.residual if len(self) else np.zeros(0)

    @cached_property
    def bins(self) -> Ints:
        """Bin of cost of each trial, (n,), by ascending `expected`; the bins have equal numbers of trials as far as possible."""
        return equal_bins(self.expected, max(1, min(MAX_BINS, len(self) // PER_BIN)))

    @cached_property
    def near(self) -> Mask:
        """Mask of the trials near the front, (n,): in the best quarter of their bin by `residual`, including ties at its edge."""
        near = np.zeros(len(self), dtype=np.bool_)
        for number in np.unique(self.bins):
            members = np.flatnonzero(self.bins == number)
            residual = self.residual[members]
            edge = np.sort(residual)[-max(1, round(NEAR * len(members)))]
            near[members] = residual >= edge
        return near


def sample(run: Run) -> Sample:
    """The complete trials of a run's search. Baselines and knobs with a single value so far are left out."""
    trials = [trial for trial in run.trials if trial.accuracy is not None and not trial.label]
    front = {trial.number for trial in run.front()}
    keys: dict[str, None] = {}
    for trial in trials:
        keys.update(dict.fromkeys(trial.choices))
    knobs = {}
    for key in keys:
        chosen = [trial.choices.get(key) for trial in trials]
        values = ordered({value for value in chosen if value is not None})
        if len(values) > 1:
            place = {value: code for code, value in enumerate(values)}
            codes = [ABSENT if value is None else place[value] for value in chosen]
            knobs[key] = Factor(values, np.array(codes, dtype=np.intp))
    return Sample(
        numbers=np.array([trial.number for trial in trials], dtype=np.intp),
        accuracy=np.array([trial.accuracy for trial in trials], dtype=np.float64),
        costs={
            objective.name: np.array([trial.price(objective.name) for trial in trials], dtype=np.float64)
            for objective in run.objectives[1:]
        },
        knobs=dict(sorted(knobs.items(), key=lambda item: _place(item[0]))),
        front=np.array([trial.number in front for trial in trials], dtype=np.bool_),
    )


def ordered(values: set[Value]) -> tuple[Value, ...]:
    """Numbers in ascending order, then words in alphabetical order."""
    return tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))


def expected(logs: Floats, accuracy: Floats) -> Floats:
    """Least squares fit of `accuracy`, (n,), by 1, x and x x' of the columns of `logs`, (n, m); fewer terms for few trials."""
    n = len(accuracy)
    if n == 0:
        return np.zeros(0)
    spread = logs.std(axis=0)
    x = (logs - logs.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    m = x.shape[1]
    columns = [np.ones(n)]
    if n >= 5 * (m + 1):
        columns += [*x.T]
    if n >= 5 * (m + 1) * (m + 2) // 2:
        columns += [x[:, i] * x[:, j] for i in range(m) for j in range(i, m)]
    design = np.column_stack(columns)
    fitted: Floats = design @ np.linalg.lstsq(design, accuracy, rcond=None)[0]
    return fitted


def equal_bins(numbers: Floats, count: int) -> Ints:
    """Bins 0 to count - 1 in ascending order with equal numbers of members; equal numbers share a bin."""
    order = np.sort(numbers)
    edges = order[[len(order) * k // count for k in range(1, count)]] if len(order) else order
    return np.searchsorted(edges, numbers, side="right").astype(np.intp)


def _place(key: str) -> tuple[int, str]:
    """Sort key: knobs of all stages first, then stage by stage."""
    stage, dot, _ = key.partition(".")
    digits = stage.removeprefix("stage")
    return (int(digits) if dot and digits.isdigit() else 0, "")
