"""The Ray Tune executor: places trials on a cluster's GPUs and CPUs. Of ours, `nas.execution.ray.cluster`, `nas.execution.ray.worker_watch`
and `nas.execution.ray.authentication` import Ray too.

Tune only executes. What is tried, what became of it and what is still open stands in the run folder (`nas.searching.study`), so that
nothing is lost with Tune's own state, which is kept in a temporary folder and never restored. On a cluster of several
machines the run folder must lie on a file system that all of them see.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.execution.ray.cluster import Resources  # before Ray, for which it sets the environment

# isort: split
import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from nas.data.training_data import TrainingData
from nas.errors import NasError, StartError, WriteError, reason_of
from nas.execution.early_stopping import EarlyStopper
from nas.execution.job import Job
from nas.execution.job_queue import JobQueue
from nas.execution.monitor import Monitor
from nas.execution.ray.capacity_notice import Waiting
from nas.execution.ray.tune_internals import Memory, drop_waiting, waits
from nas.execution.ray.worker_watch import GONE, Watch
from nas.runs.attempts import Cause, killed_for_memory
from nas.runs.records import TrialResult
from nas.training.records import Epoch
from nas.utils import extensions

if TYPE_CHECKING:
    from nas.execution.trial_training import TrialTraining

RESTARTS = 5  # of Tune itself, in a row, for which no trial is to blame and in which none ended
CAPACITY_SECONDS = 2.0  # how long the cluster's size is believed


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """StartError, in one line, for whatever keeps a worker from beginning: a module, a block, a device that is not where it runs.

    Only a lost CUDA context is the process's own: another one may have a better one.
    """
    try:
        yield
    except Exception as error:
        if "CUDA error" in str(error):
            raise
        words = " ".join(str(error).split())
        what = words if isinstance(error, NasError) else f"{type(error).__name__}: {words}"
        raise StartError(f"a worker on {platform.node()} can't begin: {what}") from error


class Worker(tune.Trainable):
    """A warm worker: keeps the data and the device between trials, trains one epoch a step."""

    def setup(
        self, config: dict[str, Any], data: TrainingData | None = None, options: dict[str, Any] | None = None
    ) -> None:
        assert data is not None and options is not None
        self._data, self._options = data, {name: value for name, value in options.items() if name != "modules"}
        self._modules = options["modules"]
        self._bench: TrialTraining | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = config
        self._job: Job | None = None
        self._epochs: Iterator[Epoch] | None = None

    @property
    def job(self) -> Job:
        """Read in the first step: of what is raised before, Tune says no more than that the worker ended."""
        if self._job is None:
            with starting():
                extensions.take(self._modules)
                self._job = Job.from_dict(self._config)
        return self._job

    @property
    def bench(self) -> TrialTraining:
        """Made in the first step, where a device that hangs is noticed as a trial that does."""
        if self._bench is None:
            with starting():
                from nas.execution.trial_training import TrialTraining

                self._bench = TrialTraining(self._data, **self._options)
        return self._bench

    @property
    def epochs(self) -> Iterator[Epoch]:
        if self._epochs is None:
            self._epochs = self.bench.run(self.job)
        return self._epochs

    def where(self) -> tuple[str, int]:
        """The node and the process."""
        return ray.get_runtime_context().get_node_id(), os.getpid()

    def step(self) -> dict[str, Any]:
        try:
            epoch = next(self.epochs, None)
            if epoch is not None and epoch.number == self.bench.recipe.epochs:
                next(self.epochs, None)  # writes the result
        except WriteError as error:  # no fault of the trial, which stays open: the driver ends for it
            return {"epoch": "", "unwritable": str(error), tune.result.DONE: True}
        ended = epoch is None or epoch.number == self.bench.recipe.epochs
        # As text, since Tune flattens nested results.
        return {"epoch": "" if epoch is None else json.dumps(epoch.to_dict()), tune.result.DONE: ended}


class Driver(Searcher):
    """Tune's searcher: asks the study for candidates and tells it what Tune's trials became."""

    def __init__(
        self,
        study: JobQueue,
        monitor: Monitor,
        stop: Callable[[], bool],
        resources: Resources,
        judge: EarlyStopper,
        watch: Watch,
    ) -> None:
        super().__init__(metric="accuracy", mode="max")
        self.study, self.monitor, self.stop, self.resources = study, monitor, stop, resources
        self.judge, self.watch = judge, watch
        self.jobs: dict[str, Job] = {}  # by Tune's trial id
        self.failure: BaseException | None = None
        self.ended = 0
        self.blamed = 0  # attempts that ended without a result, for a cause that counts against their trial
        self._slots = (0.0, 0)

    def ending(self) -> bool:
        """Whether what is in flight should stop behind its epoch: the user says so, or the driver can't go on."""
        return self.failure is not None or self.stop()

    def suggest(self, trial_id: str) -> Any:
        """A job, None while there is nothing to do but wait, or FINISHED (which Tune takes as final)."""
        if self.ending():
            return None if self.jobs else str(Searcher.FINISHED)
        if len(self.jobs) >= self._capacity():
            return None
        try:
            job = self.study.ask(self._told)
        except Exception as error:  # Tune would swallow its type: it is raised again behind fit()
            self.failure = error
            return None if self.jobs else str(Searcher.FINISHED)
        if job is None:
            return None if self.jobs else str(Searcher.FINISHED)
        self.jobs[trial_id] = job
        self.monitor.started(job)
        return job.to_dict()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id in self.jobs:
            self._show(self.jobs[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        job = self.jobs.pop(trial_id, None)
        if job is None:
            return
        try:
            self._close(job, trial_id, result, error)
        except Exception as problem:
            self.failure = problem

    def _close(self, job: Job, trial_id: str, result: Mapping[str, Any] | None, error: bool) -> None:
        if result is not None and not error:
            self._show(job, result)  # Tune gives the last result here only
        if self.study.ended(job.key):
            self._told(job, self.study.tell(job.key))
        elif result is not None and result.get("unwritable"):
            self.study.put_back(job.key)
            raise WriteError(result["unwritable"])
        elif self.ending() or not error:
            self.study.put_back(job.key)
        elif self.watch.unstarted:
            self.study.put_back(job.key)
            raise NasError(
                f"{self.watch.unstarted}. Everything so far is kept; mend it and go on with: {self.study.again}"
            )
        else:
            self.blame(job, *self.watch.end(trial_id))

    def blame(self, job: Job, cause: Cause, last: str) -> None:
        """An attempt ended without a result: the trial is tried again, or given up."""
        self.blamed += 1
        if self.study.retry(job.key, last, cause):
            self.monitor.note(f"{job.key}: {cause}: {last}; goes on from its last epoch")
        else:
            result = job.result
            assert result is not None, "written by the queue, which gave the job up"
            self._told(job, result)

    def _told(self, job: Job, result: TrialResult) -> None:
        self.ended += 1
        self.judge.ended(job, result)
        self.monitor.ended(job, result)

    def _show(self, job: Job, result: Mapping[str, Any]) -> None:
        if result.get("epoch"):
            self.monitor.epoch(job, _epoch(result))

    def _capacity(self) -> int:
        """How many run at once; asked anew now and then, since nodes join and leave."""
        now = time.monotonic()
        if now - self._slots[0] > CAPACITY_SECONDS:
            self._slots = (now, max(self.resources.slots(), 1))
        return self._slots[1]

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher now and then; the truth is in the run folder

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


class Stopper(FIFOScheduler):
    """Stops a trial that the judge gives no chance or no time, and all behind their current epoch once the user asks for it.

    Tune waits for the answer before the worker goes on, and counts epochs from 1 whenever a trial is resumed: the judge goes by
    the epoch's own number.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver
        self._memory = Memory()
        self._waiting = Waiting(driver.monitor.note, driver.resources.cpus, driver.resources.gpus)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        driver = self._driver
        job = driver.jobs.get(trial.trial_id)
        try:
            judged = job is not None and bool(result.get("epoch")) and driver.judge.stops(job, _epoch(result))
        except (
            Exception
        ) as error:  # raised again behind fit(), whose reason it would be otherwise; the trial stays open
            driver.failure = error
            judged = True
        return str(TrialScheduler.STOP if judged or driver.ending() else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._driver.watch.failed(trial)
        self._memory.ended(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._memory.ended(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first trial that waits. Tune's own looks through all that there ever were; here none is ever paused.

        Tune asks in each of its steps: what waits for a worker is let go here when the search is to end.
        """
        if self._driver.ending():
            drop_waiting(tune_controller)
            return None
        self._waiting.look(waits(tune_controller))
        waiting = (trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING)
        return min(waiting, key=lambda trial: trial.trial_id, default=None)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def run(
    study: JobQueue,
    data: TrainingData,
    monitor: Monitor,
    stop: Callable[[], bool],
    resources: Resources,
    worker: type[Worker] = Worker,
) -> None:
    """Train what `study` asks for until it is finished or `stop()` says so. Ray must be started (`start`).

    A worker that dies, and a Tune that gives up with it, are started again; a candidate that always takes its worker down
    ends as failed. NasError if Tune can't be kept going at all.
    """
    settings = study.settings
    options = {
        "recipe": settings.training_recipe(),
        "device": settings.device,
        "precision": settings.precision,
        "threads": max(1, int(resources.cpus)),
        "proxy": settings.training_proxy(),
        "engines": settings.engine,
        "gradient_steps": settings.gradient_steps,
        "modules": extensions.pass_on(settings.imports),
    }
    trainable = tune.with_resources(
        tune.with_parameters(worker, data=data, options=options), {"CPU": resources.cpus, "GPU": resources.gpus}
    )
    idle, judge = 0, EarlyStopper(study.folder, settings, study.url, study.clock)
    while not (stop() or study.finished):
        watch = Watch(settings.executor.get("trial_timeout"))
        driver = Driver(study, monitor, stop, resources, judge, watch)
        problem = _fit(trainable, driver, Stopper(driver), watch)
        for trial_id in watch.of_processes(killed_for_memory(problem)):
            if trial_id in driver.jobs:  # which Tune takes for an end of everything
                driver.blame(driver.jobs.pop(trial_id), Cause.MEMORY, GONE[Cause.MEMORY])
        for job in driver.jobs.values():
            study.put_back(job.key)  # Tune gave up while they ran; nothing is known against them
        if driver.failure is not None:
            raise driver.failure
        idle = 0 if driver.ended or driver.blamed else idle + 1
        if idle >= RESTARTS:
            why = reason_of(problem, first_line=True)
            raise NasError(f"Ray Tune ended {idle} times without finishing a trial: {why}")


def _epoch(result: Mapping[str, Any]) -> Epoch:
    """The record of an epoch that a worker has reported."""
    return Epoch.from_dict(json.loads(result["epoch"]))


def _fit(trainable: Any, driver: Driver, scheduler: Stopper, watch: Watch) -> str:
    """One `Tuner.fit()`; the reason if it broke off, with all that Ray says of it."""
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
