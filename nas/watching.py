"""A watch over the workers of Ray Tune: which process trains which trial, whose time is over, and what ended an attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError

from nas.fencing import Fenced
from nas.retries import Cause, cause_of, limit_text
from nas.timeouts import Deadlines

MAX_REASON = 400  # characters
GONE = {
    Cause.MEMORY: "Ray's memory monitor ended its process",
    Cause.NODE: "its machine is gone",
    Cause.WORKER: "its process ended",
}


class Watch(tune.Callback):
    """Kills the workers of trials that take longer than `seconds` (None: none does), whatever they hang in.

    note: told Tune's id of such a trial, and the cause, before the worker is killed.
    """

    def __init__(self, seconds: float | None, note: Callable[[str, Cause, str], None]) -> None:
        self._deadlines = Deadlines(seconds)
        self._note = note
        self._actors: dict[str, tuple[Any, Any]] = {}  # by Tune's trial id: a worker, and where it says it is

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        actor = trial.temporary_state.ray_actor
        self._actors[trial.trial_id] = (actor, actor.get_current_ip_pid.remote())
        self._deadlines.begin(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._actors.pop(trial.trial_id, None)
        self._deadlines.end(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial_id in self._deadlines.overdue():
            self._note(trial_id, Cause.TIMEOUT, limit_text(self._deadlines.seconds or 0.0))
            ray.kill(self._actors[trial_id][0])  # the machine follows with SIGKILL if the process does not end

    def of_processes(self, numbers: frozenset[int]) -> list[str]:
        """Tune's ids of the trials that these processes train."""
        found = []
        for trial_id, (_, where) in self._actors.items() if numbers else ():
            try:
                _, number = ray.get(where, timeout=1)
            except Exception:  # it never came to say it
                continue
            if number in numbers:
                found.append(trial_id)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks now and then; the truth is in the run folder


def ended_by(trial: Any) -> tuple[Cause, str]:
    """What ended an attempt by an error, as Tune keeps it. Fenced if the trial was handed out anew by another driver."""
    error = trial.get_pickled_error() or trial.get_error()
    if isinstance(error, RayTaskError):
        if isinstance(error.cause, Fenced):
            raise Fenced(f"{error.cause}: is another driver at work on this run, on another machine?")
        return Cause.WORKER, " ".join(f"{type(error.cause).__name__}: {error.cause}".split())[:MAX_REASON]
    cause = cause_of(str(error))
    return cause, GONE[cause]
