"""The records of a run: a candidate, how its training ended (`TrialResult`), and what readers see of both (`Trial`). Plain data."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nas.errors import NasError, UsageError
from nas.networks.architecture import Architecture
from nas.networks.blocks._base import Value
from nas.networks.build import cost_of
from nas.networks.cost import Cost
from nas.pareto.objectives import Objective
from nas.profiling.latency import Latency
from nas.stopping.curves import Decision
from nas.training.records import RESULT, Epoch, Execution
from nas.utils.files import read_json, write_json
from nas.utils.text import counted, format_percent
from nas.utils.validation import (
    Check,
    among,
    brief,
    list_of,
    mapping,
    number,
    optional,
    reading,
    require,
    share,
    text,
    whole,
)

LATENCY = "latency_ms"  # the objective that is measured before training
Ended = Literal["complete", "stopped", "failed"]  # how a training ends
Untrained = Literal["rejected", "duplicate"]  # how a candidate ends that is not trained
State = Literal["running", "complete", "stopped", "failed", "rejected", "duplicate"]


def objective_values(
    accuracy: float, cost: Cost, objectives: tuple[Objective, ...], latency_ms: float | None = None
) -> tuple[float, ...]:
    """A network's values in the order of the objectives: accuracy, then exact costs or measured latency.

    NasError where latency is an objective and was not measured.
    """
    if latency_ms is None and any(objective.name == LATENCY for objective in objectives):
        raise NasError("latency is an objective of this run, and this network's was not recorded")
    costs = (latency_ms if objective.name == LATENCY else getattr(cost, objective.name) for objective in objectives[1:])
    return (accuracy, *map(float, costs))  # type: ignore[arg-type]  # checked above


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that a search proposes, with its exact cost and its latency, if the run measures one.

    outcome, reason: why it is not trained; empty for one that is. The study keeps it as an attribute of its trial.
    """

    architecture: Architecture
    cost: Cost
    digest: str
    latency: Latency | None = None
    outcome: Untrained | Literal[""] = ""
    reason: str = ""

    @classmethod
    def of(cls, architecture: Architecture, latency: Latency | None = None) -> Candidate:
        return cls(architecture, cost_of(architecture), architecture.digest, latency)

    def values(self, accuracy: float, objectives: tuple[Objective, ...]) -> tuple[float, ...]:
        return objective_values(accuracy, self.cost, objectives, self.latency.median_ms if self.latency else None)

    def to_dict(self) -> dict[str, object]:
        data: dict[str, object] = {
            "digest": self.digest,
            "cost": [self.cost.params, self.cost.macs, self.cost.activations],
            "architecture": self.architecture.to_dict(),
        }
        if self.latency is not None:
            data["latency"] = self.latency.to_dict()
        if self.outcome:
            data |= {"outcome": self.outcome, "reason": self.reason}
        return data

    @classmethod
    def from_dict(cls, data: object, where: str) -> Candidate:
        """Digest and cost are taken as they were written; `nas doctor` recomputes them. UsageError for what is no candidate."""
        if wanted := mapping(data):
            raise UsageError(f"{where}: its network must be {wanted}, not {brief(data)}")
        assert isinstance(data, Mapping)
        require(data, _OF_CANDIDATE, where)
        require(data, {"outcome": optional(among(*get_args(Untrained))), "reason": text}, where, missing=True)
        return cls(
            Architecture.from_dict(data["architecture"]),
            Cost(*data["cost"]),
            data["digest"],
            Latency.from_dict(data["latency"]) if data.get("latency") else None,
            data.get("outcome") or "",
            data.get("reason", ""),
        )


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How a trial ended: the `result.json` of its folder, which is there once it has ended.

    `complete` has the accuracy of its last epoch; `stopped` was ended early; `failed` has a reason and a cause
    (`nas.runs.attempts.Cause`). ended: the attempts without a result, by cause. device, precision: where and how it was trained.
    micro_batch: images at once, if a batch did not fit into memory. singly: why steps were no CUDA graphs. torn: a checkpoint
    that could not be used. stopping: the decision that ended it. rewritten: by `nas doctor`.
    """

    key: str
    digest: str
    state: Ended
    reason: str = ""
    accuracy: float | None = None  # validation top-1 of the last epoch, in [0, 1]
    seconds: float = 0.0  # of training and validation
    finished: float = field(default_factory=time.time)  # seconds since 1970
    epochs: tuple[Epoch, ...] = ()
    cause: str = ""
    attempts: int = 1
    ended: Mapping[str, int] = field(default_factory=dict)
    latency: Latency | None = None
    executed: Execution | None = None
    device: str = ""
    precision: str = ""
    micro_batch: int | None = None
    singly: str = ""
    torn: str = ""
    stopping: Decision | None = None
    rewritten: str = ""

    @property
    def completed(self) -> bool:
        return self.state == "complete"

    @property
    def stopped(self) -> bool:
        return self.state == "stopped"

    @property
    def failed(self) -> bool:
        return self.state == "failed"

    def to_dict(self) -> dict[str, object]:
        """As JSON; what is empty is left out, but for what every reader looks for."""
        data: dict[str, object] = {name: getattr(self, name) for name in (*_ALWAYS, *_PLAIN)}
        data |= {name: getattr(self, name).to_dict() for name in _RECORDS if getattr(self, name) is not None}
        data = {name: value for name, value in data.items() if name in _ALWAYS or value}
        return {**data, "epochs": [epoch.to_dict() for epoch in self.epochs]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> TrialResult:
        """UsageError for what no worker writes. What an earlier version left out is as it was then."""
        require(data, _OF_RESULT, where)
        lists = {"epochs": list_of(mapping), **dict.fromkeys(_RECORDS, mapping)}
        require(data, {**lists, "ended": mapping, "attempts": whole(0), "cause": text}, where, missing=True)
        if data["state"] == "complete" and data.get("accuracy") is None:
            raise UsageError(f"{where}: a complete training has an accuracy")
        known = {name: data[name] for name in (*_ALWAYS, *_PLAIN) if name in data}
        with reading(where):
            records = {name: kind.from_dict(data[name]) for name, kind in _RECORDS.items() if data.get(name)}
            epochs = tuple(Epoch.from_dict(epoch) for epoch in data.get("epochs", ()))
        return cls(**{"key": "", **known, **records, "epochs": epochs})

    @classmethod
    def read(cls, folder: Path, digest: str) -> TrialResult | None:
        """What the folder of a trial holds; None if there is nothing, or it is another network's. UsageError as `from_dict`."""
        path = folder / RESULT
        data = read_json(path)
        return cls.from_dict(data, str(path)) if isinstance(data, dict) and data.get("digest") == digest else None

    def write(self, folder: Path) -> None:
        write_json(folder / RESULT, self.to_dict())


def _cost(value: object) -> str:
    return list_of(whole(), 3)(value) or ("" if len(value) == 3 else "three counts")  # type: ignore[arg-type]


_ALWAYS = ("key", "digest", "state", "reason", "accuracy", "seconds", "finished")
_PLAIN = ("cause", "attempts", "ended", "device", "precision", "micro_batch", "singly", "torn", "rewritten")
_RECORDS: Mapping[str, Any] = {"latency": Latency, "executed": Execution, "stopping": Decision}
_OF_CANDIDATE: Mapping[str, Check] = {"digest": text, "cost": _cost, "architecture": mapping}
_OF_RESULT: Mapping[str, Check] = {
    "digest": text,
    "state": among(*get_args(Ended)),
    "accuracy": optional(share),
    "seconds": number,
    "finished": number,
    "reason": text,
}


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
    decisions: tuple[Decision, ...] = ()  # of early stopping, one at each rung
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
