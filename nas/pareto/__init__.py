"""Pareto analysis of plain arrays: objectives by name, dominance, fronts, hypervolume, knee.

In: (n, m) arrays of values and m directions. Out: indices of rows, volumes. Nothing here knows of networks, runs or Optuna.
Used by: stopping, samplers, runs, reports, bench. To add an objective: `objectives.py`; a measure of fronts: a new file.
"""

from nas.pareto.dominance import dominates, front, fronts, knee
from nas.pareto.objectives import Objective, parse_objectives
from nas.pareto.volume import hypervolume, hypervolume_history

__all__ = [
    "Objective",
    "dominates",
    "front",
    "fronts",
    "hypervolume",
    "hypervolume_history",
    "knee",
    "parse_objectives",
]
