"""A run folder as a search leaves it, made in a second without training: for the tests of whatever reads runs.

The trials' accuracies are a smooth function of their costs with a little scatter, so that the front has several networks.
Everything passes through `nas.searching.study.Study`, as in a real run.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from nas.execution.job import Job
from nas.networks import zoo
from nas.networks.build import cost_of
from nas.runs.records import TrialResult
from nas.runs.settings import Settings
from nas.runs.settings_formats import FORMAT
from nas.runs.specification import plain
from nas.searching.study import Study
from nas.spaces.sampling import survey
from nas.spaces.space import load_space
from nas.training.recipe import Recipe
from nas.training.records import EPOCHS, Epoch
from nas.utils.files import write_json
from nas.utils.versions import versions

RESOLUTION, CHANNELS, CLASSES, EPOCH_COUNT = 8, 1, 10, 3
FINGERPRINT = "ab" * 32


def make_settings(
    name: str = "made",
    *,
    trials: int = 12,
    space: str = "resnext",
    objectives: tuple[str, ...] = ("accuracy", "params", "macs"),
    max_params: int | None = None,
    baselines: tuple[str, ...] = ("resnet20",),
    sampler: str = "random",
    seed: int = 0,
) -> Settings:
    """Settings of a search on digits."""
    found = load_space(space, resolution=RESOLUTION, channels=CHANNELS, classes=CLASSES)
    largest = survey(found, samples=50).largest
    known = []
    for label in baselines:
        network = zoo.get(label).adapted(classes=CLASSES, resolution=RESOLUTION, channels=CHANNELS).canonical()
        known.append({"name": label, "architecture": network.to_dict()})
    data = dict(  # noqa: C408  # as the fields of `Settings`
        name=name,
        command=f"nas search --space {space} --trials {trials}",
        created="2025-01-01T00:00:00+00:00",
        space={"name": found.name, "variant": found.variant, "text": found.source},
        dataset={
            "name": "digits",
            "source": "Optical recognition of handwritten digits.",
            "root": None,
            "max_images": None,
            "resolution": RESOLUTION,
            "channels": CHANNELS,
            "classes": [str(digit) for digit in range(CLASSES)],
            "fingerprint": FINGERPRINT,
            "train_images": 1150,
            "validation_images": 288,
            "test_images": 359,
        },
        recipe=Recipe.of(EPOCH_COUNT, 32).to_dict(),
        objectives=list(objectives),
        budgets={} if max_params is None else {"params": [None, float(max_params)]},
        reference=[1 / CLASSES, *(float(getattr(largest, objective)) for objective in objectives[1:])],
        sampler=sampler,
        trials=1,
        seed=seed,
        baselines=known,
        executor={"kind": "local", "workers": 1, "cpus_per_trial": 1, "gpus_per_trial": 0, "address": None},
        device="cpu",
        precision="fp32",
        versions=versions(),
        version=FORMAT,
    )
    return dataclasses.replace(Settings.from_dict(data, "made"), trials=trials)


def changed(settings: Settings, **fields: Any) -> Settings:
    """The settings with other entries; of an entry that is a mapping, only what is given is replaced."""
    data = settings.to_dict()
    for name, value in fields.items():
        data[name] = {**data[name], **value} if isinstance(value, dict) else plain(value)
    return Settings.from_dict(data, "changed")


def make_run(
    folder: Path, *, told: int | None = None, fails: tuple[str, ...] = (), running: int = 0, **options: Any
) -> Path:
    """A run in `folder`; the folder.

    told: jobs that ended, baselines among them (default: as many as the run wants). fails: keys of jobs that failed.
    running: jobs that were handed out afterwards and have one epoch behind them. options: those of `make_settings`.
    """
    settings = make_settings(options.pop("name", folder.name), **options)
    folder.mkdir(parents=True, exist_ok=True)
    settings.save(folder)
    ended = 0
    with Study(folder, settings) as study:
        while (told is None or ended < told) and (job := study.ask()) is not None:
            result_of(job, failed=job.key in fails).write(job.folder)
            study.tell(job.key)
            ended += 1
        for _ in range(running):
            started = study.ask()
            if started is not None:
                write_json(started.folder / EPOCHS, [epoch.to_dict() for epoch in epochs_of(started)[:1]])
    return folder


def result_of(job: Job, *, failed: bool = False) -> TrialResult:
    """What a worker would have reported of a job."""
    epochs = epochs_of(job)[: 1 if failed else EPOCH_COUNT]
    return TrialResult(
        job.key,
        job.architecture.digest,
        "failed" if failed else "complete",
        "the training loss became nan in epoch 2" if failed else "",
        accuracy=None if failed else epochs[-1].accuracy,
        seconds=sum(epoch.seconds for epoch in epochs),
        finished=1_735_689_600.0 + 10 * (int(job.key) if job.key.lstrip("-").isdigit() else 0),
        device="cpu",
        precision="fp32",
        epochs=tuple(epochs),
    )


def epochs_of(job: Job) -> list[Epoch]:
    """A learning curve that ends the higher the dearer the network is, by diminishing returns."""
    cost = cost_of(job.architecture)
    scatter = int(job.architecture.digest[:4], 16) / 0xFFFF - 0.5
    final = 1 - 0.6 / (1 + math.log10(cost.params * cost.macs) / 8) + 0.03 * scatter
    epochs = []
    for number in range(1, EPOCH_COUNT + 1):
        share = number / EPOCH_COUNT
        accuracy = round(final * share**0.3 * 288) / 288
        epochs.append(Epoch(number, 2.5 - 2 * share, 2.4 - 2 * share, accuracy, 0.1 * (1 - share), 0.5, 2300.0))
    return epochs
