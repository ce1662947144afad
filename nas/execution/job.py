"""What travels from the driver to a worker: the data that proxies see, and one candidate to train. No torch in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas.networks.architecture import Architecture
from nas.data import Dataset, Streamed

CHECKPOINT, EPOCHS, RESULT = "checkpoint.pt", "epochs.json", "result.json"
PREVIOUS = "checkpoint-previous.pt"  # of the epoch before: should the last one turn out to be torn
ATTEMPT = "attempt.json"  # whose turn it is to write (`nas.execution.fencing`)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What proxies see of a data set: its training images, split into training and validation. No test images.

    x (n, s, s, c) uint8 and y (n,) int64; the two indices are disjoint and cover n; mean and std per channel, in [0, 1].
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    train_index: NDArray[np.int64]
    validation_index: NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    crop_padding: int  # pixels

    @classmethod
    def of(cls, dataset: Dataset, train_index: NDArray[np.int64], validation_index: NDArray[np.int64]) -> Self:
        d = dataset
        return cls(d.x_train, d.y_train, train_index, validation_index, d.mean, d.std, d.flip, d.crop_padding)


@dataclass(frozen=True, slots=True)
class StreamedData:
    """The same of images in files: which of the training images are trained on, and which are for validation."""

    streamed: Streamed
    train_index: NDArray[np.int64]
    validation_index: NDArray[np.int64]

    @property
    def mean(self) -> tuple[float, ...]:
        return self.streamed.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.streamed.std


@dataclass(frozen=True, slots=True)
class Job:
    """A candidate to train: its key ("12", or "baseline:resnet20"), its folder, its architecture, the seed of its weights.

    token: of the attempt that it was handed out for (`nas.execution.fencing`), "" if nobody may take it over. ended: the attempts before
    this one, by what ended them (`nas.runs.attempts`). latency: as it was measured before, a `nas.profiling.latency.Latency` as plain data; empty if
    the run measures none. Two attempts at one trial are one job.
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
