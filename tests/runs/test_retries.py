"""How often a trial is tried again, who may write into its folder, and whose time is over: pure parts and files, no training."""

from __future__ import annotations

import dataclasses

import pytest
from helpers_cli import nas_
from helpers_search import TINY, settings_of, space_of
from hypothesis import given
from hypothesis import strategies as st
from make_run import result_of

from nas.errors import UsageError
from nas.execution import fencing
from nas.execution.fencing import Fenced
from nas.execution.job import ATTEMPT, Job
from nas.execution.watchdog import Deadlines
from nas.runs.attempts import ENDED, RETRIES, Attempts, Cause, cause_of, counted, killed_for_memory
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.searching.study import Study
from nas.training.records import CHECKPOINT, EPOCHS
from nas.utils.files import write_json, write_with
from nas.utils.text import parse_seconds

OOM = """Caught unexpected exception: 1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 127.0.0.1, \
ID: 6f8a) was 7.08GB used / 23.54GB limit (0.300872)
Ray killed 2 worker(s) based on the killing policy
Considered workers: [
Selected to kill: (Task: job ID=01000000, lease ID=00, task name=A.train, pid=17521, actual memory used=0.05GB, worker ID=22)
Selected to kill: (Task: job ID=01000000, lease ID=00, task name=A.train, pid=17530, actual memory used=0.05GB, worker ID=23)
]
Total non-selected idle workers: 1
Top 10 memory users: PID	MEM(GB)	COMMAND
pid=4 0.83	something
"""


def job_in(folder, key: str = "0") -> Job:
    space = space_of(TINY)
    return Job(key, folder, space.architecture(space.sample(0)), 0)


@given(st.lists(st.sampled_from(Cause), max_size=40))
def test_every_series_of_causes_comes_to_an_end(causes):
    attempts = Attempts()
    for number, cause in enumerate(causes, 1):
        attempts = attempts.after(cause)
        assert sum(attempts.ended.values()) == number
        if not attempts.allow(cause):
            assert attempts.ended[cause] == RETRIES[cause] + 1
            break
    else:
        assert len(causes) <= sum(RETRIES.values())


def test_every_cause_has_its_bound_and_its_words():
    assert set(RETRIES) == set(ENDED) == set(Cause)
    assert Attempts().after(Cause.TIMEOUT).gave_up(Cause.TIMEOUT, "x") == "the trial ran into its time limit once: x"


def test_ray_is_understood():
    assert cause_of(OOM) == Cause.MEMORY
    assert cause_of("The actor died because its node has died. Node Id: 6f8a") == Cause.NODE
    kernel = "There are some potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high memory usage."
    assert cause_of(kernel) == Cause.WORKER
    assert killed_for_memory(OOM) == {17521, 17530}
    assert killed_for_memory("Selected to kill: pid=3") == killed_for_memory("") == frozenset()


def test_failures_are_counted_by_cause():
    assert counted(["time limit", "exception", "", "exception"]) == "2 exception, 1 time limit"
    assert counted(["", ""]) == ""


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("30 M", 1800), (".5d", 43200)])
def test_durations(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "30 min", "1e3", "h", "9" * 400])
def test_what_is_no_duration(text):
    with pytest.raises(UsageError, match="is not a duration"):
        parse_seconds(text)


def test_deadlines_are_told_once():
    deadlines = Deadlines(10.0)
    deadlines.begin("a", now=0.0)
    deadlines.begin("b", now=5.0)
    deadlines.begin("c", now=0.0)
    deadlines.end("c")
    assert deadlines.overdue(now=9.9) == []
    assert deadlines.overdue(now=11.0) == ["a"]
    assert deadlines.overdue(now=16.0) == ["b"]
    assert deadlines.overdue(now=99.0) == []
    endless = Deadlines(None)
    endless.begin("a", now=0.0)
    assert endless.overdue(now=1e9) == []


def test_the_last_to_get_a_trial_writes(tmp_path):
    first = fencing.hand_out(job_in(tmp_path), Attempts())
    fencing.check(first)
    write_with(tmp_path / CHECKPOINT, fencing.guarded(first, lambda file: file.write(b"first")))
    second = fencing.hand_out(first, Attempts({"worker died": 1}))
    assert second == first and second.token != first.token and second.ended == {"worker died": 1}
    with pytest.raises(Fenced):
        write_with(tmp_path / CHECKPOINT, fencing.guarded(first, lambda file: file.write(b"late")))
    assert (tmp_path / CHECKPOINT).read_bytes() == b"first"
    write_with(tmp_path / CHECKPOINT, fencing.guarded(second, lambda file: file.write(b"second")))
    assert sorted(path.name for path in tmp_path.iterdir()) == [ATTEMPT, CHECKPOINT]
    fencing.end(second)
    with pytest.raises(Fenced):
        fencing.check(second)
    assert Job.from_dict(second.to_dict()).token == second.token
    fencing.check(job_in(tmp_path))  # nobody fences a job that was never handed out


def test_a_process_that_dies_alone_with_a_trial_is_counted_if_no_epoch_was_saved(tmp_path):
    job, attempts = job_in(tmp_path), Attempts()
    for deaths in range(3):
        attempts = fencing.recovered(job)
        assert attempts.ended.get(Cause.PROCESS, 0) == deaths
        fencing.hand_out(job, attempts, alone=True)
    write_json(tmp_path / EPOCHS, [{}])
    assert Cause.PROCESS not in fencing.recovered(job).ended
    for stopped in (True, False):
        handed = fencing.hand_out(job, attempts, alone=stopped)
        if stopped:
            fencing.put_back(handed)
        assert (
            fencing.recovered(job).ended.get(Cause.PROCESS, 0) == 2
        )  # stopped by the user; a driver of other processes


def study_of(folder, kind: str, trials: int = 2) -> Study:
    if not (folder / "run.yaml").exists():
        settings_of(trials=trials, executor={"kind": kind}).save(folder)
    return Study(folder, Settings.load(folder))


def test_a_trial_that_kills_the_process_it_is_in_does_not_stop_the_run_for_ever(tmp_path):
    for _ in range(RETRIES[Cause.PROCESS] + 1):
        with study_of(tmp_path, "local") as study:
            assert study.ask().key == "0"  # and the process dies
    with study_of(tmp_path, "local") as study:
        assert study.ask().key == "1"
        assert study.counts.failed == 1
    trial = load_run(tmp_path).trial(0)
    assert (trial.state, trial.cause, trial.attempts) == ("failed", "process died", RETRIES[Cause.PROCESS] + 1)
    assert (tmp_path / "trials" / "0" / "config.yaml").is_file()


def test_drivers_that_die_are_not_counted_where_workers_are_processes_of_their_own(tmp_path):
    for _ in range(20):
        with study_of(tmp_path, "ray") as study:
            assert study.ask().key == "0"


def test_a_time_limit_counts_over_drivers(tmp_path):
    for attempt in range(RETRIES[Cause.TIMEOUT] + 1):
        with study_of(tmp_path, "local") as study:
            job = study.ask()
            assert job.key == "0" and len(job.ended) == min(attempt, 1)
            fencing.count(job, Cause.TIMEOUT)
    with study_of(tmp_path, "local") as study:
        assert study.ask().key == "1"
    assert load_run(tmp_path).trial(0).cause == "time limit"


def test_a_worker_that_outlived_its_driver_and_ended_its_trial_is_believed(tmp_path):
    with study_of(tmp_path, "ray") as study:
        orphan = study.ask()
    with study_of(tmp_path, "ray") as study:
        fencing.check(orphan)
        result_of(orphan).write(orphan.folder)  # after the driver looked, before it hands the trial out
        assert study.ask().key == "1"
        assert study.counts.complete == 1


def test_a_lost_node_is_not_counted_as_the_workers_death(tmp_path):
    with study_of(tmp_path, "ray", trials=1) as study:
        for _ in range(RETRIES[Cause.NODE]):
            assert study.retry(study.ask().key, "gone", Cause.NODE)
        assert study.retry(study.ask().key, "killed", Cause.WORKER)
        job = study.ask()
        attempts = sum(job.ended.values()) + 1
        dataclasses.replace(result_of(job), ended=job.ended, attempts=attempts).write(job.folder)
        study.tell(job.key)
    trial = load_run(tmp_path).trial(0)
    assert (trial.state, trial.cause, trial.attempts) == ("complete", "", RETRIES[Cause.NODE] + 2)


@pytest.mark.parametrize("command", [("search",), ("resume", ".")])
@pytest.mark.parametrize("limit", ["0", "soon", "-1h"])
def test_a_time_limit_that_is_none_is_refused(command, limit):
    result = nas_(*command, f"--trial-timeout={limit}")
    assert result.exit_code == 2 and f"'{limit}' is not a duration above 0" in " ".join(result.output.split())
