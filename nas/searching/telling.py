"""Results become Optuna's: each trial is told once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

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
    """Tells a study what became of its trials.

    epochs: of a whole training. curves: whether those that end whole keep their learning curves, which is what a sampler that
    learns from stopped ones holds these against.
    """

    def __init__(
        self, study: optuna.Study, counts: Counts, objectives: tuple[Objective, ...], *, epochs: int, curves: bool
    ) -> None:
        self.study, self.counts, self.objectives = study, counts, objectives
        self.epochs, self.curves = epochs, curves
        self.failures: list[str] = []  # why, of the trials that failed since the study was opened
        self.last_rejection = ""

    def note(self, number: int, name: str, value: Any) -> None:
        """Set an attribute of a trial, whatever its state: a `Trial` is to be had only of those that are asked for now."""
        set_user_attribute(self.study, number, name, value)

    def close(self, number: int, candidate: Candidate) -> None:
        """End a trial that is not trained: its candidate has an outcome."""
        if candidate.outcome == "rejected":
            self.last_rejection = candidate.reason
        self.note(number, ATTRIBUTE, candidate.to_dict())
        self.tell_untrained(number, candidate.outcome)
        self.counts.count(candidate.outcome)

    def tell_untrained(self, number: int, outcome: str) -> None:
        """A duplicate, and a trial that was not asked for to its end, is told as FAIL, which no sampler learns from."""
        from optuna.trial import TrialState

        self.study.tell(number, state=TrialState.PRUNED if outcome == "rejected" else TrialState.FAIL)

    def tell(self, job: Job, result: TrialResult) -> None:
        """What the worker of a job reported. The config of a network that failed is written to its folder, for a person to look into."""
        if result.failed:
            network = dataclasses.replace(job.architecture, name=job.architecture.name or f"trial{job.key}")
            write_text(job.folder / CONFIG, network.to_yaml())
        if job.baseline:  # no trial of the study
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
        """PRUNED, with the fidelity and accuracy that it reached, which nobody must take for final ones."""
        from optuna.trial import TrialState

        number = int(job.key)
        partial = {"fidelity": len(result.epochs) / self.epochs, "value": result.epochs[-1].accuracy}
        self.note(number, "reason", result.reason)
        self.note(number, ATTRIBUTE, {**job.candidate.to_dict(), "partial": partial})
        self.study.tell(number, state=TrialState.PRUNED)
        self.counts.count("stopped")

    def _complete(self, job: Job, result: TrialResult) -> None:
        assert result.accuracy is not None  # of a complete training
        number = int(job.key)
        if result.ended:
            self.note(number, "attempts", _attempts(result))
        if self.curves:
            curve = {str(epoch.number / self.epochs): epoch.accuracy for epoch in result.epochs[:-1]}
            self.note(number, ATTRIBUTE, {**job.candidate.to_dict(), "curve": curve})
        self.study.tell(number, job.candidate.values(result.accuracy, self.objectives))
        self.counts.count("complete")


def _attempts(result: TrialResult) -> dict[str, Any]:
    """What the study keeps of the attempts that ended without a result."""
    kept = {"cause": str(result.cause), "attempts": result.attempts, "ended": dict(result.ended)}
    return {name: value for name, value in kept.items() if value}
