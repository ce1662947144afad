"""The rooms of nas in the order of the data flow. A room may import the rooms above it and itself; `test_layers.py` holds it."""

from __future__ import annotations

ROOMS = (
    "errors",
    "utils",
    "pareto",
    "networks",
    "spaces",
    "data",
    "stopping",
    "training",
    "profiling",
    "samplers",
    "runs",
    "analysis",
    "report",
    "interop",
    "execution",
    "searching",
    "bench",
    "cli",
)
