"""A run, read from its folder: its trials, its front, its best networks. Reading changes nothing and needs no lock."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from nas.pareto.objectives import Objective
from nas.pareto.volume import hypervolume_history
from nas.runs import ranking
from nas.runs.attempts import frequent
from nas.runs.layout import LOCK
from nas.runs.lock import doing, held
from nas.runs.records import LATENCY, Estimate, State, Trial
from nas.runs.repeats import asked, with_repeats
from nas.runs.settings import Settings
from nas.runs.trial_reader import read_baselines, read_sessions, read_trials
from nas.utils.text import counted

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its folder says it is at the moment of reading.

    `trials` holds every trial by number, known networks trained as baselines with the numbers -1, -2, ...
    `reference` is the hypervolume's, in the order of `objectives`: chance accuracy and the space's largest costs.
    `by_means` says whether networks are ranked by means over further seeds: once `nas confirm` is done with the front as searched.
    """

    path: Path
    config: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    reference: tuple[float, ...]
    trials: tuple[Trial, ...]
    active: bool  # a driver holds the run's lock
    sessions: tuple[
        Mapping[str, Any], ...
    ] = ()  # time accounting of each driver that ended in order: see nas.searching.search
    confirming: tuple[int, float] | None = (
        None  # what holds the lock is `nas confirm`, with so many seeds and within such a share
    )
    by_means: bool = dataclasses.field(init=False, default=False)

    def __post_init__(self) -> None:
        confirmed = any(trial.repeats for trial in self.trials) and ranking.is_confirmed(self.searched_front())
        object.__setattr__(self, "by_means", confirmed)

    def __repr__(self) -> str:
        best = max((self.accuracy(trial) or 0.0 for trial in self.ranked()), default=None)
        best_text = "" if best is None else f", best accuracy {best:.2%}, {len(self.front())} on the front"
        trained, planned = self.count("complete"), self.config["trials"]
        return f"<Run {self.path}: {self.status}, {trained} of {planned} trials complete{best_text}>"

    @property
    def directions(self) -> tuple[str, ...]:
        return tuple(objective.direction for objective in self.objectives)

    def complete(self) -> list[Trial]:
        """Trials trained to the end, baselines first."""
        return [trial for trial in self.trials if trial.values is not None]

    def no_front(self, to: str = "") -> str:
        """Why there is no front, in words, where no trial is complete; to: what it was wanted for, as "to export"."""
        yet, wanted = "" if self.status == "done" else " yet", f" {to}" if to else ""
        why = f"; {failures}" if (failures := self.failures()) else ""
        return f"no trial is complete{yet}, so that there is no front{wanted}{why}"

    def failures(self) -> str:
        """How many trials, baselines too, failed, and what for most often; "" if none did."""
        reasons = [trial.reason for trial in self.trials if trial.state == "failed"]
        return f"{counted(len(reasons), 'trial')} failed, {frequent(reasons)}" if reasons else ""

    def ranked(self) -> list[Trial]:
        """The trials that are ranked: the confirmed ones if that goes by means, else all complete ones; baselines first."""
        return [trial for trial in self.complete() if trial.confirmed] if self.by_means else self.complete()

    def accuracy(self, trial: Trial) -> float | None:
        """What a trial is ranked by: its mean over further seeds if that goes by means and it has one, else the search's accuracy."""
        return trial.confirmed.mean if trial.confirmed and self.by_means else trial.accuracy

    def values(self, trial: Trial) -> tuple[float, ...]:
        """A complete trial's values in the order of the objectives, with the accuracy that it is ranked by."""
        assert trial.values is not None
        return ranking.mean_values(trial) if trial.confirmed and self.by_means else trial.values

    def front(self) -> list[Trial]:
        """Non-dominated networks among the ranked ones, by rising first cost; of several with equal values all are kept."""
        return ranking.confirmed_front(self.trials, self.directions) if self.by_means else self.searched_front()

    def searched_front(self) -> list[Trial]:
        """The front by the search's accuracies alone, of one training each."""
        return ranking.searched_front(self.trials, self.directions)

    def to_confirm(self, within: float) -> list[Trial]:
        """What `nas confirm` trains again: complete trials within a share of accuracy of the front as searched, and the baselines."""
        near = {trial.number for trial in ranking.near(self.trials, self.directions, within)}
        return [trial for trial in self.complete() if trial.number in near or trial.label]

    def confirmed_so_far(self) -> tuple[int, int] | None:
        """How many trainings of the current confirmation have ended, and of how many; None if none is running."""
        if self.confirming is None:
            return None
        seeds, within = self.confirming
        wanted, first = self.to_confirm(within), self.config["seed"] + 1
        ended = sum(first <= repeat.seed < first + seeds for trial in wanted for repeat in trial.repeats)
        return ended, seeds * len(wanted)

    def as_searched(self) -> Run:
        """The run without further seeds, for comparison with runs that were not confirmed."""
        return dataclasses.replace(self, trials=tuple(dataclasses.replace(trial, repeats=()) for trial in self.trials))

    def fall(self) -> Estimate | None:
        """By how much the accuracies of the front as searched fell to their means, over its networks; None below two confirmed."""
        return ranking.fall(self.searched_front())

    def asked(self) -> list[Trial]:
        """All trials in the order in which they were asked for, baselines first.

        Not by the time at which they ended: clocks are set during a run, and differ between machines.
        """
        baselines = sorted(self.baselines(), key=lambda trial: -trial.number)
        return [*baselines, *(trial for trial in self.trials if not trial.label)]

    def baselines(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.label]

    def trial(self, number: int) -> Trial:
        """The trial with this number; UsageError if the run has none such."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise UsageError(f"{self.path}: no trial {number}; the run has {len(self.trials)} so far")

    def best(
        self, max_params: float | None = None, max_macs: float | None = None, max_latency_ms: float | None = None
    ) -> Trial:
        """The ranked trial of the highest validation accuracy within the bounds, the cheaper one if two are equal."""
        fitting = [
            trial
            for trial in self.ranked()
            if (max_params is None or trial.cost.params <= max_params)
            and (max_macs is None or trial.cost.macs <= max_macs)
            and (max_latency_ms is None or trial.price(LATENCY) <= max_latency_ms)
        ]
        if not fitting:
            named = (("params", max_params), ("macs", max_macs), (LATENCY, max_latency_ms))
            bounds = [
                f"{name} <= {value:,g}" if name == LATENCY else f"{name} <= {value:,.0f}"
                for name, value in named
                if value is not None
            ]
            which = "confirmed" if self.by_means else "complete"
            within = f" with {' and '.join(bounds)}" if bounds else ""
            raise UsageError(f"{self.path}: no {which} trial{within}")
        return max(fitting, key=lambda trial: (self.accuracy(trial) or 0.0, -trial.cost.macs))

    def count(self, state: State) -> int:
        """Trials of the search (not baselines) in this state."""
        return sum(trial.state == state for trial in self.trials if not trial.label)

    @property
    def trained(self) -> int:
        """Trials of the search that were trained: to their end, or until they were stopped early."""
        return self.count("complete") + self.count("stopped")

    @property
    def status(self) -> str:
        """`running`, `confirming` (`nas confirm` is at work), `done`, or `unfinished` (`nas resume` continues it)."""
        if self.active:
            return "running" if self.confirming is None else "confirming"
        # A space that holds no further network within the budgets is done with fewer trials.
        waiting = self.count("running") + sum(trial.state == "running" for trial in self.baselines())
        exhausted = bool(self.sessions) and self.sessions[-1].get("exhausted", False)
        return "done" if (exhausted or self.trained >= self.config["trials"]) and not waiting else "unfinished"

    def hypervolume_history(self) -> NDArray[np.float64]:
        """Hypervolume after each complete trial, in the order of `asked`: accuracy, and log10 of the costs."""
        complete = [trial for trial in self.asked() if trial.values is not None]
        if not complete:
            return np.zeros(0)
        values, reference = self._values(complete), np.array(self.reference, dtype=np.float64)
        values[:, 1:], reference[1:] = np.log10(values[:, 1:]), np.log10(reference[1:])
        return hypervolume_history(values, reference, self.directions)

    def dataframe(self) -> pandas.DataFrame:
        """One row a trial: number, state, label, accuracy, exact costs, training seconds, reason, digest, and each choice.

        accuracy is the search's; accuracy_mean, accuracy_std_error, accuracy_seeds are over further seeds: NaN and 0 if not confirmed.
        latency_ms: where the run measures it.
        executed_macs: the mean measured on the validation images for dynamic networks, NaN for static ones.
        """
        import pandas

        rows = []
        for trial in self.trials:
            row = {
                "number": trial.number,
                "state": trial.state,
                "label": trial.label,
                "accuracy": trial.accuracy,
                "accuracy_mean": trial.confirmed.mean if trial.confirmed else math.nan,
                "accuracy_std_error": trial.confirmed.std_error if trial.confirmed else math.nan,
                "accuracy_seeds": trial.confirmed.n if trial.confirmed else 0,
                "params": trial.cost.params,
                "macs": trial.cost.macs,
                "activations": trial.cost.activations,
                **({"latency_ms": trial.price("latency_ms")} if self.config["latency"] else {}),
                "executed_macs": trial.executed.macs if trial.executed else math.nan,
                "epochs": len(trial.epochs),
                "seconds": trial.seconds,
                "reason": trial.reason,
                "cause": trial.cause,
                "attempts": trial.attempts,
                "digest": trial.digest,
            }
            rows.append({**row, **trial.choices})
        return pandas.DataFrame(rows)

    @staticmethod
    def _values(trials: list[Trial]) -> NDArray[np.float64]:
        return np.array([trial.values for trial in trials], dtype=np.float64)


def load_run(path: str | Path, storage: str | None = None) -> Run:
    """The run in a folder: done, still going, or died. UsageError if the folder holds none.

    storage: the whole URL of its study's database, where `run.yaml` may not keep the password; else that in $NAS_STORAGE.
    """
    folder = Path(path).absolute()
    settings = Settings.load(folder)
    objectives = settings.parsed_objectives()
    trials = [*read_baselines(folder, settings, objectives), *read_trials(folder, settings, storage)]
    active = locked(folder)
    return Run(
        folder,
        settings.to_dict(),
        objectives,
        tuple(settings.reference),
        tuple(with_repeats(folder, trials)),
        active,
        tuple(read_sessions(folder)),
        asked(doing(folder / LOCK)) if active else None,
    )


def locked(folder: Path) -> bool:
    """Whether a driver holds the run's lock."""
    return held(folder / LOCK)
