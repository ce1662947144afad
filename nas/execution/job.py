"""What travels from the driver to a worker: the data that proxies see, and one candidate to train. No torch in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from nas.networks.architecture import Architecture
from nas.training.records import RESULT

ATTEMPT = "attempt.json"  # whose turn it is to write (`nas.execution.fencing`)


@dataclass(frozen=True, slots=True)
class Job:
    """A candidate to train: its key ("12", or "baseline:resnet20"), its folder, its architecture, the seed of its weights.

    token: of the attempt that it was handed out for (`nas.execution.fencing`), "" if nobody may take it over. ended: the attempts before
    this one, by what ended them (`nas.runs.attempts`). latency: as it was measured before, a `nas.profiling.latency.Latency` as plain
    data; empty if the run measures none. Two attempts at one trial are one job.
    """

    key: str
    folder: Path
    architecture: Architecture
    seed: int
    token: str = field(default="", compare=False)
    ended: Mapping[str, int] = field(default_factory=dict, compare=False)
    latency: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def baseline(self) -> bool:
        return self.key.startswith("baseline:")

    @property
    def latency_ms(self) -> float | None:
        return self.latency.get("median_ms")

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
            "latency": dict(self.latency),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        architecture = Architecture.from_dict(data["architecture"])
        place, seed, ended = Path(data["folder"]), data["seed"], dict(data["ended"])
        return cls(data["key"], place, architecture, seed, data["token"], ended, dict(data.get("latency", {})))
