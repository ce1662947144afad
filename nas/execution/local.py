"""The executor in this process: one trial after another, without Ray. For one GPU, for debugging, or where Ray is missing."""

from __future__ import annotations

from collections.abc import Callable

from nas.data.training_data import TrainingData
from nas.errors import WriteError
from nas.execution.early_stopping import EarlyStopper
from nas.execution.job import Job, TrainingOptions
from nas.execution.job_queue import JobQueue
from nas.execution.monitor import Monitor
from nas.execution.trial_training import TrialTraining
from nas.execution.watchdog import Watch
from nas.runs.records import TrialResult


def run(study: JobQueue, data: TrainingData, monitor: Monitor, stop: Callable[[], bool], threads: int = 0) -> None:
    """Train the jobs of `study` until it is finished or `stop()` is true; the current trial then stays resumable."""
    settings = study.settings
    training = TrialTraining.of(data, TrainingOptions.of(settings, threads))
    stopper = EarlyStopper(study.folder, settings, study.url, study.clock)

    def report(job: Job, result: TrialResult) -> None:
        stopper.ended(job, result)
        monitor.ended(job, result)

    while not stop():
        job = study.ask(report)
        if job is None:
            return
        monitor.started(job)
        try:
            with Watch(job, settings.executor.trial_timeout, study.again):
                ended = _train(training, job, monitor, stop, stopper)
        except (KeyboardInterrupt, WriteError):
            # Not counted as a failed attempt. Any other exception ends this process and is: see `nas.execution.fencing`.
            study.put_back(job.key)
            raise
        if not ended:
            study.put_back(job.key)
            return
        report(job, study.tell(job.key))


def _train(
    training: TrialTraining, job: Job, monitor: Monitor, stop: Callable[[], bool], stopper: EarlyStopper
) -> bool:
    """Make one attempt at a job; whether the trial ended."""
    epochs = training.run(job)
    for epoch in epochs:
        monitor.epoch(job, epoch)
        if stopper.stops(job, epoch):
            epochs.close()
            break
        if stop() and epoch.number < training.recipe.epochs:
            return False
    return True
