"""How a run's trials ended: told to its Optuna study, and counted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.execution.job import Job
from nas.runs.attempts import Attempts, Cause
from nas.runs.trial_reader import read_result
from nas.training.records import EPOCHS
from nas.utils.files import read_json, write_json

if TYPE_CHECKING:
    pass


@dataclass(slots=True)
class Counts:
    """How the run's candidates ended so far; the baselines are not among them."""

    complete: int = 0
    stopped: int = 0
    failed: int = 0
    rejected: int = 0
    duplicate: int = 0

    @property
    def trained(self) -> int:
        return self.complete + self.stopped

    def count(self, outcome: str) -> None:
        setattr(self, outcome, getattr(self, outcome) + 1)


def result_of(job: Job) -> dict[str, Any] | None:
    """What a worker left at a job's end; None if there is nothing, or it is of a network that had the number before."""
    return read_result(job.folder, job.architecture.digest) or None


def give_up(job: Job, attempts: Attempts, cause: Cause, reason: str) -> None:
    """Write, in the worker's place, the result of a job that is tried no more."""
    result = {
        "key": job.key,
        "digest": job.architecture.digest,
        "state": "failed",
        "accuracy": None,
        "seconds": 0.0,
        "reason": reason,
        "cause": cause,
        "ended": attempts.ended,
        "attempts": sum(attempts.ended.values()),
        "finished": time.time(),
        **({"latency": dict(job.latency)} if job.latency else {}),
        "epochs": read_json(job.folder / EPOCHS) or [],
    }
    write_json(job.result_path, result)
