"""The quality of a set of networks: the hypervolume of its front divided by that of the whole table's front.

Axes: the score, maximized, and log10 of each cost, minimized. The reference point is a quantile of the table's scores and the
largest value of each cost. Networks below that score therefore contribute nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.bench.cells import Floats
from nas.bench.table import Table
from nas.errors import UsageError
from nas.pareto.dominance import front
from nas.pareto.objectives import Direction
from nas.pareto.volume import hypervolume


class Scale:
    """The axes and the reference point of one table. UsageError if the hypervolume of the whole table is 0."""

    def __init__(self, table: Table, floor: float) -> None:
        """floor: the quantile of the scores, in [0, 1], that is the reference."""
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
                "lower --floor, or omit a cost that is equal for all networks"
            )

    def share(self, networks: Sequence[int]) -> float:
        """Hypervolume of these networks by their scores, divided by that of the whole table; in [0, 1]."""
        return hypervolume(self.values[list(networks)], self.reference, self.directions) / self.whole

    def front(self, networks: Sequence[int], observed: Floats) -> list[int]:
        """The networks on the front of the observed accuracies, (n,): those that a user would choose."""
        numbers = list(networks)
        values = np.column_stack([observed, self.log_costs[numbers]])
        return [numbers[k] for k in front(values, self.directions)]
