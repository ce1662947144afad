"""`nas doctor` of a run's journal: lines that are lost are put back, and a journal that is lost does not begin anew."""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path

import pytest
from helpers_cli import nas_
from helpers_doctor import TRIALS, facts, levels, repaired
from helpers_doctor import made as made  # a fixture
from helpers_doctor import run as run  # a fixture
from helpers_search import TINY, finish, settings_of

from nas.errors import NasError, UsageError
from nas.runs.doctor import examine, healthy, journals, trials
from nas.runs.journal_repair import CREATE_TRIAL, operation
from nas.runs.layout import JOURNAL
from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.searching.study import Study


def test_a_torn_tail(run):
    whole = (run / JOURNAL).read_bytes()
    (run / JOURNAL).write_bytes(whole + b'{"op_code": 6, "tri')
    assert repaired(run)["repaired"] == [f"{JOURNAL}: 19 bytes of a torn line at the end: cut off"]
    assert (run / JOURNAL).read_bytes() == whole


DAMAGES = (b"\xff\x00garbage", b"", b"{}", b'{"op_code": 99, "worker_id": ""}', b"[1, 2")


@pytest.mark.parametrize(
    ("damage", "every"), [*((damage, False) for damage in DAMAGES), pytest.param(b"{}", True, marks=pytest.mark.slow)]
)
def test_each_line_of_a_journal_may_be_lost(made, tmp_path, damage, every, faults):
    """Readers and drivers name the line; the doctor puts back what other lines, the space and the results say."""
    before = facts(made)
    lines = (made / JOURNAL).read_bytes().split(b"\n")[:-1]
    places = range(len(lines)) if every else random.Random(str(damage)).sample(range(len(lines)), 3)
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
    if every:
        faults.record(
            "garbage in the middle of the journal",
            made="each line of a journal, one after another, overwritten",
            lost=0, trained_twice=0, epochs_twice=0,
            then="readers and `nas resume` name the line (1); `nas doctor --repair` restores the lost data, and keeps the damaged file",
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
    with pytest.raises(UsageError, match=r"its study is that of another run than run\.yaml: other"), Study(run, mine):
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
