"""Learning curves of trials, and what early stopping decides of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Standing: TypeAlias = Literal["running", "complete", "stopped"]


class Point(NamedTuple):
    """The end of an epoch: validation accuracy and losses."""

    accuracy: float
    val_loss: float
    train_loss: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A candidate so far: its exact costs, in the order of the minimised objectives, and a point for each epoch behind it."""

    costs: tuple[float, ...]
    points: tuple[Point, ...] = ()
    standing: Standing = "running"

    @property
    def accuracy(self) -> float:
        return self.points[-1].accuracy


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided behind an epoch, and why. probability: of a final accuracy above `bar`, A(c); None where not asked.

    spared: it would have been stopped, but runs to the end for its bin's quota or for the share that always does.
    correlation: Spearman's, between accuracy at this epoch and the final one, over the `curves` that were complete.
    """

    epoch: int
    stop: bool
    reason: str
    probability: float | None = None
    bar: float | None = None
    spared: bool = False
    correlation: float | None = None
    curves: int = 0

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Decision:
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls) if field.name in data})
