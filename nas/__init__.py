"""Neural architecture search over residual networks: exact costs, really trained, honestly ranked."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nas.utils import forks as forks  # from now on, forks are noticed
from nas.utils.versions import VERSION

__version__ = VERSION

# Lazy, so that `import nas` and `nas --help` load neither torch nor ray nor optuna.
_PUBLIC = {
    "Architecture": "nas.networks.architecture",
    "Cost": "nas.networks.cost",
    "NasError": "nas.errors",
    "Request": "nas.searching.request",
    "Run": "nas.runs.run",
    "SearchSpace": "nas.spaces.space",
    "UsageError": "nas.errors",
    "build": "nas.networks.build",
    "confirm": "nas.searching.confirmation",
    "cost_of": "nas.networks.build",
    "load_run": "nas.runs.run",
    "load_space": "nas.spaces.space",
    "load_weights": "nas.networks.weights",
    "resume": "nas.searching.search",
    "search": "nas.searching.search",
}
# Rooms and modules by their short names: `nas.zoo.get("resnet50")`.
_MODULES = {
    "analysis": "nas.analysis",
    "blocks": "nas.networks.blocks",
    "cost": "nas.networks.cost",
    "export": "nas.interop.export",
    "pareto": "nas.pareto",
    "report": "nas.report",
    "samplers": "nas.samplers",
    "weights": "nas.networks.weights",
    "zoo": "nas.networks.zoo",
}

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
    from nas.errors import NasError, UsageError
    from nas.networks.architecture import Architecture
    from nas.networks.build import build, cost_of
    from nas.networks.cost import Cost
    from nas.networks.weights import load_weights
    from nas.runs.run import Run, load_run
    from nas.searching.confirmation import confirm
    from nas.searching.request import Request
    from nas.searching.search import resume, search
    from nas.spaces.space import SearchSpace, load_space


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'nas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
