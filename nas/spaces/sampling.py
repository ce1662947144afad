"""Budgets on exact costs, and finding candidates that meet them without training anything."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nas.networks.cost import Cost
from nas.errors import UsageError
from nas.spaces.knobs import Choices

if TYPE_CHECKING:
    from nas.spaces.space import SearchSpace

METRICS = ("params", "macs", "activations")
TRIES = 2000  # random tries before a budget is met by descent


@dataclass(frozen=True, slots=True)
class Budget:
    """Lower and upper bounds, ends included, on exact costs: `{"params": (low or None, high or None), ...}`."""

    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for metric, (low, high) in self.bounds.items():
            if metric not in METRICS:
                raise UsageError(f"budget on {metric!r}: costs are {', '.join(METRICS)}")
            for number in (low, high):
                if number is not None and not (math.isfinite(number) and number >= 0):
                    raise UsageError(f"budget on {metric}: {number} is not a count")
            if low is not None and high is not None and low > high:
                raise UsageError(f"budget on {metric}: the lower bound {low:,.0f} is above the upper bound {high:,.0f}")

    def violation(self, cost: Cost) -> float:
        """How far a cost lies outside, 0 within: sum over the metrics of |log(cost / nearest bound)|."""
        total = 0.0
        for metric, (low, high) in self.bounds.items():
            value = max(getattr(cost, metric), 1)
            if low is not None and value < low:
                total += math.log(low / value)
            if high is not None and value > high:
                total += math.log(value / max(high, 0.5))
        return total

    def reason(self, cost: Cost) -> str:
        """What a cost breaks, in words; '' if nothing."""
        for metric, (low, high) in self.bounds.items():
            value = getattr(cost, metric)
            if low is not None and value < low:
                return f"{value:,} {metric} are below the budget of {low:,.0f}"
            if high is not None and value > high:
                return f"{value:,} {metric} are above the budget of {high:,.0f}"
        return ""

    def merged(self, other: Budget) -> Budget:
        """This budget with the bounds that `other` sets in place of its own."""
        bounds = dict(self.bounds)
        for metric, (low, high) in other.bounds.items():
            old = bounds.get(metric, (None, None))
            bounds[metric] = (old[0] if low is None else low, old[1] if high is None else high)
        return Budget(bounds)

    def __str__(self) -> str:
        parts = []
        for metric, (low, high) in self.bounds.items():
            parts.append(
                f"{f'{low:,.0f} <= ' if low is not None else ''}{metric}{f' <= {high:,.0f}' if high is not None else ''}"
            )
        return ", ".join(parts) or "none"


@dataclass(frozen=True, slots=True)
class Survey:
    """Costs of a space from uniform samples: median and feasible share; extremes by coordinate descent from them."""

    smallest: Cost
    median: Cost
    largest: Cost
    feasible: float  # share of uniform samples within the budget
    samples: int


def descend(space: SearchSpace, start: Choices, score: Callable[[Cost], float], rng: random.Random) -> Choices:
    """Coordinate descent on `score` from `start`: one knob after another to its best value until no knob helps.

    Exact where the score is monotone in each knob, as single costs are in depths and widths.
    """
    best, lowest = start, score(space.cost(start))
    improved = True
    while improved and lowest > 0:
        improved = False
        keys = list(best)
        rng.shuffle(keys)
        for key in keys:
            if key not in best:
                continue  # an earlier step took a block for which this knob does not exist
            for value in space.knob(key).values:
                candidate = space.completed({**best, key: value}, rng)
                candidate_score = score(space.cost(candidate))
                if candidate_score < lowest:
                    best, lowest, improved = candidate, candidate_score, True
    return best


def sample(space: SearchSpace, rng: random.Random) -> Choices:
    """A uniform sample within the budget: by rejection or, where fewer than one in thousands fits, by descent into it.

    UsageError if nothing in the space is found to meet the budget.
    """
    candidate: Choices = {}
    for _ in range(TRIES if space.budget.bounds else 1):
        candidate = space.any(rng)
        if space.budget.violation(space.cost(candidate)) == 0:
            return candidate
    for _ in range(20):
        candidate = descend(space, space.any(rng), space.budget.violation, rng)
        if space.budget.violation(space.cost(candidate)) == 0:
            return candidate
    raise UsageError(_impossible(space))


def largest(space: SearchSpace, start: Choices, metric: str, rng: random.Random) -> Choices:
    """The largest cost within the budget that coordinate ascent finds from `start`, which is within it."""

    def score(cost: Cost) -> float:
        outside = space.budget.violation(cost)
        return 2 + outside if outside else math.pow(max(getattr(cost, metric), 1), -1 / 8)

    return descend(space, start, score, rng)


def _impossible(space: SearchSpace) -> str:
    found = survey(space, samples=200)
    spans = ", ".join(
        f"{m} {getattr(found.smallest, m):,} to {getattr(found.largest, m):,}" for m in space.budget.bounds
    )
    return f"no architecture of space {space.name!r} at {space.resolution} px meets the budget {space.budget}; the space spans {spans}"


def survey(space: SearchSpace, samples: int = 1000, seed: int = 0) -> Survey:
    """Smallest, median and largest cost, a metric at a time, and the share of samples within the budget."""
    rng = random.Random(seed)
    chosen = [space.any(rng) for _ in range(samples)]
    costs = [space.cost(choices) for choices in chosen]
    extremes: dict[str, tuple[int, int]] = {}
    for metric in METRICS:
        ends = []
        for sign in (1, -1):

            def score(cost: Cost, metric: str = metric, power: float = sign / 8) -> float:
                return math.pow(max(getattr(cost, metric), 1), power)  # above 0, where descent would stop

            at = min(range(samples), key=lambda k: score(costs[k]))
            best = descend(space, chosen[at], score, rng)
            ends.append(getattr(space.cost(best), metric))
        extremes[metric] = (ends[0], ends[1])
    return Survey(
        smallest=Cost(**{metric: extremes[metric][0] for metric in METRICS}),
        median=Cost(**{metric: int(statistics.median(getattr(cost, metric) for cost in costs)) for metric in METRICS}),
        largest=Cost(**{metric: extremes[metric][1] for metric in METRICS}),
        feasible=sum(space.budget.violation(cost) == 0 for cost in costs) / samples,
        samples=samples,
    )
