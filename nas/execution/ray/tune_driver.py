"""The Ray Tune executor: places trials on a cluster's GPUs and CPUs.

Tune only executes. The run folder has the state of the search: candidates, results and open trials (`nas.searching.study`). Tune's own
state is in a temporary folder and is never restored, so nothing is lost with it. On a cluster of several machines, the run folder must
be on a file system that all of them share.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from nas.execution.ray.cluster import Resources  # before Ray, whose environment it sets

# isort: split
import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from nas.data.training_data import TrainingData
from nas.errors import NasError, StartError, WriteError, reason_of
from nas.execution.early_stopping import EarlyStopper
from nas.execution.job import Job, TrainingOptions
from nas.execution.job_queue import JobQueue
from nas.execution.monitor import Monitor
from nas.execution.ray import tune_internals
from nas.execution.ray.capacity_notice import Waiting
from nas.execution.ray.worker_watch import GONE, Watch
from nas.runs.attempts import Cause, killed_for_memory
from nas.runs.records import TrialResult
from nas.training.records import Epoch
from nas.utils import extensions

if TYPE_CHECKING:
    from nas.execution.trial_training import TrialTraining

TuneResult: TypeAlias = dict[str, Any]  # what a trainable reports, with entries of Tune's own

RESTARTS = 5  # of Tune in a row, without a trial that ended or failed
CAPACITY_SECONDS = 2.0  # between two queries of the cluster's size
DONE = "done"  # the key with which a trainable tells Tune that its trial has ended


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Raise StartError, with a message of one line, for any exception: a module, a block or a device is missing where the worker runs.

    A CUDA error is raised as it is: it concerns the process's CUDA context, and another process may work.
    """
    try:
        yield
    except Exception as error:
        if "CUDA error" in str(error):
            raise
        message = " ".join(str(error).split())
        reason = message if isinstance(error, NasError) else f"{type(error).__name__}: {message}"
        raise StartError(f"a worker on {platform.node()} can't begin: {reason}") from error


class Worker(tune.Trainable):
    """A worker process that keeps the data and the device between trials; each step trains one epoch."""

    def setup(
        self, config: dict[str, object], data: TrainingData | None = None, options: TrainingOptions | None = None
    ) -> None:
        assert data is not None and options is not None
        self._data, self._options = data, options
        self._training: TrialTraining | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, object]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, object]) -> None:
        self._config = config
        self._job: Job | None = None
        self._epochs: Iterator[Epoch] | None = None

    @property
    def job(self) -> Job:
        """The job, read in the first step: of an earlier exception Tune reports only that the worker ended."""
        if self._job is None:
            with starting():
                extensions.take(self._options.modules)
                self._job = Job.from_dict(self._config)
        return self._job

    @property
    def training(self) -> TrialTraining:
        """Made in the first step, so that the time limit of the trial covers a device that hangs."""
        if self._training is None:
            with starting():
                from nas.execution.trial_training import TrialTraining

                self._training = TrialTraining.of(self._data, self._options)
        return self._training

    @property
    def epochs(self) -> Iterator[Epoch]:
        if self._epochs is None:
            self._epochs = self.training.run(self.job)
        return self._epochs

    def where(self) -> tuple[str, int]:
        """Node and process number."""
        return ray.get_runtime_context().get_node_id(), os.getpid()

    def step(self) -> dict[str, object]:
        try:
            epoch = next(self.epochs, None)
            ended = epoch is None or epoch.number == self.training.recipe.epochs
            if epoch is not None and ended:
                next(self.epochs, None)  # writes the result
        except WriteError as error:  # not the trial's fault: it stays open, and the driver ends
            return {**Report(None, str(error)).to_result(), DONE: True}
        return {**Report(epoch).to_result(), DONE: ended}


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's report of a step: the epoch that it trained, if any, and the error if the trial's folder can't be written to."""

    epoch: Epoch | None
    unwritable: str = ""

    def to_result(self) -> dict[str, object]:
        epoch = "" if self.epoch is None else json.dumps(self.epoch.to_dict())  # as text: Tune flattens nested results
        return {"epoch": epoch, "unwritable": self.unwritable}

    @classmethod
    def of(cls, result: TuneResult) -> Self:
        """From a result as Tune passes it on, which has keys of Tune's, too."""
        epoch = Epoch.from_dict(json.loads(result["epoch"])) if result.get("epoch") else None
        return cls(epoch, result.get("unwritable", ""))


class Driver(Searcher):
    """Tune's searcher: takes candidates from the study and records the ends of Tune's trials in it."""

    def __init__(
        self,
        study: JobQueue,
        monitor: Monitor,
        stop: Callable[[], bool],
        resources: Resources,
        stopper: EarlyStopper,
        watch: Watch,
    ) -> None:
        super().__init__(metric="accuracy", mode="max")
        self.study, self.monitor, self.stop, self.resources = study, monitor, stop, resources
        self.stopper, self.watch = stopper, watch
        self.jobs: dict[str, Job] = {}  # by Tune's trial id
        self.failure: BaseException | None = None
        self.ended = 0
        self.blamed = 0  # attempts that ended without a result and count as failed
        self._slots = (0.0, 0)

    def ending(self) -> bool:
        """Whether running trials should stop after their epoch, because the user asks for it or the driver has failed."""
        return self.failure is not None or self.stop()

    def suggest(self, trial_id: str) -> Any:
        """A job; None to ask again later; or FINISHED, after which Tune never asks again."""
        if self.ending():
            return None if self.jobs else str(Searcher.FINISHED)
        if len(self.jobs) >= self._capacity():
            return None
        try:
            job = self.study.ask(self._end)
        except Exception as error:  # raised again after `fit()`, since Tune would lose its type
            self.failure = error
            return None if self.jobs else str(Searcher.FINISHED)
        if job is None:
            return None if self.jobs else str(Searcher.FINISHED)
        self.jobs[trial_id] = job
        self.monitor.started(job)
        return job.to_dict()

    def on_trial_result(self, trial_id: str, result: TuneResult) -> None:
        if trial_id in self.jobs:
            self._show(self.jobs[trial_id], Report.of(result))

    def on_trial_complete(self, trial_id: str, result: TuneResult | None = None, error: bool = False) -> None:
        job = self.jobs.pop(trial_id, None)
        if job is None:
            return
        try:
            self._close(job, trial_id, None if result is None else Report.of(result), error)
        except Exception as problem:
            self.failure = problem

    def _close(self, job: Job, trial_id: str, report: Report | None, error: bool) -> None:
        if report is not None and not error:
            self._show(job, report)  # Tune passes the last result to this method only
        if self.study.ended(job.key):
            self._end(job, self.study.tell(job.key))
        elif report is not None and report.unwritable:
            self.study.put_back(job.key)
            raise WriteError(report.unwritable)
        elif self.ending() or not error:
            self.study.put_back(job.key)
        elif self.watch.unstarted:
            self.study.put_back(job.key)
            raise NasError(
                f"{self.watch.unstarted}. Everything so far is kept; correct this and continue with: {self.study.again}"
            )
        else:
            self.blame(job, *self.watch.end(trial_id))

    def blame(self, job: Job, cause: Cause, last: str) -> None:
        """After an attempt without a result: try the trial again or give it up. last: the reason of the attempt's end."""
        self.blamed += 1
        if self.study.retry(job.key, last, cause):
            self.monitor.note(f"{job.key}: {cause}: {last}; resumes from its last epoch")
        else:
            result = job.result
            assert result is not None, "written by the queue, which gave the job up"
            self._end(job, result)

    def _end(self, job: Job, result: TrialResult) -> None:
        self.ended += 1
        self.stopper.ended(job, result)
        self.monitor.ended(job, result)

    def _show(self, job: Job, report: Report) -> None:
        if report.epoch is not None:
            self.monitor.epoch(job, report.epoch)

    def _capacity(self) -> int:
        """The number of trials at once, queried every `CAPACITY_SECONDS`, since nodes join and leave."""
        now = time.monotonic()
        if now - self._slots[0] > CAPACITY_SECONDS:
            self._slots = (now, max(self.resources.slots(), 1))
        return self._slots[1]

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune pickles its searcher at times; the run folder has the state

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


class Stopper(FIFOScheduler):
    """Tune's scheduler: stops the trials that early stopping ends, and all trials after their current epochs once the user asks.

    The worker continues only after the answer. Tune counts epochs from 1 again when a trial resumes, so the number in the epoch's
    record is used instead.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver
        self._memory = tune_internals.Memory()
        self._waiting = Waiting(driver.monitor.note, driver.resources.cpus, driver.resources.gpus)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: TuneResult) -> str:
        driver = self._driver
        job = driver.jobs.get(trial.trial_id)
        try:
            epoch = Report.of(result).epoch
            stops = job is not None and epoch is not None and driver.stopper.stops(job, epoch)
        except Exception as error:  # raised again after `fit()`, since Tune would lose its type; the trial stays open
            driver.failure = error
            stops = True
        return str(TrialScheduler.STOP if stops or driver.ending() else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._driver.watch.failed(trial)
        self._memory.ended(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: TuneResult) -> None:
        self._memory.ended(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first waiting trial; no trial is ever paused here. Tune's own method walks through all trials of the search.

        Tune calls this in each of its steps, so a search that ends drops its waiting trials here.
        """
        if self._driver.ending():
            tune_internals.drop_waiting(tune_controller)
            return None
        self._waiting.look(tune_internals.waits(tune_controller))
        waiting = tune_internals.waiting_trials(tune_controller)
        if waiting is None:
            return super().choose_trial_to_run(tune_controller)
        return min(waiting, key=lambda trial: trial.trial_id, default=None)

    def __getstate__(self) -> dict[str, object]:
        return {}


def run(
    study: JobQueue,
    data: TrainingData,
    monitor: Monitor,
    stop: Callable[[], bool],
    resources: Resources,
    worker: type[Worker] = Worker,
) -> None:
    """Train the jobs of `study` until it is finished or `stop()` is true. Ray must be started (`nas.execution.ray.cluster.start`).

    If a worker dies, or Tune ends because of it, it is started again; a candidate whose workers always die ends as failed.
    NasError if Tune ends `RESTARTS` times in a row without progress.
    """
    settings = study.settings
    if timeout := settings.executor.trial_timeout:
        tune_internals.check_actors()
    options = TrainingOptions.of(settings, max(1, int(resources.cpus)), extensions.pass_on(settings.imports))
    trainable = tune.with_resources(
        tune.with_parameters(worker, data=data, options=options), {"CPU": resources.cpus, "GPU": resources.gpus}
    )
    idle, stopper = 0, EarlyStopper(study.folder, settings, study.url, study.clock)
    while not (stop() or study.finished):
        watch = Watch(timeout)
        driver = Driver(study, monitor, stop, resources, stopper, watch)
        problem = _fit(trainable, driver, Stopper(driver), watch)
        for trial_id in watch.of_processes(killed_for_memory(problem)):  # Tune ends altogether after such a kill
            if trial_id in driver.jobs:
                driver.blame(driver.jobs.pop(trial_id), Cause.MEMORY, GONE[Cause.MEMORY])
        for job in driver.jobs.values():
            study.put_back(job.key)  # Tune ended while they ran, which is not their fault
        if driver.failure is not None:
            raise driver.failure
        idle = 0 if driver.ended or driver.blamed else idle + 1
        if idle >= RESTARTS:
            reason = reason_of(problem, first_line=True)
            raise NasError(f"Ray Tune ended {idle} times without finishing a trial: {reason}")


def _fit(trainable: Any, driver: Driver, scheduler: Stopper, watch: Watch) -> str:
    """Run one `Tuner.fit()`; the whole message of Ray if it failed, else ""."""
    folder = tempfile.mkdtemp(prefix="nas-tune-")
    try:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(search_alg=driver, scheduler=scheduler, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name="run",
                storage_path=folder,
                verbose=0,
                callbacks=[watch],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        tuner.fit()
    except Exception as error:
        return str(error) or type(error).__name__
    finally:
        shutil.rmtree(Path(folder), ignore_errors=True)
    return ""
