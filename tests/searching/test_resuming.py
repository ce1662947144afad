"""What a run may go on with, and where: other places, clocks, versions, data, spaces, drivers."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers_cli import nas_, output, refusal
from helpers_data import image_folder
from helpers_disks import check_done, costs, epochs_twice, jumping_clocks, logged, nas_done, nas_process, small_disk
from helpers_search import TINY, contents, finish, images, open_optuna, settings_of, write_space
from make_run import changed, make_run

import nas
from nas.errors import UsageError, WriteError
from nas.execution.trial_training import TrialTraining
from nas.runs import folder as run_folder
from nas.runs.doctor import examine, healthy
from nas.runs.layout import JOURNAL, SESSIONS
from nas.runs.run import load_run
from nas.runs.settings import FILE, Settings
from nas.runs.settings_formats import FORMAT, upgraded
from nas.searching.search import resume
from nas.searching.study import Study
from nas.training.trainer import Training
from nas.utils.files import read_json

TRIALS, EPOCHS = 3, 3
LOCAL = ("--executor", "local", "--device", "cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    log = tmp_path / "epochs.log"
    monkeypatch.setattr(Training, "epoch", logged(Training.epoch, log))
    return log


def begun(folder: Path, tmp_path: Path, *, stop: int, trials: int = TRIALS) -> Path:
    """A real run in one process, left in the midst of a trial: behind `stop` epochs in all."""
    write_space(tmp_path)
    done = 0
    run = TrialTraining.run

    def dies(self, job):
        nonlocal done
        for epoch in run(self, job):
            yield epoch
            done += 1
            if done == stop:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrialTraining, "run", dies)
        arguments = ("--space", tmp_path / "space.yaml", "--trials", trials, "--epochs", EPOCHS, "--max-images", 200)
        assert nas_("search", *arguments, *LOCAL, "--out", folder).exit_code == 130
    return folder


# -- other places ------------------------------------------------------------------------------------------------------


def test_a_copy_goes_on_elsewhere_and_leaves_the_original_alone(tmp_path, log, faults):
    original = begun(tmp_path / "old place" / "run", tmp_path, stop=5)
    copy = tmp_path / "new place" / "moved"
    shutil.copytree(original, copy)
    before = contents(original)
    assert nas_("resume", copy).exit_code == 0
    check_done(copy, TRIALS, EPOCHS)
    assert contents(original) == before, "the run where it was is not touched"
    assert epochs_twice(log) == 0
    for name, data in contents(copy).items():
        if name != FILE and not name.startswith("front"):  # which say by which command the run was begun
            assert str(original).encode() not in data, name
    shutil.rmtree(original)
    assert json_front(copy) and healthy(examine(copy))
    faults.record(
        "a run folder copied elsewhere", made="copied in the middle of a trial and resumed while the original exists",
        **costs(copy, TRIALS, log), then="continues; the original is not touched",
    )  # fmt: skip


def json_front(folder: Path) -> list:
    import json

    return json.loads(output("front", folder, "--json"))["front"]


def test_a_run_on_a_read_only_disk_can_be_read(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        made = make_run(disk / "run", trials=4)
        with (made / JOURNAL).open("ab") as file:
            file.write(b'{"torn')
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert json_front(made)
        assert "of 4 trials trained" in output("front", made)
        page = tmp_path / "page.html"
        output("report", made, "--out", page)
        assert page.stat().st_size > 1000
        assert output("export", made, "--out", tmp_path / "models")
        found = examine(made)
        assert [finding.where for finding in found if finding.level == "repairable"] == [JOURNAL]
        assert "can't be written to from here: it can be read, not resumed" in [finding.what for finding in found]
        assert "can't be written" in refusal("report", made)
        assert "Read-only file system" in refusal("doctor", made, "--repair", code=1)
        assert "Read-only file system" in refusal("export", made)


# -- other drivers -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_drivers_at_once(tmp_path, faults):
    """Both go for the run at the same moment, again and again: one trains, the other is refused."""
    folder, log = tmp_path / "run", tmp_path / "epochs.log"
    arguments = ("--space", write_space(tmp_path), "--trials", 8, "--epochs", EPOCHS, "--max-images", 200)
    first = nas_process("search", *arguments, *LOCAL, "--out", folder, log=log)
    until = time.monotonic() + 120
    while not (folder / JOURNAL).exists() and time.monotonic() < until:
        time.sleep(0.01)
    others = [nas_process("resume", folder, log=log) for _ in range(2)]
    ended = [process.communicate(timeout=250) for process in (first, *others)]
    codes = [process.returncode for process in (first, *others)]
    assert codes[0] == 0, ended[0]
    for own, code, (_, errors) in zip(others, codes[1:], ended[1:], strict=True):
        holders = {str(process.pid) for process in (first, *others) if process is not own}
        assert code == 0 or (
            code == 2 and re.search(r"another driver works on this run \(process (\d+) on", errors)[1] in holders
        )
    check_done(folder, 8, EPOCHS)
    assert epochs_twice(log) == 0
    faults.record(
        "two drivers on one run", made="three processes at once on one folder",
        **costs(folder, 8, log),
        then="one trains; the lock refuses the others (2), and the message names its holder",
    )  # fmt: skip


def test_of_two_searches_one_has_the_folder(tmp_path, monkeypatch):
    """Both looked when it was not there yet."""
    settings = settings_of(TINY, name="run")
    place = tmp_path / "results" / "run"
    found = [run_folder.begin(place, settings, chosen=False) for _ in range(3)]
    assert [folder.name for folder, _ in found] == [own.name for _, own in found] == ["run", "run-2", "run-3"]
    with pytest.raises(UsageError, match="another search has begun there; name another --out"):
        run_folder.begin(place, settings, chosen=True)
    assert Settings.load(place) == settings


@pytest.mark.parametrize("error", [UsageError("no file can hold it"), KeyboardInterrupt(), OSError("no")])
def test_of_a_search_that_can_not_begin_nothing_is_left(tmp_path, monkeypatch, error):
    def save(self, folder):
        raise error

    monkeypatch.setattr(Settings, "save", save)
    with pytest.raises((UsageError, KeyboardInterrupt, WriteError)):
        run_folder.begin(tmp_path / "run", settings_of(TINY), chosen=True)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_text_is_named_and_leaves_nothing(tmp_path):
    """Bytes that are not UTF-8, as those of an archive made elsewhere."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/photos\xff"))
    image_folder(folder)
    words = ("search", "--space", write_space(tmp_path), "--trials", 1, *LOCAL, "--out", tmp_path / "run")
    assert (
        "dataset: name must be a text of whole characters" in nas_(*words, "--dataset", f"imagefolder:{folder}").stderr
    )
    assert not (tmp_path / "run").exists()


# -- other clocks ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_clocks_that_jump(tmp_path, faults):
    """The wall clock of the whole process is wrong by hours and years, each moment by another."""
    clocks = jumping_clocks(tmp_path)
    look = "import time, datetime; a = [time.time() for _ in range(40) if not time.sleep(.02)]; print(max(a) - min(a) > 86400 * 300)"
    environment = {**clocks, "PATH": ""}
    assert (
        subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, env=environment).stdout == "True\n"
    )
    folder, log = tmp_path / "run", tmp_path / "epochs.log"
    arguments = ("--space", write_space(tmp_path), "--trials", TRIALS, "--epochs", EPOCHS, "--max-images", 200)
    code, said, errors = nas_done("search", *arguments, *LOCAL, "--out", folder, log=log, environment=clocks)
    assert code == 0, errors
    run = check_done(folder, TRIALS, EPOCHS)
    assert all(0 <= epoch.seconds < 600 for trial in run.complete() for epoch in trial.epochs)
    (session,) = read_json(folder / SESSIONS)
    assert all(0 <= session[f"{what}_seconds"] < 600 for what in ("startup", "search", "training"))
    etas = re.findall(r"ETA ([^\]]*)\]", said)
    assert len(etas) == TRIALS and not any(" d" in eta or " h" in eta or "-" in eta for eta in etas)
    written = [at for trial in open_optuna(folder).trials for at in (trial.datetime_start, trial.datetime_complete)]
    assert written != sorted(written), "the clock went back"
    volumes = list(run.hypervolume_history())
    assert volumes == sorted(volumes) and len(volumes) == TRIALS
    code, _, errors = nas_done("resume", folder, "--trials", TRIALS + 1, log=log, environment=clocks)
    assert code == 0, errors
    check_done(folder, TRIALS + 1, EPOCHS)
    assert epochs_twice(log) == 0
    assert nas_("report", folder).exit_code == 0 and healthy(examine(folder))
    faults.record(
        "clock jumps", made="the process's clock set by hours and years, back and forth, 20 times a second (LD_PRELOAD)",
        **costs(folder, TRIALS + 1, log),
        then="durations and the ETA use the monotonic clock; nothing is ordered by time",
    )  # fmt: skip


def test_the_hypervolume_s_history_is_not_by_the_clock(tmp_path):
    run = load_run(make_run(tmp_path / "run", trials=8))
    turned = [dataclasses.replace(trial, finished=-float(k)) for k, trial in enumerate(run.trials)]
    again = dataclasses.replace(run, trials=tuple(turned))
    assert list(again.hypervolume_history()) == list(run.hypervolume_history())


# -- other data, spaces, versions --------------------------------------------------------------------------------------


def test_other_data_are_refused(tmp_path, faults):
    folder, file = tmp_path / "run", tmp_path / "data.npz"
    x, y = images(80)
    np.savez(file, x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    arguments = ("--space", write_space(tmp_path), "--trials", 1, "--epochs", 1, "--dataset", f"npz:{file}")
    assert nas_("search", *arguments, *LOCAL, "--out", folder).exit_code == 0
    before = contents(folder)
    x[0, 0, 0, 0] ^= 1
    np.savez(file, x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    assert "has changed since the run began" in refusal("resume", folder, "--trials", 2, "--quiet")
    # as if the new ones had always been meant
    now = nas.load_run(folder)
    other = Settings.load(folder)
    new = re.search(r"fingerprint (\w{12})", nas_("resume", folder, "--quiet").stderr)[1]
    from nas.data import load

    fingerprint = load(f"npz:{file}").fingerprint
    assert fingerprint.startswith(new)
    changed(other, dataset={"fingerprint": fingerprint}).save(folder)
    assert "its study has other data than its run.yaml" in refusal("resume", folder, "--trials", 2, "--quiet")
    assert contents(folder)[JOURNAL] == before[JOURNAL] and load_run(folder).complete() == now.complete()
    faults.record(
        "resumed with other data", made="one pixel of one image changed; the fingerprint in run.yaml changed too",
        lost=0, trained_twice=0, epochs_twice=0, then="refused (2), nothing changed",
    )  # fmt: skip


def test_data_that_were_moved_are_named(tmp_path):
    folder, file, moved = tmp_path / "run", tmp_path / "data.npz", tmp_path / "elsewhere" / "same.npz"
    x, y = images(80)
    np.savez(file, x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    arguments = ("--space", write_space(tmp_path), "--trials", 1, "--epochs", 1, "--dataset", f"npz:{file}")
    assert nas_("search", *arguments, *LOCAL, "--out", folder).exit_code == 0
    moved.parent.mkdir()
    file.rename(moved)
    assert "does not exist" in refusal("resume", folder, "--trials", 2, "--quiet")
    assert nas_("resume", folder, "--trials", 2, "--quiet", "--dataset", f"npz:{moved}").exit_code == 0
    assert nas_("resume", folder, "--trials", 3, "--quiet").exit_code == 0, "it is remembered"
    assert load_run(folder).config["dataset"]["name"] == f"npz:{moved}"
    np.savez(moved, x_train=x[::-1], y_train=y, x_test=x[:20], y_test=y[:20])
    assert "has changed since the run began" in refusal("resume", folder, "--dataset", f"npz:{moved}", "--quiet")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"space": {"name": "tiny", "variant": "", "text": TINY.replace("[4, 8]", "[4, 8, 16]")}}, "space"),
        ({"recipe": "longer"}, "recipe"),
        ({"proxy": {"resolution": 4, "width": 1.0, "train_fraction": 1.0}}, "proxy"),
    ],
)
def test_another_space_or_recipe_is_refused(tmp_path, change, what, faults):
    settings = settings_of(TINY, trials=2)
    settings.save(tmp_path)
    with Study(tmp_path, settings) as study:
        finish(study)
    before = (tmp_path / JOURNAL).read_bytes()
    if what == "recipe":
        change = {"recipe": {"learning_rate": 0.5}}
    other = changed(settings, **change, trials=4)
    with pytest.raises(UsageError, match=f"its study has other {what} than its run.yaml"), Study(tmp_path, other):
        pass
    assert (tmp_path / JOURNAL).read_bytes() == before
    faults.record(
        "resumed with another space, recipe or proxy", made="changed in run.yaml",
        lost=0, trained_twice=0, epochs_twice=0, then="refused (2); `nas doctor --repair` restores the original",
    )  # fmt: skip


def test_what_says_the_same_in_other_words_is_no_other_space(tmp_path):
    settings = settings_of(TINY, trials=2)
    settings.save(tmp_path)
    with Study(tmp_path, settings) as study:
        finish(study)
    same = changed(settings, space={"text": "# remark\n" + TINY}, trials=3, sampler="tpe")
    with Study(tmp_path, same) as study:
        assert len(finish(study)) == 1


def format_1(folder: Path) -> str:
    """Turn a folder into one of the first format."""
    data = yaml.safe_load((folder / FILE).read_text())
    for name in ("id", "engine", "proxy", "packing"):
        del data[name]
    (folder / FILE).write_text(yaml.safe_dump({**data, "version": 1}, sort_keys=False))
    lines = (folder / JOURNAL).read_bytes().split(b"\n")
    (folder / JOURNAL).write_bytes(b"\n".join(line for line in lines if b'"user_attr":{"nas":{"name"' not in line))
    return (folder / FILE).read_text()


def test_a_run_of_an_earlier_format_is_brought_to_this_one(tmp_path, faults):
    folder = make_run(tmp_path / "run", trials=4)
    front = json_front(folder)
    text = format_1(folder)
    assert json_front(folder) == front
    assert (folder / FILE).read_text() == text, "reading changes nothing"
    settings = Settings.load(folder)
    with Study(folder, dataclasses.replace(settings, trials=5)) as study:
        assert study.recovered == [f"{FILE}: from format 1 to {FORMAT}; as it was: {FILE}.format-1"]
        assert len(finish(study)) == 1
    assert (folder / f"{FILE}.format-1").read_text() == text
    again = Settings.load(folder)
    assert again == settings and again.version == FORMAT and again.id
    with Study(folder, again) as study:
        assert study.recovered == []
    assert healthy(examine(folder))
    faults.record(
        "a run of an earlier format", made="a folder of format 1, resumed",
        lost=0, trained_twice=0, epochs_twice=0, then="migrated with a message; the old run.yaml is kept next to the new one",
    )  # fmt: skip


def test_a_run_of_a_later_format_is_refused(tmp_path, faults):
    folder = make_run(tmp_path / "run", trials=2)
    data = yaml.safe_load((folder / FILE).read_text())
    data["versions"]["nas"] = "7.1"
    (folder / FILE).write_text(yaml.safe_dump({**data, "version": FORMAT + 1, "colour": "blue"}))
    before = contents(folder)
    for command in ("resume", "front", "report"):
        line = refusal(command, folder)
        assert (
            f"a run of format {FORMAT + 1}, written by nas 7.1; this nas knows formats up to {FORMAT}: install nas 7.1"
            in line
        )
    assert contents(folder) == before
    faults.record(
        "a run of a later format", made="a folder whose run.yaml has the next format",
        lost=0, trained_twice=0, epochs_twice=0, then="refused (2); the message names the nas to install",
    )  # fmt: skip


@pytest.mark.parametrize("version", [None, "2", 0, -1, True and 1.5])
def test_what_is_no_format_is_refused(version):
    with pytest.raises(UsageError, match="not a run folder's settings"):
        upgraded({"version": version}, "run.yaml")


def test_other_versions_of_libraries_are_said(tmp_path):
    folder = make_run(tmp_path / "run", trials=2)
    settings = Settings.load(folder)
    changed(settings, versions={"torch": "1.2.3", "nas": "0.0.1"}).save(folder)
    said: list[str] = []
    with pytest.raises(UsageError):  # these are not the data of any run
        resume(folder, say=said.append)
    assert re.match(r"note: this run began with nas 0\.0\.1, now \S+, torch 1\.2\.3, now ", said[0])


def test_a_report_that_was_interrupted_is_written_by_the_command_that_is_named(tmp_path, monkeypatch):
    def interrupted(run):
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    begins = ("search", "--space", write_space(tmp_path), "--trials", 2, "--epochs", 1, *LOCAL, "--out", folder)
    confirms = ("confirm", folder, "--seeds", 2)
    for command, goes_on in ((begins, ("resume", folder)), (confirms, confirms)):
        (folder / "report.html").unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr("nas.report.write", interrupted)
            ended = nas_(*command)
        said = " ".join(ended.stderr.split())
        assert ended.exit_code == 130, ended.stderr
        assert f"everything so far is kept. Continue with: nas {goes_on[0]} {folder}" in said
        assert not (folder / "report.html").exists()
        assert nas_(*goes_on).exit_code == 0 and (folder / "report.html").exists()
