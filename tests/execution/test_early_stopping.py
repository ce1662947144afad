"""Early stopping in a run: decisions on disk before they act, stopped trials in the study, whatever dies in between."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_search import TINY, environment, open_optuna, settings_of, training_data, write_space
from helpers_stopping import WHOLE, searched, settings_with, train
from make_run import changed, epochs_of, make_run, result_of
from optuna.trial import TrialState

from nas.errors import NasError
from nas.execution import local
from nas.execution.clock import Clock
from nas.execution.early_stopping import EarlyStopper
from nas.execution.job import Job
from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.report.run.stopping_section import stopping as about_stopping
from nas.runs.layout import ATTRIBUTE
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.searching.progress import Lines, Tally
from nas.searching.study import Study
from nas.stopping.policies import Policy
from nas.training.records import CHECKPOINT, EPOCHS, Epoch
from nas.utils.files import read_json, write_json


def test_what_would_run_on_behind_the_promised_hours_is_stopped_but_for_baselines(tmp_path):
    """By the clock alone; the trial keeps the epochs that it has, and the run is done."""
    settings = dataclasses.replace(
        settings_with("none", trials=8), plan={"seconds": 100.0, "trial_seconds": 10.0, "spent": 0.0}
    )
    folder = tmp_path / "run"
    folder.mkdir()
    settings.save(folder)
    now = [0.0]
    with Study(folder, settings) as study:
        clock = study.clock = Clock(settings.plan, lambda: now[0])
        judge = EarlyStopper(folder, settings, clock=clock)
        assert train(study, judge, study.ask()) == [1, 2, 3]
        now[0], job = 80.0, study.ask()
        (first, *_) = epochs_of(job)
        now[0] = 120.0 - first.seconds / 2
        assert not judge.stops(dataclasses.replace(job, key="baseline:resnet20"), first)
        assert train(study, judge, job) == [1]
        assert study.ask() is None and study.finished
    run = load_run(folder)
    (stopped,) = [trial for trial in run.trials if trial.state == "stopped"]
    assert stopped.reason == "after epoch 1 of 3: the time budget was exhausted" and len(stopped.epochs) == 1
    assert run.status == "done" and not stopped.decisions
    assert "the time budget was exhausted" in str(about_stopping(run))


def test_a_stopped_trial_is_pruned_with_the_fidelity_that_it_reached(tmp_path):
    searched(tmp_path / "run", trials=12)
    run = load_run(tmp_path / "run")
    stopped = [trial for trial in run.trials if trial.state == "stopped"]
    assert stopped and len(stopped) + run.count("complete") == 12
    assert run.status == "done"
    study = open_optuna(tmp_path / "run")
    for trial in stopped:
        frozen = study.trials[trial.number]
        assert frozen.state == TrialState.PRUNED and frozen.values is None
        reached = len(trial.epochs)
        partial = {"fidelity": pytest.approx(reached / WHOLE), "value": trial.epochs[-1].accuracy}
        assert 0 < reached < WHOLE and frozen.user_attrs[ATTRIBUTE]["partial"] == partial
        assert frozen.user_attrs[ATTRIBUTE]["digest"] == trial.digest
        assert trial.accuracy is None and trial.values is None and trial.seconds > 0
        assert trial.reason.startswith(f"after epoch {reached} of {WHOLE}: place ")
        assert trial.decisions[-1].stop and not any(own.stop for own in trial.decisions[:-1])
        left = {path.name for path in (run.path / "trials" / str(trial.number)).iterdir()}
        assert left == {"result.json", "stopping.json"}
    assert not {trial.number for trial in run.front()} & {trial.number for trial in stopped}
    frame = run.dataframe().set_index("number")
    assert set(frame.loc[[trial.number for trial in stopped], "state"]) == {"stopped"}
    assert all(not own.stop for trial in run.complete() for own in trial.decisions)


def test_what_was_stopped_is_not_trained_again(tmp_path):
    # The tiny space has 16 networks, so that a random sampler proposes stopped ones again.
    settings = dataclasses.replace(settings_of(TINY, trials=16), stopping=Policy.parse("asha:eta=4"))
    settings.save(write_space(tmp_path / "run").parent)
    digests: list[str] = []
    for budget in (9, 100):  # the second is another driver's
        with Study(tmp_path / "run", settings) as study:
            judge = EarlyStopper(tmp_path / "run", settings)
            while len(digests) < budget and (job := study.ask()) is not None:
                digests.append(job.architecture.digest)
                train(study, judge, job)
            counts = study.counts
    assert len(digests) == len(set(digests)) == counts.trained == 16
    assert counts.stopped > 4


def test_another_driver_knows_what_the_first_one_knew(tmp_path):
    first = searched(tmp_path / "run", trials=10, baselines=("resnet20",))
    settings = Settings.load(tmp_path / "run")
    second = EarlyStopper(tmp_path / "run", settings)
    assert second.state.curves == first.state.curves
    assert list(second.state.curves) == list(first.state.curves)
    assert {own.standing for own in second.state.curves.values()} == {"complete", "stopped"}


def test_baselines_run_to_their_end_and_are_learnt_from(tmp_path):
    judge = searched(tmp_path / "run", trials=4, baselines=("resnet20", "resnet32"))
    run = load_run(tmp_path / "run")
    assert [trial.state for trial in run.baselines()] == ["complete", "complete"]
    assert [judge.state.curves[f"baseline:{name}"].standing for name in ("resnet20", "resnet32")] == ["complete"] * 2


def test_rungs_that_a_driver_has_behind_it_stay_decided(tmp_path):
    settings = settings_with("asha:eta=1.2", trials=5)
    settings.save(write_space(tmp_path / "run").parent)
    with Study(tmp_path / "run", settings) as study:
        judge = EarlyStopper(tmp_path / "run", settings)
        assert judge.state.rungs == (1, 2)
        job = study.ask()
        assert job is not None and train(study, judge, job, most=1) == [1]
    with Study(tmp_path / "run", settings) as study:
        assert study.ask() == job
        judge = EarlyStopper(tmp_path / "run", settings)
        assert [len(own.points) for own in judge.state.curves.values()] == [1]
        first, second, third = epochs_of(job)
        assert not judge.stops(job, first)  # trained again, since its checkpoint was lost
        assert not judge.stops(job, second)
        assert not judge.stops(job, third)
    decisions = read_json(job.folder / "stopping.json")
    assert [own["epoch"] for own in decisions] == [1, 2]


def test_an_epoch_that_was_saved_and_not_reported_is_part_of_the_curve(tmp_path):
    settings = settings_with("asha", trials=2)
    judge = EarlyStopper(tmp_path, settings)
    job = Job("0", tmp_path / "0", Architecture.from_dict(network()), 0)
    first, second, third = epochs_of(job)
    assert not judge.stops(job, first)
    assert not judge.stops(job, third)  # nothing is known of the second
    assert len(judge.state.curves["0"].points) == 1
    write_json(job.folder / EPOCHS, [own.to_dict() for own in (first, second, third)])
    judge.stops(job, third)
    assert [own.accuracy for own in judge.state.curves["0"].points] == [o.accuracy for o in (first, second, third)]


def network() -> dict[str, object]:
    settings = settings_of(TINY)
    space = settings.search_space()
    return dict(space.architecture(space.sample(0)).to_dict())


def test_failed_trials_are_forgotten(tmp_path):
    judge = EarlyStopper(tmp_path, settings_with("asha", trials=2))
    job = Job("0", tmp_path / "0", Architecture.from_dict(network()), 0)
    judge.stops(job, epochs_of(job)[0])
    judge.ended(job, result_of(job, failed=True))
    assert not judge.state.curves


def test_a_stop_that_can_not_be_written_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "trials").write_text("a file where the folder should be")
    judge = EarlyStopper(tmp_path, settings_with("asha", trials=2))
    job = Job("0", tmp_path / "trials" / "0", Architecture.from_dict(network()), 0)
    with pytest.raises(NasError, match="can't be written"):
        judge.stops(job, epochs_of(job)[0])


def test_without_stopping_nothing_is_kept(tmp_path):
    made = make_run(tmp_path / "run", trials=4)
    judge = EarlyStopper(made, Settings.load(made))
    assert not judge.active and not judge.state.curves
    job = Job("0", tmp_path / "0", Architecture.from_dict(network()), 0)
    assert not judge.stops(job, epochs_of(job)[0])
    assert not (tmp_path / "0").exists()


def test_a_cost_aware_run_says_why(tmp_path):
    searched(tmp_path / "run", "pareto:least=6,epsilon=0.4,share=0.2,quota=0", trials=40)
    run = load_run(tmp_path / "run")
    stopped = [trial for trial in run.trials if trial.state == "stopped"]
    assert stopped
    directions = run.directions
    for trial in stopped:
        decision = trial.decisions[-1]
        assert decision.probability is not None and decision.probability <= 0.4 and decision.bar is not None
        names = [objective.name for objective in run.objectives[1:]]
        cheaper = [
            own for own in run.complete() if all(getattr(own.cost, name) <= getattr(trial.cost, name) for name in names)
        ]
        assert decision.bar in [own.accuracy for own in cheaper]
    assert directions[0] == "maximize"


def test_lines_say_what_was_stopped(tmp_path):
    import io

    settings = settings_with("asha", trials=6)
    settings.save(write_space(tmp_path / "run").parent)
    out = io.StringIO()
    with Study(tmp_path / "run", settings) as study:
        judge, lines = EarlyStopper(tmp_path / "run", settings), Lines(study, out)
        while (job := study.ask()) is not None:
            lines.started(job)
            train(study, judge, job)
            result = job.result
            assert result is not None
            lines.ended(job, result)
    assert f"stopped after epoch 1 of {WHOLE}: place 2 of 2 by accuracy" in out.getvalue()
    assert "FAILED" not in out.getvalue()


# With real training, in this process.


def real(folder: Path, trials: int = 8) -> Settings:
    settings = settings_of(TINY, trials=trials)
    settings = changed(settings, recipe={"batch_size": 16}, stopping=Policy.parse("asha:eta=4"))
    folder.mkdir()
    settings.save(folder)
    return settings


def test_the_local_executor_trains_no_epoch_behind_a_stop(tmp_path, one_thread):
    settings = real(tmp_path / "run")

    class Watched(Tally):
        epochs: list[tuple[str, int]] = []

        def epoch(self, job: Job, epoch: Epoch) -> None:
            super().epoch(job, epoch)
            self.epochs.append((job.key, epoch.number))

    with Study(tmp_path / "run", settings) as study:
        watched = Watched(study)
        local.run(study, training_data(), watched, lambda: False)
        assert not watched.running
    run = load_run(tmp_path / "run")
    assert run.count("stopped") >= 3 and run.count("stopped") + run.count("complete") == 8
    expected = [(str(t.number), own.number) for t in run.trials for own in t.epochs]
    assert sorted(watched.epochs) == sorted(expected)
    assert not list((tmp_path / "run").rglob("checkpoint.pt"))


KILLED = """
import os, signal, sys
from pathlib import Path
from helpers_search import training_data
from nas.execution import local
from nas.utils.files import read_json
from nas.searching.progress import Tally
from nas.runs.settings import Settings
from nas.searching.study import Study

tell = Study.tell
def told(self, key):
    if read_json(self._flying[key].result_path)["state"] == "stopped":
        os.kill(os.getpid(), signal.SIGKILL)
    return tell(self, key)
Study.tell = told
folder = Path(sys.argv[1])
with Study(folder, Settings.load(folder)) as study:
    local.run(study, training_data(), Tally(study), lambda: False, threads=1)
"""


def test_a_driver_killed_between_decision_and_tell_loses_nothing(tmp_path, one_thread):
    settings = real(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "run")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    results = {path.parent.name: path.read_text() for path in (tmp_path / "run").glob("trials/*/result.json")}
    (stopped,) = (key for key, text in results.items() if json.loads(text)["state"] == "stopped")
    with Study(tmp_path / "run", settings) as study:
        assert study.counts.stopped == 1
        assert any("took over the result of trial" in text for text in study.recovered)
        assert not (tmp_path / "run" / "trials" / stopped / CHECKPOINT).exists()
        local.run(study, training_data(), Tally(study), lambda: False)
    run = load_run(tmp_path / "run")
    assert run.count("stopped") + run.count("complete") == 8 and run.count("running") == 0
    for key, text in results.items():
        assert (tmp_path / "run" / "trials" / key / "result.json").read_text() == text, "trained on"
    assert all(cost_of(trial.architecture) == trial.cost for trial in run.trials)
