"""Reports the result of each trial to the Optuna study, once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from nas.execution.job import Job
from nas.execution.trial_results import Counts
from nas.pareto.objectives import Objective
from nas.runs.layout import ATTRIBUTE, CONFIG
from nas.runs.records import Candidate, TrialResult
from nas.samplers.optuna_internals import set_user_attribute
from nas.utils.files import write_text

if TYPE_CHECKING:
    import optuna


class Outcomes:
    """Reports to a study how its trials ended, and counts them.

    epochs: number of epochs of a full training. curves: whether completed trials keep their learning curves. A sampler that learns
    from early-stopped trials compares them with these curves.
    """

    def __init__(
        self, study: optuna.Study, counts: Counts, objectives: tuple[Objective, ...], *, epochs: int, curves: bool
    ) -> None:
        self.study, self.counts, self.objectives = study, counts, objectives
        self.epochs, self.curves = epochs, curves
        self.failures: list[str] = []  # the reasons of the trials that failed since the study was opened
        self.last_rejection = ""

    def note(self, number: int, name: str, value: object) -> None:
        """Set an attribute of a trial in any state. Optuna itself gives a `Trial` only for a trial that was just asked for."""
        set_user_attribute(self.study, number, name, value)

    def close(self, number: int, candidate: Candidate) -> None:
        """End a trial that is not trained: a rejected candidate or a duplicate."""
        if candidate.outcome == "rejected":
            self.last_rejection = candidate.reason
        self.note(number, ATTRIBUTE, candidate.to_dict())
        self.tell_untrained(number, candidate.outcome)
        self.counts.count(candidate.outcome)

    def tell_untrained(self, number: int, outcome: str) -> None:
        """PRUNED for a rejected candidate. FAIL for a duplicate and for an incomplete proposal: no sampler learns from FAIL."""
        from optuna.trial import TrialState

        self.study.tell(number, state=TrialState.PRUNED if outcome == "rejected" else TrialState.FAIL)

    def tell(self, job: Job, result: TrialResult) -> None:
        """Report the result that a worker wrote. If the trial failed, its network's config is saved in its folder for inspection."""
        if result.failed:
            network = dataclasses.replace(job.architecture, name=job.architecture.name or f"trial{job.key}")
            write_text(job.folder / CONFIG, network.to_yaml())
        if job.baseline:  # not a trial of the study
            return
        if result.failed:
            self._failed(int(job.key), result)
        elif result.stopped:
            self._stopped(job, result)
        else:
            self._complete(job, result)

    def _failed(self, number: int, result: TrialResult) -> None:
        from optuna.trial import TrialState

        self.note(number, "reason", result.reason)
        self.note(number, "attempts", _attempts(result))
        self.study.tell(number, state=TrialState.FAIL)
        self.counts.count("failed")
        self.failures.append(result.reason)

    def _stopped(self, job: Job, result: TrialResult) -> None:
        """PRUNED, with the fidelity and the accuracy that the trial reached. These are not final values."""
        from optuna.trial import TrialState

        number = int(job.key)
        partial = {"fidelity": len(result.epochs) / self.epochs, "value": result.epochs[-1].accuracy}
        self.note(number, "reason", result.reason)
        self.note(number, ATTRIBUTE, {**job.candidate.to_dict(), "partial": partial})
        self.study.tell(number, state=TrialState.PRUNED)
        self.counts.count("stopped")

    def _complete(self, job: Job, result: TrialResult) -> None:
        assert result.accuracy is not None  # a complete training has one
        number = int(job.key)
        if result.ended:
            self.note(number, "attempts", _attempts(result))
        if self.curves:
            curve = {str(epoch.number / self.epochs): epoch.accuracy for epoch in result.epochs[:-1]}
            self.note(number, ATTRIBUTE, {**job.candidate.to_dict(), "curve": curve})
        self.study.tell(number, job.candidate.values(result.accuracy, self.objectives))
        self.counts.count("complete")


def _attempts(result: TrialResult) -> dict[str, object]:
    """What the study records about attempts that ended without a result."""
    entries = {"cause": str(result.cause), "attempts": result.attempts, "ended": dict(result.ended)}
    return {name: value for name, value in entries.items() if value}
