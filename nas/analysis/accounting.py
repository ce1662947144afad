"""Time of the workers by use: trainings of the search by their end, trainings of `nas confirm`, and overhead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.runs.run import Run

FATES = ("complete", "stopped", "failed", "running")
AGAIN = "further seeds"


@dataclass(frozen=True, slots=True)
class Item:
    """Seconds of workers for one use. trials: how many trials (for `AGAIN`: trainings) they were spent on; 0 for overhead."""

    name: str
    seconds: float
    trials: int


@dataclass(frozen=True, slots=True)
class Account:
    """`items` are the trainings, followed by orchestration and start-up of the sessions that ended normally.

    orchestration: workers' seconds without a training, between the first and the last trial of the search. start-up: the
    driver's start-up time multiplied by the workers. unaccounted: whether a session was killed before it recorded these two.
    For `nas confirm` only the trainings are known.
    """

    items: tuple[Item, ...]
    sessions: int
    unaccounted: bool

    @property
    def seconds(self) -> float:
        return sum(item.seconds for item in self.items)


def account(run: Run) -> Account:
    """The run's account; without items if nothing was trained."""
    items = []
    baselines = [trial for trial in run.baselines() if trial.epochs]
    if baselines:
        items.append(Item("baselines", sum(trial.seconds for trial in baselines), len(baselines)))
    for fate in FATES:
        trials = [trial for trial in run.trials if trial.state == fate and trial.epochs and not trial.label]
        if trials:
            items.append(Item(fate, sum(trial.seconds for trial in trials), len(trials)))
    trained = sum(item.seconds for item in items)
    again = [repeat.seconds for trial in run.trials for repeat in trial.repeats]
    if again:
        items.append(Item(AGAIN, sum(again), len(again)))
    accounted = sum(float(session["training_seconds"]) for session in run.sessions)
    if run.sessions and items:
        capacity = sum(float(session["search_seconds"]) * float(session["workers"]) for session in run.sessions)
        startup = sum(float(session["startup_seconds"]) * float(session["workers"]) for session in run.sessions)
        items += [Item("orchestration", max(0.0, capacity - accounted), 0), Item("start-up", startup, 0)]
    return Account(tuple(items), len(run.sessions), bool(items) and trained > 1.02 * accounted + 1)
