"""The driver's side of a run without training: what is asked for and what is told. What a dead driver leaves: test_adoption.py."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
from helpers_search import (
    CONDITIONAL,
    ONE,
    TINY,
    again,
    baseline_of,
    begin,
    every_choice,
    finish,
    open_optuna,
    settings_of,
    space_of,
    told,
)
from make_run import epochs_of, result_of
from optuna.trial import TrialState

from nas.errors import NasError, UsageError
from nas.networks.build import cost_of
from nas.runs.attempts import RETRIES, Cause
from nas.runs.layout import ATTRIBUTE, JOURNAL
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.samplers import SAMPLERS
from nas.searching.study import FAILURES_AT_FIRST, Study
from nas.spaces.budget import Budget
from nas.training.records import EPOCHS, RESULT
from nas.utils.files import read_json, write_json

FEW = """\
space: few
stages: 2
values:
  stem_width: 4
  width: 4
  depth: 1
  block: [basic, bottleneck]
  shortcut: [projection, projection_all]
  stage1.cardinality: {values: [1, 2], when: {block: bottleneck}}
  group_width: 2
  stride_on: [1x1, 3x3]
"""


# -- asking and telling ------------------------------------------------------------------------------------------------


def test_it_asks_for_as_many_as_it_was_told_and_waits_for_them(tmp_path):
    with begin(tmp_path, trials=4) as study:
        jobs = [study.ask() for _ in range(4)]
        assert [job.key for job in jobs] == ["0", "1", "2", "3"]
        assert study.ask() is None and not study.finished and not study.exhausted
        result_of(jobs[2], failed=True).write(jobs[2].folder)
        study.tell("2")
        later = study.ask()
        assert later.key == "4" and study.ask() is None
        for job in (jobs[0], jobs[1], jobs[3], later):
            assert not study.finished
            result_of(job).write(job.folder)
            study.tell(job.key)
        assert study.finished and study.ask() is None
        assert (study.counts.complete, study.counts.failed, study.counts.trained) == (4, 1, 4)
    assert len({job.architecture.digest for job in (*jobs, later)}) == 5


def test_a_job_says_all_that_a_worker_needs(tmp_path):
    with begin(tmp_path, trials=2, seed=5) as study:
        job = study.ask()
        assert job.folder == tmp_path / "trials" / "0" and job.folder.is_absolute()
        assert job.result_path == job.folder / RESULT
        assert job.seed == 5 and not job.baseline
        assert type(job).from_dict(json.loads(json.dumps(job.to_dict()))) == job


def test_states_and_values_in_optuna(tmp_path):
    space = space_of(TINY)
    limit = sorted(space.cost(choices).params for choices in every_choice(space))[9]
    settings = settings_of(
        trials=6, objectives=("accuracy", "macs", "activations"), budgets={"params": [None, limit]}, seed=3
    )
    with begin(tmp_path, settings) as study:
        failing = iter([True])
        finish(study, fails=lambda job: next(failing, False))
        counts = study.counts
    trials = told(tmp_path)
    assert open_optuna(tmp_path).metric_names == ["accuracy", "macs", "activations"]
    by_outcome = {"complete": 0, "failed": 0, "rejected": 0, "duplicate": 0}
    for number, trial in trials.items():
        facts, result = trial.user_attrs[ATTRIBUTE], read_json(tmp_path / "trials" / str(number) / RESULT)
        cost = space.cost(trial.params)
        architecture = space.architecture(trial.params)
        assert facts["cost"] == [cost.params, cost.macs, cost.activations]
        assert facts["digest"] == architecture.digest and facts["architecture"] == architecture.to_dict()
        constraint = {key: value for key, value in trial.system_attrs.items() if key.startswith("constraint")}
        assert list(constraint.values()) == [settings.budget().violation(cost)]
        outcome = facts.get("outcome") or ("complete" if trial.state == TrialState.COMPLETE else "failed")
        by_outcome[outcome] += 1
        if outcome == "complete":
            assert trial.values == [result["accuracy"], cost.macs, cost.activations]
            assert cost.params <= limit
        elif outcome == "failed":
            assert trial.state == TrialState.FAIL and trial.user_attrs["reason"] == result["reason"]
        elif outcome == "rejected":
            assert trial.state == TrialState.PRUNED and result is None and cost.params > limit
            assert "above the budget" in facts["reason"] and constraint.popitem()[1] > 0
        else:
            assert trial.state == TrialState.FAIL and result is None
            earlier = int(facts["reason"].removeprefix("the same network as trial "))
            assert earlier < number and trials[earlier].user_attrs[ATTRIBUTE]["digest"] == facts["digest"]
    assert by_outcome == {
        "complete": counts.complete, "failed": counts.failed, "rejected": counts.rejected, "duplicate": counts.duplicate
    }  # fmt: skip
    assert counts.complete == 6 and counts.failed == 1 and counts.rejected > 0


@pytest.mark.parametrize(("text", "share"), [(TINY, 0.3), (FEW, 1.0)])
def test_a_small_space_is_exhausted_and_no_network_is_trained_twice(tmp_path, text, share):
    """`share` of its choices lie within the budget; some choices mean the same network."""
    space = space_of(text)
    costs = sorted(space.cost(choices).params for choices in every_choice(space))
    budget = Budget({"params": (None, costs[int(share * (len(costs) - 1))])})
    within = {space.architecture(c).digest for c in every_choice(space) if budget.reason(space.cost(c)) == ""}
    settings = settings_of(text, trials=1000, budgets=dict(budget.bounds))
    with begin(tmp_path, settings) as study:
        jobs = finish(study)
        assert study.exhausted and study.finished and study.ask() is None
        assert sorted(job.architecture.digest for job in jobs) == sorted(within)
        assert study.counts.complete == len(within)
    with again(tmp_path) as study:
        assert study.ask() is None and study.exhausted
        assert study.counts.complete == len(within)


def test_the_last_trial_of_a_space_is_found_before_it_counts_as_exhausted(tmp_path):
    """Nothing says exhausted while a candidate is in flight: its number is taken, and the run waits for it."""
    with begin(tmp_path, settings_of(ONE, trials=3)) as study:
        job = study.ask()
        assert study.ask() is None and study.exhausted and not study.finished
        result_of(job).write(job.folder)
        study.tell(job.key)
        assert study.finished


def test_a_baseline_is_trained_first_and_not_sampled_again(tmp_path):
    settings = dataclasses.replace(settings_of(TINY, trials=100), baselines=(baseline_of(TINY),))
    with begin(tmp_path, settings) as study:
        jobs = finish(study)
    assert [job.key for job in jobs[:2]] == ["baseline:known", "0"]
    assert jobs[0].baseline and jobs[0].folder == tmp_path / "baselines" / "known"
    found = [job.architecture.digest for job in jobs]
    assert len(found) == len(set(found)) == 16
    assert study.counts.complete == 15  # the baseline is not a trial of the search
    duplicates = [
        trial.user_attrs[ATTRIBUTE]["reason"] for trial in told(tmp_path).values() if trial.state == TrialState.FAIL
    ]
    assert "the same network as baseline known" in duplicates
    with again(tmp_path) as study:
        assert study.ask() is None  # nor trained again by the next driver


def test_baselines_do_not_count_as_trials(tmp_path):
    settings = dataclasses.replace(settings_of(TINY, trials=2), baselines=(baseline_of(ONE),))
    with begin(tmp_path, settings) as study:
        jobs = finish(study, fails=lambda job: job.baseline)
        assert [job.key for job in jobs] == ["baseline:known", "0", "1"]
        assert (study.counts.complete, study.counts.failed) == (2, 0)


# -- failures ----------------------------------------------------------------------------------------------------------


def test_failed_trials_do_not_count(tmp_path):
    with begin(tmp_path, trials=5) as study:
        turns = itertools.cycle([True, False])
        jobs = finish(study, fails=lambda job: next(turns))
        assert (study.counts.complete, study.counts.failed) == (5, len(jobs) - 5)
        assert len(jobs) == 10 and len({job.architecture.digest for job in jobs}) == 10


def test_a_run_in_which_everything_fails_ends_and_can_go_on(tmp_path):
    with begin(tmp_path, trials=8) as study:
        with pytest.raises(
            NasError, match=r"5 trials failed, most often \(5 times\) because: the training loss became nan"
        ):
            finish(study, fails=lambda job: True)
        assert study.counts.failed == FAILURES_AT_FIRST
    with again(tmp_path) as study:  # the user has mended what was wrong
        assert len(finish(study)) == 8


def test_many_failures_among_successes_end_the_run(tmp_path):
    with (
        begin(tmp_path, settings_of(CONDITIONAL, trials=30)) as study,
        pytest.raises(NasError, match="60 trials failed"),
    ):
        finish(study, fails=lambda job: int(job.key) > 0)


def test_a_dead_workers_job_is_tried_three_times(tmp_path):
    with begin(tmp_path, trials=2) as study:
        job = study.ask()
        for attempt in range(RETRIES[Cause.WORKER]):
            assert study.retry(job.key, f"death {attempt}") is True
            assert study.ask() == job
        assert study.retry(job.key, "death 3") is False
        assert study.counts.failed == 1 and study.counts.trained == 0
        assert [job.key for job in finish(study)] == ["1", "2"]
    trial = told(tmp_path)[0]
    assert trial.state == TrialState.FAIL and trial.user_attrs["reason"] == "the worker died 3 times; last: death 3"
    assert load_run(tmp_path).trial(0).reason == "the worker died 3 times; last: death 3"


def test_a_baseline_whose_worker_dies_is_given_up_too(tmp_path):
    settings = dataclasses.replace(settings_of(trials=1), baselines=(baseline_of(ONE),))
    with begin(tmp_path, settings) as study:
        for _ in range(RETRIES[Cause.WORKER] + 1):
            study.retry(study.ask().key, "it died")
        assert [job.key for job in finish(study)] == ["0"]
    (baseline,) = load_run(tmp_path).baselines()
    assert baseline.state == "failed" and "it died" in baseline.reason


def test_a_result_that_was_written_before_the_worker_died_is_told(tmp_path):
    with begin(tmp_path, trials=1) as study:
        job = study.ask()
        result_of(job).write(job.folder)
        assert study.retry(job.key, "died a moment later") is False
        assert study.counts.complete == 1 and study.finished


def test_a_job_that_is_put_back_is_the_next_one(tmp_path):
    with begin(tmp_path, trials=3) as study:
        first, second = study.ask(), study.ask()
        study.put_back(second.key)
        study.put_back(first.key)
        assert not study.finished
        assert [study.ask(), study.ask()] == [first, second]


def test_telling_without_a_result_is_an_error(tmp_path):
    with begin(tmp_path, trials=1) as study:
        job = study.ask()
        for content in (None, "", '{"state": "compl'):
            if content is not None:
                job.result_path.parent.mkdir(parents=True, exist_ok=True)
                job.result_path.write_text(content)
            assert not study.ended(job.key)
            with pytest.raises(NasError, match=r"result\.json: missing"):
                study.tell(job.key)
        assert not study.finished
        result_of(job).write(job.folder)
        assert study.ended(job.key) and study.tell(job.key).completed


def test_other_objectives_are_refused(tmp_path):
    with begin(tmp_path, trials=1) as study:
        finish(study)
    settings = dataclasses.replace(Settings.load(tmp_path), objectives=["accuracy", "params"])
    with pytest.raises(UsageError, match="other objectives"), Study(tmp_path, settings):
        pass
    with again(tmp_path):
        pass  # the refusal left no lock


def test_more_trials_can_be_asked_for_later(tmp_path):
    with begin(tmp_path, trials=2) as study:
        finish(study)
    with Study(tmp_path, dataclasses.replace(Settings.load(tmp_path), trials=5)) as study:
        assert not study.finished and [job.key for job in finish(study)][-1:] != []
        assert study.counts.complete == 5


def test_optuna_alone_opens_the_journal_and_changes_nothing(tmp_path):
    with begin(tmp_path, trials=4) as study:
        jobs = finish(study)
    before = (tmp_path / JOURNAL).read_bytes()
    trials = open_optuna(tmp_path).get_trials(states=(TrialState.COMPLETE,))
    assert [trial.number for trial in trials] == [int(job.key) for job in jobs]
    assert len(open_optuna(tmp_path).best_trials) >= 1
    load_run(tmp_path)
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_a_resumed_random_search_does_not_repeat_itself(tmp_path):
    """A sampler that began with the same seed again would propose the first driver's candidates, and only those."""
    with begin(tmp_path, settings_of(CONDITIONAL, trials=200)) as study:
        first = [job.architecture.digest for job in finish(study, most=10)]
        before = study.counts.duplicate
    with again(tmp_path) as study:
        second = [job.architecture.digest for job in finish(study, most=10)]
        assert study.counts.duplicate - before < 8
    assert not set(first) & set(second)
    proposed = [json.dumps(trial.params, sort_keys=True) for trial in told(tmp_path).values()]
    assert proposed[:10] != proposed[10:20]


# -- one driver a run, in real processes -------------------------------------------------------------------------------


def test_every_sampler_is_known_by_its_name():
    assert {"known-cost", "random", "tpe", "nsga2", "nsga3", "gp", "qmc"} <= set(SAMPLERS)
    with pytest.raises(UsageError, match="did you mean 'tpe'"):
        SAMPLERS.find("tpee")


def test_running_trials_show_their_epochs(tmp_path):
    with begin(tmp_path, trials=2) as study:
        job = study.ask()
        write_json(job.folder / EPOCHS, [epoch.to_dict() for epoch in epochs_of(job)[:2]])
        run = load_run(tmp_path)
        assert run.status == "running" and run.trial(0).state == "running"
        assert run.trial(0).epochs == tuple(epochs_of(job)[:2])
        assert run.trial(0).cost == cost_of(job.architecture)
