"""What a next driver makes of a run whose last one ended badly: a full disk, a stop half written, a copy of a folder, a last attempt."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import re
import shutil
from pathlib import Path

import pytest
from helpers_cli import nas_
from helpers_search import CONDITIONAL, again, begin, finish, settings_of, training_data
from make_run import epochs_of, make_settings, result_of

from nas.errors import NasError, UsageError, WriteError
from nas.execution import fencing, local
from nas.execution.early_stopping import EarlyStopper
from nas.execution.job import ATTEMPT, Job
from nas.execution.trial_training import TrialTraining
from nas.runs import storage
from nas.runs.attempts import RETRIES, Cause
from nas.runs.doctor import examine
from nas.runs.layout import ATTRIBUTE, DECISIONS
from nas.runs.lock import Holder, held
from nas.runs.records import TrialResult
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.runs.study_claim import FILE as CLAIM
from nas.searching.progress import Tally
from nas.searching.study import Study
from nas.stopping.curves import Decision
from nas.stopping.policies import Policy
from nas.training.records import EPOCHS, RESULT
from nas.utils.files import read_json, write_json


def full(*arguments: object, **options: object) -> None:
    raise WriteError("no space left")


def test_a_full_disk_is_never_a_fault_of_the_trial(tmp_path, monkeypatch):
    """In this process's executor, as often as one likes; also where the disk doesn't even take the note that nothing happened."""
    settings = settings_of(CONDITIONAL, trials=1, executor={"kind": "local"})
    settings.save(tmp_path)

    def run(bench: TrialTraining, job: Job):
        yield epochs_of(job)[0]
        monkeypatch.setattr("nas.execution.fencing.write_json", full)
        full()

    monkeypatch.setattr(TrialTraining, "run", run)
    for _ in range(RETRIES[Cause.PROCESS] + 3):
        with pytest.raises(WriteError), Study(tmp_path, settings) as study:
            local.run(study, training_data(), Tally(study), lambda: False)
        monkeypatch.setattr("nas.execution.fencing.write_json", write_json)
        assert not (tmp_path / "trials" / "0" / ATTEMPT).exists()
    with Study(tmp_path, settings) as study:
        assert (study.counts.failed, study.recovered) == (0, ["resumed trial 0"])


def test_a_trial_whose_last_attempt_was_one_too_many_is_ended_when_the_run_is_opened(tmp_path):
    with begin(tmp_path, trials=2) as study:
        job = study.ask()
        assert job is not None
    for _ in range(RETRIES[Cause.PROCESS]):
        assert fencing.recovered(job).allow(Cause.PROCESS)
        fencing.hand_out(job, fencing.recovered(job), alone=True)  # and dies with it
    fencing.hand_out(job, fencing.recovered(job), alone=True)
    with again(tmp_path) as study:
        assert study.counts.failed == 1
        assert [text.partition(":")[0] for text in study.recovered] == ["gave trial 0 up"]
        assert len(finish(study)) == 2
    run = load_run(tmp_path)
    assert (run.trial(0).state, run.trial(0).cause, run.count("complete")) == ("failed", Cause.PROCESS, 2)


def test_who_asks_hears_of_what_a_worker_ended_behind_the_last_driver(tmp_path):
    with begin(tmp_path, trials=2) as study:
        job = study.ask()
        assert job is not None
    heard: list[tuple[str, str]] = []

    def told(job: Job, result: TrialResult) -> None:
        heard.append((job.key, result.state))

    with again(tmp_path) as study:
        result_of(job).write(job.folder)  # after the run was opened
        following = study.ask(told)
        assert following is not None and following.key == "1"
    assert heard == [("0", "complete")]


def test_a_stop_that_was_decided_and_not_written_is_finished(tmp_path):
    settings = dataclasses.replace(make_settings(trials=2, baselines=()), stopping=Policy.parse("asha"))
    settings.save(tmp_path)
    decision = Decision(epoch=1, stop=True, reason="no better than what is as cheap")
    with Study(tmp_path, settings) as study:
        job, other = study.ask(), study.ask()
        assert job is not None and other is not None
        for own, epochs in (
            (job, 2),
            (other, 0),
        ):  # the worker of the first went on by one epoch; the other's curve is lost
            write_json(own.folder / EPOCHS, [epoch.to_dict() for epoch in epochs_of(own)[:epochs]])
            write_json(own.folder / DECISIONS, [decision.to_dict()])
    with Study(tmp_path, settings) as study:
        judge = EarlyStopper(tmp_path, settings)
        heard: list[str] = []
        assert study.ask(lambda job, result: heard.append(job.key)) is not None
        assert heard == ["0"] and study.counts.stopped == 1
        assert not judge._decisions.get("1")
    stopped = load_run(tmp_path).trial(0)
    assert (stopped.state, len(stopped.epochs)) == ("stopped", 1)
    assert "no better than what is as cheap" in stopped.reason


@pytest.mark.parametrize("change", [{"seed": 7}, {"precision": "bf16"}, {"stopping": Policy.parse("asha")}])
def test_what_would_make_trials_incomparable_is_refused_on_resume(tmp_path, change):
    with begin(tmp_path, trials=1):
        pass
    dataclasses.replace(Settings.load(tmp_path), **change).save(tmp_path)
    with pytest.raises(UsageError, match=f"its study has other {next(iter(change))} than"), again(tmp_path):
        pass


@pytest.mark.parametrize(
    "change",
    [{"stopping": {"name": "pareto", "epsilon": "x"}}, {"executor": {"trial_timeout": "soon"}}],
    ids=["stopping", "timeout"],
)
def test_options_of_a_run_yaml_that_was_edited_are_refused(tmp_path, change):
    settings = settings_of(CONDITIONAL)
    if "executor" in change:
        change = {"executor": {**dataclasses.asdict(settings.executor), **change["executor"]}}
    edited = {**settings.to_dict(), **change}
    (tmp_path / "run.yaml").write_text(json.dumps(edited))  # JSON is YAML
    with pytest.raises(UsageError, match=r"run\.yaml"):
        Settings.load(tmp_path)


def test_what_was_measured_on_the_way_is_in_the_studys_copy_of_the_settings_too(tmp_path):
    with begin(tmp_path, trials=1) as study:
        study.keep(dataclasses.replace(study.settings, engine={"cpu": {"bf16": True}}))
        assert study.study.user_attrs[ATTRIBUTE]["engine"] == Settings.load(tmp_path).engine == {"cpu": {"bf16": True}}


def test_a_lock_on_a_file_system_without_locks_is_told_by_its_signs_of_life(tmp_path, monkeypatch):
    def none(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    path = tmp_path / "run.lock"
    path.write_text(str(Holder.me()))
    assert not held(path)  # nobody has locked it here
    monkeypatch.setattr(fcntl, "flock", none)
    assert held(path)  # where that can't be asked, a young file of anybody counts
    path.write_text("")
    assert not held(path)


# -- a study in a database ----------------------------------------------------------------------------------------------


def kept_outside(folder: Path, trials: int = 4) -> Settings:
    """The settings of a run in `folder` whose study is in a database beside it."""
    url = f"sqlite:///{folder.parent / 'studies.db'}"
    settings = dataclasses.replace(settings_of(CONDITIONAL, trials=trials), storage=storage.planned(url, folder.name))
    folder.mkdir()
    settings.save(folder)
    return settings


def test_of_two_copies_of_a_folder_one_drives_the_study(tmp_path):
    first, second = tmp_path / "run", tmp_path / "copy"
    settings = kept_outside(first)
    with Study(first, settings) as study:
        finish(study, most=1)
    shutil.copytree(first, second)
    with Study(second, settings) as study:  # the one that goes on has it
        finish(study, most=1)
    with pytest.raises(UsageError, match="driven on from another copy of this folder"), Study(first, settings):
        pass
    with Study(second, settings) as study:
        finish(study)
    assert load_run(second).count("complete") == 4


def test_an_old_copy_of_a_folder_whose_other_is_lost_goes_on_if_it_is_told_to(tmp_path):
    """As one that was put back from a backup: the study knows more trials than the folder has results of."""
    folder, backup = tmp_path / "run", tmp_path / "backup"
    settings = kept_outside(folder)
    with Study(folder, settings) as study:
        finish(study, most=1)
    shutil.copytree(folder, backup)
    with Study(folder, settings) as study:
        finish(study, most=1)
    shutil.rmtree(folder)
    (finding,) = examine(backup, repair=True)  # what is missing there is not made up before
    assert finding.level == "needs you" and not (backup / "trials" / "1" / RESULT).exists()
    (told,) = re.findall(r"""write (\[".+"\]) into claim.json""", finding.what)
    with pytest.raises(UsageError, match=re.escape(told)), Study(backup, settings):
        pass
    (backup / CLAIM).write_text(told)
    with Study(backup, settings) as study:
        finish(study)
        assert study.counts.complete == 4
    assert load_run(backup).count("complete") == 4
    assert "written again from the study" in " ".join(found.what for found in examine(backup, repair=True))


def test_a_driver_whose_folder_is_copied_and_driven_stops(tmp_path):
    first, second = tmp_path / "run", tmp_path / "copy"
    settings = kept_outside(first)
    with pytest.raises(NasError, match="has taken its study over"), Study(first, settings) as study:
        finish(study, most=1)
        shutil.copytree(first, second)
        with Study(second, settings) as other:
            finish(other, most=1)
        study.ask()


def test_a_driver_killed_while_it_takes_the_study_can_be_followed(tmp_path):
    settings = kept_outside(tmp_path / "run")
    with Study(tmp_path / "run", settings) as study:
        finish(study, most=1)
    path = tmp_path / "run" / CLAIM
    write_json(path, [read_json(path)[-1], "written, and not yet in the study"])
    with Study(tmp_path / "run", settings) as study:
        finish(study)
        assert study.counts.complete == 4


def test_doctor_examines_a_study_in_a_database(tmp_path):
    folder = tmp_path / "run"
    settings = kept_outside(folder)
    assert "holds no study of this run yet" in examine(folder)[0].what
    with Study(folder, settings) as study:
        jobs = finish(study)
    assert [finding.level for finding in examine(folder) if finding.level == "needs you"] == []
    assert nas_("doctor", folder).exit_code == 0
    dataclasses.replace(result_of(jobs[0]), accuracy=0.123).write(jobs[0].folder)
    assert any(finding.where == "trial 0" for finding in examine(folder))
    dataclasses.replace(settings, seed=99).save(folder)
    (finding,) = (finding for finding in examine(folder) if finding.level == "needs you")
    assert "other seed" in finding.what and "--repair" not in finding.what
    settings.save(folder)
    (tmp_path / "studies.db").write_bytes(b"not a database" * 1000)
    assert any(finding.level == "needs you" and "studies.db" in finding.where for finding in examine(folder))
