"""How a run ranks its networks: by the one training that the search gave each, or by means over further seeds (`nas confirm`).

The best of many single trainings are the best partly by luck (the winner's curse), so that the accuracies that put networks on a front
are too high on average. The means leave those trainings out and are free of that choice, at first order: choosing among the
few that were confirmed flatters again, by less. A network that was trained once can't be compared with a mean; once the front is
confirmed, only confirmed networks are ranked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.pareto.dominance import front
from nas.runs.records import Estimate, Trial


def searched_front(trials: Sequence[Trial], directions: Sequence[str]) -> list[Trial]:
    """Non-dominated complete trials by the search's accuracy and their costs, by rising first cost; of equal ones all."""
    complete = [trial for trial in trials if trial.values is not None]
    return _front(complete, [trial.values for trial in complete if trial.values], directions)


def confirmed_front(trials: Sequence[Trial], directions: Sequence[str]) -> list[Trial]:
    """The same of the confirmed trials alone, by the means of their accuracies."""
    complete = [trial for trial in trials if trial.values is not None and trial.confirmed is not None]
    return _front(complete, [mean_values(trial) for trial in complete], directions)


def mean_values(trial: Trial) -> tuple[float, ...]:
    """A confirmed trial's values in the order of the objectives, with its mean for the search's accuracy."""
    assert trial.values is not None and trial.confirmed is not None
    return (trial.confirmed.mean, *trial.values[1:])


def is_confirmed(searched: Sequence[Trial]) -> bool:
    """Whether each of a front as searched was trained from two further seeds at least, whatever came of it, and one of them has a mean."""
    return all(len(trial.repeats) > 1 for trial in searched) and any(trial.confirmed for trial in searched)


def near(trials: Sequence[Trial], directions: Sequence[str], within: float) -> list[Trial]:
    """Complete trials that would be on the front as searched with `within` more accuracy (a share), those on it among them.

    Each for itself: the others keep theirs. In the order of the trials.
    """
    members = searched_front(trials, directions)
    if not members:
        return []
    best = np.array([trial.values for trial in members], dtype=np.float64)
    chosen = []
    for trial in trials:
        if trial.values is None:
            continue
        values = np.array(trial.values, dtype=np.float64)
        values[0] += within
        no_worse = (best[:, 0] >= values[0]) & (best[:, 1:] <= values[1:]).all(axis=1)
        better = (best[:, 0] > values[0]) | (best[:, 1:] < values[1:]).any(axis=1)
        if not (no_worse & better).any():
            chosen.append(trial)
    return chosen


def lacking(trial: Trial, searched: Sequence[Trial]) -> float:
    """How much accuracy (a share) a complete trial lacks to be on the front as searched; 0 if it is on it."""
    assert trial.values is not None
    cheaper = [
        other.values[0]
        for other in searched
        if other.values and all(a <= b for a, b in zip(other.values[1:], trial.values[1:], strict=True))
    ]
    return max([0.0, *(accuracy - trial.values[0] for accuracy in cheaper)])


def contenders(trials: Sequence[Trial], confirmed: Sequence[Trial], off: float) -> list[Trial]:
    """Complete trials without a mean that no member of the front by means dominates, with `off` taken off their accuracy."""
    members = [mean_values(trial) for trial in confirmed]
    chosen = []
    for trial in trials:
        if trial.values is None or trial.repeats:
            continue
        accuracy, *costs = trial.values
        rivals = [means[0] for means in members if all(a <= b for a, b in zip(means[1:], costs, strict=True))]
        if all(accuracy - off > rival for rival in rivals):
            chosen.append(trial)
    return chosen


def fall(searched: Sequence[Trial]) -> Estimate | None:
    """By how much the accuracies of a front as searched fell to their means: mean over the networks that the search chose (baselines
    it did not), standard error over them. None below two.
    """
    chosen = (trial for trial in searched if not trial.label)
    falls = [
        trial.accuracy - trial.confirmed.mean for trial in chosen if trial.accuracy is not None and trial.confirmed
    ]
    return Estimate.of(falls) if len(falls) > 1 else None


def _front(trials: Sequence[Trial], values: Sequence[tuple[float, ...]], directions: Sequence[str]) -> list[Trial]:
    return [trials[k] for k in front(np.array(values, dtype=np.float64), directions)] if trials else []
