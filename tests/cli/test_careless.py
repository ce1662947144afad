"""Slips of a careless user: wrong numbers, names that no file can have, folders that hold something else."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shlex
from pathlib import Path

import pytest
from helpers_cli import nas_, output, refusal
from helpers_search import contents, settings_of
from make_run import changed, make_run

from nas.cli.commands.output import Shown
from nas.cli.commands.search import _conclude
from nas.errors import UsageError
from nas.runs.doctor import examine
from nas.runs.layout import JOURNAL
from nas.runs.run import load_run
from nas.runs.settings import FILE, Settings
from nas.searching.conclusion import leave
from nas.utils import limits


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("careless") / "a run", trials=3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--trials", limits.TRIALS + 1), f"--trials {limits.TRIALS + 1}: at most 10,000,000"),
        (("--trials", 0), "--trials 0: at least one"),
        (("--trials", -3), "--trials -3: at least one"),
        (("--address", "HEAD:6379", "--trials", 4), "--address HEAD:6379: the local executor uses no cluster"),
        (("--workers", limits.WORKERS + 1), f"--workers {limits.WORKERS + 1}: at most 1,000,000"),
    ],
)
def test_numbers_that_no_run_can_have_leave_it_as_it_was(done, arguments, said):
    before = contents(done)
    assert said in refusal("resume", done, *arguments)
    assert contents(done) == before and load_run(done).status == "done"


def test_what_else_was_exported_into_the_front_stays_when_the_search_goes_on(tmp_path):
    folder = make_run(tmp_path / "run", trials=12)
    leave(load_run(folder))
    ranked = {path.name for path in (folder / "front").iterdir()}
    run = load_run(folder)
    off = next(trial for trial in run.complete() if trial not in run.front())
    output("export", folder, "--trial", off.number)
    (folder / "front" / "mine.yaml").write_text("notes: mine")
    (folder / "front" / "09-trial99-99.00acc-1.00kparams.yaml").write_text("of a shorter search")
    kept = {path.name for path in (folder / "front").iterdir()} - {"09-trial99-99.00acc-1.00kparams.yaml"}
    assert len(kept) == len(ranked) + 2
    leave(load_run(folder))
    assert {path.name for path in (folder / "front").iterdir()} == kept


def test_the_command_that_is_named_at_the_end_can_be_copied(tmp_path):
    """With a space in the path of the data, which lie where the run says."""
    folder = make_run(tmp_path / "a run", trials=2)
    settings = Settings.load(folder)
    changed(settings, dataset={"name": "imagefolder:/my photos", "root": "/other data"}).save(folder)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        _conclude(load_run(folder), Shown(quiet=False, as_json=False))
    (line,) = (line for line in out.getvalue().splitlines() if line.startswith("  nas train"))
    words = shlex.split(line)
    assert words[3:] == ["--dataset", "imagefolder:/my photos", "--data-root", "/other data"]
    assert Path(words[2]).parent.name == "front"


@pytest.mark.parametrize("command", [("train", "resnet20"), ("finetune",)])
def test_a_training_does_not_go_into_the_folder_of_a_search(done, command):
    before = contents(done)
    said = nas_(*command, *(() if command[1:] else (done,)), "--dataset", "digits", "--epochs", 1, "--out", done)
    assert said.exit_code == 2 and "holds a run of `nas search`; choose another folder" in said.stderr
    assert contents(done) == before


def test_settings_that_could_not_be_read_again_are_not_written(tmp_path):
    settings = dataclasses.replace(settings_of(), trials=limits.TRIALS + 1)
    with pytest.raises(UsageError, match="trials must be a whole number"):
        settings.save(tmp_path)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("plan: {seconds: 10, trial_seconds: 1, spent: 0, trials: many}", "plan: trials must be a whole number"),
        ("engine: {cpu: 3}", "engine: cpu must be a mapping"),
        ("packing: {trials_per_gpu: 0}", "packing: trials_per_gpu must be a whole number from 1"),
        (
            "latency: {device: cpu, batch: 1, threads: 1, max_ms: 3, measured_on: [1]}",
            "latency: measured_on must be a text",
        ),
    ],
)
def test_what_was_measured_and_is_no_longer_so(tmp_path, change, said):
    folder = make_run(tmp_path / "run", trials=1)
    empty = f"{change.partition(':')[0]}: {{}}"
    text = (folder / FILE).read_text()
    assert empty in text
    (folder / FILE).write_text(text.replace(empty, change))
    assert f"{FILE}: {said}" in refusal("resume", folder, "--trials", 2)


@pytest.mark.parametrize("seed", [-1, 1 << 31, 10**30])
def test_seeds_outside_of_their_range(tmp_path, seed):
    said = refusal("search", "--quiet", "--seed", seed, "--out", tmp_path / "run")
    assert f"--seed {seed}: a whole number from 0 to 2,147,483,647" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "command", [("search", "--quiet", "--out"), ("report",), ("resume",), ("export",), ("doctor",)]
)
def test_a_name_that_no_file_can_have(command):
    assert "File name too long" in nas_(*command, "x" * 300).stderr


def test_what_else_lies_in_an_exported_folder_is_not_taken_away_unasked(tmp_path):
    """It may be somebody's repository."""
    (line,) = output("export", "resnet20", "--format", "huggingface", "--out", tmp_path).splitlines()
    (folder,) = tmp_path.glob("*-huggingface")
    assert line.endswith(folder.name)
    for name in ("notes/mine.txt", ".git/config", "__pycache__/modeling.pyc"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("mine")
    before = contents(folder)
    assert "notes: holds something else" in refusal("export", "resnet20", "--format", "huggingface", "--out", tmp_path)
    assert contents(folder) == before
    output("export", "resnet20", "--format", "huggingface", "--out", tmp_path, "--force")
    assert contents(folder) == {name: data for name, data in before.items() if name != "notes/mine.txt"}


def test_doctor_of_a_run_with_settings_that_it_began_without(tmp_path):
    folder = make_run(tmp_path / "run", trials=2)
    text = (folder / FILE).read_text()
    assert "latency: {}" in text
    (folder / FILE).write_text(text.replace("latency: {}", "latency: {device: cpu, batch: 1, threads: 1, max_ms: 3.0}"))
    assert [f"{found.level}: {found.what}" for found in examine(folder)] == [
        "repairable: other latency than the run began with"
    ]
    examine(folder, repair=True)
    assert Settings.load(folder).latency is None and (folder / JOURNAL).is_file()
