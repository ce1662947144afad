"""Results become Optuna's: each trial is told once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas.execution.job import Job
from nas.execution.trial_results import Counts
from nas.networks.build import cost_of
from nas.pareto.objectives import Objective
from nas.runs.layout import ATTRIBUTE, CONFIG
from nas.runs.trial_reader import objective_values
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
        self.study._storage.set_trial_user_attr(self._id(number), name, value)

    def close(self, number: int, facts: Mapping[str, Any], outcome: str, reason: str) -> None:
        """End a trial that is not trained: `rejected` or `duplicate`."""
        if outcome == "rejected":
            self.last_rejection = reason
        self.note(number, ATTRIBUTE, {**facts, "outcome": outcome, "reason": reason})
        self.tell_untrained(number, outcome)
        self.counts.count(outcome)

    def tell_untrained(self, number: int, outcome: str | None) -> None:
        """A duplicate, and a trial that was not asked for to its end, is told as FAIL, which no sampler learns from."""
        from optuna.trial import TrialState

        self.study.tell(number, state=TrialState.PRUNED if outcome == "rejected" else TrialState.FAIL)

    def tell(self, job: Job, result: Mapping[str, Any]) -> None:
        """What its worker found; the config of a network that failed is left in its folder, for a person to look into."""
        if result["state"] == "failed":
            network = dataclasses.replace(job.architecture, name=job.architecture.name or f"trial{job.key}")
            write_text(job.folder / CONFIG, network.to_yaml())
        if job.baseline:  # no trial of the study
            return
        attempts = {name: result[name] for name in ("cause", "attempts", "ended") if result.get(name)}
        if result["state"] == "failed":
            self._failed(int(job.key), result["reason"], attempts)
        elif result["state"] == "stopped":
            self._stopped(int(job.key), result)
        else:
            self._complete(job, result, attempts)

    def _failed(self, number: int, reason: str, attempts: Mapping[str, Any]) -> None:
        from optuna.trial import TrialState

        self.note(number, "reason", reason)
        self.note(number, "attempts", attempts)
        self.study.tell(number, state=TrialState.FAIL)
        self.counts.count("failed")
        self.failures.append(reason)

    def _stopped(self, number: int, result: Mapping[str, Any]) -> None:
        """PRUNED, with the fidelity and accuracy that it reached, which nobody must take for final ones."""
        from optuna.trial import TrialState

        epochs = result["epochs"]
        partial = {"fidelity": len(epochs) / self.epochs, "value": epochs[-1]["accuracy"]}
        self.note(number, "reason", result["reason"])
        self.note(number, ATTRIBUTE, {**self._facts(number), "partial": partial})
        self.study.tell(number, state=TrialState.PRUNED)
        self.counts.count("stopped")

    def _complete(self, job: Job, result: Mapping[str, Any], attempts: Mapping[str, Any]) -> None:
        number = int(job.key)
        if "ended" in attempts:
            self.note(number, "attempts", attempts)
        if self.curves:
            curve = {str(own["number"] / self.epochs): own["accuracy"] for own in result["epochs"][:-1]}
            self.note(number, ATTRIBUTE, {**self._facts(number), "curve": curve})
        values = objective_values(result["accuracy"], cost_of(job.architecture), self.objectives, job.latency_ms)
        self.study.tell(number, values)
        self.counts.count("complete")

    def _facts(self, number: int) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = self.study._storage.get_trial(self._id(number)).user_attrs[ATTRIBUTE]
        return facts

    def _id(self, number: int) -> int:
        return self.study._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
