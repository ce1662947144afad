"""What the trials of a study say: observations of candidates, and what was proposed already."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.domain import Domain, Inferred, Params
from nas.samplers.oracle import Oracle
from nas.samplers.process import Floats


@dataclass(frozen=True, slots=True)
class Observation:
    """A complete trial: quality is the first objective, negated if it is minimised; costs are the others as measured."""

    params: Params
    identity: Hashable
    quality: float
    costs: tuple[float, ...]


class History:
    """Trials of one study, each finished one read once. `update` before use."""

    def __init__(self, declared: Domain | None, oracle: Oracle, sign: float) -> None:
        self.domain: Domain = declared or Inferred()
        self.observations: list[Observation] = []
        self.seen: set[Hashable] = set()  # identities of all that ever got params, whatever became of them
        self.pending: dict[int, Params] = {}  # running trials by number
        self._oracle, self._sign = oracle, sign
        self._finished: set[int] = set()
        self._proposed: dict[int, Params] = {}

    def propose(self, number: int, params: Params) -> None:
        """Remember what a running trial was given, which may not have asked for all of it yet."""
        self._proposed[number] = params

    def proposed(self, number: int) -> Params:
        return self._proposed.get(number, {})

    def update(self, study: Study, current: int) -> bool:
        """Read the trials, but for the `current` one; whether the domain has changed."""
        trials = study.get_trials(deepcopy=False)
        fresh = [t for t in trials if t.state.is_finished() and t.number not in self._finished]
        running = [t for t in trials if t.state == TrialState.RUNNING and t.number != current]
        changed = isinstance(self.domain, Inferred) and self.domain.learn([*fresh, *running])
        for trial in fresh:
            self._take(trial)
        self.pending = {}
        for trial in running:
            params = {**self._proposed.get(trial.number, {}), **trial.params}
            if params:
                self.pending[trial.number] = params
        return changed

    def _take(self, trial: FrozenTrial) -> None:
        self._finished.add(trial.number)
        self._proposed.pop(trial.number, None)
        if not trial.params:
            return
        params = dict(trial.params)
        identity = self._oracle.identity(params)
        self.seen.add(identity)
        if trial.state != TrialState.COMPLETE or not trial.values:
            return
        if np.isfinite(trial.values).all():
            quality = self._sign * trial.values[0]
            self.observations.append(Observation(params, identity, quality, tuple(trial.values[1:])))

    def qualities(self) -> Floats:
        return np.array([own.quality for own in self.observations])


def distinct(observations: Sequence[Observation]) -> list[int]:
    """Places of the first observation of each candidate."""
    first: dict[Hashable, int] = {}
    for place, own in enumerate(observations):
        first.setdefault(own.identity, place)
    return list(first.values())
