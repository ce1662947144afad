"""The driver's contract: what is asked, told, recovered and refused. Nothing is trained: results are written by hand."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from helpers_search import CONDITIONAL, TINY, settings_of, space_of

from nas.errors import NasError, UsageError
from nas.files import write_json
from nas.jobs import Job
from nas.layout import JOURNAL, STUDY_NAME
from nas.network import cost_of
from nas.retries import RETRIES, Cause
from nas.run import load_run
from nas.samplers import SAMPLERS
from nas.settings import Settings
from nas.storage import journal
from nas.study import Study

HOLDER = """
import sys, time
from pathlib import Path
from nas.settings import Settings
from nas.study import Study
folder = Path(sys.argv[1])
with Study(folder, Settings.load(folder)):
    print("held", flush=True)
    time.sleep(60)
"""


def train(job: Job, accuracy: float | None = None) -> None:
    """What a worker leaves. Accuracy rises with the parameters, so that there is a front to find."""
    cost = cost_of(job.architecture)
    value = 1 - 1 / (1 + cost.params / 500) if accuracy is None else accuracy
    result = {"key": job.key, "digest": job.architecture.digest, "state": "complete", "reason": "", "accuracy": value}
    write_json(job.result_path, {**result, "seconds": 1.0, "finished": 1.0, "epochs": []})


def fail(job: Job) -> None:
    result = {"key": job.key, "digest": job.architecture.digest, "state": "failed", "reason": "NaN", "accuracy": None}
    write_json(job.result_path, {**result, "seconds": 1.0, "finished": 1.0, "epochs": []})


def make(folder: Path, text: str = TINY, **options: object) -> Settings:
    settings = settings_of(text, **options)
    folder.mkdir(exist_ok=True)
    settings.save(folder)
    return settings


def drive(study: Study) -> list[Job]:
    jobs = []
    while (job := study.ask()) is not None:
        train(job)
        study.tell(job.key)
        jobs.append(job)
    return jobs


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("budget", [{}, {"params": [None, 1500.0]}], ids=["free", "budget"])
def test_every_sampler_drives_a_search_to_its_end(
    tmp_path: Path, sampler: str, budget: dict[str, list[float | None]]
) -> None:
    settings = make(tmp_path, CONDITIONAL, trials=14, sampler=sampler, budgets=budget)
    with Study(tmp_path, settings) as study:
        jobs = drive(study)
        assert study.finished
        assert len(jobs) == study.counts.complete == 14
    assert len({job.architecture.digest for job in jobs}) == 14
    assert all(not budget or cost_of(job.architecture).params <= 1500 for job in jobs)
    run = load_run(tmp_path)
    assert run.status == "done"
    assert run.count("rejected") == study.counts.rejected
    assert all(trial.reason for trial in run.trials if trial.state in ("rejected", "duplicate"))


def test_a_rejected_candidate_is_pruned_with_its_constraint(tmp_path: Path) -> None:
    settings = make(tmp_path, CONDITIONAL, trials=6, budgets={"params": [None, 700.0]})
    with Study(tmp_path, settings) as study:
        drive(study)
        assert study.counts.rejected > 0
        for frozen in study.study.get_trials():
            (constraint,) = (value for key, value in frozen.system_attrs.items() if "constraint" in key)
            over = frozen.user_attrs["nas"]["cost"][0] > 700
            assert (constraint > 0) == over
            assert (frozen.state == optuna.trial.TrialState.PRUNED) == over


def test_a_space_is_trained_out_and_no_network_twice(tmp_path: Path) -> None:
    settings = make(tmp_path, TINY, trials=1000)
    with Study(tmp_path, settings) as study:
        jobs = drive(study)
        assert study.exhausted and study.finished
    space = space_of(TINY)
    everything = {space.architecture(space.sample(seed)).digest for seed in range(600)}
    assert {job.architecture.digest for job in jobs} == everything
    assert len(jobs) == len(everything) == 16


def test_baselines_come_first_and_their_network_is_not_trained_again(tmp_path: Path) -> None:
    settings = make(tmp_path, TINY, trials=1000)
    space = space_of(TINY)
    known = space.architecture(space.sample(3))
    settings = Settings(**{**vars_of(settings), "baselines": [{"name": "known", "architecture": known.to_dict()}]})
    settings.save(tmp_path)
    with Study(tmp_path, settings) as study:
        jobs = drive(study)
    assert jobs[0].key == "baseline:known"
    assert [job.architecture.digest for job in jobs].count(known.digest) == 1
    run = load_run(tmp_path)
    assert [(trial.label, trial.number, trial.state) for trial in run.baselines()] == [("known", -1, "complete")]
    assert any(trial.state == "duplicate" and "known" in trial.reason for trial in run.trials)


def vars_of(settings: Settings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def test_what_was_in_flight_is_adopted_under_its_number(tmp_path: Path) -> None:
    settings = make(tmp_path, trials=5)
    with Study(tmp_path, settings) as study:
        first, second, third = (study.ask() for _ in range(3))
        assert first and second and third
        train(first)
        study.tell(first.key)
        train(second)  # written, but the driver dies before it is told
    assert load_run(tmp_path).count("running") == 2
    with Study(tmp_path, settings) as study:
        assert study.counts.complete == 2
        assert any("trial 1" in text for text in study.recovered)
        adopted = study.ask()
        assert adopted == third
        train(adopted)
        study.tell(adopted.key)
        drive(study)
        assert study.counts.complete == 5


def test_a_trial_killed_while_it_was_asked_for_is_closed(tmp_path: Path) -> None:
    settings = make(tmp_path, trials=3)
    with Study(tmp_path, settings) as study:
        study.study.ask()  # the driver dies here: no user attribute yet
    with Study(tmp_path, settings) as study:
        assert study.study.get_trials()[0].state == optuna.trial.TrialState.FAIL
        drive(study)
        assert study.counts.complete == 3
    assert load_run(tmp_path).count("failed") == 0


@pytest.mark.parametrize(
    "tail", [b'{"op_code": 5, "wor', b"\x00\x00\x00", b'{"op_code": 4\n'], ids=["cut", "zeros", "no json"]
)
def test_a_torn_journal_line_is_cut_and_nothing_before_it_is_lost(tmp_path: Path, tail: bytes) -> None:
    settings = make(tmp_path, trials=4)
    with Study(tmp_path, settings) as study:
        job = study.ask()
        assert job
        train(job)
        study.tell(job.key)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + tail)
    (tmp_path / f"{JOURNAL}.lock").write_text("")  # and the lock of the one who was writing it
    with Study(tmp_path, settings) as study:
        assert (tmp_path / JOURNAL).read_bytes().startswith(whole)
        drive(study)
        assert study.counts.complete == 4
    assert all(json.loads(line) for line in (tmp_path / JOURNAL).read_bytes().splitlines())
    again = optuna.load_study(study_name=STUDY_NAME, storage=journal(tmp_path))
    assert sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in again.trials) == 4


def test_a_dead_worker_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    settings = make(tmp_path, trials=2)
    with Study(tmp_path, settings) as study:
        job = study.ask()
        assert job
        for attempt in range(RETRIES[Cause.WORKER]):
            assert study.retry(job.key, "killed")
            assert study.ask() == job, attempt
        assert not study.retry(job.key, "killed")
        assert study.counts.failed == 1
        drive(study)
        assert study.counts.complete == 2
    run = load_run(tmp_path)
    assert (run.trial(0).state, run.status) == ("failed", "done")
    assert "killed" in run.trial(0).reason


def test_failures_from_the_start_end_the_run_with_their_reason(tmp_path: Path) -> None:
    settings = make(tmp_path, trials=50)
    with Study(tmp_path, settings) as study, pytest.raises(NasError, match="NaN"):
        while (job := study.ask()) is not None:
            fail(job)
            study.tell(job.key)


def test_a_second_driver_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    settings = make(tmp_path, trials=2)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"process {holder.pid} on"), Study(tmp_path, settings):
            pass
        assert load_run(tmp_path).status == "running", "reading needs no lock"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with Study(tmp_path, settings) as study:
            assert len(drive(study)) == 2
    finally:
        holder.kill()
        holder.wait()


def test_a_resumed_random_search_does_not_repeat_itself(tmp_path: Path) -> None:
    settings = make(tmp_path, CONDITIONAL, trials=8, sampler="random")
    with Study(tmp_path, settings) as study:
        first = drive(study)
    more = Settings(**{**vars_of(settings), "trials": 16})
    with Study(tmp_path, more) as study:
        second = drive(study)
        assert study.counts.duplicate < 8, "the same seed again would propose the same eight"
    assert not {job.architecture.digest for job in first} & {job.architecture.digest for job in second}
