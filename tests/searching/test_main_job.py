"""The main job as a user runs it: real processes, the command line, Ray workers, the embedded digits."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers_cli import nas_, output
from helpers_faults import plan
from safetensors.torch import load_file

import nas
from nas.networks.architecture import Architecture
from nas.runs.run import load_run

SPACE = """\
space: pocket
description: small enough for a test
stages: 2
values:
  stem: cifar
  stem_width: 4
  block: [basic, bottleneck]
  shortcut: [projection, zero_pad]
  stage1.stride: 1
  stage2.stride: 2
  stage*.depth: [1, 2]
  stage1.width: [4, 8]
  stage2.width: [8, 12, 16]
  stage*.cardinality: [1, 2]
  stage*.group_width: [2, 4]
"""


def run_nas(*arguments: str, cwd: Path, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nas", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
    )


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "120", "NAS_DEBUG": ""}


def ended_numbers(folder: Path) -> list[int]:
    """Numbers of the trials with a result on disk."""
    return sorted(int(path.parent.name) for path in folder.glob("trials/*/result.json"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "pocket.yaml").write_text(SPACE)
    return folder


@pytest.fixture(scope="module")
def searched(home: Path) -> subprocess.CompletedProcess[str]:
    """One search with Ray, on a budget, with a known net first."""
    return run_nas(
        *("search", "--space", "pocket.yaml", "--trials", "4", "--epochs", "2", "--max-params", "3k"),
        *("--baseline", "resnet20", "--out", "first"),
        cwd=home,
    )


def test_a_search_leaves_what_it_promises(home: Path, searched: subprocess.CompletedProcess[str]) -> None:
    assert searched.returncode == 0, searched.stdout + searched.stderr
    said = ("1,797 real 8x8 images", "imagefolder:", "cifar10", "first/report.html", "nas resume first")
    for words in said:
        assert words in searched.stdout
    run = load_run(home / "first")
    advised = re.search(r"nas train (\S+) --dataset digits", searched.stdout)
    assert advised is not None
    kept = Architecture.from_yaml(home / advised[1])
    assert kept.digest in {trial.digest for trial in run.front() if trial.accuracy == run.best().accuracy}
    assert run.status == "done"
    assert run.count("complete") == 4
    assert all(trial.cost.params <= 3000 for trial in run.complete() if not trial.label)
    assert [trial.label for trial in run.baselines()] == ["resnet20"]
    assert all(len(trial.epochs) == 2 for trial in run.complete())
    digests = [trial.digest for trial in run.complete()]
    assert len(set(digests)) == len(digests)
    assert len(list((home / "first" / "front").glob("*.yaml"))) == len(run.front())
    assert "<html" in (home / "first" / "report.html").read_text(encoding="utf-8")[:200]
    assert not list((home / "first").rglob("checkpoint.pt"))


def test_the_front_is_the_same_everywhere(home: Path, searched: subprocess.CompletedProcess[str]) -> None:
    run = load_run(home / "first")
    printed = json.loads(output("front", home / "first", "--json"))
    assert [row["digest"] for row in printed["front"]] == [trial.digest for trial in run.front()]
    exported = [Architecture.from_yaml(path) for path in sorted((home / "first" / "front").glob("*.yaml"))]
    assert [architecture.digest for architecture in exported] == [trial.digest for trial in run.front()]


def test_an_exported_network_is_rebuilt_and_trained(home: Path, searched: subprocess.CompletedProcess[str]) -> None:
    run = load_run(home / "first")
    trial = next(trial for trial in run.front() if not trial.label)
    output("export", home / "first", "--trial", trial.number, "--out", home / "models")
    (config,) = (home / "models").glob("*.yaml")
    again = Architecture.from_yaml(config)
    assert (again.digest, nas.cost_of(again)) == (trial.digest, trial.cost)
    x = torch.randn(2, 1, 8, 8)
    first, second = (nas.build(architecture, seed=3).eval()(x) for architecture in (trial.architecture, again))
    assert torch.equal(first, second)
    output("train", config, "--dataset", "digits", "--epochs", 1, "--out", home / "trained", "--seed", 1)
    network = nas.build(again)
    network.load_state_dict(load_file(home / "trained" / "weights.safetensors"))
    result = json.loads((home / "trained" / "result.json").read_text())
    assert 0 <= result["test"]["accuracy"] <= 1


def test_a_second_search_into_the_same_folder_is_refused(
    home: Path, searched: subprocess.CompletedProcess[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (home / "first" / "study.journal").read_bytes()
    monkeypatch.chdir(home)
    refused = nas_("search", "--space", "pocket.yaml", "--trials", 1, "--out", "first")
    assert refused.exit_code == 2
    assert "nas resume first" in refused.stderr
    assert (home / "first" / "study.journal").read_bytes() == before


def test_resume_searches_on(home: Path, searched: subprocess.CompletedProcess[str]) -> None:
    before = {
        number: (home / "first" / "trials" / str(number) / "result.json").read_bytes()
        for number in ended_numbers(home / "first")
    }
    more = json.loads(output("resume", home / "first", "--trials", 6, "--executor", "local", "--json"))
    assert more["trials"]["complete"] == 6
    for number, result in before.items():
        assert (home / "first" / "trials" / str(number) / "result.json").read_bytes() == result


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--space", "resnxt"], "did you mean 'resnext'"),
        (["--space", "missing.yaml"], "missing.yaml"),
        (["--dataset", "cifar11"], "did you mean 'cifar10'"),
        (["--dataset", "cifar10", "--data-root", "nowhere"], "--download"),
        (["--dataset", "imagefolder:corrupt"], "torn.png"),
        (["--dataset", "imagefolder:lonely"], "has 1 class"),
        (["--dataset", "npz:no.npz"], "no.npz"),
        (["--max-params", "10"], "meets the budget"),
        (["--min-params", "5M", "--max-params", "1M"], "above the upper bound"),
        (["--max-params", "lots"], "not a count"),
        (["--objectives", "params,accuracy"], "accuracy"),
        (["--objectives", "accuracy,speed"], "speed"),
        (["--sampler", "tpee"], "did you mean 'tpe'"),
        (["--baseline", "resnet2O"], "resnet20"),
        (["--trials", "0"], "at least one"),
        (["--epochs", "0"], "epochs"),
        (["--executor", "slurm"], "local"),
        (["--out", "pocket.yaml"], "pocket.yaml"),
        (["--trails", "3"], "--trials"),
        (["--cpus-per-trial", "0"], "--cpus-per-trial 0"),
        (["--workers", "-1"], "--workers -1"),
        (["--gpus-per-trial", "many"], "'many' is neither a number nor auto"),
        (["--gpus-per-trial", "-1"], "--gpus-per-trial -1"),
        (["--batch-size", "0"], "batch_size"),
        (["--device", "cuda:7", "--executor", "local"], "cuda:7"),
        (["--precision", "fp8", "--executor", "local"], "fp8"),
    ],
)
def test_bad_input_is_one_clear_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    from PIL import Image

    for name, count in (("corrupt", 2), ("lonely", 1)):
        for k in range(count):
            folder = home / name / f"class{k}"
            folder.mkdir(parents=True, exist_ok=True)
            for n in range(8):
                Image.new("RGB", (8, 8), (40 * n, 20 * k, 9)).save(folder / f"{n}.png")
    (home / "corrupt" / "class1" / "torn.png").write_bytes((home / "corrupt" / "class1" / "1.png").read_bytes()[:40])
    before = sorted(home.rglob("*"))
    monkeypatch.chdir(home)
    failed = nas_("search", "--trials", 1, "--epochs", 1, *arguments, COLUMNS="120")
    assert failed.exit_code == 2, failed.output
    assert words in failed.stderr
    assert sorted(home.rglob("*")) == before, "bad input must leave nothing behind"


def test_a_search_that_is_killed_in_an_epoch_goes_on_from_the_last(home: Path) -> None:
    """What comes of many kills, and of those of Ray's drivers: test_faults_processes.py."""
    planned = plan(home / "plan", {"1": {"fault": "kill", "epoch": 2, "times": 1}})
    words = ("--space", "pocket.yaml", "--trials", "2", "--epochs", "3", "--executor", "local", "--max-images", "200")
    killed = subprocess.run(
        [sys.executable, str(Path(__file__).parents[1] / "faulty_nas.py"), "search", *words, "--out", "killed"],
        cwd=home, env={**os.environ, **planned}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ended = (home / "killed" / "trials" / "0" / "result.json").read_bytes()
    (trained,) = load_run(home / "killed").trial(1).epochs
    output("resume", home / "killed")
    run = load_run(home / "killed")
    assert run.status == "done" and run.count("complete") == 2
    assert all([epoch.number for epoch in trial.epochs] == [1, 2, 3] for trial in run.complete())
    assert run.trial(1).epochs[0] == trained, "also in what the clock says: it was not trained again"
    assert (home / "killed" / "trials" / "0" / "result.json").read_bytes() == ended
