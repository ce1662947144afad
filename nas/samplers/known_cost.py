"""An Optuna sampler for an expensive first objective and others that are known before a trial is run.

Networks are the case in point: parameters and multiply-adds follow from the choices, only accuracy has to be trained for. A
Gaussian process (`process`) models the first objective alone, with the exact costs among its inputs; what is proposed
maximises the expected hypervolume improvement with only that objective random, in closed form (`improvement`), among
mutations and crossovers of the front and random candidates (`candidates`). Trials that are running are filled in by draws
from the posterior, so that parallel workers get different candidates.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from threadpoolctl import ThreadpoolController

from nas.samplers.domain import Declared, Domain, Flat, Params, completed
from nas.samplers.history import PROPOSED, Curve, History
from nas.samplers.known_functions import Oracle
from nas.samplers.proposal import Method, Search
from nas.spaces.space import SearchSpace


@functools.cache
def _libraries() -> ThreadpoolController:
    """The linear algebra of NumPy and SciPy. On matrices as small as a sampler's, a second thread only waits for the first."""
    return ThreadpoolController()


class KnownCostSampler(BaseSampler):
    """Proposes what is expected to enlarge the front most, costs being known.

    costs(params) -> the exact values of the study's objectives after the first, all minimised. Positive costs are compared by
    ratio, negative ones by difference; a candidate of NaN or infinite cost is never proposed; KeyError says that these
    params are too few to tell. feasible(params) -> whether a candidate may be proposed at all.

    seed: a proposal is a function of the seed, the trial's number and the study's trials as its storage has them, also in another
    process, after unpickling, and in whatever order trials finished; on one machine and with one set of libraries, since others
    may round differently. Drawn at random if None, and kept by copies.
    space: a `SearchSpace`, or Optuna distributions by name that all exist always; inferred from the trials if not given.
    identity(params) -> what equal candidates have in common (a digest), so that none is proposed twice under two names.
    features(params) -> further exact numbers of a candidate that its quality may depend on.
    measured: places, among the study's objectives, of those that `costs` leaves out because they are measured: modelled too.
    curve(trial) -> values of the first objective by the fidelity, in (0, 1), at which a finished trial had them: what is learnt from
    pruned trials (`partial`), which teach nothing without it. They are never taken for final values.
    startup: trials before the model takes over; chosen by the number of parameters unless given.
    exploration: share of proposals after those that are made as they were.
    cost_features, mutation, acquisition: parts of the method that can be left out (`nas.samplers.proposal.Method`).

    ValueError, when the study first asks, for a study without costs, a maximised cost, or another number of costs.
    """

    def __init__(
        self,
        costs: Callable[[Params], Sequence[float]],
        *,
        feasible: Callable[[Params], bool] | None = None,
        seed: int | None = None,
        space: SearchSpace | Mapping[str, BaseDistribution] | None = None,
        identity: Callable[[Params], Hashable] | None = None,
        features: Callable[[Params], Sequence[float]] | None = None,
        measured: Sequence[int] = (),
        startup: int | None = None,
        exploration: float = 0.03,
        curve: Curve | None = None,
        cost_features: bool = True,
        mutation: bool = True,
        acquisition: str = "ehvi",
    ) -> None:
        self._seed = random.SystemRandom().randrange(1 << 31) if seed is None else int(seed)
        self._oracle = Oracle(costs, feasible, identity, features)
        self._declared: Domain | None = (
            None if space is None else Declared(space) if isinstance(space, SearchSpace) else Flat(space)
        )
        self._measured, self._curve = tuple(sorted(measured)), curve
        self._method = Method(startup, exploration, cost_features, mutation, acquisition)
        self._lock = threading.RLock()
        # The storage itself, not its id(), which the next study's may have once this one's is gone.
        self._study: tuple[BaseStorage, int] | None = None
        self._history: History | None = None
        self._search: Search | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters known by now, conditional ones included."""
        with self._lock:
            history, _ = self._of(study)
            history.update(study, trial.number)
            return {name: dimension.distribution for name, dimension in history.domain.dimensions.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A candidate, whole: values of the parameters that exist beside one another."""
        if not search_space:
            return {}
        with self._lock, _libraries().limit(limits=1, user_api="blas"):
            history, search = self._of(study)
            history.update(study, trial.number)
            rng = random.Random(f"{self._seed}:{trial.number}")
            fixed = trial.system_attrs.get("fixed_params")
            params = completed(history.domain, fixed, rng) if fixed else search.propose(trial.number, rng)
            # The next proposals keep away from it, also those of other processes, before it has asked for all of this.
            study._storage.set_trial_system_attr(trial._trial_id, PROPOSED, params)
            # Another thread may have learnt of parameters since this trial's space was inferred.
            return {name: value for name, value in params.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parameter that was not known when the trial was begun: at random."""
        own = RandomSampler(seed=random.Random(f"{self._seed}:{trial.number}:{param_name}").getrandbits(32))
        return own.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Nothing: proposals are seeded by the trial's number, which no other worker of the study has."""

    def __getstate__(self) -> dict[str, Any]:
        # What a study has taught is read from it again.
        left_out = {"_lock", "_study", "_history", "_search"}
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._study = self._history = self._search = None

    def _of(self, study: Study) -> tuple[History, Search]:
        """What is remembered of this study; begun anew if it is another one than before."""
        known = self._study is not None and self._study[0] is study._storage and self._study[1] == study._study_id
        if self._history is None or self._search is None or not known:
            self._study = study._storage, study._study_id
            sign = _check(study.directions, self._measured)
            exact = [k for k in range(1, len(study.directions)) if k not in self._measured]
            self._history = History(self._declared, self._oracle, sign, self._curve)
            self._search = Search(self._history, self._oracle, exact, list(self._measured), self._method, self._seed)
        return self._history, self._search


def _check(directions: Sequence[StudyDirection], measured: Sequence[int]) -> float:
    """The sign that turns the first objective into a quality. ValueError for what this sampler is not for."""
    if len(directions) < 2:
        raise ValueError(
            "KnownCostSampler is for studies of an expensive objective and at least one known cost; this study has one objective"
        )
    for place, direction in enumerate(directions[1:], 1):
        if direction != StudyDirection.MINIMIZE:
            raise ValueError(
                f"objective {place} of the study is maximised; those after the first are costs, to be minimised"
            )
    if any(not 1 <= place < len(directions) for place in measured):
        raise ValueError(
            f"measured={tuple(measured)}: places of objectives after the first, 1 to {len(directions) - 1}"
        )
    return 1.0 if directions[0] == StudyDirection.MAXIMIZE else -1.0
