"""The Ray Tune executor: places trials on a cluster's GPUs and CPUs. The only file that imports Ray.

Tune only executes. What is tried, what became of it and what is still open stands in the run folder (`nas.study`), so that
nothing is lost with Tune's own state, which is kept in a temporary folder and never restored. On a cluster of several
machines the run folder must lie on a file system that all of them see.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from nas.errors import NasError, UsageError, WriteError
from nas.files import read_json
from nas.jobs import Job, TrainingData
from nas.packing import Packing, Question
from nas.progress import Monitor
from nas.records import Epoch
from nas.study import Study

if TYPE_CHECKING:
    from nas.settings import Settings
    from nas.work import Bench

# No callbacks, no log files, no warnings about them: 0.05 s a trial instead of 4 s (see benchmarks/).
ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
PACKING_SECONDS = 600.0  # until the probe of how many trials share a GPU is given up
RESTARTS = 5  # of Tune itself, in a row, without a trial that ended in between
CAPACITY_SECONDS = 2.0  # how long the cluster's size is believed


@dataclass(frozen=True, slots=True)
class Resources:
    """What each trial takes, and at most how many run at once (0: as many as fit)."""

    cpus: float = 1.0
    gpus: float = 0.0
    workers: int = 0

    @classmethod
    def resolve(cls, workers: int, cpus: float | None, gpus: float | None) -> Resources:
        """Fill in from the cluster: a GPU each where there are GPUs; cores shared evenly between as many as fit.

        How many trials share a GPU is not decided here, but by `packed`.

        UsageError if not even one trial fits.
        """
        total = ray.cluster_resources()
        have_gpus, have_cpus = total.get("GPU", 0.0), total.get("CPU", 1.0)
        gpus = (1.0 if have_gpus else 0.0) if gpus is None else gpus
        if gpus > have_gpus:
            raise UsageError(f"--gpus-per-trial {gpus:g}: the cluster has {have_gpus:g} GPUs")
        if cpus is None:
            slots = workers or (int(have_gpus / gpus) if gpus else int(have_cpus))
            cpus = max(1.0, float(int(have_cpus / max(slots, 1))))
        if cpus > have_cpus:
            raise UsageError(f"--cpus-per-trial {cpus:g}: the cluster has {have_cpus:g} cores")
        if workers and workers > cls(cpus, gpus).slots():
            raise UsageError(
                f"--workers {workers}: with {cpus:g} cores and {gpus:g} GPUs a trial, only {cls(cpus, gpus).slots()} fit on this cluster; "
                "lower --cpus-per-trial or --gpus-per-trial"
            )
        return cls(cpus, gpus, workers)

    def slots(self) -> int:
        """How many trials fit on the cluster as it is now."""
        total = ray.cluster_resources()
        fit = int(total.get("CPU", 1.0) / self.cpus)
        if self.gpus:
            # Shares of one GPU pack only within it: 0.3 goes three times onto each.
            whole = total.get("GPU", 0.0)
            fit = min(fit, int(whole / self.gpus) if self.gpus >= 1 else int(whole) * int(1 / self.gpus + 1e-9))
        return min(fit, self.workers) if self.workers else fit


class Worker(tune.Trainable):
    """A warm worker: keeps the data and the device between trials, trains one epoch a step."""

    def setup(
        self, config: dict[str, Any], data: TrainingData | None = None, options: dict[str, Any] | None = None
    ) -> None:
        from nas.work import Bench

        assert data is not None and options is not None
        self.bench: Bench = Bench(data, **options)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self.job = Job.from_dict(config)
        self.epochs: Iterator[Epoch] = self.bench.run(self.job)

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

    def __init__(self, study: Study, monitor: Monitor, stop: Callable[[], bool], resources: Resources) -> None:
        super().__init__(metric="accuracy", mode="max")
        self.study, self.monitor, self.stop, self.resources = study, monitor, stop, resources
        self.jobs: dict[str, Job] = {}  # by Tune's trial id
        self.failure: BaseException | None = None
        self.ended = 0
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
            job = self.study.ask()
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
            self._close(job, result, error)
        except Exception as problem:
            self.failure = problem

    def _close(self, job: Job, result: Mapping[str, Any] | None, error: bool) -> None:
        if result is not None and not error:
            self._show(job, result)  # Tune gives the last result here only
        if self.study.ended(job.key):
            self.ended += 1
            self.monitor.ended(job, self.study.tell(job.key))
        elif result is not None and result.get("unwritable"):
            self.study.put_back(job.key)
            raise WriteError(result["unwritable"])
        elif self.ending() or not error:
            self.study.put_back(job.key)
        elif self.study.retry(job.key, "its process ended"):
            self.monitor.note(f"{job.key}: the worker died; goes on from its last epoch on another one")
        else:
            self.ended += 1
            self.monitor.ended(job, read_json(job.result_path))

    def _show(self, job: Job, result: Mapping[str, Any]) -> None:
        if result.get("epoch"):
            self.monitor.epoch(job, Epoch.from_dict(json.loads(result["epoch"])))

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
    """Lets trials run to their end, or all stop behind their current epoch once the user asks for it."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        super().__init__()
        self._stop = stop

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return str(TrialScheduler.STOP if self._stop() else TrialScheduler.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def start(address: str | None) -> bool:
    """Connect to the cluster at `address` (or `auto`), or start Ray on this machine. UsageError if nobody answers.

    Whether it did so: False if this process was connected already. Who started it ends it, with `shutdown`.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in ENVIRONMENT.items()})
    if ray.is_initialized():
        return False
    common: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": True}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a worker's death is said by us, in a line
    if address:
        try:
            ray.init(address=address, **common)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"--address {address}: no Ray cluster answers there: {str(error).splitlines()[0]}"
            ) from None
        return True
    mask = os.umask(0o077)  # Ray writes its token readable for everybody otherwise
    try:
        # "local": without it, Ray would join whatever cluster runs on this machine.
        ray.init(
            "local", include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=_store_bytes(), **common
        )
    finally:
        os.umask(mask)
    return True


def shutdown() -> None:
    """Disconnect, which ends the workers of this driver; a Ray that was started here ends with it."""
    ray.shutdown()


def _store_bytes() -> int:
    """Room for shared images: a fifth of the shared memory that is free, between 256 MiB and 32 GiB."""
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        free = 1 << 30
    return int(min(max(free // 5, 1 << 28), 1 << 35))


def run(
    study: Study,
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
    }
    trainable = tune.with_resources(
        tune.with_parameters(worker, data=data, options=options), {"CPU": resources.cpus, "GPU": resources.gpus}
    )
    idle = 0
    while not (stop() or study.finished):
        driver = Driver(study, monitor, stop, resources)
        problem = _fit(trainable, driver, Stopper(driver.ending))
        for job in driver.jobs.values():
            study.put_back(job.key)  # Tune gave up while they ran; nothing is known against them
        if driver.failure is not None:
            raise driver.failure
        idle = 0 if driver.ended else idle + 1
        if idle >= RESTARTS:
            raise NasError(f"Ray Tune ended {idle} times without finishing a trial: {problem or 'no reason given'}")


def measured(settings: Settings, resources: Resources) -> dict[str, dict[str, Any]]:
    """`nas.work.measured`, where a trial would run."""
    from nas.work import measured as probe

    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(probe)
    resolution, threads = settings.trained_resolution(), max(1, int(resources.cpus))
    asked = task.remote(settings.device, settings.precision, resolution, threads, repeatable=False)
    found: dict[str, dict[str, Any]] = ray.get(asked)
    return found


def most_per_gpu(workers: int, cpus: float | None) -> int:
    """Trials on one GPU for which the cluster has cores, one each if not said, and that `workers` (0: any number) allows."""
    total = ray.cluster_resources()
    gpus = max(int(total.get("GPU", 0.0)), 1)
    most = int(total.get("CPU", 1.0) / gpus / (cpus or 1.0))
    return max(1, min(most, -(-workers // gpus)) if workers else most)


def packed(question: Question, seconds: float = PACKING_SECONDS) -> Packing:
    """`nas.packing.measured` on a worker that has one whole GPU to itself; one trial a GPU if that fails or takes too long."""
    from nas.packing import measured as probe

    task = ray.remote(num_cpus=1, num_gpus=1, max_retries=0)(probe)
    answer = task.remote(question)
    try:
        found: Packing = ray.get(answer, timeout=seconds)
    except Exception as error:  # whatever it is, a search can go on without
        ray.cancel(answer, force=True)
        return Packing(
            reason=f"the probe failed: {str(error).splitlines()[-1] if str(error) else type(error).__name__}"
        )
    return found


def _fit(trainable: Any, driver: Driver, scheduler: Stopper) -> str:
    """One `Tuner.fit()`; the reason if it broke off."""
    folder = tempfile.mkdtemp(prefix="nas-tune-")
    try:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(search_alg=driver, scheduler=scheduler, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name="run",
                storage_path=folder,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        tuner.fit()
    except Exception as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    finally:
        shutil.rmtree(Path(folder), ignore_errors=True)
    return ""
