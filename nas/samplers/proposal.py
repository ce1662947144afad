"""One proposal of the known-cost sampler: the candidate of the highest expected improvement, given the finished trials."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.pareto.dominance import front as pareto_front
from nas.samplers.candidates import randoms
from nas.samplers.domain import Key, Params
from nas.samplers.encoding import warped
from nas.samplers.expected_improvement import Cells, Worth, cells, ehvi, ei
from nas.samplers.gaussian_process import Floats, View, squared_distances
from nas.samplers.history import History, distinct
from nas.samplers.known_functions import Oracle
from nas.samplers.models import LEAST, Model, Models
from nas.samplers.pool import Candidate, Pool, priced

CHILDREN, GRANDCHILDREN = 240, 80  # of the front, and of the best of those
FANTASIES = 8  # draws of the results of running trials, and of measured costs
MOST_PENDING = 128  # running trials that are taken into account, the latest
FLOOR = 0.1  # quantile of the qualities of random candidates; improvements are counted above it
FENCE = 1.5  # interquartile ranges below the lower quartile, beyond which qualities are outliers (Tukey, 1977)
RECENT = 256  # latest trials from which candidates of the start are kept at a distance


@dataclass(frozen=True, slots=True)
class Method:
    """The parts of the method; each can be switched off in an ablation.

    startup: candidates before the first modeled one (None: by the number of parameters). exploration: share of later proposals that
    are made like those of the start. cost_features: whether exact costs and features are inputs of the model. mutation: whether
    candidates descend from the front; if not, random ones replace them. acquisition: "ehvi", or "ei", which is the expected
    improvement over the best quality at the same costs or lower, regardless of volume.
    """

    startup: int | None = None
    exploration: float = 0.03
    cost_features: bool = True
    mutation: bool = True
    acquisition: str = "ehvi"

    def __post_init__(self) -> None:
        if self.acquisition not in ("ehvi", "ei"):
            raise ValueError(f"acquisition {self.acquisition!r}: known are ehvi and ei")
        if self.startup is not None and self.startup < 0:
            raise ValueError(f"startup {self.startup}: a number of trials, 0 or more")
        if not 0 <= self.exploration <= 1:
            raise ValueError(f"exploration {self.exploration}: a share from 0 to 1")


class Search:
    """Proposals for one study. exact, measured: indices, among the objectives, of the known and of the measured costs."""

    def __init__(
        self, history: History, oracle: Oracle, exact: Sequence[int], measured: Sequence[int], method: Method, seed: int
    ) -> None:
        self._history, self._oracle = history, oracle
        self._exact, self._measured = list(exact), list(measured)
        self._method = method
        self._pool = Pool(history, oracle, len(self._exact), seed)
        self._known: Models | None = None

    def propose(self, number: int, rng: random.Random) -> Params:
        """A complete candidate for the trial of this number: a function of the seed, the number, the history and `rng`.

        Caches kept between proposals only save time.
        """
        if self._pool.refresh(number):
            features = self._method.cost_features
            self._known = Models(self._history, self._oracle, self._pool, self._exact, cost_features=features)
        taken = self._history.seen | {self._oracle.identity(params) for params in self._history.pending.values()}
        begun = len(self._history.seen) + len(self._history.pending)
        starting = len(self._history.observations) < LEAST or begun < self._initial
        if self._pool.axes is None or starting or rng.random() < self._method.exploration:
            return self._pool.stratified(begun, taken, rng, self._apart)
        return self._modelled(taken, rng) or self._pool.stratified(begun, taken, rng, self._apart)

    def _apart(self, candidates: list[Candidate]) -> Floats:
        """Squared distance of the choices to the nearest recent trial, (n,)."""
        history, encoder = self._history, self._models.encoder
        complete, stopped = history.observations[-RECENT:], history.stopped[-RECENT:]
        last = [*(trial.params for trial in complete), *(trial.params for trial in stopped)]
        begun = [*last, *list(history.pending.values())[-MOST_PENDING:]]
        if not begun:
            return np.zeros(len(candidates))
        rows = encoder.choices([candidate.params for candidate in candidates])
        return np.asarray(squared_distances(rows, encoder.choices(begun)).min(axis=1))

    @property
    def _models(self) -> Models:
        assert self._known is not None
        return self._known

    @property
    def _initial(self) -> int:
        """Number of candidates before the first modeled one."""
        if self._method.startup is not None:
            return self._method.startup
        return min(12, 4 + len(self._history.domain.dimensions) // 2)

    def _modelled(self, taken: set[Hashable], rng: random.Random) -> Params | None:
        """The new candidate with the highest acquisition; None if there is none above 0."""
        observations = self._history.observations
        self._models.update()
        model, others = self._models.model(0), [self._models.model(place) for place in self._measured]
        raw = np.array([trial.quality for trial in observations])
        worth = Worth.of((warped(raw, raw) - model.centre) / model.spread, raw)
        firsts = np.array([k for k in distinct(observations) if observations[k].feasible], dtype=np.intp)
        state = self._state(model, others, firsts, self._floor(model, worth))
        values = np.column_stack([state.quality, state.costs])
        on_front = pareto_front(values, ["maximize"] + ["minimize"] * state.costs.shape[1])
        parents = [observations[k].params for k in firsts[on_front].tolist()]
        scenes = self._scenes(model, others, state, rng)

        def score(candidates: list[Candidate]) -> Floats:
            rows = self._models.encode(candidates)
            views = [other.process.at(rows) for other in others]
            volume = self._method.acquisition == "ehvi"
            placed = self._pool.placed(candidates)
            return scenes.improvement(model.process.at(rows), placed, views, worth, volume=volume)

        for candidate in self._ranked(parents, score, rng):
            if self._pool.is_new(candidate, taken):
                return candidate.params
        return None

    def _state(self, model: Model, others: Sequence[Model], rows: NDArray[np.intp], floor: float) -> State:
        """The state of these observations."""
        assert self._pool.axes is not None
        costs, reference = self._models.placed()[rows], self._pool.axes.reference
        for other in others:
            fitted = other.process.fitted
            costs = np.column_stack([costs, fitted[rows]])
            first = fitted[: max(self._initial, LEAST)]
            reference = np.append(reference, first.max() + 0.1 * (np.ptp(first) or 1.0))
        return State(model.process.fitted[rows], costs, reference, floor)

    def _ranked(
        self, parents: Sequence[Params], score: Callable[[list[Candidate]], Floats], rng: random.Random
    ) -> list[Candidate]:
        """Candidates that were not observed, with scores above 0, best first: the pool, children of the parents, and of the best."""
        candidates = priced(self._pool.members)
        if not self._pool.whole:
            candidates = candidates + self._children(parents, CHILDREN, rng)
        candidates = _unseen(candidates, self._history.keys)
        if not candidates:
            return []
        scores = score(candidates)
        if not self._pool.whole:
            best = [candidates[k].params for k in np.argsort(-scores, kind="stable")[:8].tolist()]
            known = {candidate.facts.key for candidate in candidates}
            more = _unseen(self._children(best, GRANDCHILDREN, rng), self._history.keys | known)
            if more:
                candidates, scores = candidates + more, np.concatenate([scores, score(more)])
        return [candidates[k] for k in np.argsort(-scores, kind="stable").tolist() if scores[k] > 0.0]

    def _floor(self, model: Model, worth: Worth) -> float:
        """The quality above which improvements count: the higher of the 10th percentile and Tukey's lower fence of random candidates.

        The fence excludes networks that learn nothing. Without it, improvements over a few such networks would dominate the sum.
        """
        view = model.process.at(self._models.encode(priced(self._pool.members)))
        draws = view.mean + np.sqrt(view.variance) * np.random.default_rng(0).standard_normal(len(view.mean))
        tenth, quarter, most = np.quantile(worth.of_scale(draws), [FLOOR, 0.25, 0.75]).tolist()
        return worth.to_scale(max(tenth, quarter - FENCE * (most - quarter)))

    def _children(self, parents: Sequence[Params], count: int, rng: random.Random) -> list[Candidate]:
        if self._method.mutation:
            return self._pool.children(parents, count, rng)
        return priced(self._pool.allowed(randoms(self._history.domain, count, rng)))

    # -- possible results of the running trials ----------------------------------------------------------------------

    def _scenes(self, model: Model, others: Sequence[Model], state: State, rng: random.Random) -> Scenes:
        random_numbers = np.random.default_rng(rng.getrandbits(63))
        tosses = random_numbers.standard_normal((FANTASIES, len(others)))
        running = priced(self._pool.allowed(list(self._history.pending.values())[-MOST_PENDING:]))
        if not running:
            parts = [state.cells()] * (FANTASIES if others else 1)
            return Scenes(None, np.zeros((0, 0)), np.zeros((FANTASIES, 0)), tosses, parts)
        rows = self._models.encode(running)
        view = model.process.at(rows)
        places = np.column_stack([self._pool.placed(running), *(other.process.at(rows).mean for other in others)])
        joint = view.covariance(view)
        noisy = joint + (model.process.noise + 1e-6) * np.eye(len(joint))
        draws = random_numbers.standard_normal((FANTASIES, len(joint)))
        surprises: Floats = draws @ np.linalg.cholesky(noisy).T  # results minus their means, (d, p)
        gain: Floats = np.asarray(np.linalg.inv(noisy), dtype=np.float64)
        means = view.mean + surprises @ gain @ joint  # of the running trials, given the results, (d, p)
        return Scenes(view, gain, surprises, tosses, [state.cells(qualities, places) for qualities in means])


@dataclass(frozen=True, slots=True)
class State:
    """Posterior means (f,) of the qualities of observations, their costs on the axes (f, k), reference (k,) and floor."""

    quality: Floats
    costs: Floats
    reference: Floats
    floor: float

    def cells(self, quality: Floats | None = None, costs: Floats | None = None) -> Cells:
        """The cells of the front of the observations, and of further points if given."""
        if quality is None or costs is None:
            return cells(self.quality, self.costs, self.reference, self.floor)
        joined = np.append(self.quality, quality), np.vstack([self.costs, costs])
        return cells(*joined, self.reference, self.floor)


@dataclass(frozen=True, slots=True)
class Scenes:
    """Equally likely results of the p running trials, each with the cells of the resulting front.

    surprises (d, p): results of the running trials minus their means. gain (p, p): inverse of their covariance with noise.
    tosses (d, m): standard normal draws for the measured costs. parts: cells for each draw; the same ones if no trial is running.
    """

    view: View | None
    gain: Floats
    surprises: Floats
    tosses: Floats
    parts: Sequence[Cells]

    def improvement(
        self, at: View, placed: Floats, measured: Sequence[View], worth: Worth, *, volume: bool = True
    ) -> Floats:
        """EHVI averaged over the draws, (n,); if not `volume`, EI at the candidates' costs. placed (n, exact): costs on their axes."""
        mean, variance = at.mean, at.variance
        pull = np.zeros((len(mean), 0))
        if self.view is not None:
            cross = at.covariance(self.view)
            pull = cross @ self.gain
            variance = np.maximum(variance - (pull * cross).sum(axis=1), 1e-10)
        deviation = np.sqrt(variance)
        total = np.zeros(len(mean))
        for scene, parts in enumerate(self.parts):
            drawn = [v.mean + np.sqrt(v.variance) * toss for v, toss in zip(measured, self.tosses[scene], strict=True)]
            costs = np.column_stack([placed, *drawn])
            total += (ehvi if volume else ei)(mean + pull @ self.surprises[scene], deviation, costs, parts, worth)
        return total / len(self.parts)


def _unseen(candidates: Sequence[Candidate], seen: set[Key]) -> list[Candidate]:
    """The candidates not in `seen`, each once."""
    return list(
        {candidate.facts.key: candidate for candidate in candidates if candidate.facts.key not in seen}.values()
    )
