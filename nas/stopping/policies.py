"""Policies of early stopping: stop a trial that can no longer reach the front, judged by the run's own learning curves.

A candidate's costs c are known exactly before training, so it reaches the front only if its final accuracy exceeds

    A(c) = max { final accuracy of j : j trained to the end, c_j <= c in every minimised objective }

With `pareto`, a trial continues after a rung only if P(final accuracy > A(c)) > epsilon. Ridge regression on logits predicts the
final accuracy from the complete curves; leave-one-out errors give the uncertainty (`Predictor`). A stopped trial never becomes a
complete curve, so a random share of the trials always runs to the end.

Baselines: ASHA, stopping variant (Li et al., 2020). Of the n trials that reached a rung, the best ceil(n / eta) continue, by
accuracy (`asha`) or by non-dominated sorting of accuracy and costs, with an epsilon-net as the order within a front (`mo-asha`;
Schmucker, Donini, Zafar, Salinas and Archambeau, 2021).

Accuracies are fractions in [0, 1], epochs count from 1, costs are positive and minimised. Decisions are deterministic: the same
curves in the same order give the same decisions.
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

BIN = 4.0  # ratio of the largest to the smallest cost within a quota's bin


@dataclass(frozen=True, slots=True)
class Policy:
    """A stopping policy and its options, as in `--stopping pareto:epsilon=0.1`. UsageError for values out of range.

    name: one of `POLICIES`. epsilon: a trial whose probability of reaching the front is at most this is stopped. eta: ratio
    of neighbouring rungs, and for ASHA the inverse of the share that continues. least: complete curves before anything is
    stopped. share: fraction of the trials, chosen by seed and key, that always run to the end. quota: trials that must run to
    the end in each bin of a cost (a factor of 4 wide) before others in the bin may be stopped.
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
        """Read `pareto`, `asha:eta=4` or `pareto:epsilon=0.1,least=20`. UsageError for anything else."""
        name, _, rest = text.partition(":")
        kinds = {field.name: int if field.name in ("least", "quota") else float for field in dataclasses.fields(cls)}
        del kinds["name"]
        options: dict[str, float] = {"eta": 3.0} if name in ("asha", "mo-asha") else {}
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
        return cls(name, **options)  # type: ignore[arg-type]  # `least` and `quota` are integers: `kinds`

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls) if field.name in data})

    def idle(self, epochs: int, trials: int) -> str:
        """The reason why the policy can stop no trial of such a run; empty if it can, and for `none`."""
        if self.name == "none":
            return ""
        if not rungs(epochs, self.eta):
            return (
                f"--stopping {self.name} stops nothing: with {epochs} epoch there is no earlier epoch to decide after"
            )
        if self.name == "pareto" and trials <= self.least:
            return f"--stopping pareto stops nothing: it first needs {self.least} complete trials, and the run has {trials}"
        if self.name == "pareto" and self.share == 1:
            return "--stopping pareto stops nothing: with share=1 all trials run to the end"
        return ""

    def always(self, seed: int, key: str) -> bool:
        """Whether a trial belongs to the share that always runs to the end."""
        digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64


class Stopping:
    """The curves of a run by the keys of its trials, and the decisions that follow from them.

    epochs: of a complete training. A trial with `exempt(key)` is never stopped.
    """

    def __init__(
        self, policy: Policy, epochs: int, seed: int = 0, exempt: Callable[[str], bool] = lambda key: False
    ) -> None:
        self.policy, self.epochs, self.seed, self._exempt = policy, epochs, seed, exempt
        self.rungs = rungs(epochs, policy.eta)
        self.curves: dict[str, Curve] = {}
        self._decided: dict[str, int] = {}  # the last epoch of each trial with a decision
        self._predictors: dict[tuple[int, int], Predictor] = {}

    def add(self, key: str, curve: Curve, decided: int = 0) -> None:
        """Add or replace the curve of a trial. decided: the last epoch up to which its rungs are already decided."""
        self.curves[key] = curve
        self._decided[key] = max(self._decided.get(key, 0), decided)

    def drop(self, key: str) -> None:
        """Forget a trial that failed."""
        self.curves.pop(key, None)

    def decide(self, key: str) -> Decision | None:
        """Whether a running trial stops after its last epoch; None if no rung is due."""
        epoch = len(self.curves[key].points)
        due = [rung for rung in self.rungs if self._decided.get(key, 0) < rung <= epoch]
        if not due or epoch >= self.epochs:
            return None
        self._decided[key] = epoch
        decision = POLICIES[self.policy.name](self, key, due[-1])
        if decision is None or not decision.stop or not self._exempt(key):
            return decision
        return dataclasses.replace(
            decision, stop=False, spared=True, reason=f"a baseline; else stopped: {decision.reason}"
        )

    def complete(self) -> list[Curve]:
        """The curves of trials that trained to the last epoch."""
        curves = self.curves.values()
        return [curve for curve in curves if curve.standing == "complete" and len(curve.points) == self.epochs]

    def predictor(self, epoch: int) -> Predictor:
        """Predictor of final accuracies from the first `epoch` epochs, fitted to the curves that are complete now."""
        curves = self.complete()
        key = (epoch, len(curves))
        if key not in self._predictors:
            self._predictors = {other: kept for other, kept in self._predictors.items() if other[1] == len(curves)}
            self._predictors[key] = Predictor(curves, epoch)
        return self._predictors[key]


POLICIES: Registry[Callable[[Stopping, str, int], Decision | None]] = Registry("stopping policy")


@POLICIES.register("none")
def none(state: Stopping, key: str, rung: int) -> None:
    """All trials run to the end."""


@POLICIES.register("pareto")
def pareto(state: Stopping, key: str, rung: int) -> Decision:
    """Stop if P(final accuracy > A(c)) <= epsilon, except for a bin's quota and the share that always runs."""
    policy, curve = state.policy, state.curves[key]
    epoch = len(curve.points)
    complete = state.complete()
    if len(complete) < policy.least:
        return Decision(epoch, False, f"{len(complete)} of {policy.least} complete curves", curves=len(complete))
    bar = best_of_cheaper(complete, curve.costs)
    predictor = state.predictor(epoch)
    if bar is None:
        reason, chance = "no complete trial is as cheap", 1.0
    else:
        chance = predictor.probability(curve, bar)
        reason = f"P(final accuracy > {bar:.4f}, the best of trials as cheap) = {chance:.2g}"
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
    """Stop unless fewer than ceil(n / eta) of the n trials that reached the rung are more accurate there."""
    reached = _reached(state, rung)
    accuracy = reached[key].points[rung - 1].accuracy
    better = sum(curve.points[rung - 1].accuracy > accuracy for curve in reached.values())
    return _ranked(state, key, better, len(reached), "accuracy")


@POLICIES.register("mo-asha")
def multi_objective_asha(state: Stopping, key: str, rung: int) -> Decision:
    """Stop unless among the first ceil(n / eta) of the n trials that reached the rung, in the order of `ranking`."""
    reached = _reached(state, rung)
    losses = np.array([[-curve.points[rung - 1].accuracy, *np.log(curve.costs)] for curve in reached.values()])
    place = int(np.flatnonzero(ranking(losses) == list(reached).index(key))[0])
    return _ranked(state, key, place, len(reached), "non-dominated sorting")


def _reached(state: Stopping, rung: int) -> dict[str, Curve]:
    return {key: curve for key, curve in state.curves.items() if len(curve.points) >= rung}


def _ranked(state: Stopping, key: str, place: int, count: int, by: str) -> Decision:
    allowed = math.ceil(count / state.policy.eta)
    reason = f"place {place + 1} of {count} by {by}, of which {allowed} continue"
    return Decision(len(state.curves[key].points), place >= allowed, reason)


def rungs(epochs: int, eta: float) -> tuple[int, ...]:
    """max(1, epochs / 20) eta^k for k = 0, 1, ..., rounded, below `epochs`: 10 epochs at eta 2 give (1, 2, 4, 8)."""
    epochs_due: list[int] = []
    budget = float(max(1, round(epochs / 20)))
    while (rung := round(budget)) < epochs:
        if rung not in epochs_due:
            epochs_due.append(rung)
        budget *= eta
    return tuple(epochs_due)


def best_of_cheaper(complete: Sequence[Curve], costs: Sequence[float]) -> float | None:
    """A(c): the best final accuracy of the curves whose costs are all at most c; None if there are none."""
    accuracies = (
        curve.accuracy
        for curve in complete
        if all(cost <= limit for cost, limit in zip(curve.costs, costs, strict=True))
    )
    return max(accuracies, default=None)


def quota_met(state: Stopping, key: str) -> bool:
    """Whether each bin of a trial has its quota of trials that run to the end, so that the trial may be stopped.

    Each cost has bins a factor of `BIN` wide. Complete trials count, and running trials that began before this one.
    """
    curve = state.curves[key]
    counts = [0] * len(curve.costs)
    came_before = True
    for name, other in state.curves.items():
        came_before = came_before and name != key
        if other.standing == "complete" or (other.standing == "running" and came_before):
            for index, (cost, other_cost) in enumerate(zip(curve.costs, other.costs, strict=True)):
                counts[index] += _bin(cost) == _bin(other_cost)
    return min(counts, default=0) >= state.policy.quota


def _bin(cost: float) -> int:
    return math.floor(math.log(max(cost, 1e-6)) / math.log(BIN))


def ranking(losses: Floats) -> NDArray[np.intp]:
    """Indices of the rows of losses (n, m) from best to worst: by non-dominated rank, within a rank by an epsilon-net.

    The epsilon-net begins with the best row in the first column; each next row is the one furthest from the rows already taken.
    Columns are scaled to [0, 1] over all rows, ties go by index (Schmucker et al., 2021).
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
