"""The known-cost sampler in any Optuna study: what it proposes, what it never proposes, what it survives."""

from __future__ import annotations

import gc
import itertools
import pickle
import random

import numpy as np
import optuna
from helpers_known_cost import (
    DIRECTIONS,
    OPS,
    conditional,
    conditional_cost,
    cost,
    layers,
    names,
    quality,
    run,
    study_of,
)
from optuna.distributions import CategoricalDistribution, IntDistribution

from nas.pareto.volume import hypervolume
from nas.samplers import KnownCostSampler
from nas.samplers.domain import completed
from nas.samplers.inferred import Inferred

# -- in anybody's study --------------------------------------------------------------------------------------------------


def test_it_finds_the_front_sooner_than_random_search():
    reached = {}
    for name, make in (
        ("ours", lambda seed: KnownCostSampler(cost, seed=seed)),
        ("random", lambda seed: optuna.samplers.RandomSampler(seed=seed)),
    ):
        volumes = []
        for seed in range(6):
            study = study_of(make(seed))
            run(study, 40)
            volumes.append(hypervolume([trial.values for trial in study.trials], [-3.0, 25.0], DIRECTIONS))
        reached[name] = np.mean(volumes)
    every = [dict(zip([f"layer{k}" for k in range(5)], own, strict=True)) for own in itertools.product(OPS, repeat=5)]
    full = hypervolume([(quality(params), *cost(params)) for params in every], [-3.0, 25.0], DIRECTIONS)
    assert reached["random"] < reached["ours"] and reached["ours"] > 0.95 * full


def test_a_first_objective_that_is_minimised_is_an_error_rate():
    up, down = study_of(KnownCostSampler(cost, seed=1)), study_of(KnownCostSampler(cost, seed=1), ["minimize"] * 2)
    run(up, 25)
    run(down, 25, lambda trial: (layers(trial), (-quality(trial.params), *cost(trial.params)))[1])
    assert names(up) == names(down)


def test_nothing_is_proposed_twice_until_everything_was():
    def objective(trial) -> tuple[float, float]:
        layers(trial, 4)
        return quality({**trial.params, "layer4": "a"}), *cost(trial.params)

    study = study_of(KnownCostSampler(cost, seed=0))
    run(study, 81, objective)
    # The first trial's parameters were not known when it was begun, nor therefore which candidates there are.
    assert len(set(names(study))) == 81
    run(study, 3, objective)
    assert len(study.trials) == 84  # exhausted: candidates are measured again


def test_nothing_infeasible_is_proposed():
    def feasible(params) -> bool:
        return cost(params)[0] <= 8

    study = study_of(KnownCostSampler(cost, feasible=feasible, seed=0))
    run(study, 20)
    assert all(feasible(trial.params) for trial in study.trials[1:])  # the first one's parameters were not known


def test_one_feasible_candidate_in_thousands_is_found_by_its_neighbours():
    names_of = [f"x{k}" for k in range(12)]

    def feasible(params) -> bool:
        return sum(params.values()) >= 40  # of at most 48

    space = {name: IntDistribution(0, 4) for name in names_of}
    sampler = KnownCostSampler(lambda p: [1.0 + sum(p.values())], feasible=feasible, seed=0, space=space)
    study = study_of(sampler)
    study.enqueue_trial(dict.fromkeys(names_of, 4))
    run(study, 12, lambda trial: (float(sum(trial.suggest_int(n, 0, 4) for n in names_of)), 1.0))
    assert all(feasible(trial.params) for trial in study.trials[1:])


def test_equal_seeds_propose_the_same_and_others_do_not():
    asked = []
    for seed in (1, 1, 2):
        study = study_of(
            KnownCostSampler(cost, seed=seed, space={f"layer{k}": CategoricalDistribution(OPS) for k in range(5)})
        )
        run(study, 25)
        asked.append(names(study))
    assert asked[0] == asked[1] != asked[2]


def test_workers_get_different_candidates():
    space = {f"layer{k}": CategoricalDistribution(OPS) for k in range(5)}
    for finished in (0, 20):
        study = study_of(KnownCostSampler(cost, seed=0, space=space))
        run(study, finished)
        trials = [study.ask() for _ in range(16)]  # all asked for before any asks for a parameter
        for trial in trials:
            layers(trial)
        assert len({frozenset(trial.params.items()) for trial in trials}) == 16
        for trial in trials:
            study.tell(trial, (quality(trial.params), *cost(trial.params)))
        assert len(set(names(study))) == finished + 16


def test_threads_share_a_sampler():
    study = study_of(KnownCostSampler(cost, seed=0))
    study.optimize(lambda t: (layers(t), (quality(t.params), *cost(t.params)))[1], 30, n_jobs=3)
    assert len(study.trials) == 30 and len(set(names(study))) >= 27  # the first ones began in ignorance of the space


def test_a_pickled_sampler_goes_on():
    study = study_of(KnownCostSampler(cost, seed=0))
    run(study, 15)
    study.sampler = pickle.loads(pickle.dumps(SAMPLER_AT_MODULE_LEVEL))
    run(study, 5)
    assert len(set(names(study))) == 20


def test_one_sampler_in_one_study_after_another():
    """A study that is gone leaves its memory's address to the next one's storage, now and then: nothing may be told by that."""
    sampler, asked = KnownCostSampler(cost, seed=0), []
    for _ in range(3):
        study = study_of(sampler)
        run(study, 8)
        asked.append(names(study))
        del study
        gc.collect()
    assert len({tuple(own) for own in asked}) == 1


SAMPLER_AT_MODULE_LEVEL = KnownCostSampler(cost, seed=3)


def test_conditions_are_learnt_from_the_trials():
    study = study_of(KnownCostSampler(conditional_cost, seed=0))
    asked = []

    def objective(trial):
        before = set(trial.relative_params)
        params = conditional(trial)
        asked.append((before, set(params)))
        return conditional_cost(params)[0] ** 0.5 - params.get("rate", 0.0), conditional_cost(params)[0]

    run(study, 60, objective)
    assert np.mean([before == after for before, after in asked[20:]]) > 0.9
    assert {"plain", "wide", "deep"} == {trial.params["kind"] for trial in study.trials}


def test_inferred_domain_keeps_what_depends_on_what():
    domain, rng = Inferred(), random.Random(0)
    study = optuna.create_study(directions=DIRECTIONS, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: (conditional(trial), (0.0, 1.0))[1], 80)
    domain.learn(study.get_trials())
    assert next(iter(domain.dimensions)) == "kind" and set(domain.dimensions) == {"kind", "width", "depth", "rate"}
    for _ in range(200):
        params = completed(domain, {}, rng)
        assert ("width" in params) == (params["kind"] == "wide") and ("depth" in params) == (params["kind"] == "deep")
        if "depth" in params and params["depth"] not in (10, 11):
            assert ("rate" in params) == (params["depth"] > 10)
    assert not domain.learn(study.get_trials())


def test_floats_and_huge_ranges():
    def objective(trial):
        x = trial.suggest_float("x", 1e-5, 1e2, log=True)
        y = trial.suggest_float("y", -3.0, 3.0)
        n = trial.suggest_int("n", 0, 10**15)
        m = trial.suggest_int("m", 1, 10**9, log=True)
        s = trial.suggest_float("s", 0.0, 1.0, step=0.1)
        return -((np.log10(x) - 1) ** 2) - y * y + s, x + n * 1e-15 + m * 1e-9

    sampler = KnownCostSampler(lambda p: [p["x"] + p["n"] * 1e-15 + p["m"] * 1e-9], seed=0)
    study = study_of(sampler)
    run(study, 40, objective)
    best = max(study.trials, key=lambda trial: trial.values[0])
    assert len(study.trials) == 40 and best.values[0] > 0.3
