"""Optuna's built-in samplers, configured for several objectives, budgets and conditional knobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.samplers._base import SAMPLERS, Problem

if TYPE_CHECKING:
    import optuna

RANDOM_FIRST: dict[str, int] = {
    "tpe": 10,
    "gp": 10,
    "nsga2": 50,
    "nsga3": 50,
}  # random trials before the first modeled one: Optuna's defaults


@SAMPLERS.register("tpe")
def tpe(problem: Problem) -> optuna.samplers.BaseSampler:
    """Multi-objective tree-structured Parzen estimator (Ozaki et al., GECCO 2020), multivariate within groups of knobs."""
    import optuna

    return optuna.samplers.TPESampler(seed=problem.stream_seed, multivariate=True, group=True, constant_liar=True)


@SAMPLERS.register("random")
def uniform(problem: Problem) -> optuna.samplers.BaseSampler:
    """Each knob uniform and independent: the baseline of every comparison."""
    import optuna

    return optuna.samplers.RandomSampler(seed=problem.stream_seed)


@SAMPLERS.register("nsga2")
def nsga2(problem: Problem) -> optuna.samplers.BaseSampler:
    """NSGA-II (Deb et al., 2002). Conditional knobs are drawn at random."""
    import optuna

    return optuna.samplers.NSGAIISampler(seed=problem.stream_seed)


@SAMPLERS.register("nsga3")
def nsga3(problem: Problem) -> optuna.samplers.BaseSampler:
    """NSGA-III (Deb & Jain, 2014). Conditional knobs are drawn at random."""
    import optuna

    return optuna.samplers.NSGAIIISampler(seed=problem.stream_seed)


@SAMPLERS.register("gp")
def gp(problem: Problem) -> optuna.samplers.BaseSampler:
    """Gaussian process with expected hypervolume improvement; slow beyond a few hundred trials (seconds per suggestion)."""
    import optuna

    return optuna.samplers.GPSampler(seed=problem.stream_seed)


@SAMPLERS.register("qmc")
def qmc(problem: Problem) -> optuna.samplers.BaseSampler:
    """Scrambled Sobol sequence: covers the space more evenly than random sampling."""
    import optuna

    return optuna.samplers.QMCSampler(seed=problem.stream_seed, scramble=True, warn_asynchronous_seeding=False)
