"""Where executors fetch jobs and bring back what became of them: the part that a search and a confirmation share.

A job is waiting, out with a worker, or back. What a worker leaves in the job's folder counts, whatever is said of the worker: a
result that is there is recorded, and an attempt without one is tried again or given up (`nas.runs.attempts`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nas.errors import NasError
from nas.execution import fencing
from nas.execution.clock import Clock
from nas.execution.job import Job
from nas.execution.trial_results import Counts, give_up
from nas.pareto.objectives import Objective
from nas.runs.attempts import Attempts, Cause
from nas.runs.layout import LOCK
from nas.runs.lock import RunLock, take
from nas.runs.records import TrialResult
from nas.runs.settings import Settings
from nas.utils.files import UnderLock

Told = Callable[[Job, TrialResult], None]


class JobQueue(UnderLock):
    """Jobs on their way. What is handed out, and what is done with results, is a subclass's.

    Entering takes the run's lock, so that one driver at a time has the run.
    """

    folder: Path
    settings: Settings
    url: str | None  # of the study's database
    objectives: tuple[Objective, ...]
    counts: Counts
    clock: Clock | None = None  # of hours that were promised

    def __init__(self) -> None:
        self.recovered: list[str] = []  # what recovery did, in words
        self._queue: deque[Job] = deque()
        self._flying: dict[str, Job] = {}
        self._attempts: dict[str, Attempts] = {}  # at the jobs that are open
        self._lock: RunLock | None = None

    @property
    def _does(self) -> str:
        """What the run's lock says, to readers, that its holder does."""
        return ""

    def _enter(self) -> None:
        self._lock = take(self.folder / LOCK, self._does)
        self._held.callback(self._lock.release)
        if self._lock.took_over:
            self.recovered.append(f"took the run over {self._lock.took_over}")
        self._open()

    @abstractmethod
    def ask(self, told: Told = lambda job, result: None) -> Job | None:
        """The next job to train; None if no more are needed for now. `told` hears of those that are found to be at their end already."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether nothing is out or waiting, and no more is wanted."""

    @property
    @abstractmethod
    def again(self) -> str:
        """The command that goes on with it."""

    @property
    @abstractmethod
    def begun(self) -> bool:
        """Whether anything was trained before, so that what training goes by must not be measured anew."""

    @abstractmethod
    def known(self) -> list[tuple[str, tuple[float, ...]]]:
        """Keys and values of what is complete."""

    @abstractmethod
    def prepare(self, say: Callable[[str], None]) -> None:
        """What is to be measured before the first job is handed out."""

    @abstractmethod
    def keep(self, settings: Settings) -> None:
        """Go on by these settings."""

    @abstractmethod
    def account(self, entry: Mapping[str, Any]) -> None:
        """Take a session's time accounting in (`nas.execution.executor`)."""

    @abstractmethod
    def _open(self) -> None:
        """Find where the run stands, behind its lock."""

    @abstractmethod
    def _record(self, job: Job, result: TrialResult) -> None:
        """A job has ended with this result."""

    def check_mine(self) -> None:
        """NasError if another driver has taken the run over."""
        assert self._lock is not None, "enter it first: `with`"
        self._lock.check()

    def tell(self, key: str) -> TrialResult:
        """Record the result that a job's worker wrote, and return it. NasError if there is none."""
        self.check_mine()
        job = self._flying[key]
        result = job.result
        if result is None:
            raise NasError(f"{job.result_path}: missing although the worker said that it was done")
        del self._flying[key]
        self._record(job, result)
        return result

    def ended(self, key: str) -> bool:
        """Whether a job's worker left its result, so that it can be told."""
        return self._flying[key].result is not None

    def retry(self, key: str, reason: str, cause: Cause = Cause.WORKER) -> bool:
        """A job's attempt ended without a result. It is queued again, to go on from its checkpoint, or given up (`nas.runs.attempts`).

        Returns whether it is tried again. A result that the worker wrote before its end is told instead.
        """
        job = self._flying[key]
        if job.result is not None:
            self.tell(key)
            return False
        self._attempts[key] = self._attempts.get(key, Attempts()).after(cause)
        if self._attempts[key].allow(cause):
            self._queue.append(self._flying.pop(key))
            return True
        give_up(job, self._attempts[key], cause, self._attempts[key].gave_up(cause, reason))
        self.tell(key)
        return False

    def put_back(self, key: str) -> None:
        """A job that its executor did not finish, for no fault of its own: it stays open for the next driver."""
        job = self._flying.pop(key)
        fencing.put_back(job)
        self._queue.appendleft(job)

    def _next_waiting(self, told: Told) -> Job | None:
        """The first job that waits and has not ended; those that a worker of an earlier driver has ended meanwhile are told."""
        while self._queue:
            waiting = self._hand_out(self._queue.popleft())
            if not self.ended(waiting.key):
                return waiting
            told(waiting, self.tell(waiting.key))
        return None

    def _hand_out(self, job: Job) -> Job:
        alone = self.settings.executor["kind"] == "local"
        job = fencing.hand_out(job, self._attempts.get(job.key, Attempts()), alone=alone)
        self._flying[job.key] = job
        return job

    def _reopen(self, job: Job, name: str) -> bool:
        """Queue what an earlier driver left open, or end it if its last attempt was one too many; whether it goes on."""
        attempts = self._attempts[job.key] = fencing.recovered(job)
        last = next((cause for cause in (Cause.PROCESS, Cause.TIMEOUT) if not attempts.allow(cause)), None)
        if last is None:
            self._queue.append(job)
            return True
        result = give_up(job, attempts, last, attempts.gave_up(last, "under an earlier driver"))
        self._record(job, result)
        self.recovered.append(f"gave {name} up: {result.reason}")
        return False
