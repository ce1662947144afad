"""The domain of a study without a declared one: the union of the parameters of its trials, and learned conditions."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.domain import Dimension, Params, Pick, hashable

LEARN_FROM = 2000  # latest complete trials from which conditions are learned


class Inferred:
    """The union of the parameters of the trials seen, in the order of first appearance, and learned conditions.

    The result depends on the trials alone, not on the order in which they were seen: "first" and "last" refer to trial numbers. If
    the range of a parameter varies, the union of the ranges is used; among ranges that can't be joined, those of the last trial's
    kind. Conditions are learned again after a trial that contradicts them, but at most once for each tenth more trials.
    """

    def __init__(self) -> None:
        self.dimensions: dict[str, Dimension] = {}
        self.version = 0  # changes whenever the parameters, their ranges or their conditions do
        self._first: dict[str, tuple[int, int]] = {}  # of each parameter: number of its first trial, and index there
        self._ranges: dict[str, dict[Hashable, _Range]] = {}  # of each parameter, by kind
        self._numbers: list[int] = []  # of the complete trials, ascending
        self._trials: list[Params] = []  # of the same
        self._rules: list[tuple[int, dict[str, _Rule]]] = [
            (0, {})
        ]  # number of complete trials at which the rules were learned, ascending
        self._mistakes: list[int] = []  # indices of the complete trials that contradict the rules of their time

    def walk(self, pick: Pick) -> Params:
        params: Params = {}
        rules = self._rules[-1][1]
        for name, dimension in self.dimensions.items():
            rule = rules.get(name)
            if rule is None or rule.holds(params, self.dimensions):
                params[name] = pick(dimension)
        return params

    def learn(self, trials: Sequence[FrozenTrial]) -> bool:
        """Add trials; returns whether anything changed. Only complete trials show which parameters don't exist."""
        for trial in trials:
            for place, (name, distribution) in enumerate(trial.distributions.items()):
                self._widen(name, distribution, trial.number, place)
        dimensions = self._joined()
        changed = list(dimensions.items()) != list(self.dimensions.items())
        first = 0 if changed else len(self._trials)
        for trial in trials:
            if trial.state == TrialState.COMPLETE:
                place = bisect.bisect_left(self._numbers, trial.number)
                if self._numbers[place : place + 1] == [trial.number]:
                    continue
                self._numbers.insert(place, trial.number)
                self._trials.insert(place, dict(trial.params))
                first = min(first, place)
        if changed:
            self.dimensions = dimensions
        before = self._rules[-1]
        self._learn_rules(first)
        changed = changed or self._rules[-1] is not before
        self.version += changed
        return changed

    def _widen(self, name: str, distribution: BaseDistribution, number: int, place: int) -> None:
        self._first[name] = min(self._first.get(name, (number, place)), (number, place))
        ranges, kind = self._ranges.setdefault(name, {}), _kind(distribution)
        known = ranges.get(kind)
        if known is None:
            ranges[kind] = _Range(number, distribution)
        else:
            known.last = max(known.last, number)
            if distribution != known.distribution:
                known.distribution = _union(known.distribution, distribution)

    def _joined(self) -> dict[str, Dimension]:
        dimensions = {}
        for name in sorted(self._first, key=self._first.__getitem__):
            distribution = max(self._ranges[name].values(), key=lambda kind: kind.last).distribution
            known = self.dimensions.get(name)
            dimensions[name] = (
                known if known is not None and known.distribution == distribution else Dimension.of(name, distribution)
            )
        return dimensions

    def _learn_rules(self, first: int) -> None:
        """Learn conditions from the complete trials from index `first` on; those of earlier trials are kept."""
        self._rules = [entry for entry in self._rules if entry[0] <= first]
        self._mistakes = [place for place in self._mistakes if place < first]
        for place in range(first, len(self._trials)):
            params, learned_at = self._trials[place], self._rules[-1][0]
            if self.walk(_pick_from(params)).keys() != params.keys():
                self._mistakes.append(place)
            if (
                self._mistakes
                and self._mistakes[-1] >= learned_at
                and place + 1 >= learned_at + max(1, learned_at // 10)
            ):
                self._rules.append((place + 1, self._grown(place + 1)))

    def _grown(self, count: int) -> dict[str, _Rule]:
        """Rules of the parameters that are missing in some of the first `count` complete trials."""
        trials, rules = self._trials[max(0, count - LEARN_FROM) : count], {}
        before: list[Dimension] = []
        for name, dimension in self.dimensions.items():
            labels = [name in params for params in trials]
            if not all(labels):
                rules[name] = _grow(trials, labels, before)
            before.append(dimension)
        return rules


@dataclass(slots=True)
class _Range:
    """The union of the distributions of one kind of a parameter, and the number of the last trial with one of them."""

    last: int
    distribution: BaseDistribution


def _kind(distribution: BaseDistribution) -> Hashable:
    """A key that is equal for distributions whose ranges can be joined."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(hashable(choice) for choice in distribution.choices)
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    return type(distribution).__name__, distribution.log


def _pick_from(params: Params) -> Pick:
    return lambda dimension: params.get(dimension.name)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A decision tree that predicts whether a parameter exists: a leaf holds the answer, a node tests another parameter `name`.

    branches: subtrees by index of the tested value, or by its side of `threshold` if given; -1 if that parameter doesn't exist.
    """

    exists: bool
    name: str = ""
    threshold: float | None = None
    branches: Mapping[int, _Rule] | None = None

    def holds(self, params: Params, dimensions: Mapping[str, Dimension]) -> bool:
        if self.branches is None:
            return self.exists
        branch = self.branches.get(_side(params, dimensions[self.name], self.threshold))
        return self.exists if branch is None else branch.holds(params, dimensions)


def _side(params: Params, dimension: Dimension, threshold: float | None) -> int:
    if dimension.name not in params:
        return -1
    value = params[dimension.name]
    if threshold is not None:
        return (
            -1 if value is None else int(dimension.position(value) > threshold)
        )  # None: requested, but the value is unknown
    index = dimension.index(value)
    return -2 if index is None else index


def _grow(trials: list[Params], labels: list[bool], dimensions: list[Dimension], depth: int = 4) -> _Rule:
    """Grow a tree greedily: each node takes the split of the least impurity, the earliest parameter among equals."""
    exists = 2 * sum(labels) >= len(labels)
    if depth == 0 or all(labels) or not any(labels):
        return _Rule(exists)
    best: tuple[float, Dimension, float | None] | None = None
    for dimension in dimensions:
        for threshold in _thresholds(trials, dimension):
            sides: dict[int, list[int]] = {}
            for params, label in zip(trials, labels, strict=True):
                tally = sides.setdefault(_side(params, dimension, threshold), [0, 0])
                tally[label] += 1
            if len(sides) < 2:
                continue
            impurity = sum(no * yes / (no + yes) for no, yes in sides.values()) + 0.01 * len(sides)
            if best is None or impurity < best[0] - 1e-9:
                best = impurity, dimension, threshold
    if best is None:
        return _Rule(exists)
    _, dimension, threshold = best
    parts: dict[int, tuple[list[Params], list[bool]]] = {}
    for params, label in zip(trials, labels, strict=True):
        rows = parts.setdefault(_side(params, dimension, threshold), ([], []))
        rows[0].append(params)
        rows[1].append(label)
    rest = [other for other in dimensions if other is not dimension or threshold is not None]
    branches = {side: _grow(*rows, rest, depth - 1) for side, rows in parts.items()}
    return _Rule(exists, dimension.name, threshold, branches)


def _thresholds(trials: list[Params], dimension: Dimension) -> list[float | None]:
    """Candidate splits: None for a split by value, midpoints of neighboring positions for a split by order."""
    thresholds: list[float | None] = [None] if dimension.values is not None and dimension.ordered is not True else []
    if dimension.ordered is not False:
        here = sorted({dimension.position(p[dimension.name]) for p in trials if dimension.name in p})
        between = [(a + b) / 2 for a, b in itertools.pairwise(here)]
        thresholds += between[:: max(1, len(between) // 16)] or [0.5]
    return thresholds


def _union(one: BaseDistribution, other: BaseDistribution) -> BaseDistribution:
    """The smallest range that covers two ranges of one kind: associative and commutative."""
    if isinstance(one, IntDistribution) and isinstance(other, IntDistribution):
        low, high = min(one.low, other.low), max(one.high, other.high)
        step = math.gcd(one.step, other.step, abs(one.low - other.low)) or 1
        return IntDistribution(low, high, log=one.log, step=1 if one.log else step)
    if isinstance(one, FloatDistribution) and isinstance(other, FloatDistribution):
        step_of_both = one.step if one.step == other.step and one.low == other.low else None
        return FloatDistribution(min(one.low, other.low), max(one.high, other.high), log=one.log, step=step_of_both)
    return one  # categories of one kind are equal
