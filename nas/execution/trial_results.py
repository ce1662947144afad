"""How a run's trials ended, counted; and the result of one that is given up."""

from __future__ import annotations

from dataclasses import dataclass

from nas.execution.job import Job
from nas.runs.attempts import Attempts, Cause
from nas.runs.records import TrialResult
from nas.training.records import EPOCHS, Epoch
from nas.utils.files import read_json


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


def give_up(job: Job, attempts: Attempts, cause: Cause, reason: str) -> TrialResult:
    """Write, in the worker's place, the result of a job that is not tried again."""
    saved = read_json(job.folder / EPOCHS)
    epochs = [Epoch.from_dict(epoch) for epoch in saved] if isinstance(saved, list) else []
    result = TrialResult(
        job.key,
        job.architecture.digest,
        "failed",
        reason,
        cause=cause,
        ended=attempts.ended,
        attempts=sum(attempts.ended.values()),
        latency=job.latency,
        epochs=tuple(epochs),
    )
    result.write(job.folder)
    return result
