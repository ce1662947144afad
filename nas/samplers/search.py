"""One proposal of the known-cost sampler: from what was observed to the candidate of the highest expected improvement."""

from __future__ import annotations

import random
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.pareto import front as pareto_front
from nas.samplers.candidates import offspring, randoms
from nas.samplers.domain import Inferred, Key, Params, enumerate_all, key_of
from nas.samplers.encoding import Axes, Encoder, warped
from nas.samplers.history import History, distinct
from nas.samplers.improvement import Cells, cells, ehvi
from nas.samplers.oracle import Facts, Oracle
from nas.samplers.process import EXACT, FIT, INDUCING, Floats, Kernel, Posterior, View

POOL, FRESH = 256, 16  # random candidates that are kept, and how many of them are new at each proposal
CHILDREN, GRANDCHILDREN = 240, 80
ENUMERATED = 1024  # domains of at most so many candidates are looked at as a whole
FANTASIES = 8  # draws of what the running trials will give
MOST_PENDING = 128
FLOOR = 0.1  # quantile of the startup's qualities below which nothing counts as an improvement


@dataclass(slots=True)
class Candidate:
    params: Params
    facts: Facts


class Search:
    """Proposals for one study. `exact` and `measured` are the places of its costs among the objectives."""

    def __init__(
        self,
        history: History,
        oracle: Oracle,
        exact: Sequence[int],
        measured: Sequence[int],
        startup: int | None,
        exploration: float,
    ) -> None:
        self._history, self._oracle = history, oracle
        self._exact, self._measured = list(exact), list(measured)
        self._startup, self._exploration = startup, exploration
        self._version = -1
        self._whole = False  # whether the pool is the whole domain
        self._pool: list[Candidate] = []
        self._axes: Axes | None = None
        self._extra: Axes | None = None  # of the caller's further features
        self._encoder: Encoder | None = None
        self._rows: Floats = np.zeros((0, 0))
        self._theta: dict[int, Floats] = {}  # hyperparameters by objective
        self._fitted_at: dict[int, int] = {}
        self._warned = False

    def propose(self, rng: random.Random) -> Params:
        self._prepare(rng)
        taken = self._taken()
        count = len(self._history.observations)
        begun = len(self._history.seen) + len(self._history.pending)
        if self._axes is None or count < 4 or begun < self._initial() or rng.random() < self._exploration:
            return self._stratified(begun, taken, rng)
        return self._modelled(taken, rng) or self._stratified(begun, taken, rng)

    def _initial(self) -> int:
        if self._startup is not None:
            return self._startup
        return min(20, 8 + len(self._history.domain.dimensions) // 2)

    # -- random candidates -------------------------------------------------------------------------------------------

    def _prepare(self, rng: random.Random) -> None:
        """Axes, encoder and pool for the domain as it is known now; a few new candidates for the pool."""
        domain = self._history.domain
        version = domain.version if isinstance(domain, Inferred) else 0
        if version == self._version:
            if not self._whole:
                self._pool = self._pool[FRESH:] + self._candidates(randoms(domain, FRESH, rng))
            return
        self._version = version
        everything = enumerate_all(domain, ENUMERATED)
        self._whole = everything is not None
        self._pool = self._candidates(everything if everything is not None else randoms(domain, POOL, rng))
        if not self._whole:
            self._pool += self._rescued(rng)
        known = [own.facts for own in self._pool if own.facts.costs is not None and own.facts.allowed]
        self._axes = self._extra = self._encoder = None
        self._theta, self._fitted_at = {}, {}
        if not known:
            return
        self._axes = Axes.of(np.array([facts.costs for facts in known]).reshape(len(known), -1))
        width = known[0].features.size
        if width:
            self._extra = Axes.of(np.array([facts.features for facts in known]))
        self._encoder = Encoder(domain, len(self._exact) + width)
        self._rows = np.zeros((0, self._encoder.width))

    def _candidates(self, params: Sequence[Params]) -> list[Candidate]:
        return [Candidate(own, self._oracle.facts(own, len(self._exact))) for own in params]

    def _rescued(self, rng: random.Random) -> list[Candidate]:
        """Where hardly anything random is feasible: more draws, then children of what was found to be."""
        domain = self._history.domain
        found = [own for own in self._pool if own.facts.allowed]
        for _ in range(16):
            if len(found) >= 32:
                return []
            parents = [own.params for own in found] or [own.params for own in self._history.observations]
            more = offspring(domain, parents, POOL // 2, rng) + randoms(domain, POOL // 2, rng)
            found += [own for own in self._candidates(more) if own.facts.allowed]
        return found

    def _taken(self) -> set[Hashable]:
        pending = {self._oracle.identity(params) for params in self._history.pending.values()}
        return self._history.seen | pending

    def _is_new(self, own: Candidate, taken: set[Hashable]) -> bool:
        return self._oracle.identity(own.params) not in taken

    def _stratified(self, turn: int, taken: set[Hashable], rng: random.Random) -> Params:
        """A random candidate, allowed and new, near the turn's point of a low-discrepancy sequence over the axes of costs."""
        allowed = [own for own in self._pool if own.facts.allowed]
        rng.shuffle(allowed)
        unknown = [own for own in allowed if own.facts.costs is None]
        known = [own for own in allowed if own.facts.costs is not None]
        if unknown and (not known or rng.random() * len(allowed) < len(unknown)):
            for own in unknown:
                if self._is_new(own, taken):
                    return own.params
        if known and self._exact and self._axes is not None:
            axis = turn % len(self._exact)
            placed = self._axes.place(np.array([own.facts.costs for own in known]))[:, axis]
            low, high = placed.min(), placed.max()
            target = low + (high - low) * _van_der_corput(turn // len(self._exact) + 1)
            known = [known[k] for k in np.argsort(np.abs(placed - target), kind="stable")]
        for own in known:
            if self._is_new(own, taken):
                return own.params
        return self._last_resort(allowed, taken, rng)

    def _last_resort(self, allowed: list[Candidate], taken: set[Hashable], rng: random.Random) -> Params:
        """Everything that is known of was tried: more draws; else a candidate again, which tells how noisy it is."""
        domain = self._history.domain
        if not self._whole:
            parents = [own.params for own in self._history.observations]
            for own in self._candidates(randoms(domain, POOL, rng) + offspring(domain, parents, POOL, rng)):
                if own.facts.allowed and self._is_new(own, taken):
                    return own.params
        if allowed:
            return rng.choice(allowed).params
        if not self._warned:
            self._warned = True
            warnings.warn("KnownCostSampler: found no feasible candidate; proposing infeasible ones", stacklevel=2)
        return randoms(domain, 1, rng)[0]

    # -- the model's choice ------------------------------------------------------------------------------------------

    def _modelled(self, taken: set[Hashable], rng: random.Random) -> Params | None:
        observations = self._history.observations
        inputs = self._observed()
        quality, _, _ = warped(self._history.qualities())
        costs = np.array([[own.costs[k - 1] for k in self._exact] for own in observations])
        assert self._axes is not None
        placed = self._axes.place(costs.reshape(len(observations), -1))
        process, targets = self._process(0, inputs, quality, placed)
        firsts = np.array(distinct(observations))
        front_quality, front_costs = process.fitted[firsts], placed[firsts]
        floor = float(np.quantile(targets, FLOOR))
        frontier = pareto_front(
            np.column_stack([front_quality, front_costs]), ["maximize"] + ["minimize"] * placed.shape[1]
        )
        parents = [observations[firsts[k]].params for k in frontier]
        pending = self._pending(process)
        scenes = self._scenes(pending, front_quality, front_costs, floor, rng)

        def score(candidates: list[Candidate]) -> Floats:
            at = process.at(self._encode(candidates))
            own = self._axes.place(np.array([c.facts.costs for c in candidates]))  # type: ignore[union-attr]
            return scenes.improvement(at, own)

        seen = {key_of(own.params) for own in observations}
        candidates = [own for own in self._pool if own.facts.allowed and own.facts.costs is not None]
        if not self._whole:
            candidates += self._children(parents, CHILDREN, rng)
        candidates = _unique(candidates, seen)
        if not candidates:
            return None
        scores = score(candidates)
        if not self._whole:
            best = [candidates[k].params for k in np.argsort(-scores, kind="stable")[:8]]
            more = _unique(self._children(best, GRANDCHILDREN, rng), seen | {own.facts.key for own in candidates})
            if more:
                candidates, scores = candidates + more, np.concatenate([scores, score(more)])
        for k in np.argsort(-scores, kind="stable").tolist():
            if scores[k] <= 0.0:
                return None
            if self._is_new(candidates[k], taken):
                return candidates[k].params
        return None

    def _children(self, parents: list[Params], count: int, rng: random.Random) -> list[Candidate]:
        children = self._candidates(offspring(self._history.domain, parents, count, rng))
        return [own for own in children if own.facts.allowed and own.facts.costs is not None]

    def _process(self, objective: int, inputs: Floats, values: Floats, placed: Floats) -> tuple[Posterior, Floats]:
        """The model of one objective, its hyperparameters refitted whenever there is a tenth more to learn from."""
        assert self._encoder is not None
        centre, spread = values.mean(), values.std()
        targets = (values - centre) / (spread if spread > 1e-12 else 1.0)
        kernel = Kernel(self._encoder.layout)
        n = len(values)
        if objective not in self._theta or n >= self._fitted_at[objective] + max(1, self._fitted_at[objective] // 10):
            rows = _telling(targets, placed, FIT)
            self._theta[objective] = kernel.fit(inputs[rows], targets[rows], self._theta.get(objective))
            self._fitted_at[objective] = n
        inducing = None if n <= EXACT else inputs[_telling(targets, placed, INDUCING)]
        return Posterior(kernel, self._theta[objective], inputs, targets, inducing), targets

    def _observed(self) -> Floats:
        """Rows of all observations; those of the earlier ones are kept."""
        assert self._axes is not None and self._encoder is not None
        fresh = self._history.observations[len(self._rows) :]
        if fresh:
            costs = np.array([[own.costs[k - 1] for k in self._exact] for own in fresh]).reshape(len(fresh), -1)
            features = self._axes.scaled(self._axes.place(costs))
            if self._extra is not None:
                known = [self._oracle.facts(own.params, len(self._exact)).features for own in fresh]
                width = len(self._extra.kind)
                more = np.array([own if own.size == width else self._extra.centre for own in known])
                features = np.hstack([features, self._extra.scaled(self._extra.place(more))])
            self._rows = np.vstack([self._rows, self._encoder.encode([own.params for own in fresh], features)])
        return self._rows

    def _encode(self, candidates: list[Candidate]) -> Floats:
        assert self._axes is not None and self._encoder is not None
        costs = np.array([own.facts.costs for own in candidates]).reshape(len(candidates), -1)
        features = self._axes.scaled(self._axes.place(costs))
        if self._extra is not None:
            more = np.array([own.facts.features for own in candidates])
            features = np.hstack([features, self._extra.scaled(self._extra.place(more))])
        return self._encoder.encode([own.params for own in candidates], features)

    def _pending(self, process: Posterior) -> tuple[View, Floats] | None:
        """The running trials under the model, and their costs."""
        running = list(self._history.pending.values())[-MOST_PENDING:]
        known = [own for own in self._candidates(running) if own.facts.costs is not None and own.facts.allowed]
        if not known:
            return None
        assert self._axes is not None
        return process.at(self._encode(known)), self._axes.place(np.array([own.facts.costs for own in known]))

    def _scenes(
        self,
        pending: tuple[View, Floats] | None,
        quality: Floats,
        costs: Floats,
        floor: float,
        rng: random.Random,
    ) -> Scenes:
        assert self._axes is not None
        reference = self._axes.reference
        if pending is None:
            return Scenes(None, np.zeros((0, 0)), np.zeros((1, 0)), [cells(quality, costs, reference, floor)])
        view, places = pending
        noise = float(np.exp(view.posterior.theta[2]))
        joint = view.covariance(view)
        noisy = joint + (noise + 1e-8) * np.eye(len(joint))
        draws = np.random.default_rng(rng.getrandbits(63)).standard_normal((FANTASIES, len(joint)))
        surprises: Floats = (
            draws @ np.linalg.cholesky(noisy).T
        )  # of the running trials' results over their means, (d, p)
        gain: Floats = np.asarray(np.linalg.inv(noisy), dtype=np.float64)
        updated = view.mean + surprises @ gain @ joint
        parts = [cells(np.concatenate([quality, own]), np.vstack([costs, places]), reference, floor) for own in updated]
        return Scenes(view, gain, surprises, parts)


@dataclass(frozen=True, slots=True)
class Scenes:
    """Fronts that there may be when the running trials are done, equally likely: one, as it is, if none is running."""

    view: View | None
    gain: Floats  # inverse of the running trials' covariance, with noise
    surprises: Floats
    parts: list[Cells]

    def improvement(self, at: View, costs: Floats) -> Floats:
        """EHVI averaged over the scenes, (n,)."""
        if self.view is None:
            return ehvi(at.mean, np.sqrt(at.variance), costs, self.parts[0])
        cross = at.covariance(self.view)
        pull = cross @ self.gain
        deviation = np.sqrt(np.maximum(at.variance - (pull * cross).sum(axis=1), 1e-10))
        total = np.zeros(len(costs))
        for surprise, parts in zip(self.surprises, self.parts, strict=True):
            total += ehvi(at.mean + pull @ surprise, deviation, costs, parts)
        return total / len(self.parts)


def _unique(candidates: list[Candidate], seen: set[Key]) -> list[Candidate]:
    found = {own.facts.key: own for own in candidates if own.facts.key not in seen}
    return list(found.values())


def _telling(targets: Floats, placed: Floats, most: int) -> NDArray[np.intp]:
    """At most `most` observations to learn from: half of them those that are best for their costs, half spread over time."""
    n = len(targets)
    if n <= most:
        return np.arange(n)
    design = np.column_stack([np.ones(n), placed])
    surplus = targets - design @ np.linalg.lstsq(design, targets, rcond=None)[0]
    best = np.argsort(-surplus, kind="stable")[: most // 2]
    rest = np.setdiff1d(np.arange(n), best)
    spread = rest[np.unique(np.linspace(0, len(rest) - 1, most - len(best)).round().astype(int))]
    return np.sort(np.concatenate([best, spread]))


def _van_der_corput(n: int) -> float:
    """n-th point of the sequence 1/2, 1/4, 3/4, 1/8, ... in (0, 1)."""
    value, scale = 0.0, 0.5
    while n:
        value += scale * (n & 1)
        n >>= 1
        scale /= 2
    return value
