"""The executor in this process: one trial after another, without Ray. For one GPU, for debugging, where Ray isn't."""

from __future__ import annotations

from collections.abc import Callable

from nas.data.training_data import TrainingData
from nas.errors import WriteError
from nas.execution.early_stopping import EarlyStopper
from nas.execution.job import Job
from nas.execution.job_queue import JobQueue
from nas.execution.monitor import Monitor
from nas.execution.trial_training import TrialTraining
from nas.execution.watchdog import Watch
from nas.runs.records import TrialResult


def run(study: JobQueue, data: TrainingData, monitor: Monitor, stop: Callable[[], bool], threads: int = 0) -> None:
    """Train what `study` asks for until it is finished, or `stop()` says so: then the trial in hand stays resumable."""
    settings = study.settings
    bench = TrialTraining(
        data,
        settings.training_recipe(),
        device=settings.device,
        precision=settings.precision,
        threads=threads,
        proxy=settings.training_proxy(),
        engines=settings.engine,
        gradient_steps=settings.gradient_steps,
    )
    judge = EarlyStopper(study.folder, settings, study.url, study.clock)

    def told(job: Job, result: TrialResult) -> None:
        judge.ended(job, result)
        monitor.ended(job, result)

    while not stop():
        job = study.ask(told)
        if job is None:
            return
        monitor.started(job)
        try:
            with Watch(job, settings.executor.get("trial_timeout"), study.again):
                ended = _train(bench, job, monitor, stop, judge)
        except (KeyboardInterrupt, WriteError):
            # No fault of the trial, while another exception, which ends this process, may be one: see `nas.execution.fencing`.
            study.put_back(job.key)
            raise
        if not ended:
            study.put_back(job.key)
            return
        told(job, study.tell(job.key))


def _train(bench: TrialTraining, job: Job, monitor: Monitor, stop: Callable[[], bool], judge: EarlyStopper) -> bool:
    """One attempt; whether it came to its end."""
    epochs = bench.run(job)
    for epoch in epochs:
        monitor.epoch(job, epoch)
        if judge.stops(job, epoch):
            epochs.close()
            break
        if stop() and epoch.number < bench.recipe.epochs:
            return False
    return True
