"""The only module that uses private or undocumented parts of Ray, so that a change of them in Ray concerns this file alone.

They are those of Ray 2.60. Another release may lack some; the functions here then have the following effects, and never raise
AttributeError (`tests/test_tune_internals.py` removes each part):

    free_by_node         None: the notice of a full cluster names each machine's total resources only
    hide_ray_lines       lines of Ray's processes appear in the output
    Memory               the driver keeps all trials in memory, about 30 KB each
    keep_workers         Tune ends idle workers, and starting new ones takes seconds
    waits                there is no notice of a full cluster
    waiting_trials       None: Tune chooses the next trial, in time proportional to the number of all trials
    drop_waiting         at the end of a search, trials that wait for a worker still begin
    actor_of             None: a lost node counts as a dead worker; UsageError from `check_actors` with --trial-timeout
    error_text           "": the cause of a worker's end is given as "its process ended"
    head_address         `auto` is a UsageError, HOST:PORT is used as it is given
    admits, client_admits, reload_authentication    UsageError, since access to the cluster can't be checked
    local_options        Ray refuses unknown options by name, which `nas.execution.ray.cluster` reports as NasError
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nas.errors import UsageError

KNOWN = "2.60"  # the release whose internals these are
ABSENT = (AttributeError, ImportError, TypeError)  # TypeError: a function with other arguments
PENDING = "PENDING"  # status of a trial of Tune
SETS = ("_stopped_trials", "_failed_trials", "_trials_to_cache", "_live_trials")  # of trials, in Tune's controller
LISTS = ("_trials", "_pending_trials_list")
MANY = 1 << 20

_print_lines: Callable[..., None] | None = None  # Ray's function while `hide_ray_lines` replaces it


@contextlib.contextmanager
def _needed(purpose: str) -> Iterator[None]:
    """UsageError if this release of Ray lacks an internal part that `purpose` needs."""
    try:
        yield
    except ABSENT as error:
        version = getattr(importlib.import_module("ray"), "__version__", "of an unknown version")
        raise UsageError(
            f"nas can't {purpose} with Ray {version} ({error}): install Ray {KNOWN}, or train without Ray: --executor local"
        ) from None


# -- Ray: the driver ----------------------------------------------------------------------------------------------------


def local_options(folder: Path) -> dict[str, Any]:
    """Options of `ray.init` for a Ray on this machine: the loopback address, and the folder of its sockets and logs."""
    return {"_node_ip_address": "127.0.0.1", "_temp_dir": str(folder)}


def hide_ray_lines() -> None:
    """Keep lines of Ray's processes off the driver's output; Ray's log has them, too.

    nas reports a worker's death itself. Ray has no option for this: `log_to_driver` concerns what workers print.
    """
    global _print_lines
    with contextlib.suppress(*ABSENT):
        worker: Any = importlib.import_module("ray._private.worker")
        _print_lines = _print_lines or worker.print_to_stdstream
        worker.print_to_stdstream = lambda *_, **__: None


def show_ray_lines() -> None:
    """Undo `hide_ray_lines`."""
    if _print_lines:
        worker: Any = importlib.import_module("ray._private.worker")
        worker.print_to_stdstream = _print_lines


def free_by_node() -> Mapping[str, Mapping[str, float]] | None:
    """Free resources by node; None if unknown. Ray's public function gives their sums over the cluster only."""
    with contextlib.suppress(*ABSENT):
        state: Any = importlib.import_module("ray._private.state")
        free: Mapping[str, Mapping[str, float]] = state.available_resources_per_node()
        return free
    return None


# -- Ray: authentication ------------------------------------------------------------------------------------------------


@_needed("find the cluster of --address")
def head_address(address: str) -> str:
    """HOST:PORT of the head node of the cluster at `address`, which may be `auto`."""
    try:
        services: Any = importlib.import_module("ray._private.services")
        return str(services.canonicalize_bootstrap_address(address, None))
    except ABSENT:
        if address == "auto":
            raise
        return address


@_needed("check the token of a cluster")
def admits(place: str, seconds: float) -> bool:
    """Whether the cluster whose head is at HOST:PORT answers this process. ConnectionError if no cluster answers."""
    from ray.exceptions import AuthenticationError, RayError

    raylet: Any = importlib.import_module("ray._raylet")
    try:
        raylet.GcsClient(address=place).get_all_node_info(timeout=seconds)
    except AuthenticationError:
        return False
    except RayError as error:
        raise ConnectionError(str(error)) from error
    return True


def client_admits(host: str, port: int, seconds: float) -> bool:
    """Whether Ray's client server answers this process. ConnectionError if none answers; ImportError without the extra `client`."""
    import grpc

    with _needed("check the token of a client server"):
        messages: Any = importlib.import_module("ray.core.generated.ray_client_pb2")
        stubs: Any = importlib.import_module("ray.core.generated.ray_client_pb2_grpc")
        connections: Any = importlib.import_module("ray._private.grpc_utils")
        channel = connections.init_grpc_channel(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        try:
            ping = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
            stubs.RayletDriverStub(channel).ClusterInfo(ping, timeout=seconds)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return False
            raise ConnectionError(f"{error.code().name}: {error.details()}") from error
        finally:
            channel.close()
    return True


@_needed("use token authentication")
def reload_authentication() -> bool:
    """Let Ray read RAY_AUTH_MODE and its token again, which it reads only once, when it is imported; whether it asks for tokens."""
    raylet: Any = importlib.import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
    return bool(raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN)


# -- Ray Tune: trials ---------------------------------------------------------------------------------------------------


@_needed("end the worker of a trial, as --trial-timeout requires,")
def check_actors() -> None:
    """UsageError if Tune does not give the actors of its trials (`actor_of`)."""
    trial: Any = importlib.import_module("ray.tune.experiment.trial")
    _ = trial._TemporaryTrialState().ray_actor


def actor_of(trial: Any) -> Any:
    """The actor that trains a trial; None if unknown."""
    return getattr(getattr(trial, "temporary_state", None), "ray_actor", None)


def error_text(trial: Any) -> str:
    """Ray's error about a trial, "" if unknown. The public `Trial.get_error` has it only later."""
    with contextlib.suppress(OSError):
        return Path(getattr(trial, "error_file", None) or "").read_text(encoding="utf-8", errors="replace")
    return ""


# -- Ray Tune: the controller, as it is passed to a scheduler --------------------------------------------------------------


class Memory:
    """Removes ended trials from Tune's controller, which otherwise keeps all of them and walks through them.

    Tune still needs a trial while it ends it; the trial is removed when a later one ends. The run's study holds its outcome.
    """

    def __init__(self) -> None:
        self._ended: list[Any] = []

    def ended(self, controller: Any, trial: Any) -> None:
        """Called when Tune is about to stop a trial: remove the earlier ones that it has stopped since."""
        keep_workers(controller, trial)
        waiting = []
        for earlier in self._ended:
            if _stopped(controller, earlier):
                _forget(controller, earlier)
            else:
                waiting.append(earlier)
        self._ended = [*waiting, trial]


def keep_workers(controller: Any, trial: Any) -> None:
    """Let the controller keep all idle workers of this trial's kind for later trials, until the end of the search.

    Of workers that become idle at about the same time, Tune otherwise keeps one and ends the others.
    """
    limits = getattr(getattr(controller, "_actor_cache", None), "_max_num_objects", None)
    kind = getattr(trial, "placement_group_factory", None)
    if limits is not None and kind is not None:
        limits[kind] = max(limits[kind], MANY)


def waits(controller: Any) -> bool:
    """Whether trials wait for a worker while no worker has a place on the cluster, not even one that is starting."""
    actors = getattr(controller, "_actor_manager", None)
    return bool(getattr(actors, "num_pending_actors", 0)) and not getattr(actors, "num_live_actors", 0)


def waiting_trials(controller: Any) -> list[Any] | None:
    """The trials that no worker has begun; None if unknown."""
    with contextlib.suppress(*ABSENT):
        return [trial for trial in controller.get_live_trials() if trial.status == PENDING]
    return None


def drop_waiting(controller: Any) -> None:
    """End the trials that no worker has begun; Tune reports them to its searcher as ended without a result."""
    taken = getattr(controller, "_resetting_trials", ())  # a worker begins these at once
    for trial in waiting_trials(controller) or ():
        if trial not in taken and hasattr(controller, "stop_trial"):
            for callback in _callbacks(controller):
                getattr(callback, "_completed_trials", set()).add(trial)  # else the display prints that it is completed
            controller.stop_trial(trial)


def _stopped(controller: Any, trial: Any) -> bool:
    """Whether Tune has ended the trial, and no worker of it is left except in the cache; False if unknown."""
    with contextlib.suppress(*ABSENT):
        return bool(trial.is_finished()) and trial not in controller._trial_to_actor
    return False


def _callbacks(controller: Any) -> list[Any]:
    return list(getattr(getattr(controller, "_callbacks", None), "_callbacks", []))


def _forget(controller: Any, trial: Any) -> None:
    for name in SETS:
        getattr(controller, name, set()).discard(trial)
    for name in LISTS:
        with contextlib.suppress(ValueError):
            getattr(controller, name, []).remove(trial)
    getattr(controller, "_trial_metadata", {}).pop(trial.trial_id, None)
    for callback in _callbacks(controller):
        for collection in vars(callback).values():  # of the display, which is off
            if isinstance(collection, dict):
                collection.pop(trial, None)
            elif isinstance(collection, set):
                collection.discard(trial)
