"""An Optuna sampler for an expensive first objective and further objectives that are known before a trial is run.

For networks, parameters and multiply-adds follow from the choices; only the accuracy requires training. A Gaussian process
(`gaussian_process`) models the first objective; the exact costs are among its inputs. The proposal maximizes the expected
hypervolume improvement, in closed form because only that objective is random (`expected_improvement`). The maximum is taken over
mutations and crossovers of the front and random candidates (`candidates`). Results of running trials are drawn from the posterior,
so that parallel workers get different candidates.
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
from nas.samplers.optuna_internals import enqueued_params, set_system_attribute, storage_of, study_id
from nas.samplers.proposal import Method, Search
from nas.spaces.space import SearchSpace


@functools.cache
def _libraries() -> ThreadpoolController:
    """The BLAS libraries of NumPy and SciPy. On the small matrices of a sampler, more than one thread only adds waiting time."""
    return ThreadpoolController()


class KnownCostSampler(BaseSampler):
    """Proposes the candidate with the highest expected hypervolume improvement, given exact costs.

    costs(params) -> exact values of the study's objectives after the first, all minimized. Positive costs are compared by ratio,
    negative ones by difference. A candidate with NaN or infinite cost is never proposed. KeyError: the params are incomplete.
    feasible(params) -> whether a candidate may be proposed.

    seed: a proposal is a function of the seed, the trial's number, and the study's trials in its storage. It does not depend on the
    process, on pickling, or on the order in which trials finished. It may differ between machines and library versions, which round
    differently. None: drawn at random; copies keep it.
    space: a `SearchSpace`, or a mapping from names to Optuna distributions without conditions; default: inferred from the trials.
    identity(params) -> a value (such as a digest) that is equal for equal networks, so that none is proposed twice under two encodings.
    features(params) -> further exact numbers on which the quality of a candidate may depend.
    measured: indices, among the study's objectives, of costs that are measured. `costs` omits them, and a model predicts them.
    curve(trial) -> values of the first objective of a finished trial by fidelity, in (0, 1). The model learns from pruned trials only
    with this function (`partial_curves`), and never takes their values for final ones.
    startup: trials before the first modeled one; default: by the number of parameters.
    exploration: share of later proposals that are made like those of the start.
    cost_features, mutation, acquisition: parts of the method that can be switched off (`nas.samplers.proposal.Method`).

    ValueError, at the first proposal, for a study without costs, a maximized cost, or a wrong number of costs.
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
        # The storage itself, not its id(), which a later storage may reuse.
        self._study: tuple[BaseStorage, int] | None = None
        self._history: History | None = None
        self._search: Search | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters known so far, including conditional ones."""
        with self._lock:
            history, _ = self._of(study)
            history.update(study, trial.number)
            return {name: dimension.distribution for name, dimension in history.domain.dimensions.items()}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Params:
        """A complete candidate: the values of all parameters that exist for it."""
        if not search_space:
            return {}
        with self._lock, _libraries().limit(limits=1, user_api="blas"):
            history, search = self._of(study)
            history.update(study, trial.number)
            rng = random.Random(f"{self._seed}:{trial.number}")
            fixed = enqueued_params(trial)
            params = completed(history.domain, fixed, rng) if fixed else search.propose(trial.number, rng)
            # Proposals, also of other processes, avoid this candidate even before the trial has requested all its params.
            set_system_attribute(study, trial, PROPOSED, params)
            # Another thread may have learned of parameters since this trial's space was inferred.
            return {name: value for name, value in params.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value of a parameter that was unknown when the trial began."""
        sampler = RandomSampler(seed=random.Random(f"{self._seed}:{trial.number}:{param_name}").getrandbits(32))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Does nothing: proposals are seeded by the trial's number, which is unique in the study."""

    def __getstate__(self) -> dict[str, Any]:
        # The history is read again from the study.
        left_out = {"_lock", "_study", "_history", "_search"}
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._study = self._history = self._search = None

    def _of(self, study: Study) -> tuple[History, Search]:
        """The history and search of this study; new ones if it is not the study of the previous call."""
        storage, number = storage_of(study), study_id(study)
        known = self._study is not None and self._study[0] is storage and self._study[1] == number
        if self._history is None or self._search is None or not known:
            self._study = storage, number
            sign = _check(study.directions, self._measured)
            exact = [k for k in range(1, len(study.directions)) if k not in self._measured]
            self._history = History(self._declared, self._oracle, sign, self._curve)
            self._search = Search(self._history, self._oracle, exact, list(self._measured), self._method, self._seed)
        return self._history, self._search


def _check(directions: Sequence[StudyDirection], measured: Sequence[int]) -> float:
    """The sign that turns the first objective into a quality. ValueError for a study that this sampler does not support."""
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
