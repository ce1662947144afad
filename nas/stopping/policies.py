"""Whether a candidate in training can still reach the front: decided from the curves that the run has seen, and from nothing else.

Costs are exact before training, so a candidate of costs c gets onto the front only if its final accuracy exceeds

    A(c) = max { final accuracy of j : j trained to the end, c_j <= c in every minimised objective }

At each rung it goes on only if P(final accuracy > A(c)) > epsilon (`pareto`). The final accuracy is predicted by ridge
regression, on logits, from the curves that ran to the end; what it leaves unexplained is measured by leaving each of them
out (`Predictor`). Who is stopped never becomes a curve to learn from, so a random share always runs to the end.

Baselines: ASHA, stopping variant (Li et al., 2020): at a rung a trial goes on if it is among the best ceil(n / eta) of the
n that reached it, by accuracy (`asha`) or by non-dominated sorting of accuracy and costs, with an epsilon-net as the order
within a front (`mo-asha`; Schmucker, Donini, Zafar, Salinas and Archambeau, 2021).

Accuracies are shares in [0, 1], epochs count from 1, costs are positive and minimised. Same curves in the same order, same
decisions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from nas.pareto.dominance import fronts
from nas.stopping.curves import Curve, Decision, Floats
from nas.stopping.predictor import Predictor
from nas.utils.registry import Registry, did_you_mean

BIN = 4.0  # factor of costs within a bin of the quotas


@dataclass(frozen=True, slots=True)
class Policy:
    """How a run stops trials; what `--stopping pareto:epsilon=0.1` says.

    name: one of `POLICIES`. epsilon: the probability of reaching the front at or below which a trial is stopped. eta: ratio
    of neighbouring rungs, and for ASHA the inverse of the share that goes on. least: complete curves before anything is
    stopped. share: of the trials, chosen by seed and key, that always run to the end. quota: trials that run to the end in
    each bin of a factor of 4 in a cost before others in it may be stopped.
    """

    name: str = "none"
    epsilon: float = 0.3
    eta: float = 1.3
    least: int = 6
    share: float = 0.05
    quota: int = 1

    def __post_init__(self) -> None:
        if self.name not in POLICIES:
            raise UsageError(
                f"--stopping {self.name}: unknown{did_you_mean(self.name, POLICIES)}; known: {', '.join(POLICIES)}"
            )
        for name, low, high in (
            ("epsilon", 0.0, 0.5),
            ("eta", 1.1, 100.0),
            ("least", 4, 1_000_000),
            ("share", 0.0, 1.0),
            ("quota", 0, 1_000_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"--stopping {self.name}: {name} must be from {low:g} to {high:g}, not {value:g}")

    @classmethod
    def parse(cls, text: str) -> Policy:
        """`pareto`, `asha:eta=4`, `pareto:epsilon=0.1,least=20`. UsageError for what isn't one."""
        name, _, rest = text.partition(":")
        kinds = {field.name: int if field.name in ("least", "quota") else float for field in dataclasses.fields(cls)}
        del kinds["name"]
        options: dict[str, Any] = {"eta": 3.0} if name in ("asha", "mo-asha") else {}
        for part in rest.split(",") if rest else ():
            key, _, value = part.partition("=")
            if key not in kinds:
                raise UsageError(
                    f"--stopping {text}: unknown option {key!r}{did_you_mean(key, kinds)}; known: {', '.join(kinds)}"
                )
            try:
                options[key] = kinds[key](value)
            except ValueError:
                raise UsageError(f"--stopping {text}: {key} must be a number, not {value!r}") from None
        return cls(name, **options)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls) if field.name in data})

    def idle(self, epochs: int, trials: int) -> str:
        """Why nothing can be stopped in so many trials of so many epochs; empty if something can, or nothing is meant to."""
        if self.name == "none":
            return ""
        if not rungs(epochs, self.eta):
            return f"--stopping {self.name} stops nothing: {epochs} epoch leaves no earlier one to decide behind"
        if self.name == "pareto" and trials <= self.least:
            return f"--stopping pareto stops nothing: it learns from {self.least} complete trials first, and there are {trials}"
        if self.name == "pareto" and self.share == 1:
            return "--stopping pareto stops nothing: with share=1 all trials run to the end"
        return ""

    def always(self, seed: int, key: str) -> bool:
        """Whether a trial is of the share that always runs to the end."""
        digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64


class Stopping:
    """The curves of a run, and what they decide. keys name trials; those for which `exempt(key)` are never stopped.

    epochs: that a trial is given in all.
    """

    def __init__(
        self, policy: Policy, epochs: int, seed: int = 0, exempt: Callable[[str], bool] = lambda key: False
    ) -> None:
        self.policy, self.epochs, self.seed, self._exempt = policy, epochs, seed, exempt
        self.rungs = rungs(epochs, policy.eta)
        self.curves: dict[str, Curve] = {}
        self._decided: dict[str, int] = {}  # the epoch up to which a trial was decided about
        self._predictors: dict[tuple[int, int], Predictor] = {}

    def add(self, key: str, curve: Curve, decided: int = 0) -> None:
        """Take in, or replace, what is known of a trial, whose rungs up to the epoch `decided` are behind it."""
        self.curves[key] = curve
        self._decided[key] = max(self._decided.get(key, 0), decided)

    def drop(self, key: str) -> None:
        """Forget a trial that failed."""
        self.curves.pop(key, None)

    def decide(self, key: str) -> Decision | None:
        """Whether a running trial goes on behind its last epoch; None where no rung is to be decided."""
        epoch = len(self.curves[key].points)
        due = [rung for rung in self.rungs if self._decided.get(key, 0) < rung <= epoch]
        if not due or epoch >= self.epochs:
            return None
        self._decided[key] = epoch
        found = POLICIES[self.policy.name](self, key, due[-1])
        if found is None or not found.stop:
            return found
        if self._exempt(key):
            return dataclasses.replace(
                found, stop=False, spared=True, reason=f"a baseline; else stopped: {found.reason}"
            )
        return found

    def complete(self) -> list[Curve]:
        """The curves that ran to their end, which can be learnt from."""
        return [own for own in self.curves.values() if own.standing == "complete" and len(own.points) == self.epochs]

    def predictor(self, epoch: int) -> Predictor:
        """From accuracies behind `epoch` to final ones, by the curves that are complete by now."""
        curves = self.complete()
        kept = (epoch, len(curves))
        if kept not in self._predictors:
            self._predictors = {place: own for place, own in self._predictors.items() if place[1] == len(curves)}
            self._predictors[kept] = Predictor(curves, epoch)
        return self._predictors[kept]


POLICIES: Registry[Callable[[Stopping, str, int], Decision | None]] = Registry("stopping policy")


@POLICIES.register("none")
def none(state: Stopping, key: str, rung: int) -> None:
    """Everything runs to its end."""


@POLICIES.register("pareto")
def pareto(state: Stopping, key: str, rung: int) -> Decision:
    """Stopped if P(final accuracy > A(c)) <= epsilon, unless its bin's quota or the share that always runs spares it."""
    policy, curve = state.policy, state.curves[key]
    epoch = len(curve.points)
    complete = state.complete()
    if len(complete) < policy.least:
        return Decision(epoch, False, f"{len(complete)} of {policy.least} complete curves", curves=len(complete))
    bar = best_of_cheaper(complete, curve.costs)
    predictor = state.predictor(epoch)
    if bar is None:
        reason, chance = "nothing complete is as cheap", 1.0
    else:
        chance = predictor.probability(curve, bar)
        reason = f"P(final accuracy > {bar:.4f}, the best of what is as cheap) = {chance:.2g}"
    decision = Decision(epoch, False, reason, chance, bar, False, predictor.correlation, len(complete))
    if chance > policy.epsilon:
        return decision
    if policy.always(state.seed, key):
        return dataclasses.replace(decision, spared=True, reason=f"of the share that always runs; else: {reason}")
    if not quota_met(state, key):
        return dataclasses.replace(decision, spared=True, reason=f"for its bin's quota; else: {reason}")
    return dataclasses.replace(decision, stop=True)


@POLICIES.register("asha")
def asha(state: Stopping, key: str, rung: int) -> Decision:
    """Stopped unless among the ceil(n / eta) most accurate of the n trials that reached the rung; equals count as equal."""
    seen = {name: own for name, own in state.curves.items() if len(own.points) >= rung}
    own = seen[key].points[rung - 1].accuracy
    better = sum(curve.points[rung - 1].accuracy > own for curve in seen.values())
    return _ranked(state, key, better, len(seen), "accuracy")


@POLICIES.register("mo-asha")
def multi_objective_asha(state: Stopping, key: str, rung: int) -> Decision:
    """Stopped unless among the first ceil(n / eta) of the n trials that reached the rung, in the order of `ranking`."""
    seen = {name: own for name, own in state.curves.items() if len(own.points) >= rung}
    losses = np.array([[-own.points[rung - 1].accuracy, *np.log(own.costs)] for own in seen.values()])
    place = int(np.flatnonzero(ranking(losses) == list(seen).index(key))[0])
    return _ranked(state, key, place, len(seen), "non-dominated sorting")


def _ranked(state: Stopping, key: str, place: int, count: int, by: str) -> Decision:
    allowed = math.ceil(count / state.policy.eta)
    reason = f"place {place + 1} of {count} by {by}, of which {allowed} go on"
    return Decision(len(state.curves[key].points), place >= allowed, reason)


def rungs(epochs: int, eta: float) -> tuple[int, ...]:
    """A twentieth of the epochs, at least one, times eta^k for k = 0, 1, ...: 10 epochs at eta 2 give (1, 2, 4, 8)."""
    found: list[int] = []
    budget = float(max(1, round(epochs / 20)))
    while (rung := round(budget)) < epochs:
        if rung not in found:
            found.append(rung)
        budget *= eta
    return tuple(found)


def best_of_cheaper(complete: Sequence[Curve], costs: Sequence[float]) -> float | None:
    """A(c): the best final accuracy of what is as cheap or cheaper in every cost; None if nothing is."""
    found = [
        own.accuracy for own in complete if all(mine <= limit for mine, limit in zip(own.costs, costs, strict=True))
    ]
    return max(found, default=None)


def quota_met(state: Stopping, key: str) -> bool:
    """Whether enough trials run to the end in each bin that a trial is in, so that it may be stopped.

    A bin is a factor of BIN in one cost. Complete trials count, and running ones that came before this one.
    """
    own = state.curves[key]
    counts = [0] * len(own.costs)
    came_before = True
    for name, other in state.curves.items():
        came_before = came_before and name != key
        if other.standing == "complete" or (other.standing == "running" and came_before):
            for place, (mine, its) in enumerate(zip(own.costs, other.costs, strict=True)):
                counts[place] += _bin(mine) == _bin(its)
    return min(counts, default=0) >= state.policy.quota


def _bin(cost: float) -> int:
    return math.floor(math.log(max(cost, 1e-6)) / math.log(BIN))


def ranking(losses: Floats) -> NDArray[np.intp]:
    """Indices of the rows of losses (n, m) from best to worst: by non-dominated rank, within a rank by an epsilon-net.

    The epsilon-net begins with the row that is best in the first column and goes on with the one that is furthest from those
    taken, each column scaled to [0, 1] over all rows; ties by index (Schmucker et al., 2021).
    """
    ranks = fronts(losses, ["minimize"] * losses.shape[1])
    spans = np.ptp(losses, axis=0)
    scaled = (losses - losses.min(axis=0)) / np.where(spans > 0, spans, 1.0)
    order: list[int] = []
    for rank in range(int(ranks.max()) + 1):
        members = np.flatnonzero(ranks == rank)
        left = list(members[np.argsort(losses[members, 0], kind="stable")])
        if not left:
            continue
        order.append(int(left.pop(0)))
        gaps = np.array([np.linalg.norm(scaled[row] - scaled[order[-1]]) for row in left])
        while left:
            k = int(np.argmax(gaps))
            order.append(int(left.pop(k)))
            gaps = np.delete(gaps, k)
            gaps = np.minimum(gaps, [np.linalg.norm(scaled[row] - scaled[order[-1]]) for row in left])
    return np.array(order, dtype=np.intp)
