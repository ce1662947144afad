"""Two search methods from the literature that Optuna lacks, as samplers for any Optuna study with one or more objectives.

Proposals are computed from the study's trials alone, so that runs can be resumed and shared by workers. The random numbers of a
proposal are seeded by the sampler's seed and the trial's number.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.pareto.dominance import front, fronts
from nas.samplers.domain import Params

Levels: TypeAlias = Mapping[str, Sequence[Any]]
"""The values of each parameter."""


class Neighbourly(BaseSampler):
    """Base class of samplers that search over parameters with finitely many values; others are drawn at random.

    distributions: all parameters by name; default: those that all complete trials have.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution] | None = None, *, seed: int | None = None) -> None:
        self._seed = random.SystemRandom().randrange(1 << 31) if seed is None else seed
        self._declared = None if distributions is None else dict(distributions)
        self._shared = IntersectionSearchSpace()
        self._independent = RandomSampler(seed=self._seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        known = self._shared.calculate(study) if self._declared is None else self._declared
        return {name: distribution for name, distribution in known.items() if values(distribution) is not None}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Params:
        if not search_space:
            return {}
        levels = {name: values(distribution) or () for name, distribution in search_space.items()}
        return self.propose(study, levels, random.Random(f"{self._seed}:{trial.number}"))

    @abstractmethod
    def propose(self, study: Study, levels: Levels, rng: random.Random) -> Params:
        """The next candidate. levels: the values of each parameter."""

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._independent.reseed_rng()


class RegularisedEvolution(Neighbourly):
    """Regularised evolution (Real, Aggarwal, Huang and Le, AAAI 2019) with a tournament by Pareto rank.

    The population consists of the `population` latest complete trials. `tournament` members are drawn from it. The one of the lowest
    rank (ties at random) is the parent, and one of its parameters is changed. Before the population is complete: random.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution] | None = None,
        *,
        seed: int | None = None,
        population: int = 20,
        tournament: int = 5,
    ) -> None:
        super().__init__(distributions, seed=seed)
        if not 1 <= tournament <= population:
            raise ValueError(f"tournament must be from 1 to the population, {population}; got {tournament}")
        self._population, self._tournament = population, tournament

    def propose(self, study: Study, levels: Levels, rng: random.Random) -> Params:
        young = complete(study, levels)[-self._population :]
        if len(young) < self._population:
            return {name: rng.choice(choices) for name, choices in levels.items()}
        rank = fronts(np.array([trial.values for trial in young]), directions(study))
        drawn = rng.sample(range(len(young)), self._tournament)
        parent = young[min(drawn, key=lambda k: int(rank[k]))].params
        return mutated(parent, levels, rng)


class LocalSearch(Neighbourly):
    """Pareto local search (Paquete, Chiarandini and Stützle, 2004; for architectures White, Nolen and Savani, UAI 2021).

    `startup` random trials; then an untried neighbor (one parameter changed) of a random member of the front. Random again if all
    neighbors of all members were tried.
    """

    def __init__(
        self, distributions: Mapping[str, BaseDistribution] | None = None, *, seed: int | None = None, startup: int = 10
    ) -> None:
        super().__init__(distributions, seed=seed)
        if startup < 1:
            raise ValueError(f"startup must be at least 1; got {startup}")
        self._startup = startup

    def propose(self, study: Study, levels: Levels, rng: random.Random) -> Params:
        done = complete(study, levels)
        if len(done) >= self._startup:
            tried = {key(trial.params, levels) for trial in study.get_trials(deepcopy=False)}
            members = [done[k].params for k in front(np.array([trial.values for trial in done]), directions(study))]
            rng.shuffle(members)
            for member in members:
                untried = [params for params in neighbours(member, levels) if key(params, levels) not in tried]
                if untried:
                    return rng.choice(untried)
        return {name: rng.choice(choices) for name, choices in levels.items()}


def values(distribution: BaseDistribution) -> tuple[Any, ...] | None:
    """All values of a distribution; None for floats and for more than 1024 integers."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    if isinstance(distribution, IntDistribution) and (distribution.high - distribution.low) // distribution.step < 1024:
        return tuple(range(distribution.low, distribution.high + 1, distribution.step))
    return None


def complete(study: Study, levels: Levels) -> list[FrozenTrial]:
    """Complete trials that have all of these parameters, by number."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in done if levels.keys() <= trial.params.keys()]


def directions(study: Study) -> list[str]:
    return [direction.name.lower() for direction in study.directions]


def key(params: Params, levels: Levels) -> tuple[Any, ...]:
    return tuple(params.get(name) for name in levels)


def mutated(parent: Params, levels: Levels, rng: random.Random) -> Params:
    """The parent with one parameter set to another value; all other values are equally likely."""
    child = {name: parent[name] for name in levels}
    movable = [name for name, choices in levels.items() if len(choices) > 1]
    if movable:
        name = rng.choice(movable)
        child[name] = rng.choice([value for value in levels[name] if value != parent[name]])
    return child


def neighbours(parent: Params, levels: Levels) -> Iterator[Params]:
    """All candidates that differ from the parent in one parameter."""
    params = {name: parent[name] for name in levels}
    for name, choices in levels.items():
        for value in choices:
            if value != params[name]:
                yield {**params, name: value}
