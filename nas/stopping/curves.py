"""Learning curves of trials, and the decisions of early stopping."""

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
    """Validation accuracy and losses at the end of an epoch."""

    accuracy: float
    val_loss: float
    train_loss: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A candidate's exact costs, in the order of the minimised objectives, and a point for each completed epoch."""

    costs: tuple[float, ...]
    points: tuple[Point, ...] = ()
    standing: Standing = "running"

    @property
    def accuracy(self) -> float:
        return self.points[-1].accuracy


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision after an epoch, and its reason.

    bar: A(c) (`nas.stopping.policies`), None if no complete trial is as cheap. probability: of a final accuracy above `bar`;
    None if the policy does not predict one. spared: the policy would have stopped the trial, but it runs to the end as a
    baseline, for its bin's quota or in the share that always does. correlation: Spearman's, of the accuracy at this epoch and the
    final accuracy, over the complete curves. curves: the number of complete curves.
    """

    epoch: int
    stop: bool
    reason: str
    probability: float | None = None
    bar: float | None = None
    spared: bool = False
    correlation: float | None = None
    curves: int = 0

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Decision:
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls) if field.name in data})
