"""The parameters of a study: their ranges, and the conditions under which they exist.

A `Domain` visits its parameters in the order in which a trial requests them, and skips those that don't exist for the values
picked so far. Domains declared by a `SearchSpace` or a mapping of Optuna distributions are here; the domain of a define-by-run
objective is inferred from its trials (`inferred`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas.spaces.knobs import Knob
from nas.spaces.space import SearchSpace

Params: TypeAlias = dict[str, Any]
Key: TypeAlias = frozenset[tuple[str, Any]]

MAX_LEVELS = 64  # integers with more values than that are treated as continuous
CONTINUOUS = 1 << 40  # stands for the number of values of a float


@dataclass(frozen=True)
class Dimension:
    """One parameter. `ordered`: whether the order of its values is meaningful; None if unknown."""

    name: str
    distribution: BaseDistribution
    ordered: bool | None

    @staticmethod
    def of(name: str, distribution: BaseDistribution) -> Dimension:
        """From an Optuna distribution. Categories of numbers and short ranges of integers may be codes or amounts: `ordered` is None."""
        if isinstance(distribution, CategoricalDistribution):
            numbers = all(
                isinstance(c, (int, float)) and not isinstance(c, bool) and abs(c) < math.inf
                for c in distribution.choices
            )
            return Dimension(name, distribution, None if numbers and len(distribution.choices) > 2 else False)
        dimension = Dimension(name, distribution, True)
        return Dimension(name, distribution, None) if 2 < dimension.count <= 8 else dimension

    @cached_property
    def values(self) -> tuple[Any, ...] | None:
        """All values in order: of a category, or of a range of at most `MAX_LEVELS` values; else None."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            if self.ordered is not False:
                return tuple(sorted(distribution.choices, key=float))
            return tuple(distribution.choices)
        if self.count > MAX_LEVELS:
            return None
        assert isinstance(distribution, (IntDistribution, FloatDistribution)) and distribution.step is not None
        values = [distribution.low + k * distribution.step for k in range(self.count)]
        return tuple(
            values if isinstance(distribution, IntDistribution) else [min(float(v), distribution.high) for v in values]
        )

    @cached_property
    def count(self) -> int:
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return len(distribution.choices)
        if isinstance(distribution, IntDistribution):
            return (distribution.high - distribution.low) // distribution.step + 1
        assert isinstance(distribution, FloatDistribution)
        if distribution.single():
            return 1
        return (
            CONTINUOUS
            if distribution.step is None
            else round((distribution.high - distribution.low) / distribution.step) + 1
        )

    @cached_property
    def _index(self) -> dict[Hashable, int]:
        return {} if self.values is None else {hashable(value): k for k, value in enumerate(self.values)}

    def index(self, value: Any) -> int | None:
        """Index in `values`; None for an unknown value."""
        return self._index.get(hashable(value))

    def position(self, value: Any) -> float:
        """Position of an ordered value in [0, 1]: by rank for categories, on the scale of the distribution for ranges."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            index = self.index(value)
            return 0.5 if index is None or self.count < 2 else index / (self.count - 1)
        low, high, here = self._ends[0], self._ends[1], self._scaled(value)
        return 0.5 if high <= low else min(max((here - low) / (high - low), 0.0), 1.0)

    def at(self, position: float) -> Any:
        """The value of a range nearest to a position in [0, 1]."""
        distribution = self.distribution
        assert isinstance(distribution, (IntDistribution, FloatDistribution))
        low, high = self._ends
        here = low + min(max(position, 0.0), 1.0) * (high - low)
        value = math.exp(here) if distribution.log else here
        if isinstance(distribution, IntDistribution):
            if abs(value) < 2**53:
                value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
            whole = int(value)
            whole = distribution.low + (whole - distribution.low) // distribution.step * distribution.step
            return min(max(whole, distribution.low), distribution.low + (self.count - 1) * distribution.step)
        if distribution.step is not None:
            value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
        return min(max(float(value), distribution.low), distribution.high)

    def sample(self, rng: random.Random) -> Any:
        if self.values is not None:
            distribution = self.distribution
            if not isinstance(distribution, CategoricalDistribution) and getattr(distribution, "log", False):
                return self.at(rng.random())
            return self.values[rng.randrange(len(self.values))]
        distribution = self.distribution
        if isinstance(distribution, IntDistribution) and not distribution.log:
            return distribution.low + rng.randrange(self.count) * distribution.step
        return self.at(rng.random())

    def other(self, value: Any, rng: random.Random) -> Any:
        """Another value: often a near one if there is an order, else any. The value itself if it is the only one."""
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
        distribution = self.distribution
        assert isinstance(distribution, (IntDistribution, FloatDistribution))
        return self._scaled(distribution.low), self._scaled(distribution.high)

    def _scaled(self, value: Any) -> float:
        return math.log(value) if getattr(self.distribution, "log", False) else float(value)


def hashable(value: Any) -> Hashable:
    """A key that is equal for equal values: True differs from 1, NaN equals NaN, and any object may be a category in Optuna."""
    plain = value is None or (isinstance(value, (int, float, str)) and value == value)
    return (type(value) is bool, value) if plain else repr(value)


def key_of(params: Params) -> Key:
    """Equal for equal params in any order."""
    return frozenset((name, hashable(value)) for name, value in params.items())


Pick: TypeAlias = "Callable[[Dimension], Any]"


class Domain(Protocol):
    """The parameters, their order, and the conditions under which they exist."""

    @property
    def dimensions(self) -> Mapping[str, Dimension]: ...

    def walk(self, pick: Pick) -> Params:
        """Call `pick` for each parameter that exists, given the values picked before."""


def sample(domain: Domain, rng: random.Random) -> Params:
    """Draw each parameter uniformly on its scale."""
    return domain.walk(lambda dimension: dimension.sample(rng))


def completed(domain: Domain, values: Params, rng: random.Random) -> Params:
    """`values` without parameters that don't exist; missing ones are drawn at random."""
    return domain.walk(lambda d: values[d.name] if d.name in values else d.sample(rng))


def enumerate_all(domain: Domain, most: int) -> list[Params] | None:
    """All params of a finite domain; None if there are more than `most`."""
    every: list[Params] = []
    for params in _every(domain):
        if params is None or len(every) == most:
            return None
        every.append(params)
    return every


def _every(domain: Domain) -> Iterator[Params | None]:
    """All params, by counting up the indices picked like an odometer; None if a parameter has no list of values."""
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
    """The domain of a `SearchSpace`, which declares its conditions."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.dimensions = {key: Dimension(key, _of_knob(knob), _ordered(knob)) for key, knob in space.knobs.items()}

    def walk(self, pick: Pick) -> Params:
        return self._space.suggest(lambda key, knob: pick(self.dimensions[key]))


class Flat:
    """A domain without conditions."""

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.dimensions = {name: Dimension.of(name, distribution) for name, distribution in distributions.items()}

    def walk(self, pick: Pick) -> Params:
        return {name: pick(dimension) for name, dimension in self.dimensions.items()}


def _of_knob(knob: Knob) -> BaseDistribution:
    if len(knob) > 1 and knob.step is not None:
        return IntDistribution(int(knob.values[0]), int(knob.values[-1]), step=knob.step)
    return CategoricalDistribution(knob.values)


def _ordered(knob: Knob) -> bool:
    return knob.ordinal and len(knob) > 2
