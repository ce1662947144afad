"""Early stopping in a run: feeds the curves in its folder to `nas.stopping.policies` and writes each decision before it takes effect.

After each rung, `stopping.json` in a trial's folder holds the decisions about the trial so far. A stop is the trial's `result.json`
with state `stopped` and the epochs that it reached. It is written before the executor learns of it, so that after a kill the next
driver neither continues nor loses the trial. A decision depends on the trial's key and epoch, not on the worker. In a run with a time
budget, a trial that would end far too late is stopped the same way, whatever its chances.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from nas.execution.clock import Clock
from nas.execution.job import Job
from nas.runs.layout import DECISIONS, TRIALS
from nas.runs.records import Candidate, Trial, TrialResult
from nas.runs.settings import Settings
from nas.runs.trial_reader import read_baselines, read_trials
from nas.stopping.curves import Curve, Decision, Point, Standing
from nas.stopping.policies import Stopping
from nas.training.records import EPOCHS, Epoch
from nas.utils.files import read_json, write_json


class EarlyStopper:
    """Receives each epoch from an executor, in the driver's process, and decides whether the trial stops after it."""

    def __init__(
        self, folder: Path, settings: Settings, storage: str | None = None, clock: Clock | None = None
    ) -> None:
        self._clock = clock
        policy = settings.stopping
        self.active = policy.name != "none"
        self.objectives = settings.parsed_objectives()
        self.epochs = settings.recipe.epochs
        self.state = Stopping(policy, self.epochs, settings.seed, exempt=lambda key: key.startswith("baseline:"))
        self._running: dict[str, list[Epoch]] = {}  # the epochs so far of trials without a result
        self._decisions: dict[str, list[Decision]] = {}
        if self.active:
            self._restore(folder, settings, storage)

    def stops(self, job: Job, epoch: Epoch) -> bool:
        """Whether a trial stops after this epoch of it; if so, its result is written. WriteError if it can't be."""
        late = self._clock is not None and epoch.number < self.epochs and self._clock.over(epoch.seconds)
        if not self.active and not late:
            return False
        epochs = self._epochs_to(job, epoch)
        if epochs is None:
            return False
        if late and not job.baseline:
            reason = f"after epoch {epoch.number} of {self.epochs}: the time budget was exhausted"
            self._stopped(job, epochs, reason).write(job.folder)
            return True
        if not self.active:
            return False
        self._running[job.key] = epochs
        self.state.add(job.key, self._curve(job.candidate, epochs, "running"))
        decision = self.state.decide(job.key)
        if decision is None:
            return False
        decisions = [*self._decisions.get(job.key, []), decision]
        self._decisions[job.key] = decisions
        write_json(job.folder / DECISIONS, [earlier.to_dict() for earlier in decisions])
        if decision.stop:
            self._decided(job, epochs, decision).write(job.folder)
        return decision.stop

    def _epochs_to(self, job: Job, epoch: Epoch) -> list[Epoch] | None:
        """The trial's epochs up to this one; None if an earlier one is missing, since half a curve can't be judged."""
        before = self._running.get(job.key, [])[: epoch.number - 1]
        if len(before) < epoch.number - 1:  # a worker that died had saved more epochs than it had reported
            saved = read_json(job.folder / EPOCHS)
            before = (
                [Epoch.from_dict(record) for record in saved[: epoch.number - 1]] if isinstance(saved, list) else []
            )
        complete = [earlier.number for earlier in before] == list(range(1, epoch.number))
        return [*before, epoch] if complete else None

    def ended(self, job: Job, result: TrialResult) -> None:
        """Record the end of a trial, whatever ended it."""
        self._running.pop(job.key, None)
        self._decisions.pop(job.key, None)
        if not self.active:
            return
        if result.failed:
            self.state.drop(job.key)
        else:
            standing: Standing = "complete" if result.completed else "stopped"
            self.state.add(job.key, self._curve(job.candidate, result.epochs, standing))

    def _curve(self, candidate: Candidate, epochs: Sequence[Epoch], standing: Standing) -> Curve:
        points = tuple(Point(epoch.accuracy, epoch.val_loss, epoch.train_loss) for epoch in epochs)
        return Curve(candidate.values(0.0, self.objectives)[1:], points, standing)

    def _decided(self, job: Job, epochs: Sequence[Epoch], decision: Decision) -> TrialResult:
        reason = f"after epoch {decision.epoch} of {self.epochs}: {decision.reason}"
        return dataclasses.replace(self._stopped(job, epochs, reason), stopping=decision)

    def _stopped(self, job: Job, epochs: Sequence[Epoch], reason: str) -> TrialResult:
        seconds = sum(epoch.seconds for epoch in epochs)
        return TrialResult(
            job.key,
            job.architecture.digest,
            "stopped",
            reason,
            seconds=seconds,
            latency=job.latency,
            epochs=tuple(epochs),
        )

    def _finish(self, folder: Path, trial: Trial, decision: Decision) -> None:
        """Write the result of a stop that an earlier driver decided; the study records it when it reaches the trial."""
        key = str(trial.number)
        job = Job(key, folder / TRIALS / key, trial.architecture, self.state.seed)
        self._decided(job, trial.epochs[: decision.epoch], decision).write(job.folder)

    def _restore(self, folder: Path, settings: Settings, storage: str | None) -> None:
        """Restore the curves and decisions of earlier drivers, in the order in which the trials began."""
        baselines, trials = read_baselines(folder, settings, self.objectives), read_trials(folder, settings, storage)
        for trial in [*reversed(baselines), *trials]:
            if trial.state not in ("running", "complete", "stopped") or not trial.epochs:
                continue
            key = f"baseline:{trial.label}" if trial.label else str(trial.number)
            epochs, decisions = list(trial.epochs), list(trial.decisions)
            if decisions and decisions[-1].stop and trial.state == "running":
                # The driver was killed between the decision and the result. Epochs that a worker trained since then are dropped.
                if len(epochs) >= decisions[-1].epoch:
                    self._finish(folder, trial, decisions[-1])
                    continue
                decisions.pop()
            # A decision stays valid if its epoch has to be trained again.
            decided = max((decision.epoch for decision in decisions), default=0)
            curve = self._curve(Candidate.of(trial.architecture, trial.latency), epochs, trial.state)
            self.state.add(key, curve, decided)
            if trial.state == "running":
                self._running[key], self._decisions[key] = epochs, decisions
