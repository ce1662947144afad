"""The events that an executor reports while trials run, and the protocol of their receiver."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from nas.execution.job import Job
from nas.runs.records import TrialResult
from nas.training.records import Epoch


class Monitor(AbstractContextManager["Monitor"], Protocol):
    """Receives the events of an executor in the driver's process, as a context manager around the training."""

    training_seconds: float  # of all epochs so far

    def load(self, finished: list[tuple[str, tuple[float, ...]]]) -> None:
        """Keys and objective values of the trials that earlier sessions of the run completed."""

    def started(self, job: Job) -> None: ...

    def epoch(self, job: Job, epoch: Epoch) -> None: ...

    def ended(self, job: Job, result: TrialResult) -> None: ...

    def note(self, text: str) -> None: ...
