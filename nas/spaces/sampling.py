"""Finds choices whose exact costs are within a budget, and surveys the costs of a space. Nothing is trained."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nas.errors import UsageError
from nas.networks.cost import Cost
from nas.spaces.budget import METRICS, Budget
from nas.spaces.knobs import Choices, Knob

TRIES = 2000  # random samples before descent into the budget


class Space(Protocol):
    """The part of `nas.spaces.space.SearchSpace` that sampling needs."""

    @property
    def name(self) -> str: ...
    @property
    def resolution(self) -> int: ...
    @property
    def budget(self) -> Budget: ...
    def any(self, rng: random.Random) -> Choices: ...
    def knob(self, key: str) -> Knob: ...
    def completed(self, choices: Choices, rng: random.Random) -> Choices: ...
    def cost(self, choices: Choices) -> Cost: ...


@dataclass(frozen=True, slots=True)
class Survey:
    """Costs of a space: median and feasible share of uniform samples, and the extremes that coordinate descent finds from them."""

    smallest: Cost
    median: Cost
    largest: Cost
    feasible: float  # share of uniform samples within the budget
    samples: int


def descend(space: Space, start: Choices, score: Callable[[Cost], float], rng: random.Random) -> Choices:
    """Coordinate descent on `score` from `start`: sets one knob after another to its best value until none improves the score.

    Exact if the score is monotone in each knob, as single costs are in depths and widths. Stops at a score of 0.
    """
    best, lowest = start, score(space.cost(start))
    improved = True
    while improved and lowest > 0:
        improved = False
        keys = list(best)
        rng.shuffle(keys)
        for key in keys:
            if key not in best:
                continue  # an earlier step chose a block for which this knob does not exist
            for value in space.knob(key).values:
                candidate = space.completed({**best, key: value}, rng)
                candidate_score = score(space.cost(candidate))
                if candidate_score < lowest:
                    best, lowest, improved = candidate, candidate_score, True
    return best


def sample(space: Space, rng: random.Random) -> Choices:
    """A uniform sample within the budget by rejection; by descent into the budget if `TRIES` samples are outside.

    UsageError if no network within the budget is found.
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


def largest(space: Space, start: Choices, metric: str, rng: random.Random) -> Choices:
    """Choices with the largest cost that coordinate ascent finds within the budget, from `start` within the budget."""

    def score(cost: Cost) -> float:
        outside = space.budget.violation(cost)
        return 2 + outside if outside else math.pow(max(getattr(cost, metric), 1), -1 / 8)

    return descend(space, start, score, rng)


def _impossible(space: Space) -> str:
    costs = survey(space, samples=200)
    spans = ", ".join(
        f"{m} {getattr(costs.smallest, m):,} to {getattr(costs.largest, m):,}" for m in space.budget.bounds
    )
    return f"no architecture of space {space.name!r} at {space.resolution} px meets the budget {space.budget}; the space spans {spans}"


def survey(space: Space, samples: int = 1000, seed: int = 0) -> Survey:
    """Smallest, median and largest cost by metric, and the share of samples within the budget."""
    rng = random.Random(seed)
    chosen = [space.any(rng) for _ in range(samples)]
    costs = [space.cost(choices) for choices in chosen]
    extremes: dict[str, tuple[int, int]] = {}
    for metric in METRICS:
        ends = []
        for sign in (1, -1):

            def score(cost: Cost, metric: str = metric, power: float = sign / 8) -> float:
                return math.pow(max(getattr(cost, metric), 1), power)  # above 0: descent stops at 0

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
