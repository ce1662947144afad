"""What travels from the driver to a worker: the data that proxies see, and one candidate to train. No torch in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from nas.networks.architecture import Architecture
from nas.profiling.latency import Latency
from nas.runs.records import Candidate, TrialResult
from nas.training.records import RESULT

ATTEMPT = "attempt.json"  # whose turn it is to write (`nas.execution.fencing`)


@dataclass(frozen=True, slots=True)
class Job:
    """A candidate to train: its key ("12", or "baseline:resnet20"), its folder, its architecture, the seed of its weights.

    token: of the attempt that it was handed out for (`nas.execution.fencing`), "" if nobody may take it over. ended: the attempts before
    this one, by what ended them (`nas.runs.attempts`). latency: None if the run measures none. Two attempts at one trial are one job.
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
        """What a worker left at the job's end; None if there is nothing, or it is of a network that had the number before."""
        return TrialResult.read(self.folder, self.architecture.digest)

    @property
    def result_path(self) -> Path:
        return self.folder / RESULT

    def to_dict(self) -> dict[str, Any]:
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
