"""The known-cost sampler in any Optuna study: what it proposes, what it never proposes, what it survives."""

from __future__ import annotations

import gc
import itertools
import pickle
import random
import warnings

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from threadpoolctl import threadpool_info, threadpool_limits

from nas.pareto.volume import hypervolume
from nas.samplers import KnownCostSampler
from nas.samplers.domain import completed
from nas.samplers.inferred import Inferred

DIRECTIONS = ["maximize", "minimize"]
OPS = ("a", "b", "c")


def layers(trial, count: int = 5) -> list[str]:
    return [trial.suggest_categorical(f"layer{k}", OPS) for k in range(count)]


def cost(params) -> list[float]:
    return [1.0 + sum((1, 2, 4)[OPS.index(params[f"layer{k}"])] for k in range(5) if f"layer{k}" in params)]


def quality(params) -> float:
    """More is better but for one interaction."""
    gain = [(0.0, 0.6, 1.0)[OPS.index(params[f"layer{k}"])] for k in range(5)]
    return sum(gain) - 2.0 * (params["layer0"] == "c" and params["layer1"] == "c")


def study_of(sampler, directions=DIRECTIONS, **options) -> optuna.Study:
    return optuna.create_study(directions=directions, sampler=sampler, **options)


def run(study: optuna.Study, trials: int, objective=None) -> None:
    study.optimize(
        objective or (lambda trial: (layers(trial), (quality(trial.params), *cost(trial.params)))[1]), trials
    )


def names(study: optuna.Study) -> list[frozenset]:
    return [frozenset(trial.params.items()) for trial in study.get_trials(deepcopy=False)]


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


def conditional(trial) -> dict:
    params = {"kind": trial.suggest_categorical("kind", ["plain", "wide", "deep"])}
    if params["kind"] == "wide":
        params["width"] = trial.suggest_int("width", 8, 64, step=8)
    if params["kind"] == "deep":
        params["depth"] = trial.suggest_int("depth", 1, 20)
        if params["depth"] > 10:
            params["rate"] = trial.suggest_float("rate", 0.01, 1.0, log=True)
    return params


def conditional_cost(params) -> list[float]:
    return [{"plain": 3.0, "wide": params.get("width", 0), "deep": params.get("depth", 0)}[params["kind"]]]


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
