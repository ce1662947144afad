"""Early stopping in a run: the curves in its folder are what `nas.stopping.policies` decides by, and a decision is on the disk before it
acts.

Behind each rung a trial's folder has `stopping.json`, the decisions about it so far. A stop is the trial's `result.json`, state
`stopped`, with the epochs that it reached: written before the executor is told, so that whoever comes after a killed driver
finds it and neither trains the trial on nor loses it. Decisions go by the trial's own key and epoch, whoever trains it. Where
hours were promised, what would run on far behind them is stopped the same way, whatever its chances.
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
    """Told of each epoch by an executor, in the driver's process; says whether the trial stops behind it."""

    def __init__(
        self, folder: Path, settings: Settings, storage: str | None = None, clock: Clock | None = None
    ) -> None:
        self._clock = clock
        policy = settings.stopping_policy()
        self.active = policy.name != "none"
        self.objectives = settings.parsed_objectives()
        self.epochs = settings.training_recipe().epochs
        self.state = Stopping(policy, self.epochs, settings.seed, exempt=lambda key: key.startswith("baseline:"))
        self._running: dict[str, list[Epoch]] = {}  # so far, of those that are not at their end
        self._decisions: dict[str, list[Decision]] = {}
        if self.active:
            self._restore(folder, settings, storage)

    def stops(self, job: Job, epoch: Epoch) -> bool:
        """Whether a trial stops behind this epoch of its; if so, its result says so. NasError if that can't be written."""
        late = self._clock is not None and epoch.number < self.epochs and self._clock.over(epoch.seconds)
        if not self.active and not late:
            return False
        epochs = self._running.get(job.key, [])[: epoch.number - 1]
        if len(epochs) < epoch.number - 1:
            # A worker that died had saved more than it had reported.
            saved = read_json(job.folder / EPOCHS)
            epochs = [Epoch.from_dict(own) for own in saved[: epoch.number - 1]] if isinstance(saved, list) else []
        if [own.number for own in epochs] != list(range(1, epoch.number)):
            return False  # not to be judged by half a curve
        epochs = [*epochs, epoch]
        if late and not job.baseline:
            reason = f"after epoch {epoch.number} of {self.epochs}: the hours were over"
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
        write_json(job.folder / DECISIONS, [own.to_dict() for own in decisions])
        if decision.stop:
            self._decided(job, epochs, decision).write(job.folder)
        return decision.stop

    def ended(self, job: Job, result: TrialResult) -> None:
        """What became of a trial, whoever ended it."""
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
        """Write the result of a stop that was decided; the study tells it when it comes to the trial."""
        key = str(trial.number)
        job = Job(key, folder / TRIALS / key, trial.architecture, self.state.seed)
        self._decided(job, trial.epochs[: decision.epoch], decision).write(job.folder)

    def _restore(self, folder: Path, settings: Settings, storage: str | None) -> None:
        """Curves and decisions of earlier drivers, in the order in which the trials began."""
        baselines, trials = read_baselines(folder, settings, self.objectives), read_trials(folder, settings, storage)
        for trial in [*reversed(baselines), *trials]:
            if trial.state not in ("running", "complete", "stopped") or not trial.epochs:
                continue
            key = f"baseline:{trial.label}" if trial.label else str(trial.number)
            epochs, decisions = list(trial.epochs), list(trial.decisions)
            if decisions and decisions[-1].stop and trial.state == "running":
                # The driver was killed between a stop and its result; what was trained since, by a worker of its, is left out.
                if len(epochs) >= decisions[-1].epoch:
                    self._finish(folder, trial, decisions[-1])
                    continue
                decisions.pop()
            # What was decided behind an epoch that has to be trained again stays decided.
            decided = max((own.epoch for own in decisions), default=0)
            self.state.add(
                key, self._curve(Candidate.of(trial.architecture, trial.latency), epochs, trial.state), decided
            )
            if trial.state == "running":
                self._running[key], self._decisions[key] = epochs, decisions
