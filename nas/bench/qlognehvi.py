"""BoTorch's qLogNEHVI with known costs, as a sampler of Optuna studies: the strongest baseline outside Optuna. Needs BoTorch.

qLogNEHVI (Ament et al., NeurIPS 2023; Daulton, Balandat and Bakshy, NeurIPS 2021) is the logarithm of the expected
improvement in hypervolume over a front that is uncertain itself, computed by Monte Carlo. A Gaussian process models the expensive
objective. A deterministic model returns log10 of each cost, as BoTorch's documentation advises for objectives of known form.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.model import ModelList
from botorch.models.transforms.input import FilterFeatures
from botorch.sampling.get_sampler import get_sampler
from botorch.utils.sampling import manual_seed
from gpytorch.mlls import ExactMarginalLogLikelihood
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.bench.baselines import Levels, Neighbourly, complete, directions, neighbours
from nas.pareto.dominance import front
from nas.samplers.domain import Params

Floats = NDArray[np.float64]
CHUNK = 256  # candidates evaluated at once


class QLogNEHVI(Neighbourly):
    """`startup` random trials, then the candidate with the highest qLogNEHVI among a pool of untried ones.

    costs(params): the objectives after the first, minimized, above 0. feasible(params): whether a candidate may be proposed.
    identity(params): equal for equal networks, of which only one is tried; default: the values of the parameters.
    pool: number of candidates, which are neighbors (one parameter changed) of the front, and random ones. samples: of Monte Carlo.

    The reference point is the largest value of each cost so far, and the 10th percentile of the first trials' qualities. The
    hyperparameters are refitted, starting at the previous ones, after each tenth more trials, as in `KnownCostSampler`.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        costs: Callable[[Params], Sequence[float]],
        *,
        feasible: Callable[[Params], bool] | None = None,
        identity: Callable[[Params], Hashable] | None = None,
        seed: int | None = None,
        startup: int = 10,
        pool: int = 512,
        samples: int = 64,
    ) -> None:
        super().__init__(distributions, seed=seed)
        for name, number, least in (("startup", startup, 2), ("pool", pool, 1), ("samples", samples, 1)):
            if number < least:
                raise ValueError(f"{name} must be at least {least}; got {number}")
        self._ranges = {
            name for name, distribution in distributions.items() if isinstance(distribution, IntDistribution)
        }
        self._costs, self._feasible = costs, feasible or (lambda _: True)
        self._identity = identity or (lambda params: tuple(sorted(params.items())))
        self._startup, self._pool, self._samples = startup, pool, samples
        self._hyperparameters: dict[str, torch.Tensor] = {}
        self._fitted_at = 0  # trials

    def propose(self, study: Study, levels: Levels, rng: random.Random) -> Params:
        done = [trial for trial in complete(study, levels) if self._feasible(trial.params)]
        if len(done) < self._startup:
            return self._uniform(levels, rng)
        candidates = self._candidates(study, done, levels, rng)
        if not candidates:
            return self._uniform(levels, rng)
        gains = self._gains(study, done, candidates, levels, rng.randrange(1 << 31))
        return candidates[int(np.argmax(gains))]

    def _uniform(self, levels: Levels, rng: random.Random) -> Params:
        for _ in range(1000):
            drawn = {name: rng.choice(choices) for name, choices in levels.items()}
            if self._feasible(drawn):
                break
        return drawn

    def _candidates(
        self, study: Study, done: Sequence[FrozenTrial], levels: Levels, rng: random.Random
    ) -> list[Params]:
        """At most `pool` untried feasible candidates, at most half of them neighbors of the front."""
        known = (trial.params for trial in study.get_trials(deepcopy=False) if levels.keys() <= trial.params.keys())
        tried = {self._identity({name: params[name] for name in levels}) for params in known}
        members = [done[k].params for k in front(np.array([trial.values for trial in done]), directions(study))]
        near = [params for member in members for params in neighbours(member, levels)]
        rng.shuffle(near)
        far = [{name: rng.choice(choices) for name, choices in levels.items()} for _ in range(4 * self._pool)]
        candidates: list[Params] = []
        for source, limit in ((near, max(self._pool // 2, 1)), (far, self._pool)):
            for params in source:
                if len(candidates) == limit:
                    break
                if self._feasible(params) and self._identity(params) not in tried:
                    tried.add(self._identity(params))
                    candidates.append(params)
        return candidates

    def _gains(
        self, study: Study, done: Sequence[FrozenTrial], candidates: Sequence[Params], levels: Levels, seed: int
    ) -> Floats:
        """qLogNEHVI of each candidate, (n,). All objectives are maximized; costs are negated."""
        sign = 1.0 if directions(study)[0] == "maximize" else -1.0
        raw = np.array([sign * trial.values[0] for trial in done])
        quality = (raw - raw.mean()) / (raw.std() or 1.0)
        seen = self._rows([trial.params for trial in done], levels)
        places = seen.shape[1] - len(study.directions) + 1  # columns of choices; the others are costs
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        pending = [
            trial.params for trial in running if levels.keys() <= trial.params.keys() and self._feasible(trial.params)
        ]
        floor = float(np.quantile(quality[: self._startup], 0.1))
        reference = [floor, *(-seen[:, places:].max(axis=0)).tolist()]
        x = torch.from_numpy(seen)
        with warnings.catch_warnings(), manual_seed(seed):
            warnings.simplefilter("ignore")  # about scaling, and about repeated fits
            process = SingleTaskGP(
                x,
                torch.from_numpy(quality)[:, None],
                outcome_transform=None,
                input_transform=FilterFeatures(torch.arange(places)),
            )
            self._fit(process, len(done))
            known = GenericDeterministicModel(lambda rows: -rows[..., places:], num_outputs=len(study.directions) - 1)
            model = ModelList(process, known)
            sampler = get_sampler(model.posterior(x[:1]), torch.Size([self._samples]), seed=seed)
            gain = qLogNoisyExpectedHypervolumeImprovement(
                model,
                ref_point=reference,
                X_baseline=x,
                X_pending=torch.from_numpy(self._rows(pending, levels)) if pending else None,
                sampler=sampler,
                prune_baseline=True,
                cache_root=False,  # BoTorch supports it for a single posterior only; a ModelList has several
            )
            rows = torch.from_numpy(self._rows(candidates, levels))[:, None, :]
            with torch.no_grad():
                gains = [gain(rows[k : k + CHUNK]).numpy() for k in range(0, len(rows), CHUNK)]
        return np.asarray(np.nan_to_num(np.concatenate(gains), nan=-np.inf))

    def _fit(self, process: SingleTaskGP, trials: int) -> None:
        if trials < self._fitted_at:  # another study
            self._fitted_at = 0
        if self._fitted_at:
            process.load_state_dict(self._hyperparameters)
        if trials >= self._fitted_at + max(1, self._fitted_at // 10):
            fit_gpytorch_mll(ExactMarginalLogLikelihood(process.likelihood, process))
            self._hyperparameters, self._fitted_at = process.state_dict(), trials

    def _rows(self, candidates: Sequence[Params], levels: Levels) -> Floats:
        """Inputs (n, places + costs): a range as its position in [0, 1], a category as one-hot columns, then log10 of the costs."""
        rows = []
        for params in candidates:
            row: list[float] = []
            for name, choices in levels.items():
                place = choices.index(params[name])
                if name in self._ranges:
                    row.append(place / max(len(choices) - 1, 1))
                else:
                    row += [float(k == place) for k in range(len(choices))]
            rows.append([*row, *np.log10(self._costs(params)).tolist()])
        return np.array(rows, dtype=np.float64)
