"""A watch over the workers of Ray Tune: which process trains which trial, whose time is over, and what ended an attempt."""

from __future__ import annotations

import socket
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError

from nas.errors import reason_of
from nas.fencing import Fenced
from nas.retries import Cause, cause_of, limit_text
from nas.timeouts import Deadlines

MAX_REASON = 400  # characters
REACH_SECONDS = 2.0  # for a node to answer
GONE = {
    Cause.MEMORY: "Ray's memory monitor ended its process",
    Cause.NODE: "its machine is gone",
    Cause.WORKER: "its process ended",
}


class Watch(tune.Callback):
    """Kills the workers of trials that take longer than `seconds` (None: none does), whatever they hang in; knows why others died.

    Trials are named by Tune's ids.
    """

    def __init__(self, seconds: float | None) -> None:
        self._deadlines = Deadlines(seconds)
        self._actors: dict[str, tuple[Any, Any]] = {}  # a trial's worker, and where it says it is
        self._ends: dict[str, tuple[Cause, str]] = {}  # of attempts, before Tune says that they ended
        self._fenced = ""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        actor = trial.temporary_state.ray_actor
        self._actors[trial.trial_id] = (actor, actor.where.remote())
        self._deadlines.begin(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._actors.pop(trial.trial_id, None)
        self._deadlines.end(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial_id in self._deadlines.overdue():
            self._ends[trial_id] = (Cause.TIMEOUT, limit_text(self._deadlines.seconds or 0.0))
            ray.kill(self._actors[trial_id][0])  # the machine follows with SIGKILL if the process does not end

    def of_processes(self, numbers: frozenset[int]) -> list[str]:
        """The trials that these processes train."""
        return [trial_id for trial_id in self._actors if numbers and self._where(trial_id)[1] in numbers]

    def failed(self, trial: Any) -> None:
        """An attempt ended by an error, of which Tune will tell its searcher no more than that."""
        error = trial.get_pickled_error() or trial.get_error()
        if isinstance(error, RayTaskError):
            if isinstance(error.cause, Fenced):
                self._fenced = f"{error.cause}: is another driver at work on this run, on another machine?"
            text = reason_of(f"{type(error.cause).__name__}: {error.cause}", MAX_REASON)
            self._ends.setdefault(trial.trial_id, (Cause.WORKER, text))
        else:
            cause = cause_of(str(error))
            if cause == Cause.WORKER and _gone(self._where(trial.trial_id)[0]):
                cause = Cause.NODE
            self._ends.setdefault(trial.trial_id, (cause, GONE[cause]))

    def end(self, trial_id: str) -> tuple[Cause, str]:
        """What ended an attempt. Fenced if it was that another driver has handed a trial of this run out."""
        if self._fenced:
            raise Fenced(self._fenced)
        return self._ends.pop(trial_id, (Cause.WORKER, GONE[Cause.WORKER]))

    def _where(self, trial_id: str) -> tuple[str, int]:
        """The node and the process of a trial's worker, as far as it came to say so."""
        try:
            node, process = ray.get(self._actors[trial_id][1], timeout=1)
        except Exception:
            return "", 0
        return node, process

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks now and then; the truth is in the run folder


def _gone(node: str) -> bool:
    """Whether nobody is at home on a node. Ray takes half a minute to notice that, while its workers' ends are seen at once."""
    for found in ray.nodes():  # type: ignore[no-untyped-call]
        if found["NodeID"] == node:
            try:
                address = found["NodeManagerAddress"], found["NodeManagerPort"]
                socket.create_connection(address, timeout=REACH_SECONDS).close()
            except OSError:
                return True
            return not found["Alive"]
    return False
