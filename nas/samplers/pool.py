"""Random candidates with their exact costs, kept between proposals. The first trials of a search are drawn from them."""

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

SIZE, FRESH = 256, 16  # candidates kept, and random ones added for each trial
BLOCKS = 256  # latest trials whose random candidates may be used
ENUMERATED = 1024  # largest domain that is enumerated
NEAR = 32  # candidates nearest to a target cost, of which the first trials take the most different one
RESCUES, ENOUGH = 16, 32  # most rounds of drawing feasible candidates, and the number at which they end
CLIMBS, CLIMBERS = 6, 8  # steps towards the extremes of each cost, and children for each step


@dataclass(slots=True)
class Candidate:
    """columns: of the encoder, computed on first use."""

    params: Params
    facts: Facts
    columns: Floats | None = None


class Pool:
    """Candidates of a history's domain that may be proposed. Call `refresh` before use.

    The members are a function of the seed, the trial's number and the history: each trial adds random candidates to those of the
    trials before it.
    axes: of the `exact` costs, from the first candidates of the domain; None while no costs are known. extra: likewise, of the
    caller's further features.
    """

    def __init__(self, history: History, oracle: Oracle, exact: int, seed: int) -> None:
        self._history, self._oracle, self._exact, self._seed = history, oracle, exact, seed
        self._version = -1
        self._warned = False
        self._drawn: list[Candidate] = []  # of the domain, before any trial
        self._base: list[Candidate] = []  # the same, the extremes, and further draws if there were too few
        self._parents: list[int] = []  # numbers of the trials from which those descend
        self._blocks: dict[int, list[Candidate]] = {}  # random candidates added for each trial
        self.whole = False  # whether the pool holds the whole domain
        self.members: list[Candidate] = []
        self.axes: Axes | None = None
        self.extra: Axes | None = None

    def refresh(self, number: int) -> bool:
        """Set `members` for the trial of this number. Returns whether the axes may have changed."""
        domain = self._history.domain
        version = domain.version if isinstance(domain, Inferred) else 0
        changed = version != self._version
        if changed:
            self._version, self._blocks = version, {}
            everything = enumerate_all(domain, ENUMERATED)
            self.whole = everything is not None
            self._drawn = self.allowed(randoms(domain, SIZE, self._rng("base")) if everything is None else everything)
        parents = self._rescuers()
        numbers = [parent.number for parent in parents]
        if changed or numbers != self._parents:
            changed, self._parents = True, numbers
            self._set_base([parent.params for parent in parents])
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
        known = [candidate.facts for candidate in priced(self._base)]
        self.axes = self.extra = None
        if known:
            self.axes = Axes.of(np.array([facts.costs for facts in known]).reshape(len(known), -1))
            if known[0].features.size:
                self.extra = Axes.of(np.array([facts.features for facts in known]))

    def _recent(self, number: int) -> list[Candidate]:
        """Random candidates of this trial and of the trials before it, oldest first."""
        recent: list[list[Candidate]] = []
        for trial in range(number, max(number - BLOCKS, -1), -1):
            if trial not in self._blocks:
                self._blocks[trial] = self.allowed(randoms(self._history.domain, FRESH, self._rng(trial)))
            recent.append(self._blocks[trial])
            if sum(map(len, recent)) >= SIZE:
                break
        oldest = number - 2 * len(recent)
        self._blocks = {trial: block for trial, block in self._blocks.items() if trial > oldest}
        return [trial for block in reversed(recent) for trial in block]

    def _rescuers(self) -> list[Observation]:
        """The first 1, 2, 4, ... observations, as parents of further candidates if too few random ones may be proposed; else none."""
        observations = self._history.observations
        if self.whole or len(self._drawn) >= ENOUGH or not observations:
            return []
        return observations[: min(ENOUGH, 1 << (len(observations).bit_length() - 1))]

    def allowed(self, params: Sequence[Params]) -> list[Candidate]:
        """The candidates of these params that may be proposed."""
        candidates = [Candidate(each, self._oracle.facts(each, self._exact)) for each in params]
        return [candidate for candidate in candidates if candidate.facts.allowed]

    def children(self, parents: Sequence[Params], count: int, rng: random.Random) -> list[Candidate]:
        """Offspring that may be proposed and whose costs are known."""
        return priced(self.allowed(offspring(self._history.domain, parents, count, rng)))

    def is_new(self, candidate: Candidate, taken: set[Hashable]) -> bool:
        return self._oracle.identity(candidate.params) not in taken

    def stratified(
        self, turn: int, taken: set[Hashable], rng: random.Random, apart: Callable[[list[Candidate]], Floats]
    ) -> Params:
        """A new random candidate near a target cost, and as far as possible from the candidates tried.

        The target is a point of a low-discrepancy sequence on the cost axis of this turn. It lies half-way between a share of the
        axis's range and the same quantile of the candidates, because candidates at the ends are rare and of little value. Of the
        `NEAR` nearest new candidates, the one with the largest distance apart(candidates), (n,), is taken.
        """
        members = list(self.members)
        rng.shuffle(members)
        unknown = [candidate for candidate in members if candidate.facts.costs is None]
        known = priced(members)
        if unknown and rng.random() * len(members) < len(unknown):
            known = unknown + known  # to find further parameters
        elif self.axes is not None and self._exact:
            axis = turn % self._exact
            placed = self.placed(known)[:, axis]
            low, high = placed.min(), placed.max()
            share = van_der_corput(turn // self._exact + 1)
            target = (low + (high - low) * share + np.quantile(placed, share)) / 2
            near = [known[k] for k in np.argsort(np.abs(placed - target), kind="stable").tolist()]
            fresh = list(itertools.islice((candidate for candidate in near if self.is_new(candidate, taken)), NEAR))
            if fresh:
                chosen: Candidate = fresh[int(np.argmax(apart(fresh)))]
                return chosen.params
            known = unknown
        for candidate in known:
            if self.is_new(candidate, taken):
                return candidate.params
        return self._last_resort(taken, rng)

    def placed(self, candidates: Sequence[Candidate]) -> Floats:
        """Costs of the candidates on the axes, (n, exact)."""
        assert self.axes is not None
        return self.axes.place(
            np.array([candidate.facts.costs for candidate in candidates]).reshape(len(candidates), -1)
        )

    def _rescued(self, observed: list[Params], rng: random.Random) -> list[Candidate]:
        """The drawn candidates; if there are too few, also further draws and children of drawn and observed candidates."""
        domain, rescued = self._history.domain, list(self._drawn)
        for _ in range(RESCUES):
            if len(rescued) >= ENOUGH:
                break
            parents = [candidate.params for candidate in rescued] + observed
            rescued += self.allowed(offspring(domain, parents, SIZE // 2, rng) + randoms(domain, SIZE // 2, rng))
        return rescued

    def _extremes(self, rng: random.Random) -> list[Candidate]:
        """The most expensive and the cheapest candidates after a few steps of local search, on each cost axis."""
        extremes: list[Candidate] = []
        for axis in range(self._exact):
            for sign in (1.0, -1.0):

                def height(candidate: Candidate, axis: int = axis, sign: float = sign) -> float:
                    assert candidate.facts.costs is not None
                    return sign * float(candidate.facts.costs[axis])

                best = sorted(priced(self._base), key=height)[-2:]
                for _ in range(CLIMBS):
                    best += self.children([candidate.params for candidate in best], CLIMBERS, rng)
                    best = sorted(best, key=height)[-2:]
                extremes += best
        return extremes

    def _last_resort(self, taken: set[Hashable], rng: random.Random) -> Params:
        """If all members were tried: a new draw, else a repetition of a candidate, which shows the noise."""
        domain = self._history.domain
        if not self.whole:
            parents = [candidate.params for candidate in self._history.observations]
            for candidate in self.allowed(randoms(domain, SIZE, rng) + offspring(domain, parents, SIZE, rng)):
                if self.is_new(candidate, taken):
                    return candidate.params
        if self.members:
            return rng.choice(self.members).params
        if not self._warned:
            self._warned = True
            warnings.warn("KnownCostSampler: found no feasible candidate; proposing infeasible ones", stacklevel=2)
        return randoms(domain, 1, rng)[0]


def priced(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those whose costs are known."""
    return [candidate for candidate in candidates if candidate.facts.costs is not None]


def van_der_corput(n: int) -> float:
    """The n-th point of the van der Corput sequence 1/2, 1/4, 3/4, 1/8, ... in (0, 1)."""
    value, scale = 0.0, 0.5
    while n:
        value += scale * (n & 1)
        n >>= 1
        scale /= 2
    return value
