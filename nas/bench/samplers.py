"""Samplers to compare, by name: `CONTESTANTS`. `NAME:option=value` passes an option to a sampler's constructor (ablations)."""

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

    from nas.samplers.domain import Params


@dataclass(frozen=True, slots=True)
class Problem:
    """The facts known before training. costs, features: NaN for combinations that are not in the table."""

    distributions: Mapping[str, BaseDistribution]
    costs: Callable[[Params], Sequence[float]]
    features: Callable[[Params], Sequence[float]] | None
    feasible: Callable[[Params], bool]
    identity: Callable[[Params], Hashable]


Factory: TypeAlias = "Callable[..., BaseSampler]"
"""(problem, seed, **options) -> sampler."""

CONTESTANTS: Registry[Factory] = Registry("sampler")

OPTUNA = ("random", "tpe", "nsga2-20", "nsga2-50", "nsga3", "gp")  # built into Optuna
KNOWS_COSTS = ("known-cost",)  # receives raw costs; the others receive log10 costs, the axes of the score
DEFAULT = ("known-cost", "random", "tpe", "nsga2-20", "nsga2-50", "nsga3", "evolution", "local")


@CONTESTANTS.register("known-cost")
def known_cost(problem: Problem, seed: int, *, features: bool = True, **options: Any) -> BaseSampler:
    """`nas.samplers.KnownCostSampler`. features=false: without the table's cost columns that are not objectives."""
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
    """Each choice uniform and independent."""
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
    """NSGA-II with Optuna's default population of 50."""
    import optuna

    return optuna.samplers.NSGAIISampler(seed=seed, **{"population_size": 50, **options})


@CONTESTANTS.register("nsga3")
def nsga3(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """NSGA-III (Deb and Jain, 2014) with a population of 20."""
    import optuna

    return optuna.samplers.NSGAIIISampler(seed=seed, **{"population_size": 20, **options})


@CONTESTANTS.register("gp")
def gp(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """Optuna's sampler with one Gaussian process for each objective and logEHVI. Slow: seconds per ask."""
    import optuna

    return optuna.samplers.GPSampler(seed=seed, **options)


@CONTESTANTS.register("evolution")
def evolution(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """Regularised evolution (Real et al., AAAI 2019) with a tournament by Pareto rank."""
    from nas.bench.baselines import RegularisedEvolution

    return RegularisedEvolution(dict(problem.distributions), seed=seed, **options)


@CONTESTANTS.register("local")
def local(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """Pareto local search: an untried neighbor of a member of the front."""
    from nas.bench.baselines import LocalSearch

    return LocalSearch(dict(problem.distributions), seed=seed, **options)


@CONTESTANTS.register("qlognehvi")
def qlognehvi(problem: Problem, seed: int, **options: Any) -> BaseSampler:
    """BoTorch's qLogNEHVI with deterministic models of the costs. Needs BoTorch; slow: about a second per ask."""
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
        raise UsageError(f"sampler {name!r} needs BoTorch; install nas[bench], or omit the sampler")


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of `known-cost:exploration=0:startup=8`. Values that are not JSON are text. UsageError for wrong syntax."""
    name, *rest = text.split(":")
    CONTESTANTS.find(name)
    options: dict[str, Any] = {}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier() or key in options:
            raise UsageError(f"sampler {text!r}: {part!r} is not an option; write NAME:option=value, each option once")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return name, options


def build(text: str, problem: Problem, seed: int) -> BaseSampler:
    """The sampler named by `text`. UsageError for options that it doesn't accept."""
    from optuna.exceptions import ExperimentalWarning

    name, options = parse(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # a user can do nothing about it
            return CONTESTANTS[name](problem, seed, **options)
    except (TypeError, ValueError) as error:
        if not options:
            raise
        raise UsageError(f"sampler {text!r}: {reason_of(error)}") from None
