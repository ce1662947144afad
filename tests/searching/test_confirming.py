"""`nas confirm` for real, as a user: small networks on a few images, killed and interrupted in the middle, from a search's --confirm on."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_cli import nas_, output, process, refusal
from helpers_search import images, write_space

from nas.runs.run import load_run
from nas.runs.settings import Settings
from nas.searching.preparation import load_again, training_data
from nas.training.records import CHECKPOINT, RESULT

pytestmark = pytest.mark.timeout(900)
EPOCHS = 2


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    """A search of a few networks of a few hundred parameters on a file of images."""
    home = tmp_path_factory.mktemp("home")
    x, y = images(120)
    np.savez(home / "images.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    space = write_space(home)
    arguments = ["--space", space, "--dataset", f"npz:{home / 'images.npz'}", "--trials", 4, "--epochs", EPOCHS]
    output("search", *arguments, "--sampler", "random", "--executor", "local", "--device", "cpu", "--out", home / "run")
    return home / "run"


@pytest.fixture
def run(searched, tmp_path) -> Path:
    return shutil.copytree(searched, tmp_path / "run")


def results(run: Path) -> dict[str, int]:
    """When each further training's result was written."""
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in run.glob(f"confirmed/*/*/{RESULT}")}


def test_further_seeds_are_trainings_by_the_runs_own_recipe_on_its_own_split(run):
    from nas.execution.trial_training import TrialTraining
    from nas.networks.build import build
    from nas.training.trainer import train

    text = output("confirm", run, "--seeds", 2, "--executor", "local")
    found, settings = load_run(run), Settings.load(run)
    assert found.by_means
    assert "2 further seeds each" in text
    assert re.search(r"trial \d+, seed 2: [\d.]+ % val accuracy \(in the search [\d.]+ %, now", text)
    assert "ETA" in text
    assert "Mean ± s.e. (n)" in text
    trial = found.front()[0]
    data = training_data(load_again(run, settings, lambda text: None), settings.seed, settings.proxy)
    bench = TrialTraining(data, settings.recipe, device="cpu")
    for repeat in trial.repeats:
        network = build(trial.architecture, seed=repeat.seed)
        *_, last = train(network, *bench.batches(repeat.seed), settings.recipe)
        assert last.accuracy == repeat.accuracy
    assert json.loads((run / "sessions.json").read_text()) == json.loads(json.dumps(list(found.sessions)))
    assert len(found.sessions) == 1  # that of the search
    assert (run / "report.html").read_text(encoding="utf-8").count("further seeds") > 0
    assert sorted(path.name for path in (run / "front").glob("*.yaml"))[0].startswith("01-")
    before = results(run)
    assert (
        "6 of them done already" in (again := output("confirm", run, "--seeds", 2)) or "of them done already" in again
    )
    assert results(run) == before


def test_a_search_may_end_with_it(searched, tmp_path):
    config = load_run(searched).config
    space = write_space(tmp_path)
    arguments = ["--space", space, "--dataset", config["dataset"]["name"], "--trials", 2, "--epochs", 1]
    text = output("search", *arguments, "--executor", "local", "--confirm", 2, "--out", tmp_path / "run")
    assert load_run(tmp_path / "run").by_means
    assert text.index("Searching space") < text.index("Confirming") < text.index("nas train")
    assert text.count("further seeds each") == 1
    data = json.loads(output("front", tmp_path / "run", "--json"))
    assert data["ranked_by"] == "mean"


def test_data_that_have_changed_are_refused(run, tmp_path):
    x, y = images(120, seed=5)
    np.savez(tmp_path / "other.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    line = nas_("confirm", run, "--executor", "local", "--dataset", f"npz:{tmp_path / 'other.npz'}")
    assert line.exit_code == 2
    assert "has changed since the run began" in line.stderr
    assert not (run / "confirmed").exists()
    line = nas_("confirm", run, "--executor", "local", "--dataset", f"npz:{tmp_path / 'nowhere.npz'}")
    assert line.exit_code == 2
    assert "error: " in line.stderr


# Trains as the command does, and ends itself without a word, or is interrupted, in the midst of the third training.
DRIVER = """
import os, signal, sys
from nas.execution.trial_training import TrialTraining
from nas.cli.main import main
run, how, seen = TrialTraining.run, int(sys.argv[1]), []
def watched(self, job):
    seen.append(job)
    for epoch in run(self, job):
        if len(seen) == 3 and epoch.number == 1:  # saved, and not yet reported
            os.kill(os.getpid(), how)
        yield epoch
TrialTraining.run = watched
sys.argv[1:] = sys.argv[2:]
main()
"""


SLOW = [pytest.param(how, marks=pytest.mark.slow) for how in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("how", [signal.SIGKILL, *SLOW])
def test_it_goes_on_behind_the_last_epoch_and_trains_nothing_twice(run, how):
    arguments = ["confirm", str(run), "--seeds", "3", "--executor", "local"]
    command = [sys.executable, "-c", DRIVER, str(int(how)), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if how == signal.SIGKILL:
        assert ended.returncode == -signal.SIGKILL
    else:
        assert ended.returncode == 130, ended.stderr
        assert f"Continue with: nas confirm {run} --seeds 3" in ended.stderr
    before = results(run)
    assert len(before) == 2
    (open_,) = run.glob(f"confirmed/*/*/{CHECKPOINT}")
    assert not load_run(run).by_means
    assert process("doctor", run).returncode == 0
    text = output("confirm", run, "--seeds", "3", "--executor", "local")
    assert "2 of them done already" in text
    after = results(run)
    assert {name: after[name] for name in before} == before
    result = json.loads((open_.parent / RESULT).read_text())
    assert [epoch["number"] for epoch in result["epochs"]] == [1, 2]
    found = load_run(run)
    assert found.by_means
    assert {len(trial.repeats) for trial in found.searched_front()} == {3}
    assert len(after) == 3 * len(found.searched_front())


@pytest.mark.slow
def test_by_workers_of_ray_the_same_accuracies(run):
    other = shutil.copytree(run, run.parent / "other")
    output("confirm", run, "--seeds", 2, "--executor", "local")
    done = process("confirm", other, "--seeds", 2, "--executor", "ray", "--workers", 2, timeout=600)
    assert done.returncode == 0, done.stderr
    here, there = load_run(run), load_run(other)
    assert [[r.accuracy for r in t.repeats] for t in here.trials] == [
        [r.accuracy for r in t.repeats] for t in there.trials
    ]
    assert there.by_means


def test_help_has_an_example_and_says_what_it_is_for():
    text = output("confirm", "--help")
    assert "nas confirm results/my-run --seeds 5 --within 0.5" in text
    assert "not a run folder" in refusal("confirm", "/nowhere")
