"""Counts of a run's trials by outcome, and the result of a trial that is given up."""

from __future__ import annotations

from dataclasses import dataclass

from nas.execution.job import Job
from nas.runs.attempts import Attempts, Cause
from nas.runs.records import TrialResult
from nas.training.records import EPOCHS, Epoch
from nas.utils.files import read_json


@dataclass(slots=True)
class Counts:
    """Numbers of the run's candidates by outcome, without the baselines."""

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
    """Write the result of a job that failed for good, with the epochs that its workers saved. attempts: all of them."""
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
