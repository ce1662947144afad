"""What can be chosen: the parameters of a study, their ranges, and which of them exist beside which values.

A `Domain` walks its parameters in the order in which they are asked for, and leaves out those that don't exist beside the
values picked so far. It is declared (a `SearchSpace`, or a mapping of Optuna distributions) or inferred from the trials of a
define-by-run objective: the union of what they asked for, with conditions learnt from which parameters they had.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.knobs import Knob
from nas.space import SearchSpace

Params: TypeAlias = dict[str, Any]
Key: TypeAlias = frozenset[tuple[str, Any]]

MAX_LEVELS = 64  # integers with more values than that are treated as continuous
CONTINUOUS = 1 << 40  # stands for the number of values of a float
LEARN_FROM = 2000  # trials that conditions are learnt from


@dataclass(frozen=True)
class Dimension:
    """One parameter. `ordered` says whether its values' order means something, None that it may or may not."""

    name: str
    distribution: BaseDistribution
    ordered: bool | None

    @staticmethod
    def of(name: str, distribution: BaseDistribution) -> Dimension:
        """As a foreign study declares it: categories of numbers, and short ranges of integers, may be codes or amounts."""
        if isinstance(distribution, CategoricalDistribution):
            numbers = all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in distribution.choices)
            return Dimension(name, distribution, None if numbers and len(distribution.choices) > 2 else False)
        dimension = Dimension(name, distribution, True)
        return Dimension(name, distribution, None) if 2 < dimension.count <= 8 else dimension

    @cached_property
    def values(self) -> tuple[Any, ...] | None:
        """All values in order, if there are at most `MAX_LEVELS`, or categories; else None."""
        own = self.distribution
        if isinstance(own, CategoricalDistribution):
            if self.ordered is not False:
                return tuple(sorted(own.choices, key=float))
            return tuple(own.choices)
        if self.count > MAX_LEVELS:
            return None
        assert isinstance(own, (IntDistribution, FloatDistribution)) and own.step is not None
        values = [own.low + k * own.step for k in range(self.count)]
        return tuple(values if isinstance(own, IntDistribution) else [min(float(v), own.high) for v in values])

    @cached_property
    def count(self) -> int:
        own = self.distribution
        if isinstance(own, CategoricalDistribution):
            return len(own.choices)
        if isinstance(own, IntDistribution):
            return (own.high - own.low) // own.step + 1
        assert isinstance(own, FloatDistribution)
        if own.single():
            return 1
        return CONTINUOUS if own.step is None else round((own.high - own.low) / own.step) + 1

    @cached_property
    def _index(self) -> dict[Any, int]:
        return {} if self.values is None else {_hashable(value): k for k, value in enumerate(self.values)}

    def index(self, value: Any) -> int | None:
        """Place among `values`; None for a foreign value."""
        return self._index.get(_hashable(value))

    def position(self, value: Any) -> float:
        """Where an ordered value stands in [0, 1]: by rank for categories, on the distribution's scale for ranges."""
        own = self.distribution
        if isinstance(own, CategoricalDistribution):
            index = self.index(value)
            return 0.5 if index is None or self.count < 2 else index / (self.count - 1)
        low, high, here = self._ends[0], self._ends[1], self._scaled(value)
        return 0.5 if high <= low else min(max((here - low) / (high - low), 0.0), 1.0)

    def at(self, position: float) -> Any:
        """The value nearest to a position in [0, 1] of a range."""
        own = self.distribution
        assert isinstance(own, (IntDistribution, FloatDistribution))
        low, high = self._ends
        here = low + min(max(position, 0.0), 1.0) * (high - low)
        value = math.exp(here) if own.log else here
        if isinstance(own, IntDistribution):
            if abs(value) < 2**53:
                value = own.low + round((value - own.low) / own.step) * own.step
            whole = int(value)
            whole = own.low + (whole - own.low) // own.step * own.step
            return min(max(whole, own.low), own.low + (self.count - 1) * own.step)
        if own.step is not None:
            value = own.low + round((value - own.low) / own.step) * own.step
        return min(max(float(value), own.low), own.high)

    def sample(self, rng: random.Random) -> Any:
        if self.values is not None:
            own = self.distribution
            if not isinstance(own, CategoricalDistribution) and getattr(own, "log", False):
                return self.at(rng.random())
            return self.values[rng.randrange(len(self.values))]
        own = self.distribution
        if isinstance(own, IntDistribution) and not own.log:
            return own.low + rng.randrange(self.count) * own.step
        return self.at(rng.random())

    def other(self, value: Any, rng: random.Random) -> Any:
        """A value near to this one where there is an order, any other one where there is none; itself if it is the only one."""
        if self.count < 2:
            return value
        if self.values is None:
            here = self.position(value)
            for _ in range(4):
                moved = self.at(here + rng.gauss(0.0, rng.choice((0.02, 0.08, 0.25))))
                if moved != value:
                    return moved
            return self.sample(rng)
        index = self.index(value)
        if index is None:
            return self.sample(rng)
        near = [k for k in (index - 1, index + 1) if 0 <= k < len(self.values)]
        if self.ordered and rng.random() < 0.6:
            return self.values[rng.choice(near)]
        k = rng.randrange(len(self.values) - 1)
        return self.values[k + (k >= index)]

    @cached_property
    def _ends(self) -> tuple[float, float]:
        own = self.distribution
        assert isinstance(own, (IntDistribution, FloatDistribution))
        return self._scaled(own.low), self._scaled(own.high)

    def _scaled(self, value: Any) -> float:
        return math.log(value) if getattr(self.distribution, "log", False) else float(value)


def _hashable(value: Any) -> Any:
    """What tells values apart: True is no 1, and Optuna lets anything be a category."""
    return (type(value) is bool, value) if value is None or isinstance(value, (int, float, str)) else repr(value)


def key_of(params: Params) -> Key:
    """Equal for equal params, in whatever order."""
    return frozenset((name, _hashable(value)) for name, value in params.items())


Pick: TypeAlias = "Callable[[Dimension], Any]"


class Domain(Protocol):
    """The parameters, and the order and the conditions under which they are asked for."""

    @property
    def dimensions(self) -> Mapping[str, Dimension]: ...

    def walk(self, pick: Pick) -> Params:
        """Params by asking `pick` for each parameter that exists, given what it picked before."""


def sample(domain: Domain, rng: random.Random) -> Params:
    """Uniform on each parameter's scale, parameter by parameter."""
    return domain.walk(lambda dimension: dimension.sample(rng))


def completed(domain: Domain, values: Mapping[str, Any], rng: random.Random) -> Params:
    """`values` made whole: those that don't exist dropped, those missing drawn at random."""
    return domain.walk(lambda d: values[d.name] if d.name in values else d.sample(rng))


def enumerate_all(domain: Domain, most: int) -> list[Params] | None:
    """All params of a finite domain, None if there are more than `most`."""
    found: list[Params] = []
    for params in _every(domain):
        if params is None or len(found) == most:
            return None
        found.append(params)
    return found


def _every(domain: Domain) -> Iterator[Params | None]:
    """An odometer over the picks of a walk; None as soon as a parameter has no list of values."""
    picks: list[int] = []
    while True:
        sizes: list[int] = []

        def pick(dimension: Dimension, sizes: list[int] = sizes) -> Any:
            place = len(sizes)
            sizes.append(dimension.count)
            if place == len(picks):
                picks.append(0)
            return None if dimension.values is None else dimension.values[picks[place]]

        params = domain.walk(pick)
        yield None if any(domain.dimensions[name].values is None for name in params) else params
        del picks[len(sizes) :]
        while picks and picks[-1] == sizes[len(picks) - 1] - 1:
            picks.pop()
        if not picks:
            return
        picks[-1] += 1


class Declared:
    """The domain of a `SearchSpace`, which knows its conditions."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.dimensions = {key: Dimension(key, _of_knob(knob), _ordered(knob)) for key, knob in space.knobs.items()}

    def walk(self, pick: Pick) -> Params:
        return self._space.suggest(lambda key, knob: pick(self.dimensions[key]))


class Flat:
    """Parameters that all exist always."""

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.dimensions = {name: Dimension.of(name, own) for name, own in distributions.items()}

    def walk(self, pick: Pick) -> Params:
        return {name: pick(dimension) for name, dimension in self.dimensions.items()}


class Inferred:
    """The union of the parameters of the trials seen, in the order in which they came up, and learnt conditions.

    Of parameters whose range varies, the range is the widest.
    """

    def __init__(self) -> None:
        self.dimensions: dict[str, Dimension] = {}
        self.version = 0  # changes whenever the parameters, their ranges or their conditions do
        self._rules: dict[str, _Rule] = {}
        self._trials: list[Params] = []

    def walk(self, pick: Pick) -> Params:
        params: Params = {}
        for name, dimension in self.dimensions.items():
            rule = self._rules.get(name)
            if rule is None or rule.holds(params, self.dimensions):
                params[name] = pick(dimension)
        return params

    def learn(self, trials: Sequence[FrozenTrial]) -> bool:
        """Take in trials, each once; whether anything changed. Only complete ones say what did not exist."""
        changed = False
        for trial in trials:
            for name, own in trial.distributions.items():
                known = self.dimensions.get(name)
                union = own if known is None else _union(known.distribution, own)
                if known is None or union != known.distribution:
                    self.dimensions[name] = Dimension.of(name, union)
                    changed = True
        whole = [dict(trial.params) for trial in trials if trial.state == TrialState.COMPLETE]
        self._trials += whole
        del self._trials[:-LEARN_FROM]
        if changed or any(self.walk(_pick_from(params)).keys() != params.keys() for params in whole):
            self._rules = {name: rule for name in self.dimensions if (rule := self._rule(name)) is not None}
            changed = True
        self.version += changed
        return changed

    def _rule(self, name: str) -> _Rule | None:
        labels = [name in params for params in self._trials]
        if all(labels):
            return None
        before = list(itertools.takewhile(lambda other: other != name, self.dimensions))
        return _grow(self._trials, labels, [self.dimensions[other] for other in before])


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
    """The widest of two ranges of one parameter; the later one where they can't be joined."""
    if one == other or type(one) is not type(other) or isinstance(one, CategoricalDistribution):
        return other
    if isinstance(one, IntDistribution) and isinstance(other, IntDistribution):
        low, high = min(one.low, other.low), max(one.high, other.high)
        step = math.gcd(one.step, other.step, abs(one.low - other.low)) or 1
        return IntDistribution(low, high, log=other.log, step=1 if other.log else step)
    assert isinstance(one, FloatDistribution) and isinstance(other, FloatDistribution)
    step_of_both = other.step if one.step == other.step and one.low == other.low else None
    return FloatDistribution(min(one.low, other.low), max(one.high, other.high), log=other.log, step=step_of_both)


def _of_knob(knob: Knob) -> BaseDistribution:
    if len(knob) > 1 and knob.step is not None:
        return IntDistribution(int(knob.values[0]), int(knob.values[-1]), step=knob.step)
    return CategoricalDistribution(knob.values)


def _ordered(knob: Knob) -> bool:
    return knob.ordinal and len(knob) > 2
