"""The messages from a driver to a worker: one candidate to train, and the options of its training. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from nas.networks.architecture import Architecture
from nas.profiling.latency import Latency
from nas.runs.records import Candidate, TrialResult
from nas.runs.settings import Settings
from nas.training.proxy import Proxy
from nas.training.recipe import Recipe
from nas.training.records import RESULT

ATTEMPT = "attempt.json"  # which worker may write (`nas.execution.fencing`)


@dataclass(frozen=True, slots=True)
class Job:
    """A candidate to train: its key ("12", or "baseline:resnet20"), its folder, its architecture, the seed of its weights.

    token: of the attempt (`nas.execution.fencing`); "" if writes are not checked. ended: the number of earlier attempts by the cause
    of their end (`nas.runs.attempts`). latency: None if the run measures none. Jobs of two attempts at one trial compare equal.
    """

    key: str
    folder: Path
    architecture: Architecture
    seed: int
    token: str = field(default="", compare=False)
    ended: Mapping[str, int] = field(default_factory=dict, compare=False)
    latency: Latency | None = field(default=None, compare=False)

    @property
    def baseline(self) -> bool:
        return self.key.startswith("baseline:")

    @property
    def latency_ms(self) -> float | None:
        return self.latency.median_ms if self.latency else None

    @property
    def candidate(self) -> Candidate:
        return Candidate.of(self.architecture, self.latency)

    @property
    def result(self) -> TrialResult | None:
        """The result that a worker wrote; None if there is none, or if it belongs to another network that had the key before."""
        return TrialResult.read(self.folder, self.architecture.digest)

    @property
    def result_path(self) -> Path:
        return self.folder / RESULT

    def to_dict(self) -> dict[str, object]:
        return {
            "key": self.key,
            "folder": str(self.folder),
            "architecture": self.architecture.to_dict(),
            "seed": self.seed,
            "token": self.token,
            "ended": dict(self.ended),
            "latency": self.latency.to_dict() if self.latency else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        architecture = Architecture.from_dict(data["architecture"])
        latency = Latency.from_dict(data["latency"]) if data["latency"] else None
        return cls(
            data["key"], Path(data["folder"]), architecture, data["seed"], data["token"], dict(data["ended"]), latency
        )


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a worker trains: the arguments of `nas.execution.trial_training.TrialTraining` besides the data.

    engines: measured engines by device. modules: to import before the first job, as `nas.utils.extensions.pass_on` gives them.
    """

    recipe: Recipe
    device: str
    precision: str
    threads: int
    proxy: Proxy
    engines: Mapping[str, Mapping[str, Any]]
    gradient_steps: int
    modules: Sequence[Sequence[str]] = ()

    @classmethod
    def of(cls, settings: Settings, threads: int, modules: Sequence[Sequence[str]] = ()) -> Self:
        """The options of a run's trials. threads: of PyTorch, 0 for its own choice."""
        return cls(
            settings.recipe,
            settings.device,
            settings.precision,
            threads,
            settings.proxy,
            settings.engine,
            settings.gradient_steps,
            modules,
        )
