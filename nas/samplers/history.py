"""What the trials of a study say: observations of candidates, and what was proposed already."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.domain import Domain, Key, Params, key_of
from nas.samplers.inferred import Inferred
from nas.samplers.known_functions import Oracle

PROPOSED = "known_cost:proposed"  # system attribute: what a trial was given, which it may not have asked for yet

Curve: TypeAlias = "Callable[[FrozenTrial], Mapping[float, float]]"
"""Of a finished trial: values of the first objective by the fidelity, in (0, 1), at which they were reached."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A complete trial: quality is the first objective, negated if it is minimised; costs are the others as measured.

    feasible: whether the trial kept the constraints that it recorded (`Trial.set_constraint`). curve: what the quality was at earlier
    fidelities, where the caller says.
    """

    number: int
    params: Params
    identity: Hashable
    quality: float
    costs: tuple[float, ...]
    feasible: bool = True
    curve: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stopped:
    """A pruned trial: the quality at the fidelity that it reached, which is no final one."""

    number: int
    params: Params
    fidelity: float
    quality: float


class History:
    """Trials of one study, each finished one read once. `update` before use.

    A function of the trials as the storage has them, in whatever order they finished.
    """

    def __init__(self, declared: Domain | None, oracle: Oracle, sign: float, curve: Curve | None = None) -> None:
        self.domain: Domain = declared or Inferred()
        self.observations: list[Observation] = []  # by number, as the stopped ones
        self.stopped: list[Stopped] = []
        self.running: list[int] = []  # numbers of all trials that run, rising
        self.keys: set[Key] = set()  # of the params of all observations
        self.seen: set[Hashable] = set()  # identities of all that ever got params, whatever became of them
        self.pending: dict[int, Params] = {}  # running trials by number
        self._oracle, self._sign, self._curve = oracle, sign, curve
        self._finished: set[int] = set()

    def update(self, study: Study, current: int) -> bool:
        """Read the trials, but for the `current` one; whether the domain has changed."""
        trials = study.get_trials(deepcopy=False)
        fresh = [t for t in trials if t.state.is_finished() and t.number not in self._finished]
        running = [t for t in trials if t.state == TrialState.RUNNING and t.number != current]
        changed = isinstance(self.domain, Inferred) and self.domain.learn([*fresh, *running])
        for trial in fresh:
            self._take(trial)
        self.running = [trial.number for trial in running]
        self.pending = {}
        for trial in running:
            params = {**trial.system_attrs.get(PROPOSED, {}), **trial.params}
            if params:
                self.pending[trial.number] = params
        return changed

    def _take(self, trial: FrozenTrial) -> None:
        self._finished.add(trial.number)
        if not trial.params:
            return
        params = dict(trial.params)
        identity = self._oracle.identity(params)
        self.seen.add(identity)
        curve = self._curve_of(trial)
        if trial.state == TrialState.PRUNED and curve:
            reached = max(curve)
            bisect.insort(self.stopped, Stopped(trial.number, params, reached, curve[reached]), key=number_of)
        if trial.state == TrialState.COMPLETE and trial.values and np.isfinite(trial.values).all():
            self.keys.add(key_of(params))
            quality = self._sign * trial.values[0]
            feasible = all(value <= 0.0 for value in trial.constraints.values())
            costs = tuple(trial.values[1:])
            own = Observation(trial.number, params, identity, quality, costs, feasible, curve)
            bisect.insort(self.observations, own, key=number_of)

    def _curve_of(self, trial: FrozenTrial) -> dict[float, float]:
        """Qualities by fidelity, the finite ones."""
        if self._curve is None:
            return {}
        found = {round(float(at), 6): self._sign * float(value) for at, value in self._curve(trial).items()}
        return {at: value for at, value in found.items() if np.isfinite(value)}


def number_of(own: Observation | Stopped) -> int:
    return own.number


def distinct(observations: Sequence[Observation]) -> list[int]:
    """Places of the first observation of each candidate."""
    first: dict[Hashable, int] = {}
    for place, own in enumerate(observations):
        first.setdefault(own.identity, place)
    return list(first.values())
