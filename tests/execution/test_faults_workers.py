"""Faults of workers, made for real in Ray's worker processes: deaths, hangs, exceptions, memory; and what they cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers_cli import output
from helpers_faults import FITS, Faulty, losses, plan
from helpers_search import settings_of, training_data
from reliability import Faults

from nas.execution.ray import tune_driver as workers
from nas.execution.ray.cluster import Resources
from nas.networks.architecture import Architecture
from nas.runs.run import Run, load_run
from nas.searching.progress import Tally
from nas.searching.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("connected")]

EPOCHS = 3
RECIPE = {"epochs": EPOCHS, "batch_size": 16, "learning_rate": 0.05, "warmup_epochs": 0.5}


class Notes(Tally):
    """Keeps what the user is told."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def drive(
    folder: Path, faults: Mapping[str, Mapping[str, Any]], trials: int = 4, limit_seconds: float | None = None
) -> tuple[Run, list[str]]:
    """A search of tiny networks whose workers come upon these faults; what it left, and what was said."""
    plan(folder, faults)
    settings = settings_of(
        trials=trials,
        sampler="random",
        recipe=RECIPE,
        device="cpu",
        executor={"kind": "ray", "workers": 2, "trial_timeout": limit_seconds},
    )
    settings.save(folder)
    with Study(folder, settings) as study:
        notes = Notes(study)
        workers.run(study, training_data(), notes, lambda: False, Resources.resolve(2, 1.0, None), worker=Faulty)
        assert study.finished
    # On a busy machine a worker may be a while in coming, which is said too.
    return load_run(folder), [line for line in notes.said if not line.startswith("waiting for a worker")]


def check(run: Run, trials: int = 4) -> None:
    assert run.status == "done" and run.count("complete") == trials
    assert all([epoch.number for epoch in trial.epochs] == list(range(1, EPOCHS + 1)) for trial in run.complete())
    assert not [path.name for path in run.path.glob("trials/*/*") if path.name not in ("result.json", "config.yaml")]


def test_a_worker_killed_in_mid_epoch(tmp_path: Path, faults: Faults) -> None:
    run, said = drive(tmp_path, {"0": {"fault": "kill", "epoch": 2, "times": 1}})
    check(run)
    assert run.trial(0).attempts == 2
    assert said == ["0: worker died: its process ended; resumes from its last epoch"]
    cost = losses(tmp_path)
    assert (cost.lost, cost.trained_twice, cost.epochs_twice) == (0, 0, 1)
    faults.record(
        "worker killed in mid-epoch",
        made="SIGKILL to itself in its second epoch",
        **cost.counts(),
        then="another worker repeats the interrupted epoch",
    )


def test_what_fails_always_is_reported_and_the_run_goes_on(tmp_path: Path, faults: Faults) -> None:
    run, said = drive(
        tmp_path,
        {
            "0": {"fault": "kill", "epoch": 2, "times": 99},
            "1": {"fault": "exception", "epoch": 2, "times": 99},
            "2": {"fault": "nan", "epoch": 1, "times": 99},
        },
    )
    check(run)
    assert run.count("failed") == 3
    assert [run.trial(number).cause for number in range(3)] == ["worker died", "exception", "diverged"]
    assert [run.trial(number).attempts for number in range(3)] == [3, 1, 1]
    assert "died 3 times" in run.trial(0).reason
    assert run.trial(1).reason == "RuntimeError: a block that can't take its input"
    assert "nan in epoch 1" in run.trial(2).reason
    assert sum("resumes from its last epoch" in text for text in said) == 2  # the retries of trial 0 alone
    for number in range(3):
        config = tmp_path / "trials" / str(number) / "config.yaml"
        assert Architecture.from_yaml(config).digest == run.trial(number).digest
        assert f"trial{number}" in output("profile", config)
    assert "3 failed (1 diverged, 1 exception, 1 worker died; see" in " ".join(output("front", tmp_path).split())
    printed = json.loads(output("front", tmp_path, "--json"))
    assert [(failure["trial"], failure["cause"]) for failure in printed["failures"]] == [
        (0, "worker died"), (1, "exception"), (2, "diverged")
    ]  # fmt: skip
    cost = losses(tmp_path)
    assert (cost.lost, cost.trained_twice, cost.epochs_twice) == (0, 0, 1)
    for fault, made, then in (
        ("worker killed by one trial always", "SIGKILL in its second epoch", "the trial fails after 3 attempts; the run continues"),
        ("exception in a block", "raised in its forward pass", "the trial fails at once, with the exception's message and its config"),
        ("loss that is not a number", "a weight becomes NaN", "the trial fails at once, because it would fail again"),
    ):  # fmt: skip
        twice = cost.epochs_twice if "always" in fault else 0
        faults.record(fault, made=made, lost=cost.lost, trained_twice=0, epochs_twice=twice, then=then)


def test_a_hung_trial_is_ended_wherever_it_hangs(tmp_path: Path, faults: Faults) -> None:
    """Once in code of C that holds the interpreter's lock, and always in a process that was stopped."""
    hangs = {"0": {"fault": "spin", "epoch": 2, "times": 1}, "1": {"fault": "stop", "epoch": 1, "times": 99}}
    run, said = drive(tmp_path, hangs, limit_seconds=30.0)
    check(run)
    assert run.trial(0).attempts == 2 and run.trial(0).state == "complete"
    assert (run.trial(1).state, run.trial(1).cause, run.trial(1).attempts) == ("failed", "time limit", 2)
    assert (
        run.trial(1).reason == "the trial ran into its time limit 2 times; last: not done within --trial-timeout 30 s"
    )
    assert sum("time limit: not done within --trial-timeout 30 s; resumes" in text for text in said) == 2
    cost = losses(tmp_path)
    assert (cost.lost, cost.trained_twice, cost.epochs_twice) == (0, 0, 2)  # one of each of the two
    faults.record(
        "hung trial, --trial-timeout",
        made="two trials: C code that holds the interpreter and ignores SIGTERM; a stopped process, always",
        **cost.counts(),
        then="the worker is killed; the trial is resumed once, then fails; the run continues",
    )


def test_device_memory_that_runs_out(tmp_path: Path, faults: Faults) -> None:
    run, _ = drive(tmp_path, {"0": {"fault": "device memory", "epoch": 2, "times": 99}})
    check(run)
    result = json.loads((tmp_path / "trials" / "0" / "result.json").read_text())
    assert result["micro_batch"] == FITS and run.trial(0).attempts == 1
    cost = losses(tmp_path)
    assert (cost.lost, cost.trained_twice, cost.epochs_twice) == (0, 0, 1)
    faults.record(
        "device out of memory",
        made=f"PyTorch's error raised in a block for more than {FITS} images (no real GPU)",
        **cost.counts(),
        then="the epoch is repeated with half as many images at once, until they fit; the worker survives",
    )
