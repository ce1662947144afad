"""Parts of the known-cost sampler: a parameter's values, counts of alike ones, what a quality is worth, what stopped trainings say."""

from __future__ import annotations

import random

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from nas.samplers import KnownCostSampler
from nas.samplers.domain import Dimension, Flat
from nas.samplers.encoding import Encoder
from nas.samplers.expected_improvement import Worth, cells, ehvi, expected_improvement
from nas.samplers.gaussian_process import COUNT
from nas.samplers.partial_curves import PAIRS, expected

OPS = CategoricalDistribution(("a", "b", "c"))


def counts_of(space, chosen) -> np.ndarray:
    encoder = Encoder(Flat(space), 0)
    return encoder.columns(chosen)[:, encoder.layout.part == COUNT]


def test_counts_say_how_often_each_value_is_taken_wherever():
    space = {"x": OPS, "y": OPS, "z": OPS, "alone": CategoricalDistribution(("p", "q"))}
    one, moved, other = counts_of(space, [{"x": x, "y": y, "z": z, "alone": "p"} for x, y, z in ("aab", "baa", "ccc")])
    assert np.allclose(one, moved) and not np.allclose(one, other)
    assert np.allclose(
        one, (np.array([2, 1, 0]) - 1) / (3 * (1 / 3) * (2 / 3)) ** 0.5
    )  # mean and deviation of a binomial


def test_counts_of_random_choices_have_mean_0_and_variance_1():
    space = {f"d{k}": IntDistribution(0, 19) for k in range(4)} | {f"o{k}": OPS for k in range(5)}
    rng = np.random.default_rng(0)
    chosen = [
        {name: int(rng.integers(20)) if name[0] == "d" else str(rng.choice(list("abc"))) for name in space}
        for _ in range(2000)
    ]
    found = counts_of(space, chosen)
    assert found.shape == (2000, 4)  # the sum of the integers' positions; a, b, c
    assert np.allclose(found.mean(axis=0), 0, atol=0.08) and np.allclose(found.var(axis=0), 1, atol=0.15)


def test_what_has_no_twin_has_no_counts():
    assert counts_of({"x": OPS, "n": IntDistribution(1, 9)}, [{"x": "a", "n": 3}]).size == 0


def test_worth_of_a_straight_line_is_a_factor():
    scale = np.linspace(-2, 2, 30)
    worth = Worth.of(scale, 5 * scale + 90)
    mean, deviation, levels = np.array([0.3, -1.0, 3.0]), np.array([0.5, 1.0, 0.2]), np.array([-1.5, 0.0, 1.0, 2.5])
    assert np.allclose(worth.gains(mean, deviation, levels), 5 * expected_improvement(mean, deviation, levels))


def test_worth_is_the_expectation_of_monte_carlo():
    rng = np.random.default_rng(1)
    scale = np.sort(rng.normal(size=20))
    worth = Worth.of(scale, np.exp(scale))
    knots = np.concatenate([worth.at[:1] - 50, worth.at, worth.at[-1:] + 50])
    steps = np.diff(knots) * np.concatenate([worth.slope[:1], worth.slope])
    heights = np.concatenate([[0.0], np.cumsum(steps)])
    draws = 0.2 + 0.8 * rng.standard_normal(400_000)
    for level in (-1.0, 0.1, 1.2):
        gain = np.maximum(np.interp(draws, knots, heights) - np.interp(level, knots, heights), 0)
        found = worth.gains(np.array([0.2]), np.array([0.8]), np.array([level]))[0, 0]
        assert found == pytest.approx(gain.mean(), rel=0.02)


def test_worth_and_scale_are_inverse():
    rng = np.random.default_rng(2)
    scale = np.sort(rng.normal(size=60))
    worth = Worth.of(scale, np.exp(scale))
    there = np.linspace(-4, 4, 33)
    assert np.allclose([worth.to_scale(own) for own in worth.of_scale(there)], there)
    assert np.allclose(worth.of_scale(worth.at), np.exp(worth.at))


def test_what_is_worth_more_is_preferred():
    """Two candidates of equal improvement on the model's scale, one where the scale is steep."""
    scale = np.linspace(-2, 2, 40)
    worth = Worth.of(scale, np.where(scale < 0, 10 * scale, 0.1 * scale))
    parts = cells(np.array([-1.0, 1.0]), np.array([[0.0], [1.0]]), np.array([2.0]), -2.0)
    mean, deviation, costs = np.array([-0.5, 1.5]), np.full(2, 0.1), np.array([[0.0], [1.0]])
    plain, weighed = ehvi(mean, deviation, costs, parts), ehvi(mean, deviation, costs, parts, worth)
    assert plain[0] == pytest.approx(plain[1], rel=0.05) and weighed[0] > 50 * weighed[1]


# -- stopped trainings ---------------------------------------------------------------------------------------------------


def paths(n: int, rho: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Final values and those after a third, of that correlation."""
    rng = np.random.default_rng(seed)
    finals = rng.standard_normal(n)
    return finals, rho * finals + (1 - rho**2) ** 0.5 * rng.standard_normal(n)


@pytest.mark.parametrize("rho", [0.5, 0.8, 0.95])
def test_what_stopped_trainings_say_is_calibrated(rho):
    """With the distribution of all ends before it, as an observation of its variance, it predicts the ends of the stopped."""
    finals, early = paths(4000, rho)
    on = early > np.median(early)  # a rule on the early value stopped the worse half
    stopped = [(1 / 3, value) for value in early[~on]]
    means, variances = expected(finals[on], [{1 / 3: value} for value in early[on]], stopped)
    assert variances[0] == pytest.approx((1 - rho**2) / rho**2, rel=0.25)
    off = finals[~on] - means / (1 + variances)
    assert abs(off.mean()) < 0.1 and off.var() == pytest.approx(1 - rho**2, rel=0.15)


def test_an_early_value_that_predicts_nothing_says_nothing():
    finals, early = paths(400, 0.0)
    means, variances = expected(finals, [{0.5: value} for value in early], [(0.5, 1.0), (0.25, 1.0)])
    assert np.isnan(means[1]) and np.isnan(variances[1])  # nobody has passed that fidelity
    assert np.isnan(means[0]) or variances[0] > 5


def test_few_pairs_say_nothing():
    finals, early = paths(PAIRS - 1, 0.9)
    assert np.isnan(expected(finals, [{0.5: value} for value in early], [(0.5, 0.0)])[0]).all()


@pytest.mark.parametrize("curve", [None, lambda trial: trial.user_attrs.get("curve", {})])
def test_stopped_trials_are_no_final_values_and_never_proposed_again(curve):
    space = {f"layer{k}": OPS for k in range(4)}
    costs = {"a": 1, "b": 2, "c": 4}

    def cost(params) -> list[float]:
        return [float(sum(costs[value] for value in params.values()))]

    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=KnownCostSampler(cost, seed=0, space=space, curve=curve)
    )
    for number in range(60):
        trial = study.ask(space)
        error = -float(cost(trial.params)[0])
        early = error + (1000.0 if number % 3 == 0 else 2.0)  # what is stopped looks like nothing else
        trial.set_user_attr("curve", {0.5: early})
        if number % 3 == 0:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, [error, *cost(trial.params)])
    proposed = [frozenset(trial.params.items()) for trial in study.trials]
    assert len(set(proposed)) == 60
    assert all(trial.values is None for trial in study.trials if trial.state == TrialState.PRUNED)
    complete = [trial.values[0] for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert max(complete) < 0 < 900 < max(trial.user_attrs["curve"][0.5] for trial in study.trials)
    known = study.sampler._history
    assert [-own.quality for own in known.observations] == complete[: len(known.observations)]
    assert len(known.stopped) == (20 if curve else 0)


def test_a_condition_on_a_continuous_parameter():
    """A study that declares nothing: conditions are learnt, and a float among them has no list of values."""

    def objective(trial) -> tuple[float, float]:
        kind = trial.suggest_categorical("kind", ["conv", "mixer", "other"])
        depth = trial.suggest_int("depth", 1, 8)
        if kind == "conv":
            depth += trial.suggest_categorical("kernel", [3, 5, 7])
        elif kind == "mixer":
            depth += trial.suggest_float("expand", 0.5, 4.0)
        rate = trial.suggest_float("rate", 1e-4, 1.0, log=True)
        if rate > 1e-2:
            depth += trial.suggest_int("late", 1, 3)
        return float(depth), float(trial.params["depth"])

    for seed in range(4):
        study = optuna.create_study(
            directions=["maximize", "minimize"], sampler=KnownCostSampler(lambda p: [float(p["depth"])], seed=seed)
        )
        study.optimize(objective, 25)
        assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


@pytest.mark.parametrize(
    "distribution",
    [
        IntDistribution(0, 10**18),
        IntDistribution(3, 17, step=7),
        IntDistribution(1, 10**6, log=True),
        FloatDistribution(-1.0, 2.0),
        FloatDistribution(0.1, 0.9, step=0.2),
        FloatDistribution(1e-6, 1.0, log=True),
        CategoricalDistribution((None, True, 1.5, "x")),
        CategoricalDistribution((8, 2, 4)),
    ],
)
def test_values_of_a_dimension_are_the_distributions(distribution):
    dimension, rng = Dimension.of("x", distribution), random.Random(0)
    value = dimension.sample(rng)
    for _ in range(200):
        value = dimension.other(value, rng)
        assert distribution._contains(distribution.to_internal_repr(value))
        if dimension.ordered is not False:
            assert 0.0 <= dimension.position(value) <= 1.0
