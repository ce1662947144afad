"""A watch over the workers of Ray Tune: which process trains which trial, whose time is over, and what ended an attempt."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import ray
from ray import tune

from nas.errors import StartError, reason_of
from nas.execution.fencing import Fenced
from nas.execution.watchdog import Deadlines
from nas.runs.attempts import LOW_MEMORY, Cause, cause_of, limit_text

MAX_REASON = 400  # characters
REACH_SECONDS = 2.0  # for a node to answer
CREATION = "error raised in its creation task"  # in Ray's text of a worker that was not even made
TRACEBACK = re.compile(r"ray::[\w.]+\(\)\S* \(pid=\d+")  # the same, of an exception in Python
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
        self.unstarted = ""  # why a worker can't begin, for which no trial is to blame

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
        text = _text(trial)
        name, words = raised(text)
        if name:
            if name == Fenced.__name__:
                self._fenced = f"{words}: is another driver at work on this run, on another machine?"
            if name == StartError.__name__:
                self.unstarted = words
            elif CREATION in text:
                self.unstarted = reason_of(f"a worker can't begin: {name}: {words}", MAX_REASON)
            self._ends.setdefault(trial.trial_id, (Cause.WORKER, reason_of(f"{name}: {words}", MAX_REASON)))
        else:
            cause = cause_of(text)
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


def _text(trial: Any) -> str:
    """Ray's error about a trial. Where `Trial.get_error` looks, Tune puts it only later."""
    try:
        return Path(trial.error_file or "").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def raised(text: str) -> tuple[str, str]:
    """The class and the message, as one line, of the exception that ended a worker, by Ray's text; "" and "" if none did."""
    if LOW_MEMORY in text or not TRACEBACK.search(text):
        return "", ""
    last: list[str] = []  # what stands behind the last frame
    for line in reversed(text.strip().splitlines()):
        if line.startswith("  "):
            break
        last.insert(0, line)
    name, _, words = " ".join(" ".join(last).split()).partition(": ")
    return name.rpartition(".")[2], words


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
