"""`nas doctor`: each thing that can be wrong with a run folder is found, and repaired where that loses nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
import torch
import yaml
from helpers_cli import nas_, output, refusal
from helpers_search import TINY, finish, settings_of, space_of
from make_run import epochs_of, result_of

from nas.doctor import examine, healthy, journals, trials
from nas.errors import NasError, UsageError
from nas.files import read_json, write_json
from nas.jobs import CHECKPOINT, EPOCHS, PREVIOUS, RESULT
from nas.layout import JOURNAL, LOCK, SESSIONS
from nas.locks import Holder
from nas.migration import FORMAT
from nas.run import load_run
from nas.salvage import CREATE_TRIAL, operation
from nas.settings import FILE, Settings
from nas.study import Study

TRIALS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run with a budget: complete, failed, rejected, duplicate trials, none in flight."""
    folder = tmp_path_factory.mktemp("runs") / "made"
    space = space_of(TINY)
    limit = sorted(space.cost(space.sample(seed)).params for seed in range(40))[25]
    settings = settings_of(TINY, trials=TRIALS, budgets={"params": [None, limit]}, seed=3)
    folder.mkdir()
    settings.save(folder)
    with Study(folder, settings) as study:
        failing = iter([False, True])
        finish(study, fails=lambda job: next(failing, False))
        counts = study.counts
    assert counts.rejected and counts.failed and counts.duplicate
    return folder


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A copy of it to harm."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def levels(findings) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in findings:
        found.setdefault(finding.level, []).append(f"{finding.where}: {finding.what}")
    return found


def repaired(folder: Path) -> dict[str, list[str]]:
    """Repair, after a look that must change nothing and find the same; a second look finds nothing left to repair."""
    before = contents(folder)
    look = examine(folder)
    assert contents(folder) == before, "a look changes nothing"
    assert not healthy(look)
    found = examine(folder, repair=True)
    assert {f.where for f in found if f.level == "repaired"} == {f.where for f in look if f.level == "repairable"}
    assert "repairable" not in levels(found) | levels(examine(folder))
    return levels(found)


def facts(folder: Path) -> list[tuple]:
    """What readers are told of the trials."""
    return [
        (
            t.number,
            t.state,
            t.digest,
            t.accuracy,
            t.values,
            dict(t.choices),
            len(t.epochs),
            t.reason if t.state == "failed" else "",
        )
        for t in load_run(folder).trials
    ]


def test_a_healthy_run_is_healthy(run):
    assert examine(run) == examine(run, repair=True) == []
    assert output("doctor", run).endswith("healthy.\n")
    assert json.loads(output("doctor", run, "--json")) == {"run": str(run), "healthy": True, "findings": []}


def test_no_run_is_bad_usage(tmp_path):
    assert "not a run folder" in refusal("doctor", tmp_path)
    assert "name its folder" in refusal("doctor", "--repair")


# -- the journal -------------------------------------------------------------------------------------------------------


def test_a_torn_tail(run):
    whole = (run / JOURNAL).read_bytes()
    (run / JOURNAL).write_bytes(whole + b'{"op_code": 6, "tri')
    assert repaired(run)["repaired"] == [f"{JOURNAL}: 19 bytes of a torn line at the end: cut off"]
    assert (run / JOURNAL).read_bytes() == whole


@pytest.mark.parametrize("damage", [b"\xff\x00garbage", b"", b"{}", b'{"op_code": 99, "worker_id": ""}', b"[1, 2"])
def test_each_line_of_a_journal_may_be_lost(made, tmp_path, damage, faults):
    """Readers and drivers name the line; the doctor puts back what other lines, the space and the results say."""
    before = facts(made)
    lines = (made / JOURNAL).read_bytes().split(b"\n")[:-1]
    places = range(len(lines)) if damage == b"{}" else random.Random(1).sample(range(len(lines)), 3)
    for place in places:
        folder = Path(shutil.copytree(made, tmp_path / str(place)))
        whole = b"\n".join([*lines[:place], damage, *lines[place + 1 :]]) + b"\n"
        (folder / JOURNAL).write_bytes(whole)
        if place < len(lines) - 1:
            with pytest.raises(NasError, match=rf"study\.journal: line {place + 1} can't be read; `nas doctor"):
                load_run(folder)
        found = examine(folder, repair=True)
        assert healthy(found), (place, lines[place], found)
        if place < len(lines) - 1:
            (kept,) = folder.glob(f"{JOURNAL}.broken-*")
            assert kept.read_bytes() == whole
        settings = Settings.load(folder)
        with Study(folder, settings) as study:  # a line that ended a trial is told again by the next driver
            assert finish(study) == [], "nothing is trained again"
            assert study.counts.trained == TRIALS
        after = [fact for fact in facts(folder) if fact[0] < len(before) + 100]
        trained = [fact for fact in before if fact[1] in ("complete", "failed")]
        assert [fact for fact in after if fact[1] in ("complete", "failed")] == trained
        assert healthy(examine(folder)), examine(folder)
        shutil.rmtree(folder)
    faults.record(
        "garbage in the middle of the journal",
        made="each line of a journal, one after another, overwritten",
        lost=0, trained_twice=0, epochs_twice=0,
        then="readers and `nas resume` name the line (1); `nas doctor --repair` puts back what was lost, and keeps the file",
    )  # fmt: skip


def test_several_damaged_lines(run):
    lines = (run / JOURNAL).read_bytes().split(b"\n")[:-1]
    before = facts(run)
    begins = [k for k, line in enumerate(lines) if operation(line)["op_code"] == CREATE_TRIAL]
    for place in (0, begins[0], begins[2], begins[2] + 1, begins[4]):
        lines[place] = b"\x00" * len(lines[place])
    (run / JOURNAL).write_bytes(b"\n".join(lines) + b"\n")
    found = repaired(run)
    assert "needs you" not in found
    assert "lines 1, " in found["repaired"][0] and "3 begun again in the file" in found["repaired"][0]
    with Study(run, Settings.load(run)) as study:
        assert finish(study) == []
    assert facts(run) == before


def test_a_trial_of_which_nothing_is_left_is_said_to_be_lost(run):
    """All its lines but the last are gone, and its result: the others keep their numbers."""
    before = facts(run)
    number = next(fact[0] for fact in before if fact[1] == "complete")
    kept = []
    for line in (run / JOURNAL).read_bytes().split(b"\n")[:-1]:
        found = operation(line)
        mine = found.get("trial_id") == number and found["op_code"] != 6
        kept.append(b"#" if mine else line)
    (run / JOURNAL).write_bytes(b"\n".join(kept) + b"\n")
    shutil.rmtree(run / "trials" / str(number))
    found = levels(examine(run, repair=True))
    assert found["needs you"] == [f"trial {number}: what the study knew of it was lost with the damaged lines"]
    assert facts(run) == [fact for fact in before if fact[0] != number]
    assert nas_("doctor", run).exit_code == 0  # nothing is left of it that could be wrong


def test_the_journal_of_another_run(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    settings, mine = settings_of(TINY, trials=2, name="other"), Settings.load(run)
    theirs = dataclasses.replace(settings, id="bbbb")
    theirs.save(other)
    with Study(other, theirs) as study:
        finish(study)
    shutil.copy(other / JOURNAL, run / JOURNAL)
    with (
        pytest.raises(UsageError, match=r"its study is that of another run than run\.yaml: other"),
        Study(run, mine),
    ):
        pass
    assert levels(examine(run, repair=True))["needs you"] == [
        f"{JOURNAL}: the study is that of another run: other, begun {theirs.created}"
    ]


def test_the_journal_of_another_program(run):
    import optuna

    (run / JOURNAL).unlink()
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(run / JOURNAL)))
    optuna.create_study(study_name="theirs", storage=storage)
    with pytest.raises(UsageError, match="holds another study than a run's: theirs"), Study(run, Settings.load(run)):
        pass
    assert levels(examine(run))["needs you"] == [f"{JOURNAL}: holds no study of a run"]


def test_a_latency_that_the_journal_no_longer_has(run):
    """The value of an objective can't be checked then, and that is a finding."""
    settings = dataclasses.replace(Settings.load(run), objectives=["accuracy", "latency_ms"])
    reading = journals.check(run, Settings.load(run), False)[1]
    found = trials.check(run, settings, reading, False)
    assert found and {(own.level, own.what) for own in found} >= {
        ("needs you", "latency is an objective of this run, and this network's was not recorded")
    }


def gone(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten(path: Path) -> None:
    path.write_bytes(b"\x00\xff not json\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [(gone, "missing"), (emptied, "holds nothing that can be read"), (overwritten, "holds nothing that can be read")],
)
def test_a_journal_that_is_lost_does_not_begin_anew(run, damage, said):
    """Resuming would train every trial again, over its result."""
    results = {path: path.read_bytes() for path in run.glob("trials/*/result.json")}
    damage(run / JOURNAL)
    before = (run / JOURNAL).read_bytes() if (run / JOURNAL).exists() else None
    wanted = rf"{JOURNAL} (is missing|holds nothing of its study), although trials have ended; put it back from a copy"
    with pytest.raises(UsageError, match=wanted), Study(run, Settings.load(run)):
        pass
    if damage is not overwritten:  # what can't be read at all has an error of its own
        with pytest.raises(UsageError, match=wanted):
            load_run(run)
    for repair in (False, True):
        assert levels(examine(run, repair=repair))["needs you"] == [f"{JOURNAL}: {said}, although trials have ended"]
    assert ((run / JOURNAL).read_bytes() if (run / JOURNAL).exists() else None) == before
    assert {path: path.read_bytes() for path in run.glob("trials/*/result.json")} == results and results


# -- run.yaml ----------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def other_space(path: Path) -> None:
    path.write_text(path.read_text().replace("stage*.width: [4, 8]", "stage*.width: [4, 8, 16]"))


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.write_text("[1]"),
        Path.unlink,
        other_space,
    ],
    ids=["cut", "noise", "a list", "gone", "another space"],
)
def test_run_yaml_is_put_back_from_the_study(run, damage, faults):
    before, text = facts(run), (run / FILE).read_text()
    damage(run / FILE)
    harmed = (run / FILE).read_bytes() if (run / FILE).exists() else None
    assert [line for line in repaired(run)["repaired"] if line.startswith(FILE)]
    assert yaml.safe_load((run / FILE).read_text()) == yaml.safe_load(text)
    assert [path.read_bytes() for path in run.glob(f"{FILE}.broken-*")] == ([] if harmed is None else [harmed])
    assert facts(run) == before
    with Study(run, Settings.load(run)) as study:
        assert finish(study) == []
    faults.record(
        "torn or edited run.yaml", made="cut short, noise, another document, removed, its space edited",
        lost=0, trained_twice=0, epochs_twice=0,
        then="refused (2); `nas doctor --repair` puts back the copy that the study holds, and keeps the other",
    )  # fmt: skip


def test_a_run_that_was_begun_before_the_study_kept_settings(run):
    """Of format 1: nothing to put back, nothing to compare with."""
    lines = (run / JOURNAL).read_bytes().split(b"\n")
    (run / JOURNAL).write_bytes(b"\n".join(line for line in lines if b'"user_attr":{"nas":{"name"' not in line))
    assert examine(run) == []
    cut(run / FILE)
    assert "put it back from a copy" in nas_("doctor", run, "--repair").stdout
    assert levels(examine(run, repair=True)).keys() == {"needs you"}


# -- trials ------------------------------------------------------------------------------------------------------------


def complete(run: Path) -> Path:
    return run / "trials" / str(next(t.number for t in load_run(run).trials if t.state == "complete"))


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
        made="`result.json` cut short, of something else, removed; the trial's folder removed",
        lost=0, trained_twice=0, epochs_twice=0,
        then="the study still has its accuracy; `nas doctor --repair` writes it again, without its curve",
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
        write_json(jobs[0].result_path, result_of(jobs[0]))
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
    assert found["trial 2"] == (f"{CHECKPOINT} can't be used", "`nas resume` goes on from the checkpoint before it")
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


# -- around the run ----------------------------------------------------------------------------------------------------


def test_permissions(run):
    run.chmod(0o777)
    (run / FILE).chmod(0o666)
    found = levels(examine(run))
    assert found == {
        "warning": [
            "permissions: everybody on this machine may write into the run's folder",
            f"permissions: {FILE}: may be written by everybody",
        ]
    }
    if os.getuid() == 0:
        os.chown(run / JOURNAL, 12345, -1)
        assert f"permissions: {JOURNAL}: belongs to another user than the folder" in levels(examine(run))["warning"]


def test_a_driver_that_did_not_give_its_lock_back(run):
    (run / LOCK).write_text("process 77 on elsewhere, boot 0000")
    (finding,) = examine(run)
    assert finding.level == "note" and "process 77 on elsewhere" in finding.what


def test_formats(run):
    data = yaml.safe_load((run / FILE).read_text())
    for name in ("id", "engine", "proxy", "packing"):
        del data[name]
    (run / FILE).write_text(yaml.safe_dump({**data, "version": 1}))
    (finding,) = [finding for finding in examine(run) if finding.where == FILE]
    assert finding.level == "note" and f"of format 1; this nas writes format {FORMAT}" in finding.what


def test_versions_are_compared(run):
    settings = Settings.load(run)
    dataclasses.replace(settings, versions={**settings.versions, "torch": "1.0.0"}).save(run)
    (finding,) = examine(run)
    assert finding.level == "note" and "begun with torch 1.0.0 (now " in finding.what
