"""Budgets: bounds on parameters, multiply-adds and activations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nas.errors import UsageError
from nas.networks.cost import Cost

METRICS = ("params", "macs", "activations")


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
        """Distance of a cost from the budget, 0 within: the sum of |log(cost / nearest bound)| over the metrics."""
        total = 0.0
        for metric, (low, high) in self.bounds.items():
            value = max(getattr(cost, metric), 1)
            if low is not None and value < low:
                total += math.log(low / value)
            if high is not None and value > high:
                total += math.log(value / max(high, 0.5))
        return total

    def reason(self, cost: Cost) -> str:
        """The reason why a cost is outside the budget; "" if it is within."""
        for metric, (low, high) in self.bounds.items():
            value = getattr(cost, metric)
            if low is not None and value < low:
                return f"{value:,} {metric} are below the budget of {low:,.0f}"
            if high is not None and value > high:
                return f"{value:,} {metric} are above the budget of {high:,.0f}"
        return ""

    def merged(self, other: Budget) -> Budget:
        """This budget, where the bounds that `other` sets replace its bounds."""
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
