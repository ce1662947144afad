"""A run as arrays: accuracies, costs and knobs of its searched trials, and accuracy at matched cost.

Accuracy rises with cost, and a knob that makes networks dear looks good by that alone. What a knob is worth is therefore
asked of the residual r = a - f(log10 c), f the least squares polynomial of degree 2 in the costs that the run minimises,
and of trials within one bin of f, which are of about equal cost.
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
PER_BIN = 12  # trials that a bin holds at least, where there are as many: a quarter of ten is none
NEAR = 0.25  # share of a bin's trials that counts as near the front
ABSENT = -1


@dataclass(frozen=True, slots=True)
class Factor:
    """One knob over the trials: `codes`, (n,), index `values`, `ABSENT` where the knob does not exist. Numbers rise."""

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
    """n complete trials of the search, baselines left out, in the order of their numbers. Accuracies are shares."""

    numbers: Ints
    accuracy: Floats
    costs: Mapping[str, Floats]  # those that the run minimises, in its order
    knobs: Mapping[str, Factor]  # in the order of the space
    front: Mask  # the run's front, its baselines included in the contest

    def __len__(self) -> int:
        return len(self.accuracy)

    def subset(self, chosen: Mask | Ints) -> Sample:
        """These trials alone; what is fitted is fitted anew, `front` stays the run's."""
        return Sample(
            self.numbers[chosen],
            self.accuracy[chosen],
            {name: cost[chosen] for name, cost in self.costs.items()},
            {key: Factor(factor.values, factor.codes[chosen]) for key, factor in self.knobs.items()},
            self.front[chosen],
        )

    def allows(self, kept: Mapping[str, Sequence[Value]]) -> Mask:
        """The trials whose knobs, where they exist, have one of the values `kept` of them, (n,)."""
        allowed = np.ones(len(self), dtype=np.bool_)
        for key, values in kept.items():
            if key in self.knobs:
                factor = self.knobs[key]
                good = np.array([value in values for value in factor.values] + [True])  # the last: absent
                allowed &= good[factor.codes]
        return allowed

    @cached_property
    def expected(self) -> Floats:
        """f(log10 c), (n,): the accuracy to be expected at a trial's costs."""
        return expected(np.log10(np.column_stack([*self.costs.values()])), self.accuracy)

    @cached_property
    def residual(self) -> Floats:
        """Accuracy less that to be expected at the trial's costs, (n,)."""
        return self.accuracy - self.expected

    @cached_property
    def gap(self) -> Floats:
        """Distance to the front, (n,), >= 0: max r - r, the front seen as f raised until it touches the best trial.

        What dominates a trial would not do: of the cheapest few there is nothing cheaper to be compared with.
        """
        return self.residual.max(initial=-np.inf) - self.residual if len(self) else np.zeros(0)

    @cached_property
    def bins(self) -> Ints:
        """Bin of cost of each trial, (n,): as many trials in each as can be, by rising `expected`."""
        return equal_bins(self.expected, max(1, min(MAX_BINS, len(self) // PER_BIN)))

    @cached_property
    def near(self) -> Mask:
        """Near the front: in the best quarter of its bin by `residual`, ties at its edge included, (n,)."""
        found = np.zeros(len(self), dtype=np.bool_)
        for number in np.unique(self.bins):
            members = np.flatnonzero(self.bins == number)
            residual = self.residual[members]
            edge = np.sort(residual)[-max(1, round(NEAR * len(members)))]
            found[members] = residual >= edge
        return found


def sample(run: Run) -> Sample:
    """The complete trials of a run's search. What is not searched, and knobs with one value so far, is left out."""
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
    """Numbers by size, then words by the alphabet."""
    return tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))


def expected(logs: Floats, accuracy: Floats) -> Floats:
    """Least squares of `accuracy`, (n,), by 1, x, x x' of the columns of `logs`, (n, m); of fewer terms for few trials."""
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
    """Bins 0 to count - 1 by size with equally many in each; equal numbers are in one bin."""
    order = np.sort(numbers)
    edges = order[[len(order) * k // count for k in range(1, count)]] if len(order) else order
    return np.searchsorted(edges, numbers, side="right").astype(np.intp)


def _place(key: str) -> tuple[int, str]:
    """What all stages share first, then stage by stage."""
    stage, dot, _ = key.partition(".")
    digits = stage.removeprefix("stage")
    return (int(digits) if dot and digits.isdigit() else 0, "")
