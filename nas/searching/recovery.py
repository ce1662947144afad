"""Recovers the trials of earlier sessions when a driver opens a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nas.execution.job import Job
from nas.runs.layout import ATTRIBUTE, BASELINES
from nas.runs.records import Candidate
from nas.runs.settings import Settings
from nas.runs.trial_reader import read_candidate
from nas.searching.candidate_gate import Gate
from nas.searching.telling import Outcomes
from nas.utils.validation import reading

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

OUTCOME_OF_STATE = {"COMPLETE": "complete", "PRUNED": "stopped"}  # every other state: failed


def baseline_jobs(folder: Path, settings: Settings, gate: Gate) -> Iterator[Job]:
    """A job for each baseline without a result. All baselines are registered at the gate."""
    for entry in settings.baselines:
        name, architecture = entry.name, entry.network()
        gate.register(architecture.digest, f"baseline {name}")
        job = Job(f"baseline:{name}", folder / BASELINES / name, architecture, settings.seed)
        if job.result is None:
            yield job


def unfinished_trials(
    trials: Iterable[FrozenTrial], where: str, gate: Gate, outcomes: Outcomes, recovered: list[str]
) -> Iterator[tuple[int, Candidate]]:
    """Number and candidate of each trial that was in flight when the last driver ended.

    The other trials are counted by their outcomes. A trial whose proposal was incomplete is closed, with a note in `recovered`.
    """
    from optuna.trial import TrialState

    for trial in trials:
        candidate = None
        if ATTRIBUTE in trial.user_attrs:
            with reading(where):
                candidate = read_candidate(trial, outcomes.objectives)
        running = trial.state == TrialState.RUNNING
        if running and (candidate is None or candidate.outcome):
            outcomes.tell_untrained(trial.number, candidate.outcome if candidate else "")
            recovered.append(f"closed trial {trial.number}, whose proposal was incomplete when the driver died")
        if candidate is None:
            continue
        if candidate.outcome:
            outcomes.counts.count(candidate.outcome)
            continue
        gate.register(candidate.digest, f"trial {trial.number}")
        if running:
            yield trial.number, candidate
        else:
            outcomes.counts.count(OUTCOME_OF_STATE.get(trial.state.name, "failed"))
