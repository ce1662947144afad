"""The known-cost sampler in runs: it knows the space, its budgets and what was trained."""

from __future__ import annotations

import optuna
from helpers_search import CONDITIONAL, every_choice, finish, settings_of, space_of

from nas.pareto.objectives import parse_objectives
from nas.samplers import SAMPLERS, KnownCostSampler, Problem, suggest
from nas.samplers.domain import Declared, enumerate_all
from nas.searching.study import Study


def test_nearly_nothing_is_rejected_or_proposed_twice_in_a_run(tmp_path):
    space = space_of(CONDITIONAL)
    limit = sorted(space.cost(choices).macs for choices in every_choice(space))[400]
    settings = settings_of(CONDITIONAL, trials=40, sampler="known-cost", budgets={"macs": [None, limit]})
    with Study(tmp_path, settings) as study:
        finish(study)
        assert (study.counts.complete, study.counts.rejected, study.counts.duplicate) == (40, 0, 0)


def test_declared_domain_is_the_space():
    space = space_of(CONDITIONAL)
    domain = Declared(space)
    mine = {frozenset(params.items()) for params in enumerate_all(domain, 10_000)}
    assert mine == {frozenset(params.items()) for params in every_choice(space)}
    assert enumerate_all(domain, 100) is None
    study = optuna.create_study()
    trial = study.ask()
    space.suggest(lambda key, knob: suggest(trial, key, knob))
    for name, own in trial.distributions.items():
        assert domain.dimensions[name].distribution == own


def test_the_registered_sampler_knows_the_problem():
    problem = Problem(space_of(CONDITIONAL), parse_objectives("accuracy,macs"), 5)
    assert isinstance(SAMPLERS["known-cost"](problem), KnownCostSampler)
