"""How networks are ranked: means against single trainings, what is near a front, what could still be on it."""

from __future__ import annotations

import dataclasses
import random
import statistics

import numpy as np
import pytest
from helpers_report import confirmed_run, make_trial, network, searched_run
from hypothesis import given
from hypothesis import strategies as st

from nas import pareto
from nas.errors import UsageError
from nas.runs import ranking
from nas.runs.records import Estimate, Repeat, Trial

DIRECTIONS = ("maximize", "minimize", "minimize")
TRIAL = make_trial(0, "complete", network(random.Random(0)), 0.9)


def trial_of(number: int, values: tuple[float, ...], *again: float) -> Trial:
    repeats = tuple(Repeat(seed, "complete", accuracy, "", 1.0) for seed, accuracy in enumerate(again, 1))
    return dataclasses.replace(TRIAL, number=number, accuracy=values[0], values=values, repeats=repeats)


# Few distinct values, so that ties and dominance are frequent.
VALUES = st.tuples(st.sampled_from([0.5, 0.6, 0.7, 0.8]), st.integers(1, 4).map(float), st.integers(1, 4).map(float))
TRIALS = st.lists(VALUES, min_size=1, max_size=12).map(lambda found: [trial_of(k, own) for k, own in enumerate(found)])


def test_an_estimate_is_the_mean_and_its_standard_error():
    found = Estimate.of([0.90, 0.92, 0.97])
    assert found.mean == pytest.approx(0.93)
    assert found.std_error == pytest.approx((((0.03**2 + 0.01**2 + 0.04**2) / 2) / 3) ** 0.5)
    assert found.n == 3
    with pytest.raises(statistics.StatisticsError):
        Estimate.of([0.9])


def test_the_search_and_what_failed_are_not_in_the_mean():
    trial = trial_of(0, (0.99, 1.0, 1.0), 0.90, 0.92)
    failed = Repeat(3, "failed", None, "the training loss became nan", 1.0)
    assert dataclasses.replace(trial, repeats=(*trial.repeats, failed)).confirmed == Estimate.of([0.90, 0.92])
    assert dataclasses.replace(trial, repeats=trial.repeats[:1]).confirmed is None


@given(TRIALS, st.sampled_from([0.0, 0.05, 0.1, 0.2, 1.0]))
def test_near_are_those_that_so_much_more_accuracy_would_put_on_the_front(trials, within):
    found = {trial.number for trial in ranking.near(trials, DIRECTIONS, within)}
    for place, trial in enumerate(trials):
        values = [other.values for other in trials]
        values[place] = (trial.values[0] + within, *trial.values[1:])
        assert (trial.number in found) == (place in pareto.front(np.array(values), DIRECTIONS))
    assert {trial.number for trial in ranking.searched_front(trials, DIRECTIONS)} <= found


@given(TRIALS)
def test_what_is_lacking_puts_a_trial_on_the_front_and_less_does_not(trials):
    searched = ranking.searched_front(trials, DIRECTIONS)
    members = {trial.number for trial in searched}
    for trial in trials:
        lacking = ranking.lacking(trial, searched)
        assert trial in ranking.near(trials, DIRECTIONS, lacking + 1e-9)
        if lacking > 0:
            assert trial not in ranking.near(trials, DIRECTIONS, lacking - 1e-9)
        if trial.number in members:
            assert lacking == 0


@given(TRIALS, st.integers(1, 6), st.sampled_from([0.0, 0.1]))
def test_contenders_are_what_no_confirmed_network_dominates(trials, confirmed, off):
    again = [trial_of(t.number, t.values, t.values[0] - 0.1, t.values[0]) for t in trials[:confirmed]]
    both = [*again, *trials[confirmed:]]
    front = ranking.confirmed_front(both, DIRECTIONS)
    found = {trial.number for trial in ranking.contenders(both, front, off)}
    for trial in both[confirmed:]:
        own = (trial.values[0] - off, *trial.values[1:])
        beaten = any(m[0] >= own[0] and m[1] <= own[1] and m[2] <= own[2] for m in map(ranking.mean_values, again))
        assert (trial.number in found) == (not beaten)
    assert not found & {trial.number for trial in again}


def test_a_run_goes_by_means_once_all_of_its_front_has_two_further_seeds():
    run = confirmed_run(30)
    assert run.by_means
    assert not searched_run(30).by_means
    assert not run.as_searched().by_means
    first = run.searched_front()[0]
    part = [dataclasses.replace(t, repeats=t.repeats[:1]) if t is first else t for t in run.trials]
    run = dataclasses.replace(run, trials=tuple(part))
    assert not run.by_means
    assert run.front() == run.searched_front()
    assert run.accuracy(run.searched_front()[1]) == run.searched_front()[1].accuracy


def test_the_front_by_means_is_paretos_over_the_confirmed_alone():
    run = confirmed_run(60)
    confirmed = [trial for trial in run.complete() if trial.repeats]
    means = [(statistics.fmean(r.accuracy for r in t.repeats), *t.values[1:]) for t in confirmed]
    assert run.front() == [confirmed[k] for k in pareto.front(np.array(means), DIRECTIONS)]
    assert len(confirmed) < len(run.complete())
    best = max(confirmed, key=lambda t: (t.confirmed.mean, -t.cost.macs))
    assert run.best() == best
    assert run.best(max_params=best.cost.params - 1).confirmed.mean <= best.confirmed.mean
    with pytest.raises(UsageError, match="no confirmed trial with params <= 1"):
        run.best(max_params=1)


def test_a_network_that_only_fails_again_is_off_the_front_and_does_not_hold_it_up():
    run = confirmed_run(30)
    first = next(trial for trial in run.searched_front() if not trial.label)
    failed = tuple(dataclasses.replace(r, state="failed", accuracy=None, reason="diverged") for r in first.repeats)
    run = dataclasses.replace(
        run, trials=tuple(dataclasses.replace(t, repeats=failed) if t is first else t for t in run.trials)
    )
    assert run.by_means
    assert first.number not in {trial.number for trial in run.front()}


def test_the_fall_is_over_what_the_search_chose():
    run = confirmed_run(60)
    falls = [t.accuracy - t.confirmed.mean for t in run.searched_front() if not t.label]
    assert run.fall() == Estimate.of(falls)
    assert searched_run(30).fall() is None


def test_the_table_for_notebooks_has_the_estimates():
    run = confirmed_run(30, latency={})
    table = run.dataframe().set_index("number")
    for trial in run.trials:
        row, found = table.loc[trial.number], trial.confirmed
        if found is None:
            assert np.isnan(row.accuracy_mean)
            assert np.isnan(row.accuracy_std_error)
            assert row.accuracy_seeds == 0
        else:
            assert (row.accuracy_mean, row.accuracy_std_error, row.accuracy_seeds) == (found.mean, found.std_error, 3)
