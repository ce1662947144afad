"""A search without training whose executor asks the early stopper after each epoch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from make_run import epochs_of, make_settings, result_of

from nas.execution.early_stopping import EarlyStopper
from nas.execution.job import Job
from nas.runs.settings import Settings
from nas.searching.study import Study
from nas.stopping.policies import Policy
from nas.training.records import CHECKPOINT, EPOCHS
from nas.utils.files import write_json

WHOLE = 3  # epochs of `make_run`


def settings_with(stopping: str, **options: object) -> Settings:
    made = make_settings(**{"baselines": (), **options})  # type: ignore[arg-type]
    return dataclasses.replace(made, stopping=Policy.parse(stopping))


def train(study: Study, judge: EarlyStopper, job: Job, most: int = WHOLE) -> list[int]:
    """What an executor does with a job, by the curves of `make_run`; the epochs that it reported."""
    reported = []
    for epoch in epochs_of(job)[:most]:
        write_json(job.folder / EPOCHS, [own.to_dict() for own in epochs_of(job)[: epoch.number]])
        (job.folder / CHECKPOINT).touch()
        reported.append(epoch.number)
        if epoch.number < WHOLE and judge.stops(job, epoch):
            break
    else:
        if most < WHOLE:
            return reported
        result_of(job).write(job.folder)
    judge.ended(job, study.tell(job.key))
    return reported


def searched(folder: Path, stopping: str = "asha:eta=3", most: int = 1000, **options: object) -> EarlyStopper:
    settings = settings_with(stopping, **options)
    folder.mkdir(parents=True, exist_ok=True)
    settings.save(folder)
    with Study(folder, settings) as study:
        judge = EarlyStopper(folder, settings)
        for _ in range(most):
            job = study.ask()
            if job is None:
                break
            train(study, judge, job)
        return judge
