"""The trials of a study as observations of candidates, and the candidates proposed so far."""

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

PROPOSED = (
    "known_cost:proposed"  # system attribute: all params of a trial's candidate, requested by the objective or not
)

Curve: TypeAlias = "Callable[[FrozenTrial], Mapping[float, float]]"
"""Values of the first objective of a finished trial by the fidelity, in (0, 1), at which they were reached."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A complete trial. quality: the first objective, negated if it is minimized. costs: the other objectives as reported.

    feasible: whether the trial satisfies the constraints that it recorded (`Trial.set_constraint`). curve: quality at earlier
    fidelities, if the caller supplies it.
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
    """A pruned trial. quality: at the fidelity reached, not the final one."""

    number: int
    params: Params
    fidelity: float
    quality: float


class History:
    """The trials of one study; each finished one is read once. Call `update` before use.

    The content depends on the trials in the storage alone, not on the order in which they finished.
    """

    def __init__(self, declared: Domain | None, oracle: Oracle, sign: float, curve: Curve | None = None) -> None:
        self.domain: Domain = declared or Inferred()
        self.observations: list[Observation] = []  # ordered by number, like `stopped`
        self.stopped: list[Stopped] = []
        self.running: list[int] = []  # numbers of all running trials, ascending
        self.keys: set[Key] = set()  # of the params of all observations
        self.seen: set[Hashable] = set()  # identities of all finished trials that have params, in any state
        self.pending: dict[int, Params] = {}  # running trials by number
        self._oracle, self._sign, self._curve = oracle, sign, curve
        self._finished: set[int] = set()

    def update(self, study: Study, current: int) -> bool:
        """Read all trials except the `current` one. Returns whether the domain has changed."""
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
            observation = Observation(trial.number, params, identity, quality, costs, feasible, curve)
            bisect.insort(self.observations, observation, key=number_of)

    def _curve_of(self, trial: FrozenTrial) -> dict[float, float]:
        """The finite qualities by fidelity."""
        if self._curve is None:
            return {}
        curve = {round(float(at), 6): self._sign * float(value) for at, value in self._curve(trial).items()}
        return {at: value for at, value in curve.items() if np.isfinite(value)}


def number_of(trial: Observation | Stopped) -> int:
    return trial.number


def distinct(observations: Sequence[Observation]) -> list[int]:
    """Indices of the first observation of each candidate."""
    first: dict[Hashable, int] = {}
    for place, observation in enumerate(observations):
        first.setdefault(observation.identity, place)
    return list(first.values())
