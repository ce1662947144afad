"""How good a set of networks is: the hypervolume of its front, as a share of that of the whole table's front.

Axes: the score, maximised, and log10 of each cost, minimised. The reference point is a quantile of the table's scores and the
largest of each cost, so that networks below that score count for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.bench.table import Floats, Table
from nas.errors import UsageError
from nas.pareto.dominance import front
from nas.pareto.objectives import Direction
from nas.pareto.volume import hypervolume


class Scale:
    """The axes of one table. UsageError if the whole table's front has no volume."""

    def __init__(self, table: Table, floor: float) -> None:
        """floor: the quantile of the scores, in [0, 1], at which volumes end."""
        self.log_costs = np.log10(table.costs)
        costs: list[Direction] = ["minimize"] * table.costs.shape[1]
        self.directions: list[Direction] = ["maximize", *costs]
        self.values = np.column_stack([table.score, self.log_costs])
        self.floor = float(np.quantile(table.score, floor))
        self.reference = np.array([self.floor, *self.log_costs.max(axis=0)])
        self.whole = hypervolume(self.values, self.reference, self.directions)
        if not self.whole > 0:
            raise UsageError(
                f"{table.name}: no network is better than the reference (score {self.floor:g}, the largest costs); "
                "lower --floor, or leave a cost out that is the same everywhere"
            )

    def share(self, networks: Sequence[int]) -> float:
        """In [0, 1]: volume of these networks by their scores, over that of the whole table."""
        return hypervolume(self.values[list(networks)], self.reference, self.directions) / self.whole

    def found(self, networks: Sequence[int], observed: Floats) -> list[int]:
        """Which of these networks one would take: the front of what was observed of them, (n,)."""
        own = list(networks)
        return [own[k] for k in front(np.column_stack([observed, self.log_costs[own]]), self.directions)]
