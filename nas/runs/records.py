"""What a trial leaves behind: one record an epoch, one record a trial. Plain data, read by reports and exports."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nas.networks.architecture import Architecture
from nas.networks.blocks._base import Value
from nas.networks.cost import Cost
from nas.profiling.latency import Latency
from nas.training.records import Epoch, Execution
from nas.utils.text import counted, format_percent

if TYPE_CHECKING:
    from nas.stopping.curves import Decision

LATENCY = "latency_ms"  # the objective that is measured before training
State = Literal["running", "complete", "stopped", "failed", "rejected", "duplicate"]


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


def format_estimate(estimate: Estimate) -> str:
    """A mean share, its standard error and its number of seeds: `93.12 ± 0.21 % (3 seeds)`."""
    return f"{format_percent(estimate.mean)} ± {format_percent(estimate.std_error)} % ({counted(estimate.n, 'seed')})"
