"""The objectives of a search by name, with their directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nas.errors import UsageError

Direction: TypeAlias = Literal["maximize", "minimize"]
DIRECTIONS: tuple[Direction, ...] = ("maximize", "minimize")


@dataclass(frozen=True, slots=True)
class Objective:
    """One column of `values`: its name and its direction."""

    name: str
    direction: Direction

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ValueError(f"objective {self.name!r}: {unknown_direction(self.direction)}")


_MACS = Objective("macs", "minimize")
_KNOWN = {
    "accuracy": Objective("accuracy", "maximize"),
    "params": Objective("params", "minimize"),
    "macs": _MACS,
    "flops": _MACS,  # what the ResNet paper calls FLOPs are multiply-adds
    "activations": Objective("activations", "minimize"),
    "latency_ms": Objective("latency_ms", "minimize"),  # measured before training: `nas.profiling.latency`
}


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """The objectives that "accuracy,params,macs" names: accuracy, then one cost or more, none twice.

    `flops` is another name of `macs`. UsageError for an unknown name, a duplicate, a missing cost, or if accuracy isn't first.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in _KNOWN:
            raise UsageError(f"objectives {text!r}: unknown objective {name!r}; known: {', '.join(_KNOWN)}")
    chosen = tuple(_KNOWN[name] for name in names)
    for i, objective in enumerate(chosen):
        if objective in chosen[:i]:
            alias = " (flops and macs are the same count)" if objective is _MACS else ""
            raise UsageError(f"objectives {text!r}: {objective.name} is named twice{alias}; name each objective once")
    example = "for example 'accuracy,params,macs'"
    if chosen[0].name != "accuracy":
        raise UsageError(f"objectives {text!r}: accuracy must come first, {example}")
    if len(chosen) < 2:
        raise UsageError(f"objectives {text!r}: at least one cost must follow accuracy, {example}")
    return chosen


def unknown_direction(direction: object) -> str:
    return f"unknown direction {direction!r}; must be 'maximize' or 'minimize'"
