"""A proposal of the known-cost sampler is a function of its seed, the trial's number and the study's trials, whoever asks."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from helpers_search import CONDITIONAL, environment, finish, settings_of
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.runs.storage import journal
from nas.samplers import KnownCostSampler
from nas.samplers.domain import Flat
from nas.samplers.encoding import Encoder
from nas.samplers.inferred import Inferred
from nas.samplers.models import stage
from nas.searching.study import Study

SPACE = {f"depth{k}": IntDistribution(1, 6) for k in range(5)} | {"rate": FloatDistribution(1e-3, 1.0, log=True)}


def conditional(trial: optuna.Trial) -> None:
    """A float, ranges that vary, and parameters that exist beside some values only."""
    kind = trial.suggest_categorical("kind", ["plain", "wide", "deep"])
    if kind == "wide":
        trial.suggest_int("width", 8, 64, step=8)
    if kind == "deep" and trial.suggest_int("depth", 1, 20) > 10:
        trial.suggest_float("rate", 0.01, 1.0, log=True)
    trial.suggest_float("x", 0.0, 1.0 + trial.number % 3)


def flat(trial: optuna.Trial) -> None:
    for k in range(5):
        trial.suggest_int(f"depth{k}", 1, 6)
    trial.suggest_float("rate", 1e-3, 1.0, log=True)


def cost(params: dict[str, Any]) -> list[float]:
    return [1.0 + sum(value if isinstance(value, (int, float)) else len(value) for value in params.values())]


def curve(trial: FrozenTrial) -> dict[float, float]:
    return {float(at): value for at, value in trial.user_attrs.get("curve", {}).items()}


def few(params: dict[str, Any]) -> bool:
    return cost(params)[0] > 27  # of at most 32: hardly a random candidate


def proposal(sampler: KnownCostSampler, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    return sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))


@pytest.mark.parametrize(
    ("suggest", "options"),
    [
        (conditional, {}),
        (flat, {"space": SPACE, "measured": (2,), "startup": 0}),
        (flat, {"space": SPACE, "curve": curve}),
        (flat, {"space": SPACE, "feasible": few}),
    ],
    ids=["inferred", "measured", "stopped", "hardly-feasible"],
)
def test_a_fresh_sampler_proposes_what_a_long_lived_one_does(
    suggest: Callable[[optuna.Trial], None], options: dict[str, Any]
) -> None:
    """Several trials run at once; they finish in any order, fail, are pruned, enqueued, added."""

    def sampler() -> KnownCostSampler:
        return KnownCostSampler(cost, seed=7, **options)

    rng, alive = random.Random(0), sampler()
    directions = ["minimize"] * (3 if "measured" in options else 2)
    study = optuna.create_study(directions=directions, sampler=alive)
    study.enqueue_trial({"depth0": 6} if suggest is flat else {"kind": "deep"})
    running: list[optuna.Trial] = []
    compared = 0
    for _ in range(36):
        trial = study.ask()
        frozen = study.get_trials(deepcopy=False)[trial.number]
        if trial.number % 7 == 6:
            expected = proposal(sampler(), study, frozen)
            assert trial.relative_params == expected
            for clone in (copy.deepcopy(alive), pickle.loads(pickle.dumps(alive))):
                assert proposal(clone, study, frozen) == expected
            compared += 1
        suggest(trial)
        running.append(trial)
        while len(running) > 4:
            done = running.pop(rng.randrange(len(running)))
            value = rng.random() + cost(done.params)[0] ** -0.5
            done.set_user_attr("curve", {"0.5": value + rng.random() / 5})
            fate = rng.random()
            if fate < 0.1:
                study.tell(done, state=TrialState.FAIL)
            elif fate < 0.3:
                study.tell(done, state=TrialState.PRUNED)
            else:
                study.tell(done, [value, *cost(done.params) * (len(directions) - 1)])
    assert compared == 5


def test_a_new_process_proposes_the_same(tmp_path: Path) -> None:
    """Of another hash seed, from the journal, as after a crash."""
    sampler = KnownCostSampler(cost, seed=3)
    study = optuna.create_study(directions=["minimize"] * 2, storage=journal(tmp_path), study_name="a", sampler=sampler)
    for number in range(16):
        trial = study.ask()
        conditional(trial)
        study.tell(trial, [float(number % 5), *cost(trial.params)])
    code = """
import json, sys
from pathlib import Path
import optuna
sys.path.insert(0, sys.argv[2])
from test_sampler_history import conditional, cost
from nas.samplers import KnownCostSampler
from nas.runs.storage import journal
study = optuna.load_study(study_name="a", storage=journal(Path(sys.argv[1])), sampler=KnownCostSampler(cost, seed=3))
trial = study.ask()
print(json.dumps([trial.number, trial.relative_params, trial.suggest_float("new", 0, 1)]))
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment() | {"PYTHONHASHSEED": "1"}
    )
    assert done.returncode == 0, done.stderr
    number, params, new = json.loads(done.stdout)
    trial = study.trials[16]
    assert number == 16 and params == proposal(sampler, study, trial)
    assert new == sampler.sample_independent(study, trial, "new", FloatDistribution(0, 1))


def test_a_resumed_run_trains_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    networks = []
    for name, stops in (("whole", [24]), ("resumed", [3, 12, 24])):
        settings = settings_of(CONDITIONAL, trials=24, sampler="known-cost", seed=1)
        digests: list[str] = []
        for stop in stops:
            with Study(tmp_path / name, settings) as study:
                digests += [job.architecture.digest for job in finish(study, most=stop - len(digests))]
        networks.append(digests)
    assert networks[0] == networks[1] and len(set(networks[0])) == 24


def test_an_inferred_domain_is_a_function_of_the_trials() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: (conditional(trial), 0.0)[1], 60)
    trials = study.trials
    # Of a parameter whose kind changes, the last trial's is kept.
    for number, distribution in ((60, IntDistribution(0, 3)), (61, FloatDistribution(-1.0, 0.5))):
        trials.append(optuna.trial.create_trial(params={"x": 0}, distributions={"x": distribution}, value=0.0))
        trials[-1].number = number
    domains = []
    for order in range(4):
        domain, rest = Inferred(), list(trials)
        random.Random(order).shuffle(rest)
        while rest:
            count = random.Random(len(rest)).randint(1, 9 if order else 99)
            domain.learn(rest[:count])
            del rest[:count]
        domains.append(domain)
    first = domains[0]
    assert next(iter(first.dimensions)) == "kind" and first.dimensions["x"].distribution == FloatDistribution(-1.0, 3.0)
    for domain in domains[1:]:
        assert list(domain.dimensions.items()) == list(first.dimensions.items())
        assert domain._rules[-1] == first._rules[-1] and len(first._rules) > 1


def test_columns_do_not_depend_on_their_company() -> None:
    space = {f"f{k}": FloatDistribution(0, 1, step=0.1) for k in range(7)}
    space |= {f"o{k}": CategoricalDistribution(("a", "b", "c")) for k in range(9)}
    rng = random.Random(0)
    domain = Flat(space)
    params = [domain.walk(lambda dimension: dimension.sample(rng)) for _ in range(50)]
    encoder = Encoder(domain, 0)
    alone = np.vstack([encoder.columns([own]) for own in params])
    assert (alone == encoder.columns(params)).all() and alone.shape[1] == encoder.width > 16


def test_stages_are_a_tenth_apart() -> None:
    stages = sorted({stage(count) for count in range(2001)})
    assert stages[:24] == [*range(21), 22, 24, 26] and len(stages) < 80
    assert all(after <= max(before + 1, 1.1 * before) for before, after in itertools.pairwise(stages))


def test_what_breaks_a_constraint_is_learnt_from_but_not_on_the_front() -> None:
    """Trials that say so by `set_constraint`: the best of them leaves the front to others."""
    proposed = []
    for broken in ((), (3, 5), range(20)):
        sampler = KnownCostSampler(cost, seed=0, space=SPACE)
        study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        rng = random.Random(0)
        for number in range(20):
            trial = study.ask(SPACE)
            trial.set_constraint("memory", 1.0 if number in broken else -1.0)
            study.tell(trial, [-9.0 if number in (3, 5) else rng.random(), *cost(trial.params)])
            if number == 11:  # the start, which nothing is modelled for
                before = [own.params for own in study.trials]
        proposed.append([own.params for own in study.trials])
        kept = [own.feasible for own in sampler._history.observations]
        assert kept == [number not in broken for number in range(19)]  # the last is not read yet
        assert before[:4] == proposed[0][:4]
    assert proposed[0] != proposed[1] != proposed[2]
