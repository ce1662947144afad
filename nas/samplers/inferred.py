"""The parameters of a study that declares none, by its trials: the union of what they asked for, and learnt conditions."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.domain import Dimension, Params, Pick, hashable

LEARN_FROM = 2000  # complete trials that conditions are learnt from, the latest


class Inferred:
    """The union of the parameters of the trials seen, in the order in which they came up, and learnt conditions.

    A function of the trials, in whatever order they were learnt from: "first" and "last" are by the trials' numbers. Of
    parameters whose range varies, the range is the widest; where ranges can't be joined, it is that of the last trial's kind.
    Conditions are learnt again at a trial that they get wrong, but only once there are a tenth more trials.
    """

    def __init__(self) -> None:
        self.dimensions: dict[str, Dimension] = {}
        self.version = 0  # changes whenever the parameters, their ranges or their conditions do
        self._first: dict[str, tuple[int, int]] = {}  # of each parameter: its first trial, and its place there
        self._ranges: dict[str, dict[Hashable, _Range]] = {}  # of each parameter, by kind
        self._numbers: list[int] = []  # of the complete trials, rising
        self._trials: list[Params] = []  # of the same
        self._rules: list[tuple[int, dict[str, _Rule]]] = [(0, {})]  # after so many complete trials, rising
        self._mistakes: list[int] = []  # places of the complete trials that the rules of their time got wrong

    def walk(self, pick: Pick) -> Params:
        params: Params = {}
        rules = self._rules[-1][1]
        for name, dimension in self.dimensions.items():
            rule = rules.get(name)
            if rule is None or rule.holds(params, self.dimensions):
                params[name] = pick(dimension)
        return params

    def learn(self, trials: Sequence[FrozenTrial]) -> bool:
        """Take in trials; whether anything changed. Only complete ones say what did not exist."""
        for trial in trials:
            for place, (name, own) in enumerate(trial.distributions.items()):
                self._widen(name, own, trial.number, place)
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

    def _widen(self, name: str, own: BaseDistribution, number: int, place: int) -> None:
        self._first[name] = min(self._first.get(name, (number, place)), (number, place))
        ranges, kind = self._ranges.setdefault(name, {}), _kind(own)
        known = ranges.get(kind)
        if known is None:
            ranges[kind] = _Range(number, own)
        else:
            known.last = max(known.last, number)
            if own != known.distribution:
                known.distribution = _union(known.distribution, own)

    def _joined(self) -> dict[str, Dimension]:
        dimensions = {}
        for name in sorted(self._first, key=self._first.__getitem__):
            own = max(self._ranges[name].values(), key=lambda kind: kind.last).distribution
            known = self.dimensions.get(name)
            dimensions[name] = known if known is not None and known.distribution == own else Dimension.of(name, own)
        return dimensions

    def _learn_rules(self, first: int) -> None:
        """Conditions by the complete trials from the place `first` on, those of the trials before being known."""
        self._rules = [own for own in self._rules if own[0] <= first]
        self._mistakes = [place for place in self._mistakes if place < first]
        for place in range(first, len(self._trials)):
            params, learnt = self._trials[place], self._rules[-1][0]
            if self.walk(_pick_from(params)).keys() != params.keys():
                self._mistakes.append(place)
            if self._mistakes and self._mistakes[-1] >= learnt and place + 1 >= learnt + max(1, learnt // 10):
                self._rules.append((place + 1, self._grown(place + 1)))

    def _grown(self, count: int) -> dict[str, _Rule]:
        """Rules of the parameters that some of the first `count` complete trials lacked."""
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
    """The union of a parameter's distributions of one kind, and the last trial that had one of them."""

    last: int
    distribution: BaseDistribution


def _kind(own: BaseDistribution) -> Hashable:
    """Equal for distributions whose ranges can be joined."""
    if isinstance(own, CategoricalDistribution):
        return tuple(hashable(choice) for choice in own.choices)
    assert isinstance(own, (IntDistribution, FloatDistribution))
    return type(own).__name__, own.log


def _pick_from(params: Params) -> Pick:
    return lambda dimension: params.get(dimension.name)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A decision tree for whether a parameter exists: a leaf says so; a node asks one other parameter.

    `branches` are by the value's index, -1 where that parameter doesn't exist itself; by its side of `threshold` if given.
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
        return -1 if value is None else int(dimension.position(value) > threshold)  # None: asked for, but not known
    index = dimension.index(value)
    return -2 if index is None else index


def _grow(trials: list[Params], labels: list[bool], dimensions: list[Dimension], depth: int = 4) -> _Rule:
    """The split that leaves the least impurity, the earliest parameter of equals, and so on in its branches."""
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
    """None for a split by value, positions in the middle between neighbouring values for one by order."""
    found: list[float | None] = [None] if dimension.values is not None and dimension.ordered is not True else []
    if dimension.ordered is not False:
        here = sorted({dimension.position(p[dimension.name]) for p in trials if dimension.name in p})
        between = [(a + b) / 2 for a, b in itertools.pairwise(here)]
        found += between[:: max(1, len(between) // 16)] or [0.5]
    return found


def _union(one: BaseDistribution, other: BaseDistribution) -> BaseDistribution:
    """The widest of two ranges of one parameter and kind: associative and commutative."""
    if isinstance(one, IntDistribution) and isinstance(other, IntDistribution):
        low, high = min(one.low, other.low), max(one.high, other.high)
        step = math.gcd(one.step, other.step, abs(one.low - other.low)) or 1
        return IntDistribution(low, high, log=one.log, step=1 if one.log else step)
    if isinstance(one, FloatDistribution) and isinstance(other, FloatDistribution):
        step_of_both = one.step if one.step == other.step and one.low == other.low else None
        return FloatDistribution(min(one.low, other.low), max(one.high, other.high), log=one.log, step=step_of_both)
    return one  # categories of one kind are equal
