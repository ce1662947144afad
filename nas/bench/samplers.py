"""Samplers to compare, by name: `CONTESTANTS`. `NAME:option=value` gives a sampler's constructor further options (ablations)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from nas.errors import UsageError, reason_of
from nas.utils.registry import Registry

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


@dataclass(frozen=True, slots=True)
class Problem:
    """What is known before anything is trained. costs, features: of a combination that is feasible; NaN of others."""

    distributions: Mapping[str, BaseDistribution]
    costs: Callable[[dict[str, Any]], Sequence[float]]
    features: Callable[[dict[str, Any]], Sequence[float]] | None
    feasible: Callable[[dict[str, Any]], bool]
    identity: Callable[[dict[str, Any]], Hashable]


Factory: TypeAlias = "Callable[..., BaseSampler]"
"""(problem, seed, **options) -> sampler."""

CONTESTANTS: Registry[Factory] = Registry("sampler")

OPTUNA = ("random", "tpe", "nsga2-20", "nsga2-50", "nsga3", "gp")  # the library's own
KNOWS_COSTS = ("known-cost",)  # told costs as they are; the others get log10 costs, the axes on which they are scored
DEFAULT = ("known-cost", "random", "tpe", "nsga2-20", "nsga2-50", "nsga3", "evolution", "local")


@CONTESTANTS.register("known-cost")
def known_cost(problem: Problem, seed: int, *, features: bool = True, **options: Any) -> BaseSampler:
    """`nas.samplers.KnownCostSampler`. features=false: without the table's cost columns that are no objectives."""
    from nas.samplers import KnownCostSampler

    return KnownCostSampler(
        problem.costs,
        feasible=problem.feasible,
        seed=seed,
        space=problem.distributions,
        identity=problem.identity,
        features=problem.features if features else None,
        **options,
    )


@CONTESTANTS.register("random")
def uniform(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """Uniform, choice by choice."""
    import optuna

    return optuna.samplers.RandomSampler(seed=seed, **options)


@CONTESTANTS.register("tpe")
def tpe(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """Multi-objective tree-structured Parzen estimator (Ozaki et al., GECCO 2020), multivariate."""
    import optuna

    return optuna.samplers.TPESampler(seed=seed, **{"multivariate": True, "constant_liar": True, **options})


@CONTESTANTS.register("nsga2-20")
def nsga2_small(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """NSGA-II (Deb et al., 2002) with a population of 20."""
    import optuna

    return optuna.samplers.NSGAIISampler(seed=seed, **{"population_size": 20, **options})


@CONTESTANTS.register("nsga2-50")
def nsga2(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """NSGA-II with Optuna's population of 50."""
    import optuna

    return optuna.samplers.NSGAIISampler(seed=seed, **{"population_size": 50, **options})


@CONTESTANTS.register("nsga3")
def nsga3(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """NSGA-III (Deb and Jain, 2014) with a population of 20."""
    import optuna

    return optuna.samplers.NSGAIIISampler(seed=seed, **{"population_size": 20, **options})


@CONTESTANTS.register("gp")
def gp(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """Optuna's Gaussian processes, one an objective, with logEHVI. Slow: seconds an ask."""
    import optuna

    return optuna.samplers.GPSampler(seed=seed, **options)


@CONTESTANTS.register("evolution")
def evolution(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """Regularised evolution (Real et al., AAAI 2019) with a tournament by Pareto rank."""
    from nas.bench.baselines import RegularisedEvolution

    return RegularisedEvolution(dict(problem.distributions), seed=seed, **options)


@CONTESTANTS.register("local")
def local(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """Pareto local search: an untried neighbour of a member of the front."""
    from nas.bench.baselines import LocalSearch

    return LocalSearch(dict(problem.distributions), seed=seed, **options)


@CONTESTANTS.register("qlognehvi")
def qlognehvi(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """BoTorch's qLogNEHVI, costs as deterministic models. Needs BoTorch; slow: about a second an ask."""
    check("qlognehvi")
    from nas.bench.qlognehvi import QLogNEHVI

    return QLogNEHVI(
        dict(problem.distributions),
        problem.costs,
        feasible=problem.feasible,
        identity=problem.identity,
        seed=seed,
        **options,
    )


def check(text: str) -> None:
    """UsageError if a sampler is unknown, or needs a library that is not installed."""
    name, _ = parse(text)
    if name == "qlognehvi" and not all(find_spec(library) for library in ("botorch", "gpytorch")):
        raise UsageError(f"sampler {name!r} needs BoTorch; install nas[bench], or leave the sampler out")


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """`known-cost:exploration=0:startup=8` -> its name and options, values as JSON where they are. UsageError."""
    name, *rest = text.split(":")
    CONTESTANTS.find(name)
    options: dict[str, Any] = {}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier() or key in options:
            raise UsageError(f"sampler {text!r}: {part!r} is no option; write NAME:option=value, each option once")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return name, options


def build(text: str, problem: Problem, seed: int) -> BaseSampler:
    """The sampler that `text` names. UsageError for options that it doesn't take."""
    from optuna.exceptions import ExperimentalWarning

    name, options = parse(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # says nothing that a user could act on
            return CONTESTANTS[name](problem, seed, **options)
    except (TypeError, ValueError) as error:
        if not options:
            raise
        raise UsageError(f"sampler {text!r}: {reason_of(error)}") from None
