"""`nas doctor` of a run's trials: results that are torn or gone, leftovers, what is in flight, time accounting."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest
import torch
from helpers_cli import nas_
from helpers_doctor import complete, cut, facts, levels, repaired
from helpers_doctor import made as made  # a fixture
from helpers_doctor import run as run  # a fixture
from helpers_search import TINY, finish, settings_of
from make_run import epochs_of, result_of

from nas.errors import UsageError
from nas.runs.doctor import examine
from nas.runs.layout import ATTRIBUTE, JOURNAL, SESSIONS
from nas.runs.lock import Holder
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.searching.study import Study
from nas.training.records import CHECKPOINT, EPOCHS, PREVIOUS, RESULT
from nas.utils.files import read_json, write_json


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / RESULT).unlink(), "missing"),
        (shutil.rmtree, "missing"),
        (lambda folder: cut(folder / RESULT), "torn"),
        (lambda folder: write_json(folder / RESULT, {"digest": "0"}), "that of another network"),
        (lambda folder: (folder / RESULT).write_text("[]"), "torn"),
    ],
)
def test_a_result_that_is_gone_is_written_from_the_study(run, damage, said, faults):
    before, folder = facts(run), complete(run)
    damage(folder)
    where = f"trial {folder.name}"
    assert repaired(run)["repaired"] == [
        f"{where}: {RESULT} is {said}: written again from the study; its epochs are lost"
    ]
    assert [fact[:6] for fact in facts(run)] == [fact[:6] for fact in before]
    with Study(run, Settings.load(run)) as study:
        assert finish(study) == []
    assert nas_("report", run).exit_code == 0
    faults.record(
        "torn or lost result of a recorded trial",
        made="`result.json` truncated, with other content, removed; the trial's folder removed",
        lost=0, trained_twice=0, epochs_twice=0,
        then="the study still has the accuracy; `nas doctor --repair` writes the result again, without its curve",
    )  # fmt: skip


def test_what_was_changed_by_hand_needs_a_person(run):
    folder = complete(run)
    result = read_json(folder / RESULT)
    write_json(folder / RESULT, {**result, "accuracy": 0.999})
    found = levels(examine(run, repair=True))
    assert len(found["needs you"]) == 1 and "0.999" in found["needs you"][0]
    write_json(folder / RESULT, {**result, "epochs": result["epochs"][1:]})
    assert "its epochs are [2, 3]... (2), not 1 to 3" in levels(examine(run))["needs you"][0]
    write_json(folder / RESULT, {**result, "state": "failed"})
    assert "complete in the study, failed in result.json" in levels(examine(run))["needs you"][0]
    assert nas_("doctor", run).exit_code == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda network: "x", "its network can't be built: its network must be a mapping"),
        (lambda network: {**network, "digest": 3}, "its network can't be built: digest must be a text"),
        (lambda network: {**network, "architecture": {}}, "its network can't be built: architecture: "),
        (lambda network: {**network, "cost": [1, 2, 3]}, "another cost than its network has"),
        (lambda network: {**network, "digest": "0"}, "another digest than its network has"),
        *[
            (lambda network, name=name: {key: network[key] for key in network if key != name}, f"{name} is missing")
            for name in ("digest", "cost", "architecture")
        ],
    ],
)
def test_what_the_study_says_of_a_network_that_was_changed(run, change, said):
    number, lines = int(complete(run).name), (run / JOURNAL).read_text().splitlines()
    for place, line in enumerate(lines):
        entry = json.loads(line)
        if entry.get("trial_id") == number and ATTRIBUTE in entry.get("user_attr", {}):
            entry["user_attr"][ATTRIBUTE] = change(entry["user_attr"][ATTRIBUTE])
            lines[place] = json.dumps(entry)
    (run / JOURNAL).write_text("\n".join(lines) + "\n")
    assert any(f"trial {number}: " in text and said in text for text in levels(examine(run))["needs you"])
    (run / JOURNAL).write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:9] + "\n")  # repaired around it
    assert nas_("doctor", run, "--repair").exit_code == 1


def test_leftovers(run):
    folder = complete(run)
    (folder / CHECKPOINT).write_bytes(b"1")
    (folder / EPOCHS).write_text("[]")
    old, young = folder / f".{RESULT}.12-0123abcd", folder / f".{RESULT}.12-0123abce"
    for path in (old, young, run / f"{JOURNAL}.lock"):
        path.write_text("half")
    os.utime(old, (time.time() - 3600,) * 2)
    (run / "notes.txt").write_text("mine")
    (run / "trials" / "999").mkdir()
    found = repaired(run)
    assert len(found["repaired"]) == 3
    assert found["warning"] == ["trials/: 999: of no trial in the study"]
    assert not old.exists() and young.exists() and (run / "notes.txt").exists() and (run / "trials" / "999").exists()
    assert sorted(path.name for path in folder.iterdir()) == [young.name, RESULT]


def test_trials_in_flight(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    settings = settings_of(TINY, trials=4)
    settings.save(run)
    with Study(run, settings) as study:
        jobs = [study.ask() for _ in range(4)]
        for job in jobs:
            write_json(job.folder / EPOCHS, [epoch.to_dict() for epoch in epochs_of(job)[:1]])
            torch.save({"digest": job.architecture.digest}, job.folder / CHECKPOINT)
        result_of(jobs[0]).write(jobs[0].folder)
        cut(jobs[1].folder / CHECKPOINT)
        shutil.copy(jobs[2].folder / CHECKPOINT, jobs[2].folder / PREVIOUS)
        cut(jobs[2].folder / CHECKPOINT)
        (jobs[3].folder / EPOCHS).write_text("[")
        assert [f.what for f in examine(run)] == [f"a driver is at work: {Holder.me().named}"]
        with pytest.raises(UsageError, match="another driver works on this run"):
            examine(run, repair=True)
    found = {finding.where: (finding.what, finding.advice) for finding in examine(run)}
    assert found["trial 0"] == ("has ended, and is not recorded yet", "`nas resume` records it")
    assert found["trial 1"] == (f"{CHECKPOINT} can't be used", "`nas resume` starts over")
    assert found["trial 2"] == (f"{CHECKPOINT} can't be used", "`nas resume` resumes from the previous checkpoint")
    assert found["trial 3"] == (f"{EPOCHS} can't be read", "its checkpoint holds them too")
    assert nas_("doctor", run).exit_code == 0


def test_baselines(run, tmp_path):
    from make_run import make_run

    folder = make_run(tmp_path / "known", trials=1)
    assert examine(folder) == []
    cut(folder / "baselines" / "resnet20" / RESULT)
    assert levels(examine(folder)) == {"warning": [f"baseline resnet20: {RESULT} is torn"]}


def test_time_accounting_that_is_torn(run):
    entry = {"begun": 1.0, "startup_seconds": 1.0, "search_seconds": 1.0, "training_seconds": 1.0, "workers": 1}
    write_json(run / SESSIONS, [entry])
    assert examine(run) == []
    for text in ("[{", '{"a": 1}', "[1]"):
        (run / SESSIONS).write_text(text)
        assert load_run(run).sessions == ()
        assert repaired(run)["repaired"][0].startswith(f"{SESSIONS}: can't be read")
    write_json(run / SESSIONS, [entry, 3])
    repaired(run)
    assert load_run(run).sessions == (entry,)
