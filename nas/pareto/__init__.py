"""Pareto analysis of plain arrays: objectives by name, dominance, fronts, hypervolume, knee.

In: (n, m) arrays of values and m directions. Out: indices of rows, volumes. Nothing here knows of networks, runs or Optuna.
Used by: stopping, samplers, runs, reports, bench. To add an objective: `objectives.py`; a measure of fronts: a new file.
"""
