"""The Ray cluster that trials run on: joining or starting it, the resources of a trial, and measurements before the first trial."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

# Ray reads this when it is imported. Without it, under `uv run`, Ray copies the current folder to each worker and makes a new
# environment there.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from nas.errors import NasError, UsageError, reason_of
from nas.execution.ray import address as addresses
from nas.execution.ray import authentication as security
from nas.execution.ray import tune_internals
from nas.execution.ray.capacity_notice import Waiting
from nas.profiling.gpu_packing import Packing, Question
from nas.utils.extensions import take
from nas.utils.limits import available_cores
from nas.utils.text import Say

if TYPE_CHECKING:
    from nas.runs.settings import Settings
    from nas.runs.specification import ExecutorSpec

Stop = Callable[[], bool]
T = TypeVar("T")

# Without callbacks and log files a trial takes 0.05 s instead of 4 s (benchmarks/README.md).
ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "32",  # workers that start at once; one by one, a large cluster takes an hour to fill
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
PACKING_SECONDS = 600.0  # time limit of the probe that measures how many trials share a GPU
ENGINE_SECONDS = 300.0  # time limit of the probe that measures the forms of operations
POLL_SECONDS = 0.5  # between two checks for Ctrl-C


@dataclass(frozen=True, slots=True)
class Resources:
    """Cores and GPUs of each trial, and the largest number of trials at once (0: as many as fit)."""

    cpus: float = 1.0
    gpus: float = 0.0
    workers: int = 0

    @classmethod
    def resolve(cls, workers: int, cpus: float | None, gpus: float | None) -> Resources:
        """Fill in missing values from the cluster: one GPU per trial if it has GPUs; cores shared evenly among the trials that fit.

        `packed` decides how many trials share a GPU. UsageError if not even one trial fits, or fewer than `workers`.
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
        """The number of trials that fit on the cluster as it is now."""
        total = ray.cluster_resources()
        fit = int(total.get("CPU", 1.0) / self.cpus)
        if self.gpus:
            # A trial's share lies within one GPU: three trials of 0.3 fit on each.
            whole = total.get("GPU", 0.0)
            fit = min(fit, int(whole / self.gpus) if self.gpus >= 1 else int(whole) * int(1 / self.gpus + 1e-9))
        return min(fit, self.workers) if self.workers else fit


def start(address: str | None, say: Callable[[str], None] = lambda text: None) -> bool:
    """Connect to the cluster at `address` (or `auto`), or start Ray on this machine.

    Returns False if this process was connected already; else the caller ends the connection with `shutdown`. A Ray that is started
    here asks for a token; `say` receives a warning about a joined cluster that does not. UsageError if no cluster can be joined;
    NasError if Ray can't start; KeyboardInterrupt for a SIGTERM meanwhile.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in ENVIRONMENT.items()})
    if ray.is_initialized():
        return False
    try:
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # nas reports a worker's death itself, in one line
        if address:
            _join(address, say)
        else:
            _start_here(say)
        return True
    except BaseException as error:
        with contextlib.suppress(Exception, SystemExit):
            shutdown()  # the processes that had started, and what the environment says of this Ray: the next one is another
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:  # from the handler that Ray installs
            raise KeyboardInterrupt from None
        raise


def _join(address: str, say: Callable[[str], None]) -> None:
    addresses.check(address)
    tune_internals.hide_ray_lines()
    try:
        notes = []
        head = address
        if address.startswith(addresses.CLIENT):
            notes = security.join(address)
            head = _head(address)
        for note in [*notes, *security.join(head)]:
            say(note)
        _init(head)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # Ray raises SystemExit if a cluster is gone
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
            raise
        raise UsageError(addresses.explanation(address, error)) from None


def _start_here(say: Callable[[str], None]) -> None:
    folder = security.private_folder()
    for note in security.require_authentication():
        say(note)
    tune_internals.hide_ray_lines()
    try:
        _init(
            "local",  # also if RAY_ADDRESS names a cluster
            include_dashboard=False,
            num_cpus=available_cores(),
            object_store_memory=_store_bytes(),
            **tune_internals.local_options(folder),
        )
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise NasError(
            f"Ray can't start on this machine: {reason}. Its log: {folder / 'session_latest' / 'logs'}; `nas doctor` checks the "
            "machine, and --executor local trains without Ray"
        ) from error


def _init(address: str, *, configure_logging: bool = True, **options: Any) -> None:
    """`ray.init` without output."""
    quiet: dict[str, Any] = {
        "logging_level": "CRITICAL",
        "log_to_driver": False,
        "configure_logging": configure_logging,
    }
    ray.init(address=address, **quiet, **options)


def connected() -> bool:
    """Whether this process has joined a cluster or started Ray."""
    return bool(ray.is_initialized())


def check(executor: ExecutorSpec, device: str) -> None:
    """Join the cluster of an executor's settings and leave it again. UsageError if that fails, or if it lacks a trial's resources."""
    started = start(executor.address)
    try:
        gpus = executor.gpus_per_trial
        share = None if isinstance(gpus, str) else gpus
        check_device(device, Resources.resolve(executor.workers, executor.cpus_per_trial, share))
    finally:
        if started:
            shutdown()


def check_device(device: str, per_trial: Resources) -> None:
    """UsageError if the device is a GPU and the trials have none."""
    if device.startswith("cuda") and not per_trial.gpus:
        raise UsageError(f"--device {device}: the trials have no GPU; the cluster has none, or --gpus-per-trial is 0")


def _head(address: str) -> str:
    """The head node's address, asked of its client server at `ray://...`.

    The driver joins the head node itself: through the client server, Tune would move the driver, and so the run, to the cluster.
    """
    # The server starts a process for each client, and waits half a minute for it; on a busy machine it takes longer.
    for attempt in (1, 2):
        try:
            _init(address, configure_logging=False)
            head: str = ray.get(ray.remote(num_cpus=0)(_head_of_worker).remote())
            return head
        except ConnectionError:
            if attempt == 2:
                raise
        finally:
            ray.shutdown()
    raise AssertionError


def _head_of_worker() -> str:
    return str(ray.get_runtime_context().gcs_address)


def shutdown() -> None:
    """Disconnect, which ends the workers of this driver; a Ray that was started here ends with it."""
    ray.shutdown()
    security.restore_environment()
    tune_internals.show_ray_lines()


def _store_bytes() -> int:
    """Size of Ray's object store, which holds the images: a fifth of the free shared memory, from 256 MiB to 32 GiB."""
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        free = 1 << 30
    return int(min(max(free // 5, 1 << 28), 1 << 35))


def measured(settings: Settings, resources: Resources, say: Say, stop: Stop) -> dict[str, dict[str, Any]]:
    """`nas.training.workspace.measured` on a worker with a trial's resources; {} and a message if it fails or takes too long."""
    from nas.training.workspace import measured as probe

    resolution, threads = settings.trained_resolution(), max(1, int(resources.cpus))
    work = functools.partial(probe, settings.device, settings.precision, resolution, threads, repeatable=False)
    engines, problem = _answer_of(work, ENGINE_SECONDS, resources.cpus, resources.gpus, say, stop)
    if problem:
        say(f"which forms of operations are the fastest was not measured: {problem}; the plain ones are used")
    return engines or {}


def most_per_gpu(workers: int, cpus: float | None) -> int:
    """The most trials on one GPU, limited by cores (cpus None: one per trial) and by `workers` trials at once (0: no limit)."""
    total = ray.cluster_resources()
    gpus = max(int(total.get("GPU", 0.0)), 1)
    most = int(total.get("CPU", 1.0) / gpus / (cpus or 1.0))
    return max(1, min(most, -(-workers // gpus)) if workers else most)


def packed(
    question: Question, say: Say, stop: Stop, modules: Sequence[Sequence[str]] = (), seconds: float = PACKING_SECONDS
) -> Packing:
    """`nas.profiling.gpu_packing.measured` on a worker with one GPU for itself; one trial per GPU if that fails or takes too long.

    modules: needed by the question's networks, as `nas.utils.extensions.pass_on` gives them.
    """
    answer, problem = _answer_of(functools.partial(_packing, modules, question), seconds, 1, 1, say, stop)
    return Packing(reason=f"the probe failed: {problem}") if answer is None else answer


def _packing(modules: Sequence[Sequence[str]], question: Question) -> Packing:
    from nas.profiling.gpu_packing import measured

    take(modules)
    return measured(question)


class _Probe:
    """Runs a probe in an actor, which can be ended safely: Ray aborts the driver if a task ends while it is being cancelled."""

    def run(self, work: Callable[[], Any]) -> Any:
        return work()


def _answer_of(
    work: Callable[[], T], seconds: float, cpus: float, gpus: float, say: Say, stop: Stop
) -> tuple[T | None, str]:
    """The result of `work` on a worker; None and the reason if it fails or takes too long, since a search can continue without it.

    `seconds` count from when the cluster has room for the worker, for which a trial would wait too. KeyboardInterrupt if `stop()`.
    """
    room = placement_group([{"CPU": cpus, **({"GPU": gpus} if gpus else {})}])
    waiting = Waiting(say, cpus, gpus)
    try:
        while not room.wait(POLL_SECONDS):
            _check_stop(stop)
            waiting.look(True)
        strategy = PlacementGroupSchedulingStrategy(room)
        actor: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, scheduling_strategy=strategy)(_Probe)
        probe = actor.remote()
        answer, until = probe.run.remote(work), time.monotonic() + seconds
        while not ray.wait([answer], timeout=POLL_SECONDS)[0]:
            _check_stop(stop)
            if time.monotonic() > until:
                return None, f"it took longer than {seconds:g} s"
        return ray.get(answer), ""
    except Exception as error:
        return None, reason_of((str(error).splitlines() or [""])[-1] or error)
    finally:
        remove_placement_group(room)  # ends its actor, too


def _check_stop(stop: Stop) -> None:
    if stop():
        raise KeyboardInterrupt
