"""One small trial that is trained for real: its bench, its job, and what became of its epochs."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_search import CLASSES, CONDITIONAL, space_of, training_data

from nas.execution.job import Job
from nas.execution.trial_training import TrialTraining
from nas.training.recipe import Recipe
from nas.training.records import Epoch
from nas.training.trainer import Training

RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.05, warmup_epochs=0.5)
SPACE = space_of(CONDITIONAL, classes=CLASSES)
CHOICES = SPACE.sample(1)


def bench(**options) -> TrialTraining:
    return TrialTraining(
        training_data(), options.pop("recipe", RECIPE), **{"device": "cpu", "precision": "fp32", **options}
    )


def job(folder: Path, seed: int = 0, choices=CHOICES) -> Job:
    return Job("7", folder, SPACE.architecture(choices), seed)


def timeless(epochs) -> list[tuple]:
    """Records without what the clock says."""
    records = [epoch if isinstance(epoch, dict) else epoch.to_dict() for epoch in epochs]
    return [tuple(value for key, value in record.items() if "second" not in key) for record in records]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory, one_thread) -> list[tuple]:
    """The records of the trial when nothing happens to it."""
    return timeless(bench().run(job(tmp_path_factory.mktemp("whole"))))


@pytest.fixture
def trained(monkeypatch) -> list[int]:
    """Numbers of the epochs that were trained, in order, whether or not they were saved."""
    numbers = []
    epoch = Training.epoch

    def counted(self) -> Epoch:
        numbers.append(self.done + 1)
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", counted)
    return numbers


def stopped(folder: Path, after: int) -> None:
    """A trial whose process went away behind so many epochs."""
    epochs = bench().run(job(folder))
    for _ in range(after):
        next(epochs)
    epochs.close()
