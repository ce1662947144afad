"""Random candidates that are kept between proposals, with their exact costs; the start of a search is drawn from them."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from nas.samplers.candidates import offspring, randoms
from nas.samplers.domain import Params, enumerate_all
from nas.samplers.encoding import Axes
from nas.samplers.gaussian_process import Floats
from nas.samplers.history import History, Observation
from nas.samplers.inferred import Inferred
from nas.samplers.known_functions import Facts, Oracle

SIZE, FRESH = 256, 16  # candidates that are kept, and how many random ones join them with each trial
BLOCKS = 256  # trials whose random candidates are looked through for so many that may be proposed
ENUMERATED = 1024  # domains of at most so many candidates are looked at as a whole
NEAR = 32  # candidates of about one cost, of which the start takes the most different
RESCUES, ENOUGH = 16, 32  # rounds of looking for feasible candidates, until there are so many
CLIMBS, CLIMBERS = 6, 8  # steps towards the extremes of each cost, and children at each


@dataclass(slots=True)
class Candidate:
    """columns: the encoder's, once they were asked for."""

    params: Params
    facts: Facts
    columns: Floats | None = None


class Pool:
    """Candidates of a history's domain that may be proposed. `refresh` before use.

    A function of the seed, the trial's number and the history: each trial brings random candidates of its own, to which those of
    the trials before it are added.
    axes: of the `exact` costs, from the first candidates of the domain; None while no costs are known. extra: the same of the
    caller's further features.
    """

    def __init__(self, history: History, oracle: Oracle, exact: int, seed: int) -> None:
        self._history, self._oracle, self._exact, self._seed = history, oracle, exact, seed
        self._version = -1
        self._warned = False
        self._drawn: list[Candidate] = []  # of the domain, before any trial
        self._base: list[Candidate] = []  # the same, with more where there were too few, and the extremes
        self._parents: list[int] = []  # numbers of the trials that those descend from
        self._blocks: dict[int, list[Candidate]] = {}  # those that joined with a trial
        self.whole = False  # whether the pool is all that there is
        self.members: list[Candidate] = []
        self.axes: Axes | None = None
        self.extra: Axes | None = None

    def refresh(self, number: int) -> bool:
        """The candidates for the trial of this number; whether the axes are others than before."""
        domain = self._history.domain
        version = domain.version if isinstance(domain, Inferred) else 0
        changed = version != self._version
        if changed:
            self._version, self._blocks = version, {}
            everything = enumerate_all(domain, ENUMERATED)
            self.whole = everything is not None
            self._drawn = self.allowed(randoms(domain, SIZE, self._rng("base")) if everything is None else everything)
        parents = self._rescuers()
        numbers = [own.number for own in parents]
        if changed or numbers != self._parents:
            changed, self._parents = True, numbers
            self._set_base([own.params for own in parents])
        self.members = self._base if self.whole else [*self._base, *self._recent(number)][-SIZE:]
        return changed

    def _rng(self, purpose: str | int) -> random.Random:
        return random.Random(f"{self._seed}:pool:{purpose}")

    def _set_base(self, parents: list[Params]) -> None:
        self._base = self._drawn
        if not self.whole:
            rng = self._rng("more")
            self._base = self._rescued(parents, rng)
            self._base = self._base + self._extremes(rng)
        known = [own.facts for own in priced(self._base)]
        self.axes = self.extra = None
        if known:
            self.axes = Axes.of(np.array([facts.costs for facts in known]).reshape(len(known), -1))
            if known[0].features.size:
                self.extra = Axes.of(np.array([facts.features for facts in known]))

    def _recent(self, number: int) -> list[Candidate]:
        """Random candidates of this trial and of those before it."""
        found: list[list[Candidate]] = []
        for own in range(number, max(number - BLOCKS, -1), -1):
            if own not in self._blocks:
                self._blocks[own] = self.allowed(randoms(self._history.domain, FRESH, self._rng(own)))
            found.append(self._blocks[own])
            if sum(map(len, found)) >= SIZE:
                break
        oldest = number - 2 * len(found)
        self._blocks = {own: block for own, block in self._blocks.items() if own > oldest}
        return [own for block in reversed(found) for own in block]

    def _rescuers(self) -> list[Observation]:
        """Observations from which more candidates descend where hardly a random one may be proposed: the first 1, 2, 4 ..."""
        observations = self._history.observations
        if self.whole or len(self._drawn) >= ENOUGH or not observations:
            return []
        return observations[: min(ENOUGH, 1 << (len(observations).bit_length() - 1))]

    def allowed(self, params: Sequence[Params]) -> list[Candidate]:
        """Those that may be proposed."""
        found = [Candidate(own, self._oracle.facts(own, self._exact)) for own in params]
        return [own for own in found if own.facts.allowed]

    def children(self, parents: Sequence[Params], count: int, rng: random.Random) -> list[Candidate]:
        """Offspring that may be proposed and whose costs are known."""
        return priced(self.allowed(offspring(self._history.domain, parents, count, rng)))

    def is_new(self, own: Candidate, taken: set[Hashable]) -> bool:
        return self._oracle.identity(own.params) not in taken

    def stratified(
        self, turn: int, taken: set[Hashable], rng: random.Random, apart: Callable[[list[Candidate]], Floats]
    ) -> Params:
        """Of the new random candidates nearest to the turn's point of a low-discrepancy sequence over the axes of the costs, the
        one that is the farthest from all tried: apart(candidates), (n,).

        Points lie half-way between even shares of the axis's range and of its candidates: the ends are rare, and worth little.
        """
        members = list(self.members)
        rng.shuffle(members)
        unknown = [own for own in members if own.facts.costs is None]
        known = priced(members)
        if unknown and rng.random() * len(members) < len(unknown):
            known = unknown + known  # to learn what else there is to ask for
        elif self.axes is not None and self._exact:
            axis = turn % self._exact
            placed = self.placed(known)[:, axis]
            low, high = placed.min(), placed.max()
            share = van_der_corput(turn // self._exact + 1)
            target = (low + (high - low) * share + np.quantile(placed, share)) / 2
            near = [known[k] for k in np.argsort(np.abs(placed - target), kind="stable").tolist()]
            fresh = list(itertools.islice((own for own in near if self.is_new(own, taken)), NEAR))
            if fresh:
                chosen: Candidate = fresh[int(np.argmax(apart(fresh)))]
                return chosen.params
            known = unknown
        for own in known:
            if self.is_new(own, taken):
                return own.params
        return self._last_resort(taken, rng)

    def placed(self, candidates: Sequence[Candidate]) -> Floats:
        """Their costs on the axes, (n, exact)."""
        assert self.axes is not None
        return self.axes.place(np.array([own.facts.costs for own in candidates]).reshape(len(candidates), -1))

    def _rescued(self, observed: list[Params], rng: random.Random) -> list[Candidate]:
        """Where hardly anything random may be proposed: more draws, and children of what was drawn or observed."""
        domain, found = self._history.domain, list(self._drawn)
        for _ in range(RESCUES):
            if len(found) >= ENOUGH:
                break
            parents = [own.params for own in found] + observed
            found += self.allowed(offspring(domain, parents, SIZE // 2, rng) + randoms(domain, SIZE // 2, rng))
        return found

    def _extremes(self, rng: random.Random) -> list[Candidate]:
        """The dearest and the cheapest candidates that a few steps uphill and downhill lead to, on each axis of costs."""
        found: list[Candidate] = []
        for axis in range(self._exact):
            for sign in (1.0, -1.0):

                def height(own: Candidate, axis: int = axis, sign: float = sign) -> float:
                    assert own.facts.costs is not None
                    return sign * float(own.facts.costs[axis])

                best = sorted(priced(self._base), key=height)[-2:]
                for _ in range(CLIMBS):
                    best += self.children([own.params for own in best], CLIMBERS, rng)
                    best = sorted(best, key=height)[-2:]
                found += best
        return found

    def _last_resort(self, taken: set[Hashable], rng: random.Random) -> Params:
        """All that is known of was tried: more draws; else a candidate again, which tells how noisy it is."""
        domain = self._history.domain
        if not self.whole:
            parents = [own.params for own in self._history.observations]
            for own in self.allowed(randoms(domain, SIZE, rng) + offspring(domain, parents, SIZE, rng)):
                if self.is_new(own, taken):
                    return own.params
        if self.members:
            return rng.choice(self.members).params
        if not self._warned:
            self._warned = True
            warnings.warn("KnownCostSampler: found no feasible candidate; proposing others", stacklevel=2)
        return randoms(domain, 1, rng)[0]


def priced(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those whose costs are known."""
    return [own for own in candidates if own.facts.costs is not None]


def van_der_corput(n: int) -> float:
    """n-th point of the sequence 1/2, 1/4, 3/4, 1/8, ... in (0, 1)."""
    value, scale = 0.0, 0.5
    while n:
        value += scale * (n & 1)
        n >>= 1
        scale /= 2
    return value
