"""Results of a comparison of networks as plain data: made by `nas.training.comparison`, shown by its page and its JSON. No torch."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from nas.networks.architecture import Architecture
from nas.networks.build import cost_of
from nas.networks.cost import Cost
from nas.training.gradient_flow import _LAYER, Layer, Moment
from nas.training.recipe import Recipe
from nas.training.records import Epoch
from nas.utils.validation import LARGEST, Check, among, list_of, mapping, number, require, share, text, whole

State = Literal["complete", "diverged", "failed"]


@dataclass(frozen=True, slots=True)
class Point:
    """A network after an epoch: the epoch's record, and mean loss and accuracy on training images."""

    epoch: Epoch
    train_loss: float
    train_accuracy: float

    @property
    def train_error(self) -> float:
        return 1.0 - self.train_accuracy

    @property
    def validation_error(self) -> float:
        return 1.0 - self.epoch.accuracy

    def to_dict(self) -> dict[str, object]:
        measured = {"loss": self.train_loss, "accuracy": self.train_accuracy}
        return {"epoch": self.epoch.to_dict(), "training_images": measured}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Point:
        """UsageError for what is no such record."""
        require(data, {"training_images": mapping, "epoch": mapping}, "a point")
        measured = data["training_images"]
        require(measured, {"loss": number, "accuracy": share}, "training_images")
        return cls(Epoch.from_dict(data["epoch"]), measured["loss"], measured["accuracy"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended: `complete`, `diverged` (the loss is not finite) or `failed` (out of memory, ...)."""

    seed: int
    state: State
    reason: str
    points: tuple[Point, ...]
    layers: tuple[Layer, ...]  # those whose gradients were watched
    moments: tuple[Moment, ...]

    @property
    def seconds(self) -> float:
        """Training and validation."""
        return sum(point.epoch.seconds for point in self.points)

    def to_dict(self) -> dict[str, object]:
        return {
            "seed": self.seed,
            "state": self.state,
            "reason": self.reason,
            "seconds": self.seconds,
            "points": [point.to_dict() for point in self.points],
            "layers": [layer.to_dict() for layer in self.layers],
            "gradients": [moment.to_dict() for moment in self.moments],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """UsageError for what is no outcome of a training."""
        records = dict.fromkeys(("points", "layers", "gradients"), list_of(mapping))
        require(data, {"seed": whole(-LARGEST), "state": among(*get_args(State)), "reason": text, **records}, "outcome")
        for layer in data["layers"]:
            flag: Check = lambda value: "" if isinstance(value, bool) else "true or false"  # noqa: E731
            require(layer, {"name": text, "about": text, "depth": whole(), "on_path": flag}, "layers")
        return cls(
            data["seed"],
            data["state"],
            data["reason"],
            tuple(Point.from_dict(point) for point in data["points"]),
            tuple(Layer(**{name: layer[name] for name in _LAYER}) for layer in data["layers"]),
            tuple(Moment.from_dict(moment) for moment in data["gradients"]),
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """One network of a comparison, with those of its trainings that have ended."""

    name: str
    architecture: Architecture
    outcomes: tuple[Outcome, ...]

    @property
    def cost(self) -> Cost:
        return cost_of(self.architecture)

    @property
    def complete(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.state == "complete")

    @property
    def train_errors(self) -> tuple[float, ...]:
        """After the last epoch, one for each complete training."""
        return tuple(outcome.points[-1].train_error for outcome in self.complete)

    @property
    def validation_errors(self) -> tuple[float, ...]:
        """After the last epoch, one for each complete training."""
        return tuple(outcome.points[-1].validation_error for outcome in self.complete)

    def to_dict(self) -> dict[str, object]:
        cost = self.cost
        return {
            "name": self.name,
            "digest": self.architecture.digest,
            "cost": {"params": cost.params, "macs": cost.macs, "activations": cost.activations},
            "train_error": mean(self.train_errors),
            "validation_error": mean(self.validation_errors),
            "trainings": [outcome.to_dict() for outcome in self.outcomes],
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """The comparison so far: all that its page and its JSON show."""

    dataset: Mapping[str, Any]  # name, source, fingerprint, ..._images
    recipe: Recipe
    seed: int
    repeats: int
    gradient_steps: int
    device: str
    precision: str
    versions: Mapping[str, str]
    networks: tuple[Compared, ...]

    def to_dict(self) -> dict[str, object]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "recipe": self.recipe.to_dict(), "networks": [network.to_dict() for network in self.networks]}


def mean(numbers: Sequence[float]) -> float | None:
    """The mean; None if there are no numbers."""
    return statistics.fmean(numbers) if numbers else None
