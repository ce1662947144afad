"""What a trial leaves behind: one record an epoch, one record a trial. Plain data, read by reports and exports."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nas.networks.architecture import Architecture
from nas.networks.cost import Cost
from nas.errors import UsageError
from nas.spaces.knobs import Value
from nas.profiling.latency import Latency
from nas.utils.validation import Check, any_number, brief, mapping, number, require, share, whole

if TYPE_CHECKING:
    from nas.stopping.policies import Decision

LATENCY = "latency_ms"  # the objective that is measured before training
State = Literal["running", "complete", "stopped", "failed", "rejected", "duplicate"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of training: losses are means over images, `accuracy` is the validation split's top-1 in [0, 1]."""

    number: int  # from 1
    train_loss: float
    val_loss: float
    accuracy: float
    learning_rate: float  # of the epoch's last step
    seconds: float  # training and validation
    images_per_second: float  # training alone

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Epoch:
        """UsageError for what is no epoch's record."""
        if wanted := mapping(data):
            raise UsageError(f"an epoch's record must be {wanted}, not {brief(data)}")
        require(data, _OF_EPOCH, "an epoch's record")
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls)})


_OF_EPOCH: Mapping[str, Check] = {
    "number": whole(1),
    **dict.fromkeys(("train_loss", "val_loss", "images_per_second"), any_number),
    "accuracy": share,
    **dict.fromkeys(("learning_rate", "seconds"), number),
}


@dataclass(frozen=True, slots=True)
class Execution:
    """What a dynamic network has executed on data: a mean over images in evaluation mode."""

    macs: float  # multiply-adds an image, gates included
    shares: Mapping[str, float]  # of the images for which a gated block's branch ran, by the block's name
    images: int

    def to_dict(self) -> dict[str, Any]:
        return {"macs": self.macs, "shares": dict(self.shares), "images": self.images}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Execution:
        """UsageError for what is no such record."""
        if wanted := mapping(data):
            raise UsageError(f"what was executed must be {wanted}, not {brief(data)}")
        require(data, {"macs": number, "shares": mapping, "images": whole()}, "what was executed")
        require(data["shares"], dict.fromkeys(data["shares"], share), "what was executed: shares")
        return cls(float(data["macs"]), dict(data["shares"]), int(data["images"]))


@dataclass(frozen=True, slots=True)
class Repeat:
    """The network of a trial trained again, from another seed: of its weights and of the order of its batches."""

    seed: int
    state: Literal["complete", "failed"]
    accuracy: float | None  # validation top-1 of the last epoch, in [0, 1]; None if it failed
    reason: str
    seconds: float  # spent on training and validation


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over n seeds and its standard error, s / sqrt(n) with s the standard deviation of a sample (n - 1)."""

    mean: float
    std_error: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Of at least two values."""
        return cls(statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)), len(values))


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate of a run.

    `state`: `complete` (trained to the end), `stopped` (training ended early; keeps the epochs it reached), `failed` (with a
    `reason`), `rejected` (outside the budgets, never trained), `duplicate` (the network of an earlier trial, never trained
    twice), `running`. Only complete trials have `accuracy` and `values`, and only they may enter a front. `label` is the
    name of a known network that was trained as a baseline, else empty.
    """

    number: int
    state: State
    label: str
    choices: Mapping[str, Value]
    architecture: Architecture
    digest: str
    cost: Cost
    accuracy: float | None  # validation top-1 of the last epoch, in [0, 1]
    values: tuple[float, ...] | None  # in the order of the run's objectives
    epochs: tuple[Epoch, ...]
    reason: str
    started: float | None  # seconds since 1970
    seconds: float  # spent on training and validation
    finished: float | None = None  # seconds since 1970
    cause: str = ""  # of a failure, in one word or two (`nas.runs.attempts.Cause`)
    attempts: int = 1  # workers that were at it, one after the other
    executed: Execution | None = None  # by a trained dynamic network on the validation images; `cost` is its worst case
    decisions: tuple[Decision, ...] = ()  # of early stopping, one behind each rung
    latency: Latency | None = None  # measured before training, where the run does so
    repeats: tuple[Repeat, ...] = ()  # by `nas confirm`, by seed; the training of the search is not among them

    def __repr__(self) -> str:
        """In a line: all of its architecture and its curve are fields to be asked for."""
        named = f" {self.label}" if self.label else ""
        accuracy = "" if self.accuracy is None else f" accuracy {self.accuracy:.2%},"
        return f"<Trial {self.number}{named}: {self.state},{accuracy} {self.cost.params:,} params, {self.cost.macs:,} MACs>"

    def price(self, name: str) -> float:
        """A cost by its objective's name: an exact count, or the measured latency, NaN where that was not measured."""
        if name == LATENCY:
            return self.latency.median_ms if self.latency else math.nan
        count: int = getattr(self.cost, name)
        return count

    @property
    def confirmed(self) -> Estimate | None:
        """The accuracy over the further seeds alone, since the search's own is what the network was chosen for; None below two."""
        accuracies = [repeat.accuracy for repeat in self.repeats if repeat.accuracy is not None]
        return Estimate.of(accuracies) if len(accuracies) > 1 else None

    @property
    def name(self) -> str:
        """How the trial is called where people read: its label, or `trial 12`."""
        return self.label or f"trial {self.number}"
