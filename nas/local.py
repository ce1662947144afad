"""The executor in this process: one trial after another, without Ray. For one GPU, for debugging, where Ray isn't."""

from __future__ import annotations

from collections.abc import Callable

from nas.jobs import TrainingData
from nas.judge import Judge
from nas.progress import Monitor
from nas.study import Study
from nas.work import Bench


def run(study: Study, data: TrainingData, monitor: Monitor, stop: Callable[[], bool], threads: int = 0) -> None:
    """Train what `study` asks for until it is finished, or `stop()` says so: then the trial in hand stays resumable."""
    settings = study.settings
    bench = Bench(
        data,
        settings.training_recipe(),
        device=settings.device,
        precision=settings.precision,
        threads=threads,
        proxy=settings.training_proxy(),
        engines=settings.engine,
    )
    judge = Judge(study.folder, settings)
    while not stop():
        job = study.ask()
        if job is None:
            return
        monitor.started(job)
        epochs = bench.run(job)
        for epoch in epochs:
            monitor.epoch(job, epoch)
            if judge.stops(job, epoch):
                epochs.close()
                break
            if stop() and epoch.number < bench.recipe.epochs:
                study.put_back(job.key)
                return
        result = study.tell(job.key)
        judge.ended(job, result)
        monitor.ended(job, result)
