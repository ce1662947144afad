"""The known-cost sampler at the edges: costs that are odd, trials that fail, options, what it is not for."""

from __future__ import annotations

import itertools
import random
import warnings

import numpy as np
import optuna
import pytest
from helpers_known_cost import OPS, conditional, conditional_cost, cost, layers, names, quality, run, study_of
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from threadpoolctl import threadpool_info, threadpool_limits

from nas.samplers import KnownCostSampler


@pytest.mark.parametrize("value", [0.0, -5.0, 0.5])
def test_costs_that_have_no_logarithm(value):
    def costs(params):
        return [value if params["layer0"] == "a" else cost(params)[0]]

    study = study_of(KnownCostSampler(costs, seed=0))
    run(study, 25, lambda trial: (layers(trial), (quality(trial.params), *costs(trial.params)))[1])
    assert len(set(names(study))) == 25


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_candidate_without_a_finite_cost_is_not_proposed(value):
    def costs(params):
        return [value if params["layer0"] == "a" else cost(params)[0]]

    study = study_of(KnownCostSampler(costs, seed=0))
    run(study, 25)
    assert all(trial.params["layer0"] != "a" for trial in study.trials[1:])


def test_failed_pruned_and_missing_values():
    turns = itertools.cycle([1.0, float("nan"), None, "prune", float("inf"), 2.0])

    def objective(trial):
        layers(trial)
        turn = next(turns)
        if turn == "prune":
            raise optuna.TrialPruned
        if turn is None:
            raise RuntimeError("broken")
        return turn, cost(trial.params)[0]

    study = study_of(KnownCostSampler(cost, seed=0))
    study.optimize(objective, 40, catch=RuntimeError)
    assert len(set(names(study))) == 40
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED}


def test_a_constant_objective_and_a_constant_cost():
    study = study_of(KnownCostSampler(lambda params: [7.0], seed=0))
    run(study, 25, lambda trial: (layers(trial), (0.5, 7.0))[1])
    assert len(set(names(study))) == 25


def test_a_space_of_one_candidate_and_one_of_none():
    study = study_of(KnownCostSampler(lambda params: [1.0], seed=0))
    run(study, 15, lambda trial: (float(trial.suggest_int("x", 3, 3)), 1.0))
    assert len(study.trials) == 15
    study = study_of(KnownCostSampler(lambda params: [1.0], seed=0))
    run(study, 15, lambda trial: (0.0, 1.0))
    assert len(study.trials) == 15


def test_enqueued_trials_come_first_and_count_as_seen():
    space = {f"layer{k}": CategoricalDistribution(OPS) for k in range(5)}
    study = study_of(KnownCostSampler(cost, seed=0, space=space))
    known = {f"layer{k}": "b" for k in range(5)}
    study.enqueue_trial(known)
    study.enqueue_trial({"layer0": "c"})
    run(study, 30)
    assert study.trials[0].params == known and study.trials[1].params["layer0"] == "c"
    assert len(set(names(study))) == 30


def test_parameters_that_come_late_and_ranges_that_vary():
    def objective(trial):
        n = trial.suggest_int("n", 1, 5)
        x = trial.suggest_int("x", 0, n)
        late = trial.suggest_float("late", 0, 1) if trial.number > 20 else 0.0
        return x / n + late, float(n)

    study = study_of(KnownCostSampler(lambda params: [float(params["n"])], seed=0))
    run(study, 40, objective)
    assert len(study.trials) == 40 and all(trial.params["x"] <= trial.params["n"] for trial in study.trials)


def test_costs_that_can_not_tell_warn_once_and_never_break_the_study():
    def costs(params):
        raise KeyError("width")

    study = study_of(KnownCostSampler(costs, seed=0))
    with pytest.warns(UserWarning, match="KeyError") as caught:
        run(study, 25)
    assert len(caught) == 1 and len(set(names(study))) == 25


def test_costs_that_can_tell_for_some_params_only():
    def costs(params):
        return [
            {"plain": 3.0, "wide": params["width"] if params["kind"] == "wide" else 0, "deep": params.get("depth", 1)}[
                params["kind"]
            ]
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = study_of(KnownCostSampler(costs, seed=0))
        run(study, 40, lambda trial: (lambda p: (1.0, conditional_cost(p)[0]))(conditional(trial)))
    assert {trial.params["kind"] for trial in study.trials} == {"plain", "wide", "deep"}


def test_measured_costs_are_modelled():
    """Latency as the last objective: `costs` tells of the exact one only."""
    study = study_of(KnownCostSampler(cost, seed=0, measured=(2,)), ["maximize", "minimize", "minimize"])
    noise = random.Random(0)

    def objective(trial):
        layers(trial)
        latency = 2.0 * cost(trial.params)[0] ** 0.5 * noise.uniform(0.95, 1.05)
        return quality(trial.params), cost(trial.params)[0], latency

    run(study, 45, objective)
    assert len(set(names(study))) == 45
    assert max(trial.values[0] for trial in study.trials) >= 3.8


@pytest.mark.parametrize(
    ("directions", "options", "words"),
    [
        (["maximize"], {}, "one objective"),
        (["maximize", "maximize"], {}, "objective 1 of the study is maximised"),
        (["maximize", "minimize", "minimize"], {}, "1 values; the study has 2"),
        (["maximize", "minimize"], {"measured": (2,)}, "measured"),
        (["maximize", "minimize"], {"features": lambda p: [1.0] * (1 + (p["layer0"] == "a"))}, "for another candidate"),
    ],
)
def test_what_it_is_not_for_is_said(directions, options, words):
    study = study_of(KnownCostSampler(cost, seed=0, **options), directions)
    with pytest.raises(ValueError, match=words):
        run(study, 3, lambda trial: (layers(trial), tuple([1.0] * len(directions)))[1])


@pytest.mark.parametrize("options", [{"cost_features": False}, {"mutation": False}, {"acquisition": "ei"}])
def test_parts_of_the_method_can_be_left_out(options):
    def total(params) -> list[float]:
        return [1.0 + sum(params.values())]

    def objective(trial) -> tuple[float, float]:
        values = [trial.suggest_int(f"depth{k}", 1, 6) for k in range(5)]  # 7,776: too many to look at as a whole
        return float(np.sqrt(values).sum()) - (values[0] == values[1]), *total(trial.params)

    whole, part = (study_of(KnownCostSampler(total, seed=0, **own)) for own in ({}, options))
    for study in (whole, part):
        run(study, 30, objective)
        assert len(set(names(study))) == 30
    assert names(whole)[:6] == names(part)[:6]  # the start is the same
    assert names(whole) != names(part)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"acquisition": "ucb"}, "known are ehvi and ei"), ({"exploration": 2}, "0 to 1"), ({"startup": -1}, "0 or more")],
)
def test_options_that_are_none(options, words):
    with pytest.raises(ValueError, match=words):
        KnownCostSampler(cost, **options)


def test_repeated_seeds_of_one_architecture():
    """A parameter that changes nothing but the seed: the same identity, so the sampler does not propose it again by itself."""
    sampler = KnownCostSampler(cost, seed=0, identity=lambda params: tuple(params[f"layer{k}"] for k in range(5)))
    study = study_of(sampler)
    run(study, 30, lambda t: (layers(t), t.suggest_int("seed", 0, 9), (quality(t.params), *cost(t.params)))[2])
    architectures = [tuple(trial.params[f"layer{k}"] for k in range(5)) for trial in study.trials]
    assert len(set(architectures)) == 30


def test_thousands_of_trials_are_approximated():
    study = study_of(KnownCostSampler(cost, seed=0))
    rng = random.Random(0)
    distributions = {**{f"layer{k}": CategoricalDistribution(OPS) for k in range(5)}, "x": FloatDistribution(0, 1)}
    done = []
    for _ in range(1200):
        params = {**{f"layer{k}": rng.choice(OPS) for k in range(5)}, "x": rng.random()}
        values = [quality(params) + params["x"], *cost(params)]
        done.append(optuna.trial.create_trial(params=params, distributions=distributions, values=values))
    study.add_trials(done)
    trials = [study.ask(distributions) for _ in range(4)]
    assert np.mean([trial.params["x"] for trial in trials]) > 0.7


def test_a_proposal_takes_one_thread_of_linear_algebra():
    """A second one spins beside the first: 80 proposals took 13 times the processor time."""
    threads = []

    def costs(params):
        threads.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return [params["x"]]

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=KnownCostSampler(costs, seed=0, startup=2))
    with threadpool_limits(2, user_api="blas"):
        study.optimize(lambda trial: (0.5, trial.suggest_int("x", 1, 9)), n_trials=4)
    assert threads and set(threads) == {1}
