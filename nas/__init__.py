"""Neural architecture search over residual networks: exact costs, really trained, honestly ranked."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nas import forks as forks  # from now on, forks are noticed

__version__ = "0.1.0"

# Lazy, so that `import nas` and `nas --help` load neither torch nor ray nor optuna.
_PUBLIC = {
    "Architecture": "nas.architecture",
    "Cost": "nas.cost",
    "NasError": "nas.errors",
    "Request": "nas.request",
    "Run": "nas.run",
    "SearchSpace": "nas.space",
    "UsageError": "nas.errors",
    "build": "nas.network",
    "confirm": "nas.confirmation",
    "cost_of": "nas.network",
    "load_run": "nas.run",
    "load_space": "nas.space",
    "load_weights": "nas.weights",
    "resume": "nas.searching",
    "search": "nas.searching",
}
_MODULES = ("analysis", "blocks", "cost", "export", "pareto", "report", "samplers", "weights", "zoo")

__all__ = [
    "Architecture",
    "Cost",
    "NasError",
    "Request",
    "Run",
    "SearchSpace",
    "UsageError",
    "build",
    "confirm",
    "cost_of",
    "load_run",
    "load_space",
    "load_weights",
    "resume",
    "search",
]

if TYPE_CHECKING:
    from nas.architecture import Architecture
    from nas.confirmation import confirm
    from nas.cost import Cost
    from nas.errors import NasError, UsageError
    from nas.network import build, cost_of
    from nas.request import Request
    from nas.run import Run, load_run
    from nas.searching import resume, search
    from nas.space import SearchSpace, load_space
    from nas.weights import load_weights


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"nas.{name}")
    raise AttributeError(f"module 'nas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
