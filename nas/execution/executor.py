"""A study, or another desk, carried out by its executor: workers of Ray, or this process; what both measure before, and account for.

Ctrl-C, SIGTERM and SIGHUP are taken while it runs (`Interrupts`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nas.data.training_data import TrainingData
from nas.errors import UsageError, WriteError
from nas.execution.interrupts import Interrupts
from nas.execution.job_queue import JobQueue
from nas.execution.monitor import Monitor
from nas.execution.ray.preconditions import check_machine
from nas.networks.architecture import Architecture
from nas.runs.settings import Settings
from nas.training.recipe import BF16_CPU_RESOLUTION
from nas.utils.extensions import pass_on
from nas.utils.limits import available_cores
from nas.utils.text import Say, counted
from nas.utils.versions import versions

if TYPE_CHECKING:
    from nas.execution.ray import cluster

AUTO = "auto"  # share of a GPU: by measurement


def check(settings: Settings) -> None:
    """UsageError for what the executor can't be given, before anything of a run is made: a cluster, its token, GPUs."""
    executor = settings.executor
    if executor["kind"] != "ray":
        return
    if executor["address"] or _connected():
        from nas.execution.ray import cluster

        cluster.check(executor, settings.device)
        return
    check_machine()
    asked = executor["gpus_per_trial"]
    if asked and asked != AUTO and not _gpu_here("auto"):
        raise UsageError(f"--gpus-per-trial {asked:g}: this machine has no GPU")
    _check_cores(executor)


def _connected() -> bool:
    """Whether this process uses a Ray already, which is not imported to know it."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


@contextlib.contextmanager
def ready(settings: Settings, say: Say) -> Iterator[None]:
    """Ray, where it is the executor, started or joined, and ended at the end; nothing if this process uses one already.

    A search enters it before it makes its folder, so that what fails to start leaves none. Signals end it at once.
    """
    if settings.executor["kind"] != "ray" or _connected():
        yield
        return
    from nas.execution.ray import (
        cluster,
        tune_driver,  # noqa: F401  # whose libraries are found missing here, too
    )

    say("starting Ray workers ...")
    with Interrupts(say, "the same command", at_once=True) as interrupts, contextlib.ExitStack() as ending:
        if cluster.start(settings.executor["address"], say):
            ending.callback(interrupts.unheeded, cluster.shutdown)
        interrupts.install()  # Ray puts a handler of its own for SIGTERM
        yield


def _check_cores(executor: Mapping[str, Any]) -> None:
    """UsageError for more cores than a Ray of this machine will have."""
    cores = available_cores()
    workers, each = executor["workers"], executor["cpus_per_trial"]
    if each is not None and each > cores:
        raise UsageError(f"--cpus-per-trial {each:g}: this machine has {counted(cores, 'core')} for this process")
    fit = int(cores / (each or 1))
    if workers > fit:
        taken = f" with {counted(each, 'core')} a trial" if each else ""
        raise UsageError(
            f"--workers {workers}: this machine has {counted(cores, 'core')} for this process, for {fit} at once{taken}; give fewer, or "
            "the --address of a cluster that has more"
        )


def execute(
    study: JobQueue, data: TrainingData, say: Say, display: Callable[[Any], Monitor], since: float | None = None
) -> None:
    """Let the chosen executor train until the study is finished or the user stops it, and account for the time.

    since: when its start-up began, by `time.monotonic`; None: now.
    """
    executor = study.settings.executor
    clock = time.monotonic() if since is None else since
    begun = time.time() - (time.monotonic() - clock)
    pass_on(study.settings.imports)
    study.prepare(say)
    monitor = display(study)
    monitor.load(study.known())
    with ready(study.settings, say), Interrupts(monitor.note, study.again) as interrupts:
        slots, train, probe = 1, functools.partial(_train_here, study, data, monitor, interrupts.asked), _measured_here
        if executor["kind"] != "ray":
            interrupts.whole(_import_torch)
            if unused := _unused_here(executor):
                say(
                    f"note: --executor local trains one network after another in this process; nothing is changed by {unused}"
                )
        gpu = executor["kind"] != "ray" and _gpu_here(study.settings.device)
        if executor["kind"] == "ray":
            from nas.execution.ray import cluster
            from nas.execution.ray import tune_driver as workers

            taken = resources(study, data, say, interrupts.asked)
            cluster.check_device(study.settings.device, taken)
            slots, gpu = taken.slots(), bool(taken.gpus)
            train = functools.partial(workers.run, study, data, monitor, interrupts.asked, taken)
            probe = functools.partial(cluster.measured, resources=taken, say=say, stop=interrupts.asked)
            say(
                f"{counted(slots, 'trial')} at once, with {counted(taken.cpus, 'core')} and {counted(taken.gpus, 'GPU')} each"
            )
        _choose_engine(study, probe, gpu)
        started = time.monotonic()
        account = functools.partial(_account, study, begun, started - clock, started, monitor, slots)
        try:
            with monitor:
                train()
        except WriteError:
            with contextlib.suppress(WriteError):  # the one before says more
                account()
            raise
        except BaseException:
            account()
            raise
        account()


def resources(study: JobQueue, data: TrainingData, say: Say, stop: Callable[[], bool]) -> cluster.Resources:
    """What each trial takes, with as many trials on a GPU as a probe finds worth it where that is asked or left open.

    Left open, a probe is spared a run that could not use its answer, and a run that has begun without one goes on so.
    """
    from nas.execution.ray import cluster
    from nas.profiling import gpu_packing as packing

    settings = study.settings
    asked, cpus, gpus = (settings.executor[name] for name in ("workers", "cpus_per_trial", "gpus_per_trial"))
    if gpus not in (None, AUTO):
        return cluster.Resources.resolve(asked, cpus, gpus)
    plain = cluster.Resources.resolve(asked, cpus, None)
    spared = settings.device == "cpu" or study.begun or settings.trials <= plain.slots()
    if not settings.packing and plain.gpus and not (gpus is None and spared):
        proxy = settings.training_proxy()
        found = packing.candidates(settings.search_space(), proxy, settings.seed)
        found += [proxy.of(Architecture.from_dict(baseline["architecture"])) for baseline in settings.baselines]
        say("measuring how many trials to train on each GPU at once ...")
        answer = cluster.packed(
            packing.question(
                found,
                settings.training_recipe(),
                data,
                settings.device,
                settings.precision,
                cluster.most_per_gpu(asked, cpus),
            ),
            say,
            stop,
            pass_on(settings.imports),
        )
        study.keep(dataclasses.replace(settings, packing=answer.to_dict()))
    if not (plain.gpus and study.settings.packing):
        return plain
    answer = packing.Packing.from_dict(study.settings.packing)
    say(f"{answer}")
    return cluster.Resources.resolve(asked, cpus, answer.gpus_per_trial)


def _choose_engine(study: JobQueue, probe: Callable[[Settings], dict[str, dict[str, Any]]], gpu: bool) -> None:
    """Measure, before the first trial, which forms of operations are the fastest, and keep that in the run's settings."""
    settings = study.settings
    if settings.engine or study.begun:
        return  # a run goes on with what it began with
    if not gpu and settings.trained_resolution() < BF16_CPU_RESOLUTION:
        return  # a CPU trains small images in fp32, where nothing is to be chosen
    study.keep(dataclasses.replace(settings, engine=probe(settings)))


def _gpu_here(device: str) -> bool:
    if device == "cpu":
        return False
    from nas.training.trainer import pick_device

    return pick_device(device).type == "cuda"


def _unused_here(executor: Mapping[str, Any]) -> str:
    """Options that are for trials side by side."""
    asked = {"--workers": executor["workers"], "--gpus-per-trial": executor["gpus_per_trial"]}
    few = (0, 1, None, AUTO)
    return " and ".join(f"{option} {value:g}" for option, value in asked.items() if value not in few)


def _import_torch() -> None:
    from nas.execution import local  # noqa: F401


def _measured_here(settings: Settings) -> dict[str, dict[str, Any]]:
    from nas.training.workspace import measured  # imports torch

    device, precision, resolution = settings.device, settings.precision, settings.trained_resolution()
    return measured(device, precision, resolution, _threads(settings), repeatable=False)


def _threads(settings: Settings) -> int:
    """Those of this process, where they were asked for; 0: PyTorch's own choice."""
    return max(1, int(cpus)) if (cpus := settings.executor["cpus_per_trial"]) else 0


def _train_here(study: JobQueue, data: TrainingData, monitor: Monitor, stop: Callable[[], bool]) -> None:
    from nas.execution import local  # imports torch

    local.run(study, data, monitor, stop, _threads(study.settings))


def _account(study: JobQueue, begun: float, startup: float, started: float, monitor: Monitor, slots: int) -> None:
    """Add this session to the run's time accounting: seconds of the driver, and of training summed over its workers.

    begun: of the wall clock, which may be set while a run goes on; started: of the steady one, by which durations are measured.
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
