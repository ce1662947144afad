"""The queue from which executors take jobs and to which they report results: the part that a search and a confirmation share.

A job is waiting, with a worker, or ended. Only the job's folder decides whether it has ended: a result in it is recorded, even if the
worker is reported dead; an attempt without a result is repeated or given up (`nas.runs.attempts`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

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

Told = Callable[[Job, TrialResult], None]  # called with a job that has ended and its result


class JobQueue(UnderLock):
    """A queue of jobs. A subclass decides which jobs are handed out, and records results.

    A context manager that holds the run's lock, so that one driver at a time has the run.
    """

    folder: Path
    settings: Settings
    url: str | None  # of the study's database
    objectives: tuple[Objective, ...]
    counts: Counts
    clock: Clock | None = None  # of a time budget

    def __init__(self) -> None:
        self.recovered: list[str] = []  # messages about what recovery did
        self._queue: deque[Job] = deque()
        self._flying: dict[str, Job] = {}  # with a worker
        self._attempts: dict[str, Attempts] = {}  # at open jobs
        self._lock: RunLock | None = None

    @property
    def _does(self) -> str:
        """The description of this driver's work in the run's lock, for other commands."""
        return ""

    def _enter(self) -> None:
        self._lock = take(self.folder / LOCK, self._does)
        self._held.callback(self._lock.release)
        if self._lock.took_over:
            self.recovered.append(f"took the run over {self._lock.took_over}")
        self._open()

    @abstractmethod
    def ask(self, on_ended: Told = lambda job, result: None) -> Job | None:
        """The next job to train; None if no more are needed for now. on_ended: called for each job found to have a result already."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether no job is with a worker or waiting, and no more are needed."""

    @property
    @abstractmethod
    def again(self) -> str:
        """The command that resumes the work."""

    @property
    @abstractmethod
    def begun(self) -> bool:
        """Whether anything was trained already, so that settings that training depends on must not be measured again."""

    @abstractmethod
    def known(self) -> list[tuple[str, tuple[float, ...]]]:
        """Keys and objective values of the complete trials."""

    @abstractmethod
    def prepare(self, say: Callable[[str], None]) -> None:
        """Make the measurements that are needed before the first job is handed out."""

    @abstractmethod
    def keep(self, settings: Settings) -> None:
        """Save these settings and use them from now on."""

    @abstractmethod
    def account(self, entry: Mapping[str, object]) -> None:
        """Add a session's entry to the time accounting (`nas.execution.executor`)."""

    @abstractmethod
    def _open(self) -> None:
        """Read the state of the run, with its lock held."""

    @abstractmethod
    def _record(self, job: Job, result: TrialResult) -> None:
        """Record the result of a job that has ended."""

    def check_mine(self) -> None:
        """NasError if another driver has taken the run over."""
        assert self._lock is not None, "enter it first: `with`"
        self._lock.check()

    def tell(self, key: str) -> TrialResult:
        """Record the result that a job's worker wrote, and return it. NasError if it is missing."""
        self.check_mine()
        job = self._flying[key]
        result = job.result
        if result is None:
            raise NasError(f"{job.result_path}: missing although the worker reported its end")
        del self._flying[key]
        self._record(job, result)
        return result

    def ended(self, key: str) -> bool:
        """Whether a job's worker wrote a result, which `tell` can record."""
        return self._flying[key].result is not None

    def retry(self, key: str, reason: str, cause: Cause = Cause.WORKER) -> bool:
        """After an attempt without a result: queue the job again, to resume from its checkpoint, or give it up (`nas.runs.attempts`).

        Returns whether it is queued again. If the worker wrote a result before its end, that is recorded instead.
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
        """Return a job that its executor did not finish, without counting an attempt: it stays open for the next driver."""
        job = self._flying.pop(key)
        fencing.put_back(job)
        self._queue.appendleft(job)

    def _next_waiting(self, on_ended: Told) -> Job | None:
        """Hand out the first waiting job without a result; results that an earlier driver's worker wrote meanwhile are recorded."""
        while self._queue:
            waiting = self._hand_out(self._queue.popleft())
            if not self.ended(waiting.key):
                return waiting
            on_ended(waiting, self.tell(waiting.key))
        return None

    def _hand_out(self, job: Job) -> Job:
        alone = self.settings.executor.kind == "local"
        job = fencing.hand_out(job, self._attempts.get(job.key, Attempts()), alone=alone)
        self._flying[job.key] = job
        return job

    def _reopen(self, job: Job, name: str) -> bool:
        """Queue a job that an earlier driver left open, or give it up if it has used all its attempts; whether it is queued."""
        attempts = self._attempts[job.key] = fencing.recovered(job)
        last = next((cause for cause in (Cause.PROCESS, Cause.TIMEOUT) if not attempts.allow(cause)), None)
        if last is None:
            self._queue.append(job)
            return True
        result = give_up(job, attempts, last, attempts.gave_up(last, "under an earlier driver"))
        self._record(job, result)
        self.recovered.append(f"gave {name} up: {result.reason}")
        return False
