"""Contracts that every registered sampler meets: it drives a study to its end, within budgets, through crashes."""

from __future__ import annotations

import pytest
from helpers_search import CONDITIONAL, TINY, every_choice, finish, settings_of, space_of
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from nas.pareto.objectives import parse_objectives
from nas.runs.run import load_run
from nas.samplers import SAMPLERS, Problem, suggest
from nas.searching.study import Study
from nas.spaces.knobs import Knob
from nas.spaces.space import load_space

SLOW = ("gp",)  # a second a suggestion
every_sampler = pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in SAMPLERS]
)
TRIALS = 13  # more than the ten random trials with which most samplers begin
MORE = 6  # by a second driver


def names_and_choices(study: Study) -> list[tuple]:
    return [tuple(sorted(trial.params.items())) for trial in study.study.get_trials(deepcopy=False)]


@every_sampler
def test_it_drives_a_study_to_its_end(tmp_path, sampler):
    settings = settings_of(load_space("resnext").source, trials=TRIALS, sampler=sampler)
    settings.save(tmp_path)
    with Study(tmp_path, settings) as study:
        finish(study)
        assert study.finished and study.counts.complete == TRIALS
    run = load_run(tmp_path)
    assert run.status == "done"
    assert len({trial.digest for trial in run.complete()}) == TRIALS
    for trial in run.complete():
        assert study.space.architecture(dict(trial.choices)) == trial.architecture


@pytest.fixture(scope="module")
def limit() -> int:
    """Multiply-adds that a part of the networks of the conditional space stays below."""
    space = space_of(CONDITIONAL)
    return sorted(space.cost(choices).macs for choices in every_choice(space))[600]


@pytest.mark.timeout(900)  # the Gaussian process takes more than a minute of a core of its own
@every_sampler
def test_it_keeps_to_a_budget(tmp_path, sampler, limit):
    space = space_of(CONDITIONAL)
    settings = settings_of(CONDITIONAL, trials=TRIALS, sampler=sampler, budgets={"macs": [None, limit]})
    settings.save(tmp_path)
    with Study(tmp_path, settings) as study:
        jobs = finish(study)
        assert study.counts.complete == TRIALS
        assert (study.counts.rejected == 0) == (sampler == "known-cost")  # which does not propose them
        states = [trial.state for trial in study.study.get_trials(deepcopy=False)]
    assert all(
        space.cost(trial.params).macs <= limit for trial in study.study.trials if trial.state == TrialState.COMPLETE
    )
    assert len(jobs) == TRIALS and states.count(TrialState.PRUNED) == study.counts.rejected
    run = load_run(tmp_path)
    assert run.count("rejected") == study.counts.rejected
    assert all(trial.reason for trial in run.trials if trial.state in ("rejected", "duplicate"))


@every_sampler
def test_it_goes_on_behind_a_crash_without_repeating_itself(tmp_path, sampler):
    """The second driver's candidates are not the first one's: none is a duplicate of all of them."""
    settings = settings_of(CONDITIONAL, trials=TRIALS + MORE, sampler=sampler)
    with Study(tmp_path, settings) as study:
        finish(study, most=TRIALS)
        before = names_and_choices(study)
    with Study(tmp_path, settings) as study:
        finish(study)
        assert study.counts.complete == TRIALS + MORE
        after = names_and_choices(study)[len(before) :]
    assert len(set(after) - set(before)) >= MORE


@every_sampler
def test_it_goes_on_beside_failures(tmp_path, sampler):
    turns = iter([True, False] * 100)
    with Study(tmp_path, settings_of(CONDITIONAL, trials=TRIALS, sampler=sampler)) as study:
        finish(study, fails=lambda job: next(turns))
        assert study.counts.complete == TRIALS and study.counts.failed >= TRIALS - 1


@every_sampler
def test_it_exhausts_a_space(tmp_path, sampler):
    with Study(tmp_path, settings_of(TINY, trials=50, sampler=sampler)) as study:
        finish(study)
        assert study.exhausted and study.counts.complete == 16


@pytest.mark.parametrize("sampler", ["known-cost", "random", "tpe", "nsga2", "qmc"])
def test_the_same_seed_asks_for_the_same_candidates(tmp_path, sampler):
    asked = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        with Study(tmp_path / folder, settings_of(CONDITIONAL, trials=TRIALS, sampler=sampler, seed=seed)) as study:
            asked.append([job.architecture.digest for job in finish(study)])
    assert asked[0] == asked[1] != asked[2]


@every_sampler
def test_a_factory_makes_a_sampler_of_any_seed(sampler):
    for seed in (0, 1, 2**31 - 1):
        assert isinstance(
            SAMPLERS[sampler](Problem(space_of(TINY), parse_objectives("accuracy,params,macs"), seed)), BaseSampler
        )


@pytest.mark.parametrize(
    ("values", "distribution"),
    [
        ((1, 2, 3), IntDistribution(1, 3)),
        ((8, 16, 24), IntDistribution(8, 24, step=8)),
        ((1, 2, 4), CategoricalDistribution((1, 2, 4))),
        ((5,), CategoricalDistribution((5,))),
        ((0.5, 1.0), CategoricalDistribution((0.5, 1.0))),
        (("a", "b"), CategoricalDistribution(("a", "b"))),
    ],
)
def test_how_a_knob_is_put_to_optuna(values, distribution):
    """Integers in steps as a range, so that a sampler knows their order; anything else as categories."""
    import optuna

    study = optuna.create_study()
    seen = set()
    for _ in range(60):
        trial = study.ask()
        value = suggest(trial, "knob", Knob(values))
        assert type(value) is type(values[0]) and trial.distributions == {"knob": distribution}
        seen.add(value)
        study.tell(trial, 0.0)
    assert seen == set(values)
