"""Samplers, which propose the next network: by name in `SAMPLERS`. `KnownCostSampler` works in any Optuna study.

In: a space, objectives, the trials so far. Out: `Choices` for the next trial.
Used by: `searching.study`, bench. To add a sampler: write one file here and register it in `SAMPLERS`; the contract tests then cover it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.samplers import known_cost_of_spaces as ours
from nas.samplers import optuna_builtin as stock
from nas.samplers._base import SAMPLERS, Factory, Problem, suggest
from nas.samplers.optuna_builtin import RANDOM_FIRST

if TYPE_CHECKING:
    from nas.samplers.known_cost import KnownCostSampler

__all__ = ["RANDOM_FIRST", "SAMPLERS", "Factory", "KnownCostSampler", "Problem", "ours", "stock", "suggest"]


def __getattr__(name: str) -> Any:
    if (
        name == "KnownCostSampler"
    ):  # imported on first use, because listing names and printing help must not import Optuna
        from nas.samplers.known_cost import KnownCostSampler

        return KnownCostSampler
    raise AttributeError(f"module 'nas.samplers' has no attribute {name!r}")
