"""Optuna's own samplers, set up for several objectives, budgets and knobs that exist for some choices only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.samplers._base import SAMPLERS

if TYPE_CHECKING:
    import optuna


@SAMPLERS.register("tpe")
def tpe(seed: int) -> optuna.samplers.BaseSampler:
    """Multi-objective tree-structured Parzen estimator (Ozaki et al., GECCO 2020), multivariate, in groups of knobs."""
    import optuna

    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


@SAMPLERS.register("random")
def uniform(seed: int) -> optuna.samplers.BaseSampler:
    """Uniform, knob by knob: the baseline of every comparison."""
    import optuna

    return optuna.samplers.RandomSampler(seed=seed)


@SAMPLERS.register("nsga2")
def nsga2(seed: int) -> optuna.samplers.BaseSampler:
    """NSGA-II (Deb et al., 2002). Knobs that exist for some choices only are drawn at random."""
    import optuna

    return optuna.samplers.NSGAIISampler(seed=seed)


@SAMPLERS.register("nsga3")
def nsga3(seed: int) -> optuna.samplers.BaseSampler:
    """NSGA-III (Deb & Jain, 2014). Knobs that exist for some choices only are drawn at random."""
    import optuna

    return optuna.samplers.NSGAIIISampler(seed=seed)


@SAMPLERS.register("gp")
def gp(seed: int) -> optuna.samplers.BaseSampler:
    """Gaussian process with expected hypervolume improvement; slow beyond a few hundred trials (seconds a suggestion)."""
    import optuna

    return optuna.samplers.GPSampler(seed=seed)


@SAMPLERS.register("qmc")
def qmc(seed: int) -> optuna.samplers.BaseSampler:
    """Scrambled Sobol sequence: covers the space more evenly than random sampling."""
    import optuna

    return optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_asynchronous_seeding=False)
