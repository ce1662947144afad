"""Runs a job queue with the executor of its settings, Ray or this process; measures before the first trial and accounts for the time.

`Interrupts` handles Ctrl-C, SIGTERM and SIGHUP meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nas.data.training_data import TrainingData
from nas.errors import UsageError, WriteError
from nas.execution.interrupts import Interrupts
from nas.execution.job_queue import JobQueue
from nas.execution.monitor import Monitor
from nas.execution.ray.preconditions import check_machine
from nas.runs.settings import Settings
from nas.runs.specification import ExecutorSpec
from nas.training.recipe import BF16_CPU_RESOLUTION
from nas.utils.extensions import pass_on
from nas.utils.limits import available_cores
from nas.utils.text import Say, counted
from nas.utils.versions import versions

if TYPE_CHECKING:
    from nas.execution.ray import cluster
    from nas.profiling.gpu_packing import Packing

AUTO = "auto"  # the share of a GPU is measured
Engines: TypeAlias = dict[str, dict[str, Any]]  # by device, as `nas.training.workspace.measured` gives them


def check(settings: Settings) -> None:
    """UsageError if the executor lacks a cluster, its token, cores or GPUs, before anything of a run is made."""
    executor = settings.executor
    if executor.kind != "ray":
        return
    if executor.address or _connected():
        from nas.execution.ray import cluster

        cluster.check(executor, settings.device)
        return
    check_machine()
    gpus = executor.gpus_per_trial
    if gpus and not isinstance(gpus, str) and not _gpu_here("auto"):
        raise UsageError(f"--gpus-per-trial {gpus:g}: this machine has no GPU")
    _check_cores(executor)


def _connected() -> bool:
    """Whether this process uses Ray already, answered without importing it."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


@contextlib.contextmanager
def ready(settings: Settings, say: Say) -> Iterator[None]:
    """Start or join Ray if it is the executor, and leave it at the end; does nothing if this process uses Ray already.

    A search enters this before it makes its folder, so that a failed start leaves no folder. Signals end the start at once.
    """
    if settings.executor.kind != "ray" or _connected():
        yield
        return
    from nas.execution.ray import (
        cluster,
        tune_driver,  # noqa: F401  # missing libraries fail here, too
    )

    say("starting Ray workers ...")
    with Interrupts(say, "the same command", at_once=True) as interrupts, contextlib.ExitStack() as ending:
        if cluster.start(settings.executor.address, say):
            ending.callback(interrupts.ignoring, cluster.shutdown)
        interrupts.install()  # Ray has replaced the handler of SIGTERM
        yield


def _check_cores(executor: ExecutorSpec) -> None:
    """UsageError for more cores than Ray will have on this machine."""
    cores = available_cores()
    workers, each = executor.workers, executor.cpus_per_trial
    if each is not None and each > cores:
        raise UsageError(f"--cpus-per-trial {each:g}: this machine has {counted(cores, 'core')} for this process")
    fit = int(cores / (each or 1))
    if workers > fit:
        share = f" with {counted(each, 'core')} a trial" if each else ""
        raise UsageError(
            f"--workers {workers}: this machine has {counted(cores, 'core')} for this process, for {fit} at once{share}; give fewer, or "
            "the --address of a cluster that has more"
        )


def execute(
    study: JobQueue, data: TrainingData, say: Say, display: Callable[[Any], Monitor], since: float | None = None
) -> None:
    """Train the jobs of a study with its executor until it is finished or the user stops it, and account for the time.

    since: when the command's start-up began, by `time.monotonic`; None: now.
    """
    clock = time.monotonic() if since is None else since
    begun = time.time() - (time.monotonic() - clock)
    pass_on(study.settings.imports)
    study.prepare(say)
    monitor = display(study)
    monitor.load(study.known())
    with ready(study.settings, say), Interrupts(monitor.note, study.again) as interrupts:
        on_ray = study.settings.executor.kind == "ray"
        workers = (_on_ray if on_ray else _here)(study, data, say, monitor, interrupts)
        _choose_engine(study, workers.measure_engine, workers.gpu)
        started = time.monotonic()
        account = functools.partial(_account, study, begun, started - clock, started, monitor, workers.slots)
        try:
            with monitor:
                workers.train()
        except WriteError:
            with contextlib.suppress(WriteError):  # the first error says more
                account()
            raise
        except BaseException:
            account()
            raise
        account()


class _Workers(NamedTuple):
    """An executor that is ready: trials at once, whether each has a GPU, the training, and the measurement of the engine."""

    slots: int
    gpu: bool
    train: Callable[[], None]
    measure_engine: Callable[[Settings], Engines]


def _here(study: JobQueue, data: TrainingData, say: Say, monitor: Monitor, interrupts: Interrupts) -> _Workers:
    """This process as the executor."""
    interrupts.deferring(_import_torch)
    if unused := _unused_here(study.settings.executor):
        say(f"note: --executor local trains one network after another in this process; nothing is changed by {unused}")
    train = functools.partial(_train_here, study, data, monitor, interrupts.asked)
    return _Workers(1, _gpu_here(study.settings.device), train, _measured_here)


def _on_ray(study: JobQueue, data: TrainingData, say: Say, monitor: Monitor, interrupts: Interrupts) -> _Workers:
    """The workers of a Ray cluster."""
    from nas.execution.ray import cluster, tune_driver

    per_trial = resources(study, data, say, interrupts.asked)
    cluster.check_device(study.settings.device, per_trial)
    slots = per_trial.slots()
    say(
        f"{counted(slots, 'trial')} at once, with {counted(per_trial.cpus, 'core')} and {counted(per_trial.gpus, 'GPU')} each"
    )
    train = functools.partial(tune_driver.run, study, data, monitor, interrupts.asked, per_trial)
    measure = functools.partial(cluster.measured, resources=per_trial, say=say, stop=interrupts.asked)
    return _Workers(slots, bool(per_trial.gpus), train, measure)


def resources(study: JobQueue, data: TrainingData, say: Say, stop: Callable[[], bool]) -> cluster.Resources:
    """Cores and GPUs of each trial. Where it is asked for or left open, a probe measures how many trials to train on a GPU at once.

    If it is left open, there is no probe for a run that could not use its answer; a run that began without a probe stays without.
    """
    from nas.execution.ray import cluster

    settings = study.settings
    executor = settings.executor
    workers, cpus, gpus = executor.workers, executor.cpus_per_trial, executor.gpus_per_trial
    if gpus is not None and not isinstance(gpus, str):
        return cluster.Resources.resolve(workers, cpus, gpus)
    plain = cluster.Resources.resolve(workers, cpus, None)
    useless = settings.device == "cpu" or study.begun or settings.trials <= plain.slots()
    if not settings.packing and plain.gpus and not (gpus is None and useless):
        say("measuring how many trials to train on each GPU at once ...")
        measured = _packing(settings, data, say, stop)
        study.keep(dataclasses.replace(settings, packing=measured))
    if not (plain.gpus and study.settings.packing):
        return plain
    packing = study.settings.packing
    say(f"{packing}")
    return cluster.Resources.resolve(workers, cpus, packing.gpus_per_trial)


def _packing(settings: Settings, data: TrainingData, say: Say, stop: Callable[[], bool]) -> Packing:
    """The measured number of trials per GPU, for the candidates and baselines of a run."""
    from nas.execution.ray import cluster
    from nas.profiling import gpu_packing

    proxy, executor = settings.proxy, settings.executor
    networks = gpu_packing.candidates(settings.search_space(), proxy, settings.seed)
    networks += [proxy.of(baseline.network()) for baseline in settings.baselines]
    most = cluster.most_per_gpu(executor.workers, executor.cpus_per_trial)
    recipe = settings.recipe
    question = gpu_packing.question(networks, recipe, data, settings.device, settings.precision, most)
    return cluster.packed(question, say, stop, pass_on(settings.imports))


def _choose_engine(study: JobQueue, measure: Callable[[Settings], Engines], gpu: bool) -> None:
    """Before the first trial, measure which forms of operations are the fastest, and save the result in the run's settings."""
    settings = study.settings
    if settings.engine or study.begun:
        return  # a run keeps the engine that it began with
    if not gpu and settings.trained_resolution() < BF16_CPU_RESOLUTION:
        return  # a CPU trains small images in fp32, which has only one form
    study.keep(dataclasses.replace(settings, engine=measure(settings)))


def _gpu_here(device: str) -> bool:
    if device == "cpu":
        return False
    from nas.training.trainer import pick_device

    return pick_device(device).type == "cuda"


def _unused_here(executor: ExecutorSpec) -> str:
    """The given options that only matter for concurrent trials."""
    options = {"--workers": executor.workers, "--gpus-per-trial": executor.gpus_per_trial}
    defaults = (0, 1, None, AUTO)
    return " and ".join(f"{option} {value:g}" for option, value in options.items() if value not in defaults)


def _import_torch() -> None:
    from nas.execution import local  # noqa: F401


def _measured_here(settings: Settings) -> Engines:
    from nas.training.workspace import measured  # imports torch

    device, precision, resolution = settings.device, settings.precision, settings.trained_resolution()
    return measured(device, precision, resolution, _threads(settings), repeatable=False)


def _threads(settings: Settings) -> int:
    """Threads of this process, if they were given; 0: PyTorch's own choice."""
    return max(1, int(cpus)) if (cpus := settings.executor.cpus_per_trial) else 0


def _train_here(study: JobQueue, data: TrainingData, monitor: Monitor, stop: Callable[[], bool]) -> None:
    from nas.execution import local  # imports torch

    local.run(study, data, monitor, stop, _threads(study.settings))


def _account(study: JobQueue, begun: float, startup: float, started: float, monitor: Monitor, slots: int) -> None:
    """Add this session to the run's time accounting: seconds of the driver, and of training summed over its workers.

    begun: by the wall clock, which may be changed during a run. started: by the monotonic clock, which measures durations.
    """
    entry = {
        "begun": begun,
        "startup_seconds": startup,
        "search_seconds": time.monotonic() - started,
        "training_seconds": monitor.training_seconds,
        "workers": slots,
        "versions": versions(),
    }
    study.account(entry)
