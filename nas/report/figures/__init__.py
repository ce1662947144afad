"""The report's figures, one function each: `fn(run) -> plotly.graph_objects.Figure`, also for notebooks.

Each takes any run; for a run with too little data the figure says what is missing. `FIGURES` lists them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from nas.report.figures.distributions import edf, marginals, pairs, refinement
from nas.report.figures.gradients import gradient_flow
from nas.report.figures.process import hypervolume_over_time, rung_correlation, time_spent
from nas.report.figures.structure import importance, parallel_coordinates
from nas.report.figures.trials import (
    COSTS,
    MAX_NAME,
    CostName,
    accuracy_against,
    blank,
    hypervolume,
    learning_curves,
    say,
    whole_numbers,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nas.runs.run import Run

__all__ = [
    "COSTS",
    "FIGURES",
    "MAX_NAME",
    "CostName",
    "accuracy_against",
    "blank",
    "edf",
    "gradient_flow",
    "hypervolume",
    "hypervolume_over_time",
    "importance",
    "learning_curves",
    "marginals",
    "pairs",
    "parallel_coordinates",
    "refinement",
    "rung_correlation",
    "say",
    "time_spent",
    "whole_numbers",
]

FIGURES: Mapping[str, Callable[[Run], go.Figure]] = {
    **{f"accuracy-{cost}": partial(accuracy_against, cost=cost) for cost in COSTS},
    "learning-curves": learning_curves,
    "gradient-flow": gradient_flow,
    "hypervolume": hypervolume,
    "hypervolume-over-time": hypervolume_over_time,
    "importance": importance,
    "edf": edf,
    "marginals": marginals,
    "pairs": pairs,
    "parallel-coordinates": parallel_coordinates,
    "rung-correlation": rung_correlation,
    "time-spent": time_spent,
    "refinement": refinement,
}
