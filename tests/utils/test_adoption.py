"""What a dead driver leaves behind, and what the next one makes of it; without training."""

from __future__ import annotations

import dataclasses
import random
import shutil

import pytest
from helpers_search import ONE, again, baseline_of, begin, digests, finish, settings_of, told
from make_run import result_of
from optuna.trial import TrialState

from nas.runs.layout import ATTRIBUTE, JOURNAL
from nas.runs.run import load_run
from nas.training.records import RESULT
from nas.utils.files import read_json


def test_what_was_in_flight_is_adopted_under_its_number(tmp_path):
    settings = dataclasses.replace(settings_of(trials=4), baselines=(baseline_of(ONE),))
    with begin(tmp_path, settings) as study:
        before = [study.ask() for _ in range(4)]
    with again(tmp_path) as study:
        assert study.recovered == ["resumed trial 0", "resumed trial 1", "resumed trial 2"]
        jobs = finish(study)
        assert jobs[:4] == before and len(jobs) == 5
        assert study.counts.complete == 4
    assert {trial.state for trial in told(tmp_path).values()} == {TrialState.COMPLETE}


def test_results_that_were_written_but_not_told_are_told(tmp_path):
    with begin(tmp_path, trials=3) as study:
        jobs = [study.ask() for _ in range(3)]
        for job in jobs[:2]:
            result_of(job, failed=job is jobs[1]).write(job.folder)
    with again(tmp_path) as study:
        assert (study.counts.complete, study.counts.failed) == (1, 1)
        assert [text for text in study.recovered if "took over" in text] == [
            f"took over the result of trial {number}, which was written but not recorded" for number in (0, 1)
        ]
        assert finish(study)[0] == jobs[2]
    trials = told(tmp_path)
    assert trials[0].values[0] == result_of(jobs[0]).accuracy
    assert trials[1].state == TrialState.FAIL and trials[1].user_attrs["reason"]


def test_a_result_of_another_network_is_not_taken_over(tmp_path):
    """Left by a run whose journal lost its end: the number is the same, the network is not."""
    with begin(tmp_path, trials=2, seed=0) as study:
        old = finish(study)
    first, *_ = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(first)
    settings_of(trials=2, seed=1).save(tmp_path)
    with again(tmp_path) as study:
        job = study.ask()
        assert job.key == old[0].key and job.architecture != old[0].architecture
        assert not study.ended(job.key) and study.retry(job.key, "died") is True
    with again(tmp_path) as study:
        assert study.counts.complete == 0 and study.recovered == ["resumed trial 0"]
        assert load_run(tmp_path).trial(0).epochs == ()
        finish(study)
    for trial in load_run(tmp_path).complete():
        assert trial.accuracy == read_json(tmp_path / "trials" / str(trial.number) / RESULT)["accuracy"]


@pytest.mark.parametrize(
    "tail",
    [
        b'{"op_code": 5, "worker_id": "abc',
        b'{"op_code": 5}\x00\x00\x00',
        b"\x00" * 4096,
        b'{"op_code": 4, "wor\n',
        b"not json\nnor this",
        b"\n\n",
        b'{"op_code": 6, "worker_id": "x", "trial_id": 0}',  # whole, but the line is not ended
    ],
)
def test_a_torn_tail_of_the_journal_is_cut_and_the_run_goes_on(tmp_path, tail):
    with begin(tmp_path, trials=4) as study:
        finish(study, most=2)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + tail)
    with again(tmp_path) as study:
        kept = list(tmp_path.glob(f"{JOURNAL}.broken-*"))
        what = f"2 damaged lines (kept: {kept[0].name})" if kept else "a torn line"
        assert study.recovered == [f"cut {len(tail)} bytes of {what} off {JOURNAL}"]
        assert [path.read_bytes() for path in kept] == ([tail] if tail == b"not json\nnor this" else [])
        assert study.counts.complete == 2
        assert len(finish(study)) == 2
    assert (tmp_path / JOURNAL).read_bytes().startswith(whole)
    states = [trial.state for trial in told(tmp_path).values()]
    assert states.count(TrialState.COMPLETE) == 4 and not states.count(TrialState.RUNNING)


def test_an_empty_journal_is_a_new_run(tmp_path):
    begin(tmp_path, trials=1)
    (tmp_path / JOURNAL).touch()
    with again(tmp_path) as study:
        assert len(finish(study)) == 1


def test_stale_locks_of_the_journal_are_removed(tmp_path):
    with begin(tmp_path, trials=2) as study:
        finish(study, most=1)
    for name in (f"{JOURNAL}.lock", f"{JOURNAL}.lock.rename-123"):
        (tmp_path / name).write_text("")
    with again(tmp_path) as study:
        assert len(finish(study)) == 1
    assert not list(tmp_path.glob(f"{JOURNAL}.lock*"))


def test_a_trial_that_was_half_asked_for_is_closed(tmp_path):
    with begin(tmp_path, trials=2) as study:
        finish(study, most=1)
        study.study.ask().suggest_int("stage1.depth", 1, 2)
    with again(tmp_path) as study:
        assert study.recovered == ["closed trial 1, whose proposal was incomplete when the driver died"]
        assert (study.counts.complete, study.counts.failed) == (1, 0)
        assert [job.key for job in finish(study)] == ["2"]
    assert told(tmp_path)[1].state == TrialState.FAIL
    assert [trial.number for trial in load_run(tmp_path).trials] == [0, 2]


@pytest.mark.parametrize(("outcome", "state"), [("rejected", TrialState.PRUNED), ("duplicate", TrialState.FAIL)])
def test_a_trial_that_was_half_closed_ends_as_it_would_have(tmp_path, outcome, state):
    with begin(tmp_path, trials=2) as study:
        finish(study, most=1)
        facts = study.study.trials[0].user_attrs[ATTRIBUTE]
        study.study.ask().set_user_attr(ATTRIBUTE, {**facts, "outcome": outcome, "reason": "said so"})
    for _ in range(2):
        with again(tmp_path) as study:
            assert getattr(study.counts, outcome) == 1 and study.counts.complete == 1
    assert told(tmp_path)[1].state == state


def test_a_driver_that_dies_at_any_byte_of_the_journal_loses_no_result(tmp_path):
    """The journal cut at some ends of lines and within some, as by a crash, beside the results that were written until then and after."""
    with begin(tmp_path / "whole", settings_of(trials=3, budgets={"params": [None, 1500]})) as study:
        finish(study, fails=lambda job: job.key == "1")
    data = (tmp_path / "whole" / JOURNAL).read_bytes()
    ends = [k + 1 for k, byte in enumerate(data) if byte == ord("\n")]
    rng = random.Random(0)
    cuts = sorted({*rng.sample(ends, 12), *rng.sample(range(1, len(data)), 12)})
    for cut in cuts:
        folder = tmp_path / str(cut)
        shutil.copytree(tmp_path / "whole", folder)
        (folder / JOURNAL).write_bytes(data[:cut])
        with again(folder) as study:
            finish(study)
            assert study.counts.trained == 3 and study.finished
        trials = told(folder)
        assert len(set(digests(trials))) == len(digests(trials))
        assert not [trial for trial in trials.values() if not trial.state.is_finished()]
        for number, trial in trials.items():
            if trial.state == TrialState.COMPLETE:
                result = read_json(folder / "trials" / str(number) / RESULT)
                assert result["digest"] == trial.user_attrs[ATTRIBUTE]["digest"]
                assert trial.values[0] == result["accuracy"]
