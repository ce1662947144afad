"""Supervision of Ray Tune's workers: the process of each trial, time limits, and the cause of an attempt's end."""

from __future__ import annotations

import re
import socket
from typing import Any

import ray
from ray import tune

from nas.errors import StartError, reason_of
from nas.execution.fencing import Fenced
from nas.execution.ray import tune_internals
from nas.execution.watchdog import Deadlines
from nas.runs.attempts import LOW_MEMORY, Cause, cause_of, limit_text

MAX_REASON = 400  # characters
REACH_SECONDS = 2.0  # for a node to answer
CREATION = "error raised in its creation task"  # in Ray's error about a worker that could not be made
TRACEBACK = re.compile(r"ray::[\w.]+\(\)\S* \(pid=\d+")  # in Ray's error about an exception in Python
GONE = {
    Cause.MEMORY: "Ray's memory monitor ended its process",
    Cause.NODE: "its machine is gone",
    Cause.WORKER: "its process ended",
}


class Watch(tune.Callback):
    """Kills the workers of trials that take longer than `seconds` (None: no limit), and finds the causes of other workers' deaths.

    Trials are named by Tune's ids.
    """

    def __init__(self, seconds: float | None) -> None:
        self._deadlines = Deadlines(seconds)
        self._actors: dict[str, tuple[Any, Any]] = {}  # by trial: its actor, and the reference to the actor's `where()`
        self._ends: dict[str, tuple[Cause, str]] = {}  # causes and reasons of attempts whose end Tune has yet to report
        self._fenced = ""
        self.unstarted = ""  # why workers can't start, which is no trial's fault

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        actor = tune_internals.actor_of(trial)
        if actor is not None:
            self._actors[trial.trial_id] = (actor, actor.where.remote())
        self._deadlines.begin(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._actors.pop(trial.trial_id, None)
        self._deadlines.end(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial_id in self._deadlines.overdue():
            if trial_id in self._actors:
                self._ends[trial_id] = (Cause.TIMEOUT, limit_text(self._deadlines.seconds or 0.0))
                ray.kill(self._actors[trial_id][0])  # Ray sends SIGKILL later if the process does not end

    def of_processes(self, numbers: frozenset[int]) -> list[str]:
        """The trials that the processes with these numbers train."""
        return [trial_id for trial_id in self._actors if numbers and self._where(trial_id)[1] in numbers]

    def failed(self, trial: Any) -> None:
        """Find the cause of an attempt that ended with an error; Tune reports to its searcher only that it did."""
        text = tune_internals.error_text(trial)
        name, message = raised(text)
        if name:
            if name == Fenced.__name__:
                self._fenced = f"{message}: does another driver, on another machine, work on this run?"
            if name == StartError.__name__:
                self.unstarted = message
            elif CREATION in text:
                self.unstarted = reason_of(f"a worker can't begin: {name}: {message}", MAX_REASON)
            self._ends.setdefault(trial.trial_id, (Cause.WORKER, reason_of(f"{name}: {message}", MAX_REASON)))
        else:
            cause = cause_of(text)
            if cause == Cause.WORKER and _gone(self._where(trial.trial_id)[0]):
                cause = Cause.NODE
            self._ends.setdefault(trial.trial_id, (cause, GONE[cause]))

    def end(self, trial_id: str) -> tuple[Cause, str]:
        """Cause and reason of an attempt's end. Fenced if another driver has handed out a trial of this run."""
        if self._fenced:
            raise Fenced(self._fenced)
        return self._ends.pop(trial_id, (Cause.WORKER, GONE[Cause.WORKER]))

    def _where(self, trial_id: str) -> tuple[str, int]:
        """Node and process number of a trial's worker; ("", 0) if it has not answered."""
        try:
            node, process = ray.get(self._actors[trial_id][1], timeout=1)
        except Exception:
            return "", 0
        return node, process

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune pickles its callbacks at times; the run folder has the state


def raised(text: str) -> tuple[str, str]:
    """Class and message (as one line) of the exception that ended a worker, from Ray's error; "" and "" if none did."""
    if LOW_MEMORY in text or not TRACEBACK.search(text):
        return "", ""
    last: list[str] = []  # lines after the traceback's last frame
    for line in reversed(text.strip().splitlines()):
        if line.startswith("  "):
            break
        last.insert(0, line)
    name, _, message = " ".join(" ".join(last).split()).partition(": ")
    return name.rpartition(".")[2], message


def _gone(node: str) -> bool:
    """Whether a node does not answer. Ray notices its loss after half a minute, but the end of its workers at once."""
    for entry in ray.nodes():  # type: ignore[no-untyped-call]
        if entry["NodeID"] == node:
            try:
                address = entry["NodeManagerAddress"], entry["NodeManagerPort"]
                socket.create_connection(address, timeout=REACH_SECONDS).close()
            except OSError:
                return True
            return not entry["Alive"]
    return False
