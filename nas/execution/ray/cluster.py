"""The Ray cluster that trials run on: joined or started, what a trial takes of it, and what is measured on it beforehand."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Under `uv run` Ray would otherwise copy the current folder to each worker and make an environment of its own there. It reads this
# when it is imported.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from nas.errors import NasError, UsageError, reason_of
from nas.execution.ray import address as addresses
from nas.execution.ray import authentication as security
from nas.execution.ray.capacity_notice import Waiting
from nas.profiling.gpu_packing import Packing, Question
from nas.utils.extensions import take
from nas.utils.limits import available_cores
from nas.utils.text import Say

if TYPE_CHECKING:
    from nas.runs.settings import Settings

Stop = Callable[[], bool]

# No callbacks, no log files, no warnings about them: 0.05 s a trial instead of 4 s (see benchmarks/).
ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "32",  # workers that start at once; one after the other, a large cluster fills for an hour
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
PACKING_SECONDS = 600.0  # until the probe of how many trials share a GPU is given up
ENGINE_SECONDS = 300.0  # until that of the forms of operations is
POLL_SECONDS = 0.5  # in which Ctrl-C is seen meanwhile

_print_lines: Callable[..., None] | None = None  # Ray's own function, while ours is in its place


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


def start(address: str | None, say: Callable[[str], None] = lambda text: None) -> bool:
    """Connect to the cluster at `address` (or `auto`), or start Ray on this machine. UsageError if nobody answers.

    Whether it did so: False if this process was connected already. Who started it ends it, with `shutdown`. A Ray that is
    started here asks for a token; that one which is joined does not is said. KeyboardInterrupt for a SIGTERM while it starts.
    """
    try:
        return _start(address, say)
    except SystemExit as end:  # Ray's own handler, which it puts in the place of whatever was there
        if end.code == signal.SIGTERM:
            raise KeyboardInterrupt from None
        raise


def _start(address: str | None, say: Callable[[str], None]) -> bool:
    os.environ.update({key: os.environ.get(key, value) for key, value in ENVIRONMENT.items()})
    if ray.is_initialized():
        return False
    common: dict[str, Any] = {"logging_level": "CRITICAL", "log_to_driver": False, "configure_logging": True}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a worker's death is said by us, in a line
    if address:
        addresses.check(address)
        _drop_lines()
        try:
            notes = []
            head = address
            if address.startswith(addresses.CLIENT):
                notes = security.join(address)
                head = _head(address, common)
            for note in [*notes, *security.join(head)]:
                say(note)
            ray.init(address=head, **common)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # which Ray raises where a cluster is gone
            if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
                raise
            raise UsageError(addresses.said(address, error)) from None
        return True
    folder = security.private_folder()
    for note in security.require_authentication():
        say(note)
    _drop_lines()
    with _own_errors(folder):
        ray.init(
            address="local",  # whatever RAY_ADDRESS says
            include_dashboard=False,
            num_cpus=available_cores(),
            object_store_memory=_store_bytes(),
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder),
            **common,
        )
    return True


@contextlib.contextmanager
def _own_errors(folder: Path) -> Iterator[None]:
    """Whatever keeps Ray from starting, in a line that says where its log is and how to go without."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
            raise
        with contextlib.suppress(Exception, SystemExit):
            shutdown()  # what of it had begun
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise NasError(
            f"Ray can't start on this machine: {reason}. Its log: {folder / 'session_latest' / 'logs'}; `nas doctor` checks the "
            "machine, and --executor local trains without Ray"
        ) from error


def _drop_lines() -> None:
    """Keep the lines that Ray's processes send to the driver off its output; they stand in Ray's log too.

    What of them matters, a worker's death, is said by us. Ray has no option for this: log_to_driver is about what workers print.
    """
    global _print_lines
    _print_lines = _print_lines or getattr(ray._private.worker, "print_to_stdstream", None)
    ray._private.worker.print_to_stdstream = lambda *_, **__: None


def connected() -> bool:
    """Whether this process has joined a cluster, or started Ray."""
    return bool(ray.is_initialized())


def check(executor: Mapping[str, Any], device: str) -> None:
    """UsageError if the cluster of an executor's settings can't be joined, or has not what each trial asks for; then it is left."""
    begun = start(executor["address"])
    try:
        gpus = executor["gpus_per_trial"]
        taken = Resources.resolve(
            executor["workers"], executor["cpus_per_trial"], None if isinstance(gpus, str) else gpus
        )
        check_device(device, taken)
    finally:
        if begun:
            shutdown()


def check_device(device: str, taken: Resources) -> None:
    """UsageError if trials are to run on a GPU that they are not given."""
    if device.startswith("cuda") and not taken.gpus:
        raise UsageError(
            f"--device {device}: no GPU is given to the trials; the cluster has none, or --gpus-per-trial is 0"
        )


def _head(address: str, common: dict[str, Any]) -> str:
    """The head node's own address, by what answers at `ray://...`: Tune would carry our driver, and with it the run, to the cluster."""
    # For each client the server starts a process, for which it waits half a minute: a busy machine takes longer.
    for attempt in (1, 2):
        try:
            ray.init(address=address, **{**common, "configure_logging": False})
            found: str = ray.get(ray.remote(num_cpus=0)(_own_head).remote())
            return found
        except ConnectionError:
            if attempt == 2:
                raise
        finally:
            ray.shutdown()
    raise AssertionError


def _own_head() -> str:
    found: str = ray.get_runtime_context().gcs_address
    return found


def shutdown() -> None:
    """Disconnect, which ends the workers of this driver; a Ray that was started here ends with it."""
    ray.shutdown()
    security.restore_environment()
    if _print_lines:
        ray._private.worker.print_to_stdstream = _print_lines


def _store_bytes() -> int:
    """Room for shared images: a fifth of the shared memory that is free, between 256 MiB and 32 GiB."""
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        free = 1 << 30
    return int(min(max(free // 5, 1 << 28), 1 << 35))


def measured(settings: Settings, resources: Resources, say: Say, stop: Stop) -> dict[str, dict[str, Any]]:
    """`nas.training.workspace.measured`, where a trial would run; nothing, and a word, if it fails or takes too long."""
    from nas.training.workspace import measured as probe

    resolution, threads = settings.trained_resolution(), max(1, int(resources.cpus))
    work = functools.partial(probe, settings.device, settings.precision, resolution, threads, repeatable=False)
    found, problem = _answered(work, ENGINE_SECONDS, resources.cpus, resources.gpus, say, stop)
    if problem:
        say(f"which forms of operations are the fastest was not measured: {problem}; the plain ones are taken")
    return found or {}


def most_per_gpu(workers: int, cpus: float | None) -> int:
    """Trials on one GPU for which the cluster has cores, one each if not said, and that `workers` (0: any number) allows."""
    total = ray.cluster_resources()
    gpus = max(int(total.get("GPU", 0.0)), 1)
    most = int(total.get("CPU", 1.0) / gpus / (cpus or 1.0))
    return max(1, min(most, -(-workers // gpus)) if workers else most)


def packed(
    question: Question,
    say: Say,
    stop: Stop,
    modules: Sequence[Sequence[str]] = (),
    seconds: float = PACKING_SECONDS,
) -> Packing:
    """`nas.profiling.gpu_packing.measured` on a worker that has one whole GPU to itself; one trial a GPU if that fails or takes too long.

    modules: that the question's network needs, as `nas.utils.extensions.pass_on` gives them.
    """
    found, problem = _answered(functools.partial(_packing, modules, question), seconds, 1, 1, say, stop)
    if found is None:
        return Packing(reason=f"the probe failed: {problem}")
    answer: Packing = found
    return answer


def _packing(modules: Sequence[Sequence[str]], question: Question) -> Packing:
    from nas.profiling.gpu_packing import measured

    take(modules)
    return measured(question)


class _Probe:
    """A process of its own, since an actor can be ended: Ray aborts the driver if a task ends while it is being cancelled."""

    def run(self, work: Callable[[], Any]) -> Any:
        return work()


def _answered(
    work: Callable[[], Any], seconds: float, cpus: float, gpus: float, say: Say, stop: Stop
) -> tuple[Any, str]:
    """What a probe gives; None, and why, if it fails or takes too long: whatever it is, a search can go on without.

    `seconds` count from when the cluster has room for it, for which a trial would wait too. KeyboardInterrupt if `stop()` says so.
    """
    room = placement_group([{"CPU": cpus, **({"GPU": gpus} if gpus else {})}])
    waiting = Waiting(say, cpus, gpus)
    try:
        while not room.wait(POLL_SECONDS):
            _go_on(stop)
            waiting.look(True)
        strategy = PlacementGroupSchedulingStrategy(room)
        actor: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, scheduling_strategy=strategy)(_Probe)
        probe = actor.remote()
        answer, until = probe.run.remote(work), time.monotonic() + seconds
        while not ray.wait([answer], timeout=POLL_SECONDS)[0]:
            _go_on(stop)
            if time.monotonic() > until:
                return None, f"it took longer than {seconds:g} s"
        return ray.get(answer), ""
    except Exception as error:
        return None, reason_of((str(error).splitlines() or [""])[-1] or error)
    finally:
        remove_placement_group(room)  # which ends what is in it


def _go_on(stop: Stop) -> None:
    if stop():
        raise KeyboardInterrupt
