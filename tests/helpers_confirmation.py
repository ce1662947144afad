"""A run that is confirmed by results that are drawn, not trained."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from make_run import make_run, result_of

from nas.execution.job import Job
from nas.runs.settings import Settings
from nas.searching.confirmation import Confirmation

Luck = Callable[[Job], float]


def luck(job: Job) -> float:
    """By which a seed's accuracy differs from the search's: some lower, as after a choice."""
    return (int(job.architecture.digest[:2], 16) % 7 - 5 + job.seed % 3) / 288


def leave(job: Job, by: Luck = luck) -> None:
    """The result that a worker would leave."""
    result = result_of(dataclasses.replace(job, key="0"))
    last = dataclasses.replace(result.epochs[-1], accuracy=result.epochs[-1].accuracy + by(job))
    epochs = (*result.epochs[:-1], last)
    dataclasses.replace(result, key=job.key, accuracy=last.accuracy, epochs=epochs).write(job.folder)


def confirm(folder: Path, seeds: int = 3, within: float = 0.0, most: int = 1000, by: Luck = luck) -> list[Job]:
    """As `nas confirm`, with made-up trainings; the jobs."""
    jobs: list[Job] = []
    with Confirmation(folder, Settings.load(folder), seeds, within) as confirmation:
        while len(jobs) < most and (job := confirmation.ask()) is not None:
            jobs.append(job)
            leave(job, by)
            confirmation.tell(job.key)
    return jobs


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run", trials=16)


@pytest.fixture
def run(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture(scope="module")
def confirmed(made, tmp_path_factory) -> Path:
    folder = shutil.copytree(made, tmp_path_factory.mktemp("confirmed") / "run")
    confirm(folder)
    return folder
